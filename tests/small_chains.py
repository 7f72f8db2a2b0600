"""Chains and processes with known figures, written out by hand, and random ones with every kind of structure."""

import numpy as np

from tutelage.continual.tabular import Chain, TabularMDP


def two_state(p=0.1, q=0.2, reward=(0.0, 1.0)):
    return Chain(np.array([[1 - p, p], [q, 1 - q]]), np.array(reward))


def lazy_cycle(n):
    P = np.zeros((n, n))
    for s in range(n):
        P[s, s] += 0.5
        P[s, (s + 1) % n] += 0.25
        P[s, (s - 1) % n] += 0.25
    return Chain(P, np.arange(n) / n)


def noisy_cycle(n, advance=0.96):
    P = np.zeros((n, n))
    for s in range(n):
        P[s, s] = 1 - advance
        P[s, (s + 1) % n] = advance
    return Chain(P, np.arange(n) / n)


def alternating(task_steps):
    """Two tasks of reward rates 1 and 0, so many steps each, for ever."""
    n = 2 * task_steps
    return Chain(np.roll(np.eye(n), 1, axis=1), np.repeat([1.0, 0.0], task_steps))


def two_rooms():
    """Two closed classes {0, 1} and {2, 3, 4} (a cycle of period 3), and a transient state 5 that leads to both."""
    P = np.zeros((6, 6))
    P[0, 1] = P[1, 0] = P[1, 1] = 0.5
    P[0, 0] = 0.5
    P[2, 3] = P[3, 4] = P[4, 2] = 1
    P[5, [0, 2, 5]] = [0.2, 0.3, 0.5]
    return Chain(P, np.array([1.0, 3.0, 0.0, 6.0, 0.0, -1.0]))


def two_loops(n, short=0.1, long=0.2):
    """State 0: action 0 stays and pays `short`; action 1 begins a loop of n steps that pays `long`·n at its end."""
    P, R = np.zeros((n, 2, n)), np.zeros((n, 2))
    P[0, 0, 0] = P[0, 1, 1] = 1
    R[0, 0] = short
    for s in range(1, n):
        P[s, :, (s + 1) % n] = 1
    R[n - 1, :] = long * n
    return TabularMDP(P, R, np.eye(n)[0])


def random_chain(rng, n, branching=None):
    """Rows with `branching` successors; every structure can come of it."""
    P = np.zeros((n, n))
    for s in range(n):
        after = rng.choice(n, size=branching or n, replace=False)
        P[s, after] = rng.dirichlet(np.ones(after.size))
    return Chain(P, rng.normal(size=n))


def random_unichain(rng, n, branching=3):
    """A random chain with one closed class, which may have a period and transient states."""
    from tutelage.continual.structure import structure

    while True:
        chain = random_chain(rng, n, branching)
        if len(structure(chain.P).closed) == 1:
            return chain


def random_mdp(rng, n, num_actions, branching=None):
    P = np.stack([random_chain(rng, n, branching).P for _ in range(num_actions)], axis=1)
    return TabularMDP(P, rng.normal(size=(n, num_actions)), np.full(n, 1 / n))


def long_run_average(P, steps=2**14):
    """(1/n) Σ_{t<n} P^t for a power of two n, by doubling."""
    total, power, n = np.eye(len(P)), P.copy(), 1
    while n < steps:
        total, power, n = total + power @ total, power @ power, 2 * n
    return total / n
