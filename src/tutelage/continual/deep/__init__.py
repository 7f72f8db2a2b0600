"""Mixing where states are too many for a table: games that take turns, policies trained on them, their rewards.

Begin with `sweep`, return mixing times over tasks and switching times; `task_switching` is the world, `task_training`
the learner, `recorded` plays anybody's agent in anybody's environment.
"""
