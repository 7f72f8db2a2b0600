import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_worlds import counting

from tutelage.lab.errors import BadInput
from tutelage.nn.actor_critic import actor_critic
from tutelage.nn.config import NetworkConfig
from tutelage.nn.encoders import vector_encoder
from tutelage.rl.rollout import rollout

T = 17
TASKS = jnp.asarray([1, 4, 6])


def make_net(env, *, heads=2, seed=0):
    config = NetworkConfig(body="gru", hidden=6, head_hidden=4, num_value_heads=heads)
    k_encoder, k_net = jax.random.split(jax.random.key(seed))
    encoder = vector_encoder(k_encoder, config, jax.ShapeDtypeStruct((2,), jnp.float32), widths=(5,))
    net = actor_critic(k_net, config, encoder, env.actions)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + jnp.asarray(rng.normal(size=leaf.shape) * 0.3, leaf.dtype), net)


def run(env, net, seed=0, on_end="replay"):
    return jax.jit(lambda key, net: rollout(key, net, env, TASKS, T, on_end=on_end))(jax.random.key(seed), net)


@pytest.fixture(scope="module", params=[False, True], ids=["terminates", "truncates"])
def replayed(request):
    env = counting(truncates=request.param)
    net = make_net(env)
    return env, net, run(env, net)


def test_replay_counts_as_the_world_does(replayed):
    """With task n the time in the episode is t mod n, and all else follows from that."""
    env, _, (trajectory, final_state, _) = replayed
    time = np.arange(T)[:, None] % np.asarray(TASKS)
    last = time == np.asarray(TASKS) - 1
    np.testing.assert_array_equal(trajectory.obs[..., 0], np.broadcast_to(TASKS, (T, 3)))
    np.testing.assert_array_equal(trajectory.obs[..., 1], time)
    np.testing.assert_array_equal(trajectory.first, time == 0)
    np.testing.assert_array_equal(trajectory.last, last)
    np.testing.assert_array_equal(trajectory.reward, 10 * np.asarray(TASKS) + time)
    np.testing.assert_array_equal(trajectory.discount, 1.0 if env.truncates else 1.0 - last)
    np.testing.assert_array_equal(final_state.time, T % np.asarray(TASKS))


def test_stored_numbers_are_those_of_an_unroll(replayed):
    """The unroll over the stored observations gives the stored log-probabilities: PPO's first ratio is 1."""
    _, net, (trajectory, *_) = replayed
    distribution, values = jax.jit(lambda net, obs, first: net.unroll(net.initial_carry(3), obs, first))(
        net, trajectory.obs, trajectory.first
    )
    np.testing.assert_allclose(distribution.log_prob(trajectory.action), trajectory.log_prob, atol=1e-6)
    np.testing.assert_allclose(values, trajectory.values, atol=1e-6)
    np.testing.assert_allclose(trajectory.value, np.asarray(values).mean(-1), atol=1e-6)


def test_next_value_is_the_value_of_the_true_successor(replayed):
    """Each episode unrolled again with its successor observation (n, t+1) appended, also past its end."""
    env, net, (trajectory, *_) = replayed
    unroll = jax.jit(lambda obs, first: net.unroll(net.initial_carry(3), obs, first)[1].mean(-1))
    successors = trajectory.obs.at[..., 1].add(1.0)
    for t in range(T):
        # The history up to t with the successor of step t behind it, as one longer sequence (padded to T + 1).
        obs = jnp.concatenate([trajectory.obs, trajectory.obs[-1:]]).at[t + 1].set(successors[t])
        first = jnp.concatenate([trajectory.first, trajectory.first[-1:]]).at[t + 1].set(False)
        expected = unroll(obs, first)[t + 1]
        counts = np.asarray(~trajectory.last[t] | env.truncates)
        np.testing.assert_allclose(trajectory.next_value[t], np.where(counts, expected, 0.0), atol=1e-5)


def test_sampling_draws_a_new_task_at_each_end_and_only_there():
    env = counting()
    net = make_net(env)
    trajectory = run(env, net, on_end="sample").trajectory
    task, first = np.asarray(trajectory.obs[..., 0]), np.asarray(trajectory.first)
    np.testing.assert_array_equal(task[0], TASKS)
    changed = task[1:] != task[:-1]
    assert not (changed & ~first[1:]).any()
    assert changed.sum() > 3
    np.testing.assert_array_equal(trajectory.obs[..., 1][first], 0)
    # Episodes of different environments that end in the same step draw different tasks.
    assert any(len(set(task[t][first[t]])) > 1 for t in range(1, T) if first[t].sum() > 1)


def test_actions_follow_the_policy_and_the_key():
    env = counting()
    net = make_net(env)
    first, again, other = (run(env, net, seed).trajectory.action for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (np.asarray(first) != np.asarray(other)).any()


def test_unknown_restart_is_refused():
    env = counting()
    with pytest.raises(BadInput, match="on_end='loop'"):
        rollout(jax.random.key(0), make_net(env), env, TASKS, 2, on_end="loop")


def test_a_rollout_goes_on_where_another_ended():
    """Episodes run across the border; what follows it is what one longer rollout of the same world would hold."""
    env = counting()
    net = make_net(env)
    whole = run(env, net)
    start = whole.final_state, whole.final_obs
    then = jax.jit(lambda key, net, start: rollout(key, net, env, TASKS, T, on_end="sample", start=start))(
        jax.random.key(1), net, start
    ).trajectory
    time = np.arange(T, 2 * T)[:, None] % np.asarray(TASKS)
    np.testing.assert_array_equal(then.obs[0], whole.final_obs)
    np.testing.assert_array_equal(then.obs[0, :, 1], time[0])
    assert then.first[0].all()  # recurrent state is zeroed at the border
    left = np.asarray(TASKS) - time[0]  # steps to the end of the episode under way
    for n, steps in enumerate(left):
        np.testing.assert_array_equal(then.obs[:steps, n, 1], time[:steps, n])
        assert then.last[steps - 1, n]
