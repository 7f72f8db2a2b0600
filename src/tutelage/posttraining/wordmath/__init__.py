"""Generated word problems of which every solution is known.

Begin with `problems`; `templates` are their words, `solutions` all ways to solve one, `corpus` what a small base reads.
"""
