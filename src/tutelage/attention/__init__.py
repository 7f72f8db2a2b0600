"""Attention mechanisms for PyTorch models, and the tasks that tell them apart.

Begin with `layer`, the interface of all, and `kinds`, each by its name; `compositional` is the paper's, `baselines`
are the others, `blocks` build models, `tasks` and `training` compare them, `conversion` starts from trained heads.
"""
