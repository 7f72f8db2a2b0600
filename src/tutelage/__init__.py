"""Tutelage: how what a learner is taught decides what it can do beyond it.

Published systems as programs: one command runs the system, its baselines and its ablations, and says which of the
paper's claims hold. Importing this package loads neither JAX nor PyTorch; import the room that you need, for example
`tutelage.curricula.replay` or `tutelage.envs.maze`.
"""

__version__ = "0.1.0"
