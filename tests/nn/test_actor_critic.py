import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.envs.environment import Box, Discrete
from tutelage.lab.errors import BadInput
from tutelage.nn.actor_critic import actor_critic
from tutelage.nn.config import NetworkConfig
from tutelage.nn.distributions import DiagonalNormal
from tutelage.nn.encoders import vector_encoder

T, N, F = 6, 3, 4
CONFIG = NetworkConfig(hidden=8, head_hidden=7, num_value_heads=2)
FIVE = Discrete(5)
EXAMPLE = jax.ShapeDtypeStruct((F,), jnp.float32)


def make(config=CONFIG, actions=FIVE, seed=0):
    k_encoder, k_net = jax.random.split(jax.random.key(seed))
    return actor_critic(k_net, config, vector_encoder(k_encoder, config, EXAMPLE, widths=(6,)), actions)


def inputs():
    rng = np.random.default_rng(0)
    obs = jnp.asarray(rng.normal(size=(T, N, F)), jnp.float32)
    return obs, jnp.asarray(rng.uniform(size=(T, N)) < 0.3)


def noisy(net):
    """Initial logits do not depend on the observation; perturb all parameters so that they do."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: leaf + jnp.asarray(rng.normal(size=leaf.shape) * 0.3, leaf.dtype), net)


@pytest.mark.parametrize("body", ["lstm", "gru", "s5", "none"])
@pytest.mark.parametrize("actions", [Discrete(5), Box(2, -2.0, 4.0)])
def test_unroll_equals_steps(body, actions):
    net = noisy(make(dataclasses.replace(CONFIG, body=body), actions))
    obs, first = inputs()
    distribution, values = jax.jit(lambda *args: net.unroll(*args))(net.initial_carry(N), obs, first)
    carry = net.initial_carry(N)
    step = jax.jit(lambda *args: net.step(*args))
    for t in range(T):
        carry, one, value = step(carry, obs[t], first[t])
        np.testing.assert_allclose(values[t], value, atol=2e-5)
        np.testing.assert_allclose(distribution[0][t], one[0], atol=2e-5)


@pytest.mark.parametrize("body", ["lstm", "gru", "s5"])
def test_first_forgets_everything_before_it(body):
    net = noisy(make(dataclasses.replace(CONFIG, body=body)))
    obs, _ = inputs()
    first = jnp.zeros((T, N), bool).at[3].set(True)
    whole, _ = net.unroll(net.initial_carry(N), obs, first)
    rest, _ = net.unroll(net.initial_carry(N), obs[3:], first[3:])
    np.testing.assert_allclose(whole.logits[3:], rest.logits, atol=1e-6)
    unbroken, _ = net.unroll(net.initial_carry(N), obs, jnp.zeros((T, N), bool))
    assert np.abs(unbroken.logits[3:] - rest.logits).max() > 1e-3


def test_initial_policy_is_exactly_uniform():
    obs, first = inputs()
    net = make()
    distribution, values = net.unroll(net.initial_carry(N), obs, first)
    np.testing.assert_array_equal(distribution.logits, np.broadcast_to(distribution.logits[..., :1], (T, N, 5)))
    np.testing.assert_allclose(distribution.entropy(), np.log(5), rtol=1e-6)
    assert values.shape == (T, N, 2)
    assert np.abs(values[..., 0] - values[..., 1]).min() > 0


def test_heads_are_separate_networks_written_as_one_product():
    """Each head recomputed alone from its own block of the weights."""
    net = noisy(make())
    obs, first = inputs()
    distribution, values = net.unroll(net.initial_carry(N), obs, first)
    _, y = net.body.unroll(net.initial_carry(N), net.encoder(obs), first)
    blocks = zip(jnp.split(net.hidden.weight, 3, axis=1), jnp.split(net.hidden.bias, 3), strict=True)
    policy, *critics = [jnp.tanh(y @ weight + bias) for weight, bias in blocks]
    last = net.policy.last
    np.testing.assert_allclose(distribution.logits, policy @ last.weight + last.bias, atol=1e-5)
    for k, x in enumerate(critics):
        np.testing.assert_allclose(values[..., k], x @ net.value_weight[k] + net.value_bias[k], atol=1e-5)


def test_box_policy_starts_in_the_middle_of_the_box():
    net = make(actions=Box(2, -2.0, 4.0))
    obs, first = inputs()
    distribution, _ = net.unroll(net.initial_carry(N), obs, first)
    assert isinstance(distribution, DiagonalNormal)
    assert np.abs(distribution.mean - 1.0).max() < 0.1
    np.testing.assert_allclose(jnp.exp(distribution.log_std), 3.0, rtol=1e-6)


def test_every_leaf_is_a_float_array():
    """So that a network can be differentiated, scanned over and saved as it is."""
    for body in ("lstm", "gru", "s5", "none"):
        for leaf in jax.tree.leaves(make(dataclasses.replace(CONFIG, body=body))):
            assert isinstance(leaf, jax.Array)
            assert leaf.dtype == jnp.float32
            assert not leaf.weak_type


@pytest.mark.parametrize(
    ("change", "message"),
    [({"body": "lstn"}, "body='lstn'.*did you mean 'lstm'"), ({"activation": "rely"}, "did you mean 'relu'")],
)
def test_unknown_names_are_refused_with_the_nearest(change, message):
    with pytest.raises(BadInput, match=message):
        make(dataclasses.replace(CONFIG, **change))


def test_unknown_kind_of_action_is_refused():
    with pytest.raises(BadInput, match="neither Discrete"):
        make(actions="left or right")
