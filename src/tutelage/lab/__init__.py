"""Ground floor: runs, configuration, checkpoints, metrics, plots, reports. Imports neither JAX nor PyTorch.

Begin with `study` and `program`, what a system gives; `driver` is the one loop that runs it. `configuration`,
`settings` and `overrides` are its numbers, from a dataclass to a flag; `storage` is what a run leaves, `report` and
`drawing` what is shown of it, `verdicts` and `bootstrap` what became of the claims; `process` is the machine and
whoever watches.
"""
