"""Sampling objects in proportion to a reward: conditional GFlowNets, their baselines, their exact law."""
