"""The commands that run things: one arm, a whole study, whatever was interrupted; in this process or side by side.

Begin with `running` and `studying`, the commands; a `jobs.Job` is one run folder, `driving` brings it to its end
here, `side_by_side` and `child` do so in processes of their own.
"""
