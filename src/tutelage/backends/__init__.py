"""From three pure functions to a program that the lab can drive: one module per framework.

`lab` and `measures` know no framework and the families know exactly one; what joins them lives here.
"""
