"""Classic control with free physics: CartPole, Pendulum and Acrobot as underspecified environments.

Each module gives the task (a record of physical parameters), the dynamics of Gymnasium at its default, and `make_…`.
"""
