"""A recurrent actor–critic: encoder, body, a policy head and K value heads. Natively batched over environments."""

from __future__ import annotations

import math
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, PyTree

from tutelage.lab.errors import BadInput
from tutelage.nn.body import Body, Carry, body
from tutelage.nn.config import NetworkConfig
from tutelage.nn.distributions import Categorical, DiagonalNormal, Distribution
from tutelage.nn.layers import TANH_GAIN, Linear, activation, constant, linear, orthogonal, stacked


@runtime_checkable
class Encoder(Protocol):
    """From an observation with any leading axes to features of width `size`."""

    @property
    def size(self) -> int: ...

    def __call__(self, obs: Any) -> Float[Array, "*batch size"]: ...


class CategoricalHead(eqx.Module):
    """Logits of A actions."""

    last: Linear

    def __call__(self, x: Float[Array, "*batch W"]) -> Categorical:
        return Categorical(self.last(x))


class NormalHead(eqx.Module):
    """A normal whose mean is linear in the features and whose spread is a free parameter.

    Mean and spread are in units of half the box, from its middle: an untrained policy covers the box.
    """

    last: Linear
    log_std: Float[Array, "D"]
    middle: float = eqx.field(static=True)
    half: float = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*batch W"]) -> DiagonalNormal:
        return DiagonalNormal(self.middle + self.half * self.last(x), self.log_std + math.log(self.half))


class ActorCritic(eqx.Module):
    """π(a | o₁…oₜ) and K estimates of V from one body; each head has one hidden layer of its own.

    The 1 + K hidden layers are one matrix, policy first, so that one product serves all heads.
    """

    encoder: Encoder
    body: Body
    hidden: Linear
    policy: CategoricalHead | NormalHead
    value_weight: Float[Array, "K W"]
    value_bias: Float[Array, "K"]
    activation: str = eqx.field(static=True)

    def initial_carry(self, num_envs: int) -> Carry:
        """The zero carry of N environments."""
        return self.body.initial_carry(num_envs)

    def step(
        self, carry: Carry, obs: PyTree, first: Bool[Array, "N"]
    ) -> tuple[Carry, Distribution, Float[Array, "N K"]]:
        """One step of N environments; the carry is zeroed where `first`."""
        carry, y = self.body.step(carry, self.encoder(obs), first)
        return carry, *self._heads(y)

    def unroll(
        self, carry: Carry, obs: PyTree, first: Bool[Array, "T N"]
    ) -> tuple[Distribution, Float[Array, "T N K"]]:
        """T steps at once (leaves of `obs` are [T, N, ...]): what T calls of `step` give, up to rounding."""
        _, y = self.body.unroll(carry, self.encoder(obs), first)
        return self._heads(y)

    def _heads(self, y: Float[Array, "*batch H"]) -> tuple[Distribution, Float[Array, "*batch K"]]:
        num_values, width = self.value_weight.shape
        x = activation(self.activation)(self.hidden(y)).reshape(*y.shape[:-1], 1 + num_values, width)
        values = jnp.sum(x[..., 1:, :] * self.value_weight, axis=-1) + self.value_bias
        return self.policy(x[..., 0, :]), values


def actor_critic(key: Key[Array, ""], config: NetworkConfig, encoder: Encoder, actions: Any) -> ActorCritic:
    """An untrained network for `actions`, a `Discrete(n)` or a `Box(size, low, high)` (`tutelage.envs.environment`).

    Orthogonal weights and zero biases throughout, except the policy's last layer over discrete actions: it is
    constant, so that all initial logits are exactly equal (minimax).

    Raises:
        BadInput: `actions` is of neither kind, or a name in `config` is unknown.
    """
    k_body, k_hidden, k_policy, k_value = jax.random.split(key, 4)
    trunk = body(k_body, config, encoder.size)
    width, num_values = config.head_hidden, config.num_value_heads
    match actions:
        case object(n=int(n)):
            policy = CategoricalHead(linear(k_policy, width, n, constant(0.01)))
        case object(size=int(size), low=low, high=high):
            last = linear(k_policy, width, size, orthogonal(0.01))
            policy = NormalHead(last, jnp.zeros((size,), jnp.float32), (low + high) / 2, (high - low) / 2)
        case _:
            raise BadInput(f"actions={actions!r} is neither Discrete(n) nor Box(size, low, high)")
    activation(config.activation)
    return ActorCritic(
        encoder=encoder,
        body=trunk,
        hidden=Linear(
            stacked(k_hidden, trunk.size, width, 1 + num_values, orthogonal(TANH_GAIN)),
            jnp.zeros(((1 + num_values) * width,), jnp.float32),
        ),
        policy=policy,
        value_weight=jnp.concatenate(
            [orthogonal()(k, (width, 1)) for k in jax.random.split(k_value, num_values)], axis=1
        ).T,
        value_bias=jnp.zeros((num_values,), jnp.float32),
        activation=config.activation,
    )
