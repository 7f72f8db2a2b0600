"""MinAtar's games, alike in shape."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.envs.adapters.gymnax import gymnax_environment
from tutelage.envs.adapters.minatar import GAMES, minatar_games
from tutelage.envs.conformance import check_environment
from tutelage.envs.environment import Discrete
from tutelage.lab.errors import BadInput

SHOWN = {"Asterix": 4, "Breakout": 4, "Freeway": 7, "Seaquest": 10, "SpaceInvaders": 6}


def test_all_games_have_the_same_actions_and_shapes():
    for env in minatar_games(GAMES):
        shown = jax.eval_shape(lambda env=env: env.reset(jax.random.key(0), jnp.int32(0)))[1]
        assert env.actions == Discrete(6)
        assert (shown.shape, shown.dtype) == ((10, 10, 10), jnp.float32)
    env, _ = minatar_games(("Breakout", "SpaceInvaders"))
    assert jax.eval_shape(lambda: env.reset(jax.random.key(0), jnp.int32(0)))[1].shape == (10, 10, 6)


def test_a_game_is_gymnaxs_own_with_empty_channels():
    ours, _ = minatar_games(("Breakout", "Freeway"))
    assert check_environment(ours, jax.random.key(0), num_tasks=2) == []
    theirs = gymnax_environment("Breakout-MinAtar", use_minimal_action_set=False)

    def play(env):
        def step(state, key):
            k_act, k_env = jax.random.split(key)
            state, after = env.step(k_env, state, jax.random.randint(k_act, (), 0, 6))
            return state, after

        state, obs = env.reset(jax.random.key(0), jnp.int32(3))
        return obs, jax.lax.scan(step, state, jax.random.split(jax.random.key(1), 30))[1]

    (first, steps), (their_first, their_steps) = jax.jit(lambda: (play(ours), play(theirs)))()
    shown = SHOWN["Breakout"]
    np.testing.assert_array_equal(first[..., :shown], their_first)
    np.testing.assert_array_equal(steps.obs[..., :shown], their_steps.obs)
    assert not steps.obs[..., shown:].any()
    np.testing.assert_array_equal(steps.reward, their_steps.reward)
    np.testing.assert_array_equal(steps.last, their_steps.last)


def test_unknown_games_are_refused():
    with pytest.raises(BadInput, match=r"games: 'Brakout' is not one of Asterix, .*; did you mean 'Breakout'\?"):
        minatar_games(("Freeway", "Brakout"))
    with pytest.raises(BadInput, match=r"games: none are given"):
        minatar_games(())
