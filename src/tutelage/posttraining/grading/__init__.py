"""Is an answer right? Final answers as exact numbers, expressions by math-verify, worked solutions step by step.

Begin with `answers`; `markers` find where a solution states its answer, `notation` says which texts are exactly one
number, `symbolic` asks math-verify in a process of its own, `solutions` reads steps and tells which solutions are the
same; `arithmetic` is what answers and steps read numbers by.
"""
