"""Ground floor: runs, configuration, checkpoints, metrics, plots, reports. Imports neither JAX nor PyTorch."""
