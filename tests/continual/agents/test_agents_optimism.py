"""UCRL2 and posterior sampling: confidence sets, value iteration, posteriors and episodes, literally."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import linprog
from small_agents import agent, begun, fed, last, random_steps

from tutelage.continual.agents.agent import begin, live
from tutelage.continual.agents.config import PSRLConfig
from tutelage.continual.agents.psrl import best_policy, log_gammas, sampled
from tutelage.continual.agents.ucrl2 import optimistic, widths
from tutelage.continual.planning import solve_gain
from tutelage.continual.tabular import precise, tabular_mdp
from tutelage.continual.worlds.garnet import garnet

UCRL2, PSRL = agent("ucrl2", 8, 3, scale=0.01), agent("psrl", 8, 3)


def test_optimism_is_the_linear_programme_over_the_confidence_set():
    rng = np.random.default_rng(0)
    S, A = 5, 2
    p, width, u = rng.dirichlet(np.ones(S), (6, S, A)), rng.random((6, S, A)) * 2.2, rng.standard_normal((6, S))
    with precise():
        found = np.asarray(jax.jit(jax.vmap(optimistic))(jnp.asarray(p), jnp.asarray(width), jnp.asarray(u)))
    assert found.sum(-1) == pytest.approx(1) and found.min() >= 0
    one = np.eye(S)
    for i, s, a in np.ndindex(6, S, A):
        # Variables p̃ and bounds of |p̃ − p̂|, whose sum is at most the width.
        best = linprog(
            -np.concatenate([u[i], np.zeros(S)]),
            A_ub=np.block([[one, -one], [-one, -one], [np.zeros((1, S)), np.ones((1, S))]]),
            b_ub=np.concatenate([p[i, s, a], -p[i, s, a], [width[i, s, a]]]),
            A_eq=np.concatenate([np.ones(S), np.zeros(S)])[None],
            b_eq=[1],
        )
        assert found[i, s, a] @ u[i] == pytest.approx(-best.fun, abs=1e-8)


def test_confidence_radii_are_those_of_the_theorem():
    S, A, t, delta = 7, 3, 400.0, 0.05
    visits = np.arange(S * A, dtype=float).reshape(S, A)
    with precise():
        reward, law = widths(jnp.asarray(visits), jnp.asarray(t), jnp.asarray(delta))
    for s, a in np.ndindex(S, A):
        n = max(1, visits[s, a])
        assert float(reward[s, a]) == pytest.approx((7 * np.log(2 * S * A * t / delta) / (2 * n)) ** 0.5)
        assert float(law[s, a]) == pytest.approx((14 * S * np.log(2 * A * t / delta) / n) ** 0.5)


def lived(made, world, steps):
    """The agent's states [T, …], and s, a, r, s' of each step, of one life in float64."""

    def one(life, _):
        after, paid = live(world, made, life, 1)
        return after, (after.agent, life.state, life.agent.policy[life.state], paid[0], after.state)

    with precise():
        walk = jax.jit(lambda key: jax.lax.scan(one, begin(world, made, key), length=steps)[1])
        return jax.tree.map(np.asarray, walk(jax.random.key(0)))


def test_ucrl2_is_the_algorithm_of_its_paper():
    world, steps, scale, delta = garnet(4, 2, 3, seed=4), 200, 0.15, 0.1
    S, A = world.mdp.R.shape
    states, *walk = lived(agent("ucrl2", S, A, scale=scale, confidence=delta), world, steps)
    N, v = np.zeros((S, A)), np.zeros((S, A))  # Visits before the episode, and in it.
    reward, counts, policy, episodes = np.zeros((S, A)), np.zeros((S, A, S)), np.zeros(S, int), 1
    for i, (s, a, r, successor) in enumerate(zip(*walk, strict=True)):
        if v[s, policy[s]] >= max(1, N[s, policy[s]]):
            episodes, t = episodes + 1, i + 1
            N, v = N + v, np.zeros((S, A))
            values = _extended_value_iteration(N, reward, counts, t, scale, delta)
            policy = states.policy[i - 1]
            assert (values[np.arange(S), policy] >= values.max(axis=1) - 1e-9).all()
        assert a == policy[s]
        v[s, a] += 1
        reward[s, a] += r
        counts[s, a, successor] += 1
    assert episodes > 10


def _extended_value_iteration(N, reward, counts, t, scale, delta):
    """The last values [S, A] of figure 2."""
    S, A = N.shape
    n = np.maximum(1, N)
    best_r = np.minimum(1, reward / n + scale * np.sqrt(7 * np.log(2 * S * A * t / delta) / (2 * n)))
    d = scale * np.sqrt(14 * S * np.log(2 * A * t / delta) / n)
    u = np.zeros(S)

    def values():
        found, order = np.zeros((S, A)), np.argsort(-u)
        for s, a in np.ndindex(S, A):
            p = counts[s, a] / n[s, a] if N[s, a] else np.full(S, 1 / S)
            p[order[0]] = min(1, p[order[0]] + d[s, a] / 2)
            worst = S - 1
            while p.sum() > 1 + 1e-15:
                others = p.sum() - p[order[worst]]
                p[order[worst]] = max(0, 1 - others)
                worst -= 1
            found[s, a] = best_r[s, a] + p @ u
        return found

    while True:
        after = values().max(axis=1)
        change, u = after - u, after - after.min()
        if np.ptp(change) < 1 / np.sqrt(t):
            return values()


def test_ucrl2_ends_an_episode_when_a_count_doubles():
    made = agent("ucrl2", 3, 1)
    before = fed(made, begun(made), [(0, 0, 0.0, 0)] * 9).before[:, 0, 0]
    assert [i for i in range(1, 10) if before[i - 1] == i] == [1, 2, 4, 8]


def test_psrl_ends_an_episode_when_it_outgrows_the_last_or_a_count_doubles():
    same = fed(PSRL, begun(PSRL), [(0, 0, 0.0, 0)] * 15).length
    # More than twice the visits before at 1 and 3; each other episode is one longer than the last.
    assert [i + 1 for i in np.flatnonzero(same == 0)] == [1, 3, 6, 10, 15]
    # A first visit is always more than twice none.
    new = fed(PSRL, begun(PSRL), [(s, 0, 0.0, s + 1) for s in range(6)]).length
    assert (new == 0).all()


def test_log_gammas_have_the_law_of_gammas():
    shapes, number = np.array([0.01, 0.3, 1.0, 1.01, 4.0, 300.0]), 5000
    with precise():
        drawn = jax.jit(log_gammas)(jax.random.key(0), jnp.repeat(jnp.asarray(shapes), number))
    found = np.asarray(drawn).reshape(len(shapes), number)
    assert all(stats.kstest(row, stats.loggamma(a).cdf).pvalue > 1e-3 for row, a in zip(found, shapes, strict=True))
    # And independent: of the draws beside them, and of those of other shapes.
    correlated = np.corrcoef(np.vstack([found, np.roll(found, 1, axis=1)]))
    assert (np.abs(correlated - np.eye(2 * len(shapes))) < 0.07).all()


def test_psrl_draws_from_the_posterior():
    made = agent("psrl", 3, 2, prior=2.0)
    steps = [(0, 1, 1.0, 2), (0, 1, 0.25, 2), (0, 1, 0.0, 0), (2, 0, 1.0, 1)]
    number = 4000
    with precise():
        state, hyper = begun(made), {"prior": jnp.float64(2)}
        alpha, good, bad = np.full((3, 2, 3), 2 / 3), np.ones((3, 2)), np.ones((3, 2))
        for s, a, reward, successor in steps:
            alpha[s, a, successor] += 1
            good[s, a] += reward
            bad[s, a] += 1 - reward
        counts, visits = jnp.asarray(alpha - 2 / 3), jnp.asarray(good + bad - 2)
        state = state._replace(counts=counts, visits=visits, paid=jnp.asarray(good - 1), hyper=hyper)
        draw = jax.jit(jax.vmap(lambda key: sampled(key, state)))
        p, r = (np.asarray(found) for found in draw(jax.random.split(jax.random.key(4), number)))
    total = alpha.sum(-1, keepdims=True)
    for found, mean, variance in (
        (p, alpha / total, alpha * (total - alpha) / total**2 / (total + 1)),
        (r, good / (good + bad), good * bad / (good + bad) ** 2 / (good + bad + 1)),
    ):
        assert (np.abs(found.mean(axis=0) - mean) < 5 * np.sqrt(variance / number)).all()
        assert found.var(axis=0) == pytest.approx(variance, rel=0.15)


def test_psrl_is_the_algorithm_of_its_paper():
    """Counts, ends of episodes and plans anew from the steps; what is drawn is judged by itself, above."""
    S, A, number, seed = 8, 3, 120, 3
    steps = random_steps(S, A, number, seed)
    found = fed(PSRL, begun(PSRL), steps, seed)
    counts, paid, before = np.zeros((S, A, S)), np.zeros((S, A)), np.zeros((S, A))
    length, last_length, policy, episodes = 0, 0, np.asarray(begun(PSRL).policy), 0
    with precise():
        draw, blank = jax.jit(sampled), begun(PSRL)
        for i, key in enumerate(jax.random.split(jax.random.key(seed), number)):
            s, a, r, successor = steps[i]
            counts[s, a, successor] += 1
            paid[s, a] += r
            length += 1
            visits = counts.sum(-1)
            if length > last_length or (visits > 2 * before).any():
                episodes, last_length, length, before = episodes + 1, length, 0, visits
                known = blank._replace(counts=jnp.asarray(counts), visits=jnp.asarray(visits), paid=jnp.asarray(paid))
                values = _value_iteration(*(np.asarray(table) for table in draw(key, known)))
                policy = found.policy[i]
                assert (values[np.arange(S), policy] >= values.max(axis=1) - 1e-9).all()
            assert (found.policy[i] == policy).all() and found.length[i] == length
    assert 10 < episodes < number


def _value_iteration(p, r, span=1e-3, laziness=0.05):
    """The last values [S, A]: sweeps until one changes all states by the same, to `span`."""
    u = np.zeros(len(p))
    while True:
        values = r + p @ u
        change = values.max(axis=1) - u
        if np.ptp(change) < span:
            return r + p @ (u + (1 - laziness) * change)
        u = u + (1 - laziness) * change


def test_the_plan_of_psrl_is_as_good_as_the_span_says():
    rng, span = np.random.default_rng(5), 1e-3
    with precise():
        plan = jax.jit(lambda p, r: best_policy(p, r, PSRLConfig(span=span)))
        tables = [(rng.dirichlet(np.full(8, 0.3), (8, 3)), rng.random((8, 3))) for _ in range(20)]
        # Around in a circle, forwards or back: of period 2.
        around = np.stack([np.roll(np.eye(8), shift, axis=1) for shift in (1, -1, 1)], axis=1)
        for p, r in [*tables, (around, rng.random((8, 3)))]:
            policy = np.asarray(plan(jnp.asarray(p), jnp.asarray(r)))
            reached = solve_gain(tabular_mdp(p[np.arange(8), policy][:, None], r[np.arange(8), policy][:, None]))
            assert reached.rho >= solve_gain(tabular_mdp(p, r)).rho - span


@pytest.mark.parametrize("made", [UCRL2, PSRL], ids=["ucrl2", "psrl"])
def test_who_knows_the_process_plays_its_optimal_policy(made):
    mdp = garnet(8, 3, 3, seed=4).mdp
    with precise():
        counts, paid = jnp.asarray(mdp.P) * 1e8, jnp.asarray(mdp.R) * 1e8
        known = begun(made)._replace(counts=counts, visits=counts.sum(axis=-1), paid=paid)
        if made is UCRL2:
            known = known._replace(time=jnp.asarray(1e9))
    # This step ends the episode, which began before anything was known.
    policy = last(fed(made, known, [(0, 0, float(mdp.R[0, 0]), 1)])).policy
    assert (np.asarray(policy) == solve_gain(mdp).policy).all()
