"""Attention mechanisms for PyTorch models, and the tasks that tell them apart."""
