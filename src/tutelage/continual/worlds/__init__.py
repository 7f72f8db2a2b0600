"""Families of decision processes, each a table and a stepper at once.

Begin with `making`, each by its name; `rooms` and `chains` grow in one number, `grid` and `outcomes` are what they
share.
"""
