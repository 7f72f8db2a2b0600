"""Rewards of somebody's agent in Gymnasium environments: the streams are the episodes', one after another."""

from __future__ import annotations

import math
import sys

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.continual.deep.config import SweepConfig
from tutelage.continual.deep.recorded import gymnasium_environment, on_host, recorded_stream, recorded_streams
from tutelage.continual.deep.sweep import sweep
from tutelage.lab.errors import BadInput
from tutelage.measures.mixing import mixing_report


class Corridor(gymnasium.Env):
    """Episodes of a random length up to 5 which the seed decides; a step pays 10·length + time + action / 10."""

    def __init__(self, truncates: bool = False, actions: int = 3, size: int = 2, start: int = 0) -> None:
        self.action_space = gymnasium.spaces.Discrete(actions, start=start)
        self.observation_space = gymnasium.spaces.Box(0, 10, (size,), np.float32)
        self.truncates, self.size, self.closed = truncates, size, False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.length, self.time = int(self.np_random.integers(1, 6)), 0
        return self._shown(), {}

    def step(self, action):
        assert isinstance(action, int)
        reward = 10 * self.length + self.time + action / 10
        self.time += 1
        over = self.time >= self.length
        return self._shown(), reward, over and not self.truncates, over and self.truncates, {}

    def close(self):
        self.closed = True

    def _shown(self):
        return np.full(self.size, self.time, np.float32)


class Paying(Corridor):
    """Every step pays the rate."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def step(self, action):
        shown, _, terminated, truncated, info = super().step(action)
        return shown, self.rate, terminated, truncated, info


@pytest.fixture
def registered():
    gymnasium.register("Corridor-v0", entry_point=Corridor)
    yield "Corridor-v0"
    del gymnasium.registry["Corridor-v0"]


def time_of(observation):
    return min(int(observation[0]), 2)


@pytest.mark.parametrize("truncates", [False, True])
def test_a_stream_holds_one_episode_after_another_from_the_seeds(truncates):
    made = []

    def make():
        made.append(Corridor(truncates))
        return made[-1]

    stream = recorded_stream(make, time_of, 4, 60, seed=7)
    for n, row in enumerate(stream):
        rng, expected = Corridor(), []
        rng.reset(seed=7 + n)
        while len(expected) < 60:
            expected += [10 * rng.length + time + min(time, 2) / 10 for time in range(rng.length)]
            rng.reset()
        np.testing.assert_allclose(row, expected[:60])
    assert len(made) == 4 and all(env.closed for env in made)
    np.testing.assert_array_equal(recorded_stream(make, time_of, 4, 50, seed=7, burn_in=10), stream[:, 10:])


def test_an_id_and_a_policy_of_all_rollouts_at_once_give_the_same(registered):
    one = recorded_stream(registered, time_of, 3, 20)
    at_once = recorded_stream(registered, lambda shown: np.minimum(shown[:, 0], 2).astype(int), 3, 20, batched=True)
    np.testing.assert_array_equal(one, at_once)


def test_a_policy_of_this_library_acts_on_the_host(registered):
    stream = recorded_stream(
        registered, on_host(lambda obs, key: jnp.minimum(obs[0], 2).astype(jnp.int32)), 3, 20, batched=True
    )
    np.testing.assert_array_equal(stream, recorded_stream(registered, time_of, 3, 20))


def test_streams_go_into_the_sweep_and_the_report():
    """Rates 1 and 0 in turns of 10 within 10 % of their mean: the closed form of the alternating process."""
    tasks = {"one": lambda: Paying(1.0), "none": lambda: Paying(0.0)}
    streams = recorded_streams(tasks, time_of, 2, 400)
    [point] = sweep(streams, SweepConfig(switch_every=(10,), num_tasks=(2,), eps=0.1))
    assert point.estimate.steps == 91
    assert mixing_report(streams["one"], window=50).enough
    silent = sweep(streams, SweepConfig(switch_every=(10,), num_tasks=(1,)), leave_out_silent=True)
    assert [point.tasks for point in silent] == [("one",)]
    assert math.isclose(streams["one"].mean(), 1)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"actions": 4}, r"tasks a and b: actions Discrete\(3\) and Discrete\(4\); must be the same for one policy"),
        ({"size": 3}, r"tasks a and b: observations Box\(.*\(2,\), float32\) and Box\(.*\(3,\), float32\)"),
    ],
)
def test_tasks_that_no_one_policy_can_play_are_named(other, message):
    tasks = {"a": Corridor, "b": lambda: Corridor(**other)}
    with pytest.raises(BadInput, match=message):
        recorded_streams(tasks, time_of, 1, 3)
    each = recorded_streams(tasks, {"a": time_of, "b": time_of}, 1, 3)
    assert each["a"].shape == each["b"].shape == (1, 3)


def test_bad_input_is_named(monkeypatch):
    with pytest.raises(BadInput, match=r"num_steps = 0: must be in \[1, inf\)"):
        recorded_stream(Corridor, time_of, 1, 0)
    with pytest.raises(BadInput, match=r"task a: policy: action 3 at step 0; must be a whole number in \[0, 2\]"):
        recorded_streams({"a": Corridor}, lambda shown: 3, 1, 5)
    with pytest.raises(BadInput, match=r"policy: 1 actions for 2 observations"):
        recorded_stream(Corridor, lambda shown: [0], 2, 5, batched=True)
    with pytest.raises(BadInput, match="policy: none for the tasks b"):
        recorded_streams({"a": Corridor, "b": Corridor}, {"a": time_of}, 1, 5)
    with pytest.raises(BadInput, match="tasks: none are given"):
        recorded_streams({}, time_of, 1, 5)
    with pytest.raises(BadInput, match=r"environment 'NoSuchWorld-v3': .*NoSuchWorld"):
        gymnasium_environment("NoSuchWorld-v3")
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(BadInput, match=r"'ALE/Pong-v5' needs the extra 'atari': pip install 'tutelage\[atari\]'"):
        gymnasium_environment("ALE/Pong-v5")


def test_pong_is_played_by_a_random_policy():
    pytest.importorskip("ale_py")
    rng = np.random.default_rng(0)
    stream = recorded_stream("ALE/Pong-v5", lambda frame: rng.integers(6), 2, 200)
    assert stream.shape == (2, 200)
    assert set(np.unique(stream)) <= {-1, 0, 1} and stream.min() == -1
