"""Average reward and mixing: how slowly a policy's chain forgets, and agents that plan with its stationary law.

Begin with `tabular`, a process as tables, and `stationary`; `mixing_time`, `return_mixing` and `hitting` measure
chains, `planning` and `discounted` solve them, `agents` learn in `worlds`, `deep` is for what fits no table.
"""
