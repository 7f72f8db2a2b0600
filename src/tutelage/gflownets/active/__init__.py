"""Active learning of several objectives: rounds of a surrogate, an acquisition and a search for what to measure next.

Begin with `learning`, the rounds; `surrogate` and `gaussian_process` predict, `acquisition` and `hypervolume` say
what a batch is worth, `proposers` search by `edits` and `elites`, `evaluated` is what was measured.
"""
