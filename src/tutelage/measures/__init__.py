"""Figures of merit as pure functions of NumPy arrays, without any framework.

Begin with `claims`, the judges of a study's claims; `intervals`, `performance` and `rank_correlation` are statistics
over runs, `pareto`, `top_k`, `mixing`, `forgetting` and `sampled_answers` each a field's own figures.
"""
