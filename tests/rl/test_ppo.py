import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_worlds import counting, recall

from tutelage.lab.errors import BadInput
from tutelage.nn.actor_critic import actor_critic
from tutelage.nn.config import NetworkConfig
from tutelage.nn.encoders import vector_encoder
from tutelage.rl.config import PPOConfig
from tutelage.rl.evaluation import evaluate
from tutelage.rl.ppo import Batch, loss, ppo
from tutelage.rl.returns import gae
from tutelage.rl.rollout import rollout

T, N = 8, 4
CONFIG = PPOConfig(num_epochs=2, num_minibatches=2, entropy_coefficient=0.03)


def make_net(env, width, *, body="lstm", hidden=6, heads=2, seed=0):
    config = NetworkConfig(body=body, hidden=hidden, head_hidden=hidden, num_value_heads=heads)
    k_encoder, k_net = jax.random.split(jax.random.key(seed))
    encoder = vector_encoder(k_encoder, config, jax.ShapeDtypeStruct((width,), jnp.float32), widths=(hidden,))
    return actor_critic(k_net, config, encoder, env.actions)


def perturbed(net, seed=1, scale=0.3):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + jnp.asarray(rng.normal(size=leaf.shape) * scale, leaf.dtype), net)


@pytest.fixture(scope="module")
def batch():
    """A rollout of one network, with advantages large enough for the value clip to bind somewhere."""
    env = counting()
    net = perturbed(make_net(env, 2))
    trajectory = jax.jit(lambda key: rollout(key, net, env, jnp.asarray([1, 3, 4, 6]), T))(jax.random.key(0)).trajectory
    trajectory = trajectory._replace(reward=trajectory.reward / 50)
    advantage, target = gae(
        trajectory.reward, trajectory.discount, trajectory.last, trajectory.value, trajectory.next_value,
        gamma=0.9, lam=0.8,
    )  # fmt: skip
    return net, Batch(trajectory, advantage, target)


def literal_loss(net, batch, config):
    """The loss in plain words: a loop over steps, probabilities instead of their logarithms, sums over counts."""
    trajectory = batch.trajectory
    carry = net.initial_carry(N)
    policy = value = entropy = 0.0
    advantages = np.asarray(batch.advantage, np.float64)
    normalised = ((advantages - advantages.mean()) / (advantages.std() + 1e-5)).astype(np.float32)
    for t in range(T):
        carry, distribution, values = net.step(carry, trajectory.obs[t], trajectory.first[t])
        probs = jnp.exp(distribution.logits) / jnp.sum(jnp.exp(distribution.logits), axis=1, keepdims=True)
        ratio = probs[np.arange(N), trajectory.action[t]] / jnp.exp(trajectory.log_prob[t])
        limited = jnp.where(ratio > 1 + config.clip, 1 + config.clip, jnp.maximum(ratio, 1 - config.clip))
        policy += jnp.sum(jnp.minimum(ratio * normalised[t], limited * normalised[t]))
        for k in range(values.shape[1]):
            old, goal = trajectory.values[t, :, k], batch.target[t]
            near = jnp.minimum(jnp.maximum(values[:, k], old - config.clip), old + config.clip)
            value += 0.5 * jnp.sum(jnp.maximum((values[:, k] - goal) ** 2, (near - goal) ** 2)) / values.shape[1]
        entropy -= jnp.sum(probs * jnp.log(probs))
    return (-policy + config.value_coefficient * value - config.entropy_coefficient * entropy) / (T * N)


def test_loss_and_gradient_equal_the_literal_ones(batch):
    """At parameters some way off the rollout's, where ratio and value clips bind."""
    behaviour, data = batch
    net = perturbed(behaviour, seed=2, scale=0.15)
    (value, metrics), grads = jax.jit(jax.value_and_grad(lambda net: loss(net, data, CONFIG), has_aux=True))(net)
    expected, expected_grads = jax.jit(jax.value_and_grad(lambda net: literal_loss(net, data, CONFIG)))(net)
    assert 0 < metrics["clip_fraction"] < 1
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected_grads), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_ratio_is_one_before_the_first_step(batch):
    net, data = batch
    _, metrics = jax.jit(lambda net: loss(net, data, CONFIG))(net)
    assert metrics["clip_fraction"] == 0
    assert abs(metrics["approximate_kl"]) < 1e-6
    # With r = 1 the surrogate is minus the mean of the normalised advantages, which is 0.
    assert abs(metrics["policy_loss"]) < 1e-6


def test_unclipped_value_loss_is_the_squared_error(batch):
    net, data = batch
    net = perturbed(net, seed=3)
    config = dataclasses.replace(CONFIG, clip_value=False)
    _, metrics = jax.jit(lambda net: loss(net, data, config))(net)
    _, values = jax.jit(lambda net: net.unroll(net.initial_carry(N), data.trajectory.obs, data.trajectory.first))(net)
    np.testing.assert_allclose(
        metrics["value_loss"], 0.5 * np.mean((np.asarray(values) - np.asarray(data.target)[..., None]) ** 2), rtol=1e-5
    )


def update(config, net, data, *, key=0, calls=1, num_updates=10):
    algorithm = ppo(config, num_updates=num_updates)
    step = jax.jit(algorithm.update)
    learner = algorithm.init(net)
    for call in range(calls):
        learner, metrics = step(learner, jax.random.key(key + call), *data)
    return learner, metrics


def assert_equal_nets(a, b, atol):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, atol=atol)


@pytest.mark.parametrize("anneal", [False, True])
def test_update_is_clipped_adam_on_whole_batches(batch, anneal):
    """Two epochs of one part, twice, against optax's own Adam with the norm clipped by hand."""
    net, data = batch
    config = dataclasses.replace(CONFIG, num_minibatches=1, learning_rate=0.01, max_grad_norm=0.05, anneal=anneal)
    learner, metrics = update(config, net, data, calls=2)
    grad = jax.jit(jax.grad(lambda net: loss(net, data, config)[0]))
    expected, norms = net, []
    state = optax.adam(1.0, eps=config.adam_eps).init(jax.tree.leaves(net))
    for call in range(2):
        rate = 0.01 * (1 - call / 10) if anneal else 0.01
        for _ in range(2):
            leaves, tree = jax.tree.flatten(grad(expected))
            norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in leaves))
            norms.append(norm)
            leaves = [leaf * min(1.0, 0.05 / norm) for leaf in leaves]
            leaves, state = optax.adam(1.0, eps=config.adam_eps).update(leaves, state)
            steps = jax.tree.unflatten(tree, [rate * leaf for leaf in leaves])
            expected = jax.tree.map(jnp.add, expected, steps)
    assert min(norms) > 0.05
    assert learner.num_updates == 2
    np.testing.assert_allclose(metrics["grad_norm"], np.mean(norms[2:]), rtol=1e-4)
    assert_equal_nets(learner.net, expected, atol=1e-5)


def test_minibatches_split_environments_and_use_each_once_an_epoch(batch):
    """One epoch of two parts equals two whole-batch updates on the halves, for one of the six ways to halve four."""
    net, data = batch
    config = dataclasses.replace(CONFIG, num_epochs=1)
    learner, _ = update(config, net, data, key=7)
    whole = dataclasses.replace(config, num_minibatches=1)
    algorithm = ppo(whole, num_updates=10)
    step = jax.jit(algorithm.update)

    def distance(half):
        state = algorithm.init(net)
        for envs in (half, tuple(set(range(N)) - set(half))):
            part = jax.tree.map(lambda leaf: leaf[:, jnp.asarray(envs)], data)  # noqa: B023
            state, _ = step(state, jax.random.key(0), *part)
        gaps = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), state.net, learner.net)
        return max(float(gap) for gap in jax.tree.leaves(gaps))

    distances = sorted(distance(half) for half in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)])
    assert distances[0] < 1e-6 < 1e-5 < distances[1]


def test_a_population_learns_as_its_members_do(batch):
    net, data = batch
    algorithm = ppo(CONFIG, num_updates=10)
    nets = jax.tree.map(lambda a, b: jnp.stack([a, b]), net, perturbed(net, seed=5))
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf[:, ::-1]]), data)
    together, _ = jax.jit(jax.vmap(algorithm.update))(
        jax.vmap(algorithm.init)(nets), jax.random.split(jax.random.key(0), 2), *both
    )
    step = jax.jit(algorithm.update)
    for member in range(2):
        own_net, own_data = jax.tree.map(lambda leaf: leaf[member], (nets, both))  # noqa: B023
        alone, _ = step(algorithm.init(own_net), jax.random.split(jax.random.key(0), 2)[member], *own_data)
        assert_equal_nets(jax.tree.map(lambda leaf: leaf[member], together.net), alone.net, atol=2e-6)  # noqa: B023


def test_the_state_has_the_same_types_after_an_update(batch):
    """Otherwise the second call of a compiled cycle would compile again."""
    net, data = batch
    algorithm = ppo(CONFIG, num_updates=10)
    before = jax.eval_shape(algorithm.init, net)
    after, _ = jax.eval_shape(algorithm.update, before, jax.random.key(0), *data)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, b.weak_type)


def test_environments_that_do_not_divide_are_refused(batch):
    net, data = batch
    algorithm = ppo(dataclasses.replace(CONFIG, num_minibatches=3), num_updates=10)
    with pytest.raises(BadInput, match="num_minibatches=3 does not divide the 4 environments"):
        algorithm.update(algorithm.init(net), jax.random.key(0), *data)


@pytest.mark.parametrize("body", ["lstm", "gru", "s5", "none"])
def test_recalls_the_first_observation_only_with_memory(body):
    """Naming one of two symbols seen three steps ago: with memory at least 0.95 of 1, without it 0.5 at best."""
    env = recall(delay=3)
    config = PPOConfig(
        learning_rate=5e-3, discount=0.95, gae_lambda=0.9, num_epochs=4, entropy_coefficient=0.01, max_grad_norm=1.0
    )
    algorithm = ppo(config, num_updates=60)

    def cycle(learner, key):
        k_task, k_roll, k_update = jax.random.split(key, 3)
        tasks = jax.vmap(env.sample_task)(jax.random.split(k_task, 32))
        trajectory = rollout(k_roll, learner.net, env, tasks, 16, on_end="sample").trajectory
        advantage, target = gae(
            trajectory.reward, trajectory.discount, trajectory.last, trajectory.value, trajectory.next_value,
            gamma=config.discount, lam=config.gae_lambda,
        )  # fmt: skip
        return algorithm.update(learner, k_update, trajectory, advantage, target)

    @jax.jit
    def train(key, net):
        k_train, k_test = jax.random.split(key)
        learner, _ = jax.lax.scan(cycle, algorithm.init(net), jax.random.split(k_train, 60))
        return evaluate(k_test, learner.net, env, jnp.asarray([0, 1]), 100).returns.mean()

    solved = train(jax.random.key(4), make_net(env, 3, body=body, hidden=16, heads=1))
    if body == "none":
        assert abs(solved - 0.5) < 0.12
    else:
        assert solved > 0.95
