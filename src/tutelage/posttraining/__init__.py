"""Finetuning language models: verifiable tasks, graders, rewards, and the algorithms that learn from them.

Begin with `learner`, what every algorithm is, and `supervised`, the plainest one; `expert_iteration`, `preferences`,
`return_conditioned` and the folder `policy_gradient` are the others, `config` has their numbers. `questions` says what
is asked (`wordmath` makes some), `policy` and `rollouts` answer it, `grading`, `rewards` and `outcome` judge the
answers, `selection` and `control_tokens` make them training data, `solution_figures` is the evaluation.
"""
