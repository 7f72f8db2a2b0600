"""Learners of the average reward, each an `init/act/update` triple of pure functions over tables.

Begin with `agent`, the triple, and `making`, each by its name; `rho_learning` is the paper's.
"""
