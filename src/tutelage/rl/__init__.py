"""Rollouts, returns and PPO, written once for every family."""
