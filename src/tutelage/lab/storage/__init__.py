"""What is on disk: files that are whole or absent, checkpoints, the record of a run, what can be made again.

Begin with `record`, a run's folder; `checkpoint` is the state, `atomic` how everything is written, `cache` what is kept
between runs.
"""
