"""Who chooses the next task: replay, editors, adversaries, domain randomisation.

Begin with `teacher`, the protocol of all, and `ued`, the loop of teacher and students; the methods are modules of
their names (`plr`, `accel`, `paired`, `sfl`, `domain_randomization`) over `replay`, the buffer, and `scores`.
"""
