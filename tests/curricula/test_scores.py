import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.curricula import config, scores
from tutelage.curricula.scores import outcomes
from tutelage.curricula.teacher import Outcomes
from tutelage.lab.errors import BadInput
from tutelage.rl.trajectory import Trajectory

T, N, E, K = 7, 3, 2, 3


def trajectory_of(reward, last, values) -> Trajectory:
    reward, last = jnp.asarray(reward, jnp.float32), jnp.asarray(last, bool)
    zeros = jnp.zeros_like(reward)
    first = jnp.concatenate([jnp.ones_like(last[:1]), last[:-1]])
    return Trajectory(
        obs=zeros,
        action=zeros.astype(jnp.int32),
        log_prob=zeros,
        values=jnp.asarray(values, jnp.float32),
        next_value=zeros,
        reward=reward,
        discount=1 - last.astype(jnp.float32),
        first=first,
        last=last,
    )


def completed_episodes(reward, last, level):
    """[(row, steps)] of the episodes which ended on this level, one step after another."""
    for row in range(level * E, (level + 1) * E):
        steps = []
        for t in range(T):
            steps.append(t)
            if last[t, row]:
                yield row, steps
                steps = []


def by_hand(name, reward, last, values, advantage, known, optimal, level):
    """One level's score by plain loops."""
    found = [
        (row, steps, sum(float(reward[t, row]) for t in steps))
        for row, steps in completed_episodes(reward, last, level)
    ]
    if not found:
        return -np.inf
    returns = [total for *_, total in found]

    def mean(x):
        return np.mean([np.mean([x(t, row) for t in steps]) for row, steps, _ in found])

    best = max([float(known[level]), *returns])
    success = np.mean([total > 0 for total in returns])
    return {
        "return": lambda: np.mean(returns),
        "neg_return": lambda: -np.mean(returns),
        "l1_value_loss": lambda: mean(lambda t, row: abs(advantage[t, row])),
        "positive_value_loss": lambda: mean(lambda t, row: max(advantage[t, row], 0)),
        "max_mc": lambda: mean(lambda t, row: best - values[t, row].mean()),
        "value_disagreement": lambda: mean(lambda t, row: values[t, row].std()),
        "learnability": lambda: success * (1 - success),
        "true_regret": lambda: optimal[level] - np.mean(returns),
    }[name]()


# Multiples of 1/8: sums are exact, so that "return > 0" cannot hang on rounding.
eighths = st.integers(-16, 16).map(lambda n: n / 8)
rollouts = st.fixed_dictionaries(
    {
        "reward": hnp.arrays(np.float32, (T, N * E), elements=eighths),
        "last": hnp.arrays(bool, (T, N * E), elements=st.booleans()),
        "values": hnp.arrays(np.float32, (T, N * E, K), elements=eighths),
        "advantage": hnp.arrays(np.float32, (T, N * E), elements=eighths),
        "known": hnp.arrays(np.float32, (N,), elements=st.one_of(st.just(-np.inf), eighths)),
        "optimal": hnp.arrays(np.float32, (N,), elements=eighths),
    }
)


@pytest.mark.parametrize("name", config.SCORES)
def test_every_score_equals_the_slow_loop(name):
    score = jax.jit(
        lambda reward, last, values, advantage, known, optimal: outcomes(
            trajectory_of(reward, last, values), advantage, name, known, optimal, E
        )
    )

    @hypothesis.given(rollout=rollouts)
    @hypothesis.settings(deadline=None, max_examples=25, suppress_health_check=list(hypothesis.HealthCheck))
    def check_all(rollout):
        found = score(**rollout)
        for level in range(N):
            expected = by_hand(name, **rollout, level=level)
            np.testing.assert_allclose(found.score[level], expected, rtol=1e-5, atol=1e-6)
            returns = [
                sum(float(rollout["reward"][t, row]) for t in steps)
                for row, steps in completed_episodes(rollout["reward"], rollout["last"], level)
            ]
            assert found.completed[level] == len(returns)
            np.testing.assert_allclose(found.mean_return[level], np.mean(returns or [0]), rtol=1e-6, atol=1e-6)
            assert found.max_return[level] == max(returns, default=-np.inf)
            np.testing.assert_allclose(found.success_rate[level], np.mean([r > 0 for r in returns] or [0]), rtol=1e-6)

    check_all()


def test_the_table_holds_every_name_of_the_configuration():
    assert tuple(scores.SCORES) == config.SCORES
    assert set(config.SIGNED_SCORES) < set(config.SCORES)


def test_maximum_starts_below_every_return():
    # One episode of return −3 and value −1: R_max is −3, not 0, so the score is −2.
    trajectory = trajectory_of([[-3.0], [5.0]], [[True], [False]], [[[-1.0]], [[0.0]]])
    unknown = jnp.array([-jnp.inf])
    found = outcomes(trajectory, jnp.zeros((2, 1)), "max_mc", unknown)
    np.testing.assert_array_equal(found.max_return, [-3.0])
    np.testing.assert_array_equal(found.score, [-2.0])
    # What was reached before is not forgotten.
    found = outcomes(trajectory, jnp.zeros((2, 1)), "max_mc", jnp.array([-0.5]))
    np.testing.assert_array_equal(found.score, [0.5])


def test_time_is_averaged_inside_episodes_before_episodes_are_averaged():
    # An episode of three steps with |Â| = 1 and one of a single step with |Â| = 5: (1 + 5) / 2, not 8 / 4.
    trajectory = trajectory_of(np.zeros((5, 1)), [[0], [0], [1], [1], [0]], np.zeros((5, 1, 1)))
    advantage = jnp.array([[1.0], [-1.0], [1.0], [-5.0], [100.0]])
    found = outcomes(trajectory, advantage, "l1_value_loss", jnp.array([-jnp.inf]))
    np.testing.assert_allclose(found.score, [3.0], rtol=1e-6)


def test_true_regret_is_zero_for_the_best_policy_and_never_below():
    rewards = np.array([[0.5, 0.25, 0.0], [0.5, 0.5, 0.0]])
    trajectory = trajectory_of(rewards, np.ones((2, 3)), np.zeros((2, 3, 1)))
    optimal = jnp.array([0.5, 0.5, 0.5])
    found = outcomes(trajectory, jnp.zeros((2, 3)), "true_regret", jnp.full(3, -jnp.inf), optimal)
    np.testing.assert_array_equal(found.score, [0.0, 0.125, 0.5])


def test_regrets_of_several_students():
    found = Outcomes(
        completed=jnp.array([[2, 1, 1], [1, 3, 0]]),
        mean_return=jnp.array([[0.25, 0.75, 0.5], [0.5, 0.25, 0.0]]),
        max_return=jnp.array([[0.5, 0.75, 0.5], [1.0, 0.5, -jnp.inf]]),
        success_rate=jnp.zeros((2, 3)),
        score=jnp.zeros((2, 3)),
    )
    np.testing.assert_array_equal(scores.relative_regret(found), [0.75, 0.0, -np.inf])
    np.testing.assert_array_equal(scores.mean_relative_regret(found), [0.25, 0.0, -np.inf])
    np.testing.assert_array_equal(scores.population_regret(found), [1.0 - 0.375, 0.75 - 0.5, -np.inf])
    three = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[:1]]), found)
    with pytest.raises(BadInput, match=r"2 students.*got 3"):
        scores.relative_regret(three)


def test_bad_input_is_named():
    trajectory = trajectory_of(np.zeros((2, 1)), np.ones((2, 1)), np.zeros((2, 1, 1)))
    with pytest.raises(BadInput, match=r"'maxmc'.*did you mean 'max_mc'"):
        outcomes(trajectory, jnp.zeros((2, 1)), "maxmc", jnp.zeros(1))
    with pytest.raises(BadInput, match=r"true_regret.*solve"):
        outcomes(trajectory, jnp.zeros((2, 1)), "true_regret", jnp.zeros(1))


def test_nothing_is_weakly_typed():
    trajectory = trajectory_of(np.zeros((T, N)), np.ones((T, N)), np.zeros((T, N, 1)))
    for name in config.SCORES:
        found = jax.eval_shape(
            lambda name=name: outcomes(trajectory, jnp.zeros((T, N)), name, jnp.zeros(N), jnp.zeros(N))
        )
        assert [(leaf.dtype, leaf.weak_type) for leaf in found] == [
            (jnp.int32, False),
            *[(jnp.float32, False)] * 4,
        ]
