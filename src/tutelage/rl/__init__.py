"""Rollouts, returns and PPO, written once for every family.

Begin with `rollout` and `ppo`; a `trajectory` is what passes between them, `evaluation` plays without learning.
"""
