"""Outcome models: which solutions will turn out right, at the end or after every step.

Begin with `model`; `training` makes its examples and fits it, `continuations` labels steps by where they lead.
"""
