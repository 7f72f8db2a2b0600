"""Q-learning and its kin against their formulas; what is drawn, against the law of all that could be drawn."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest
from small_agents import acted_often, agent, assert_law, begun, counted, fed, last, random_steps, updated_often

S, A = 4, 2
STEPS = random_steps(S, A, 30)
VALUES = np.array([0.5, 2.0, 2.0])


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum()


def q_step(Q, s, a, r, t, rate, discount=0.99):
    after = Q.copy()
    after[s, a] += rate * (r + discount * Q[t].max() - Q[s, a])
    return after


def test_q_learning_follows_watkins():
    made = agent("q_learning", S, A, learning_rate=0.3, discount=0.9)
    Q = np.zeros((S, A))
    for step, found in zip(STEPS, np.asarray(fed(made, begun(made), STEPS).Q), strict=True):
        Q = q_step(Q, *step, 0.3, 0.9)
        assert found == pytest.approx(Q, abs=1e-12)


@pytest.mark.parametrize(("kind", "discount"), [("differential_q", 1.0), ("reward_centred_q", 0.99)])
def test_differential_and_reward_centred_q_learning_share_one_error_between_values_and_gain(kind, discount):
    # Wan, Naik & Sutton (2021), equations 4 to 6; Naik et al. (2024) with a discount.
    made = agent(kind, S, A, learning_rate=0.3, gain_rate=0.25)
    states = fed(made, begun(made), STEPS)
    Q, gain = np.zeros((S, A)), 0.0
    for i, (s, a, r, t) in enumerate(STEPS):
        error = r - gain + discount * max(Q[t]) - Q[s, a]
        Q[s, a] += 0.3 * error
        gain += 0.25 * 0.3 * error
        assert np.asarray(states.Q)[i] == pytest.approx(Q, abs=1e-12)
        assert float(states.gain[i]) == pytest.approx(gain, abs=1e-12)
    assert abs(gain) > 0.1


def test_rvi_q_learning_refers_to_the_mean_of_all_values():
    made = agent("rvi_q", S, A, learning_rate=0.3)
    states = fed(made, begun(made), STEPS)
    Q = np.zeros((S, A))
    for i, (s, a, r, t) in enumerate(STEPS):
        reference = sum(Q.ravel()) / (S * A)
        Q[s, a] += 0.3 * (r - reference + max(Q[t]) - Q[s, a])
        assert np.asarray(states.Q)[i] == pytest.approx(Q, abs=1e-12)
        assert float(states.gain[i]) == pytest.approx(reference, abs=1e-12)


def test_replay_repeats_uniform_steps_of_its_memory_after_the_new_one():
    made = agent("replay", S, A, steps=2, memory=3, learning_rate=0.3)
    states = fed(made, begun(made), STEPS[:5])
    # Of a memory that is not full only what was lived is drawn; of a full one the oldest went.
    for lived, kept in ((1, STEPS[:2]), (5, STEPS[3:6])):
        before = jax.tree.map(lambda leaf, lived=lived: leaf[:lived], states)
        start = q_step(states.Q[lived - 1], *STEPS[lived], 0.3)
        pairs = list(itertools.product(kept, repeat=2))
        outcomes = [(1 / len(pairs), q_step(q_step(start, *one, 0.3), *other, 0.3)) for one, other in pairs]
        assert_law(updated_often(made, last(before), STEPS[lived], 2000).Q, outcomes)


def test_dyna_imagines_tried_actions_of_visited_states_through_its_model():
    # A prior that is large, so that all successors come up.
    made = agent("dyna", S, A, model_prior=0.3, steps=2, learning_rate=0.35)
    lived = [(1, 0, 1.0, 2), (2, 1, 0.0, 1), (1, 0, 0.0, 0), (1, 1, 1.0, 1), (1, 1, 1.0, 2)]
    before = last(fed(made, begun(made), lived[:-1]))
    start = q_step(np.asarray(before.Q), *lived[-1], 0.35)
    p, r = counted(lived, S, A, 0.3)
    tried = {1: (0, 1), 2: (1,)}
    imagined = [
        (1 / len(tried) / len(tried[s]) * p[s, a, t], (s, a, r[s, a], t))
        for s in tried
        for a in tried[s]
        for t in range(S)
    ]
    outcomes = [
        (first * second, q_step(q_step(start, *one, 0.35), *other, 0.35))
        for (first, one), (second, other) in itertools.product(imagined, repeat=2)
    ]
    assert_law(updated_often(made, before, lived[-1], 4000).Q, outcomes)


def test_n_step_adds_the_return_of_a_greedy_path_through_its_model():
    made = agent("n_step", S, A, model_prior=0.3, steps=2, learning_rate=0.2, discount=0.9)
    before = last(fed(made, begun(made), STEPS[:20]))
    s, a, reward, t = STEPS[20]
    Q = q_step(np.asarray(before.Q), s, a, reward, t, 0.2, 0.9)
    p, r = counted(STEPS[:21], S, A, 0.3)
    best = Q.argmax(axis=1)
    outcomes = []
    for second, third in itertools.product(range(S), repeat=2):
        probability = p[t, best[t], second] * p[second, best[second], third]
        path = reward + 0.9 * r[t, best[t]] + 0.9**2 * r[second, best[second]] + 0.9**3 * Q[third].max()
        after = Q.copy()
        after[s, a] += 0.2 * (path - Q[s, a])
        outcomes.append((probability, after))
    assert_law(updated_often(made, before, STEPS[20], 4000).Q, outcomes)


def test_policy_gradient_climbs_the_critic_along_the_score():
    made = agent("policy_gradient", S, A, learning_rate=0.2, policy_learning_rate=0.1, steps=3)
    start = begun(made)
    logits, Q, h = np.asarray(start.logits).copy(), np.zeros((S, A)), 1e-5
    states = fed(made, start, STEPS)
    for i, (s, a, r, t) in enumerate(STEPS):
        Q = q_step(Q, s, a, r, t, 0.2)
        shifts = h * np.eye(A)  # ∇ log π(a|s) by central differences.
        score = [(np.log(softmax(logits[s] + x)[a]) - np.log(softmax(logits[s] - x)[a])) / (2 * h) for x in shifts]
        logits[s] += 0.1 * 3 * Q[s, a] * np.array(score)
        assert np.asarray(states.logits)[i] == pytest.approx(logits, abs=1e-8)
    assert np.asarray(states.Q)[-1] == pytest.approx(Q, abs=1e-12)


VALUES = np.array([0.5, 2.0, 2.0])


RARE = ("replay", "n_step", "differential_q", "rvi_q", "reward_centred_q")


@pytest.mark.parametrize(
    ("kind", "table", "known", "greedy"),
    [
        *((kind, "Q", VALUES, [0, 0.5, 0.5]) for kind in ("q_learning", "dyna")),
        *(pytest.param(kind, "Q", VALUES, [0, 0.5, 0.5], marks=pytest.mark.slow) for kind in RARE),
        ("policy_gradient", "logits", VALUES, softmax(VALUES)),
        ("rho_gradient", "logits", VALUES, softmax(VALUES / 0.9)),
        *((kind, "policy", 2, [0, 0, 1]) for kind in ("on_policy_rho", "iterative_rho")),
        pytest.param("off_policy_rho", "policy", 2, [0, 0, 1], marks=pytest.mark.slow),
    ],
)
def test_agents_explore_with_probability_epsilon_and_share_ties(kind, table, known, greedy):
    made = agent(kind, 2, 3, epsilon=0.3)
    state = begun(made)
    numbers = np.asarray(getattr(state, table)).copy()
    numbers[1] = known
    expected = 0.7 * np.asarray(greedy) + 0.3 / 3
    taken = acted_often(made, state._replace(**{table: numbers}), 1, 2000)
    assert_law(taken, list(zip(expected, range(3), strict=True)))
