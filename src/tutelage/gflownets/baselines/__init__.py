"""What samplers are compared with: reinforcement learning with a preference, Markov chains, evolution, chance.

Each is a `tutelage.gflownets.method.Method` in a module of its name; `config` has the settings of all.
"""
