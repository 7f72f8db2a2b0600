"""Learners of the average reward, each an `init/act/update` triple of pure functions over tables."""
