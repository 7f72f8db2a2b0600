import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from tiny_worlds import counting, recall

from tutelage.nn.actor_critic import actor_critic
from tutelage.nn.config import NetworkConfig
from tutelage.nn.encoders import vector_encoder
from tutelage.rl.evaluation import evaluate, record

TASKS = jnp.asarray([1, 4, 6, 9])


def make_net(env, width):
    config = NetworkConfig(body="lstm", hidden=4, head_hidden=4)
    k_encoder, k_net = jax.random.split(jax.random.key(0))
    encoder = vector_encoder(k_encoder, config, jax.ShapeDtypeStruct((width,), jnp.float32), widths=(4,))
    return actor_critic(k_net, config, encoder, env.actions)


def test_returns_and_lengths_are_counted():
    """Task n pays 10·n + t for t < min(n, horizon): the sum is known. 9 is beyond the horizon of 6."""
    env = counting()
    result = jax.jit(lambda key, net: evaluate(key, net, env, TASKS, 3))(jax.random.key(1), make_net(env, 2))
    lengths = np.minimum(np.asarray(TASKS), 6)
    returns = 10 * np.asarray(TASKS) * lengths + lengths * (lengths - 1) / 2
    np.testing.assert_array_equal(result.lengths, np.repeat(lengths[:, None], 3, axis=1))
    np.testing.assert_array_equal(result.returns, np.repeat(returns[:, None], 3, axis=1))


def test_a_horizon_cuts_what_goes_on():
    env = counting()
    net = make_net(env, 2)
    result = jax.jit(lambda key: evaluate(key, net, env, TASKS, 1, horizon=2))(jax.random.key(1))
    np.testing.assert_array_equal(result.lengths[:, 0], [1, 2, 2, 2])


def test_the_loop_stops_when_all_episodes_have_ended():
    """Steps are counted on the host: as many as the longest episode has, not as many as the horizon."""
    env = counting(horizon=50)
    steps = []
    step = env.step

    def counted(key, state, action):
        jax.debug.callback(lambda time: steps.append(int(time)), state.time)
        return step(key, state, action)

    env = dataclasses.replace(env, step=counted)
    net = make_net(env, 2)
    jax.block_until_ready(jax.jit(lambda key: evaluate(key, net, env, jnp.asarray([3, 2]), 1))(jax.random.key(0)))
    jax.effects_barrier()
    assert max(steps) == 2


def test_sampling_varies_and_the_greedy_policy_does_not():
    """An untrained policy has equal logits: greedy always names symbol 0, sampling names either."""
    env = recall(symbols=2)
    net = make_net(env, 3)
    tasks = jnp.asarray([0, 1])
    play = jax.jit(lambda key, greedy: evaluate(key, net, env, tasks, 200, greedy=greedy), static_argnums=1)
    np.testing.assert_array_equal(play(jax.random.key(0), True).returns.mean(axis=1), [1.0, 0.0])
    assert np.abs(play(jax.random.key(0), False).returns.mean(axis=1) - 0.5).max() < 0.15


def test_a_recorded_episode_is_complete_and_stands_still_after_its_end():
    env = counting()
    net = make_net(env, 2)
    episode = jax.jit(lambda key: record(key, net, env, jnp.asarray(4)))(jax.random.key(3))
    assert episode.length == 4
    np.testing.assert_array_equal(episode.state.time, [0, 1, 2, 3, 4, 4])
    np.testing.assert_array_equal(episode.obs[:, 1], [0, 1, 2, 3, 4, 4])
    np.testing.assert_array_equal(episode.reward, [40, 41, 42, 43, 0, 0])
    assert episode.final_state.time == 4
    # The policy's numbers are those of an unroll over the recorded observations.
    unroll = jax.jit(lambda obs: net.unroll(net.initial_carry(1), obs, jnp.zeros((4, 1), bool)))
    distribution, values = unroll(episode.obs[:4, None])
    np.testing.assert_allclose(episode.distribution.logits[:4], distribution.logits[:, 0], atol=1e-6)
    np.testing.assert_allclose(episode.values[:4], values[:, 0], atol=1e-6)
