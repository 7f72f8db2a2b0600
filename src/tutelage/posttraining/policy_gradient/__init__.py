"""Learning from the policy's own samples: PPO, RLOO, GRPO and Dr. GRPO.

Begin with `online`, the learner; `objective` is its mathematics as pure functions over `advantages` and `losses`,
`enumeration` and `gradient_checks` are its ground truth.
"""
