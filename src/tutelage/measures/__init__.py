"""Figures of merit as pure functions of NumPy arrays."""
