"""The GFlowNet itself: losses on trajectories, what a batch is made of, the replay buffer.

Begin with `gflownet`; `learner` is what the reinforcement-learning baselines share with it.
"""
