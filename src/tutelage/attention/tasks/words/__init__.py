"""Tasks of symbols one after another: SCAN, associative recall, bytes of a text.

Each task is a module of its name with its settings `…_config`; `scan_grammar` and `scan_interpreter` are SCAN's
truth.
"""
