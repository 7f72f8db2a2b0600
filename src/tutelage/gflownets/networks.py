"""The forward policies: an MLP over states, a causal transformer over tokens, a set transformer over edits, a table.

Each reads the condition encoded and has its log Z beside it, under the name `z`, as a network of the condition alone or
also of the state where the trajectory starts.
"""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from tutelage.gflownets.config import NetworkConfig
from tutelage.gflownets.environment import Environment, Observation, Token
from tutelage.gflownets.policy import Outputs, Policy
from tutelage.lab.errors import BadInput
from tutelage.nn.layers import Linear, activation, linear
from tutelage.nn.mlp import MLP, fan_in, mlp, row_product
from tutelage.nn.transformer import Cache, Transformer, sinusoidal, transformer

ACTIVATION = "leaky_relu"


class LogZ(eqx.Module):
    """log Z_θ: an MLP; or without hidden layers the sum over the features of one affine map (mo_gfn).

    With `of_start` it also reads the observation of the start: a vector, or the tokens of a sequence one-hot.
    """

    net: MLP | None
    features: Linear | None
    of_start: bool = eqx.field(static=True)
    num_tokens: int = eqx.field(static=True)

    def __call__(self, observation: Observation, condition: Float[Array, "B C"]) -> Float[Array, "B"]:
        x = condition
        if self.of_start:
            x = jnp.concatenate([x, start_features(observation, self.num_tokens)], axis=-1)
        if self.features is not None:
            return self.features(x).sum(axis=-1)
        assert self.net is not None
        return self.net(x)[..., 0]


def start_features(observation: Observation, num_tokens: int) -> Float[Array, "B S"]:
    """A vector of a state: itself, or its tokens one-hot side by side."""
    first = jax.tree.leaves(observation)[0]
    if jnp.issubdtype(first.dtype, jnp.integer):
        first = jax.nn.one_hot(first, num_tokens)
    return first.reshape(first.shape[0], -1)


class MLPPolicy(eqx.Module):
    """An MLP of an observation vector and the condition.

    What the first layer makes of the condition is computed once for a trajectory: it is the carry.
    """

    of_condition: Linear
    of_observation: Float[Array, "F W"]
    rest: MLP
    z: LogZ
    num_actions: int = eqx.field(static=True)

    @property
    def memoryless(self) -> bool:
        return True

    def start(self, condition: Float[Array, "B C"]) -> Float[Array, "B W"]:
        return self.of_condition(condition)

    def step(
        self, carry: Float[Array, "B W"], observation: Float[Array, "B F"], condition: Float[Array, "B C"]
    ) -> tuple[Float[Array, "B W"], Outputs]:
        del condition
        hidden = activation(ACTIVATION)(row_product(observation, self.of_observation) + carry)
        return carry, _outputs(self.rest(hidden), self.num_actions)

    def trajectory(self, observations: Float[Array, "N T F"], condition: Float[Array, "B C"]) -> Outputs:
        carry = self.start(condition)[:, None]
        read = shared(row_product(observations, self.of_observation), len(condition))
        hidden = activation(ACTIVATION)(read + carry)
        return _outputs(self.rest(hidden), self.num_actions)

    def log_z(self, observation: Observation, condition: Float[Array, "B C"]) -> Float[Array, "B"]:
        return self.z(observation, condition)


class TransformerPolicy(eqx.Module):
    """A causal transformer over tokens; the last token's state and an affine map of the condition enter an MLP."""

    tokens: Float[Array, "V d"]
    body: Transformer
    of_condition: Linear
    head: MLP
    z: LogZ
    num_actions: int = eqx.field(static=True)
    max_length: int = eqx.field(static=True)

    @property
    def memoryless(self) -> bool:
        return False

    def start(self, condition: Float[Array, "B C"]) -> tuple[Cache, Float[Array, "B d"]]:
        return self.body.cache(condition.shape[0], self.max_length), self.of_condition(condition)

    def step(
        self, carry: tuple[Cache, Float[Array, "B d"]], observation: Token, condition: Float[Array, "B C"]
    ) -> tuple[tuple[Cache, Float[Array, "B d"]], Outputs]:
        del condition
        cache, asked = carry
        cache, read = self.body.step(cache, self._embedded(observation))
        return (cache, asked), _outputs(self.head(jnp.concatenate([read, asked], axis=-1)), self.num_actions)

    def trajectory(self, observations: Token, condition: Float[Array, "B C"]) -> Outputs:
        # The condition enters after the body, which reads a trajectory once for all its conditions.
        read = shared(self.body.causal(self._embedded(observations)), len(condition))
        asked = jnp.broadcast_to(self.of_condition(condition)[:, None], read.shape)
        return _outputs(self.head(jnp.concatenate([read, asked], axis=-1)), self.num_actions)

    def log_z(self, observation: Observation, condition: Float[Array, "B C"]) -> Float[Array, "B"]:
        return self.z(observation, condition)

    def _embedded(self, token: Token) -> Array:
        return self.tokens[token.last] + sinusoidal(token.position, self.tokens.shape[1])


class SetTransformerPolicy(eqx.Module):
    """A transformer over a whole sequence and which of its places were edited: (int32 [L], bool [L]).

    Action 0 is STOP, read off the mean over places; action 1 + p·V + v writes token v at place p and is read off it.
    """

    tokens: Float[Array, "V1 d"]
    edited: Float[Array, "d"]
    body: Transformer
    of_condition: Linear
    place_head: MLP
    whole_head: MLP
    z: LogZ

    @property
    def memoryless(self) -> bool:
        return True

    def start(self, condition: Float[Array, "B C"]) -> Float[Array, "B d"]:
        return self.of_condition(condition)

    def step(
        self,
        carry: Float[Array, "B d"],
        observation: tuple[Int[Array, "B L"], Array],
        condition: Float[Array, "B C"],
    ) -> tuple[Float[Array, "B d"], Outputs]:
        del condition
        token, edited = observation
        width = self.tokens.shape[1]
        x = self.tokens[token] + edited[..., None] * self.edited + sinusoidal(jnp.arange(token.shape[1]), width)
        read = self.body.bidirectional(x + carry[:, None])
        asked = jnp.broadcast_to(carry[:, None], read.shape)
        places = self.place_head(jnp.concatenate([read, asked], axis=-1)).reshape(token.shape[0], -1)
        whole = self.whole_head(jnp.concatenate([read.mean(axis=1), carry], axis=-1))
        logits = jnp.concatenate([whole[:, :1], places], axis=-1)
        return carry, Outputs(logits, whole[:, 1] if whole.shape[1] > 1 else jnp.zeros_like(whole[:, 0]))

    def trajectory(self, observations: tuple[Int[Array, "N T L"], Array], condition: Float[Array, "B C"]) -> Outputs:
        batch, length = len(condition), observations[0].shape[1]
        observations = shared(observations, batch)
        flat = jax.tree.map(lambda leaf: leaf.reshape(batch * length, *leaf.shape[2:]), observations)
        repeated = jnp.repeat(condition, length, axis=0)
        _, outputs = self.step(self.start(repeated), flat, repeated)
        return jax.tree.map(lambda leaf: leaf.reshape(batch, length, *leaf.shape[1:]), outputs)

    def log_z(self, observation: Observation, condition: Float[Array, "B C"]) -> Float[Array, "B"]:
        return self.z(observation, condition)


class TabularPolicy(eqx.Module):
    """A row of logits, a flow and one log Z for each state, whatever the condition: what exact solutions are set in.

    `index_of` gives the row of one observation.
    """

    logits: Float[Array, "S A"]
    flows: Float[Array, "S"]
    z: Float[Array, ""]
    index_of: Callable[[Observation], Int[Array, ""]] = eqx.field(static=True)

    @property
    def memoryless(self) -> bool:
        return True

    def start(self, condition: Float[Array, "B C"]) -> tuple[()]:
        return ()

    def step(self, carry: tuple[()], observation: Observation, condition: Array) -> tuple[tuple[()], Outputs]:
        row = jax.vmap(self.index_of)(observation)
        return carry, Outputs(self.logits[row], self.flows[row])

    def trajectory(self, observations: Observation, condition: Float[Array, "B C"]) -> Outputs:
        row = shared(jax.vmap(jax.vmap(self.index_of))(observations), len(condition))
        return Outputs(self.logits[row], self.flows[row])

    def log_z(self, observation: Observation, condition: Float[Array, "B C"]) -> Float[Array, "B"]:
        return jnp.broadcast_to(self.z, condition.shape[:1])


def shared(rows: PyTree, number: int) -> PyTree:
    """Rows [n, …] for `number` = n·k conditions: each k times in a row."""
    return jax.tree.map(
        lambda leaf: leaf if len(leaf) == number else jnp.repeat(leaf, number // len(leaf), axis=0), rows
    )


def _outputs(values: Float[Array, "*batch A1"], num_actions: int) -> Outputs:
    """The last layer's values: logits and, where there is one more, log F."""
    if values.shape[-1] == num_actions:
        return Outputs(values, jnp.zeros_like(values[..., 0]))
    return Outputs(values[..., :num_actions], values[..., num_actions])


def make_policy(
    key: Key[Array, ""],
    environment: Environment,
    condition_size: int,
    config: NetworkConfig,
    *,
    flow_head: bool = False,
    z_reads_start: bool = False,
    values: int = 1,
) -> Policy:
    """An untrained policy for the observations of this environment.

    Args:
        condition_size: C, of the encoded condition.
        flow_head: also learn log F(state | condition), for detailed balance and its kin.
        z_reads_start: log Z depends on the start's observation too.
        values: numbers for each action, side by side: the outputs have A·values logits.

    Raises:
        BadInput: the kind of network cannot read what the environment shows, or has one value for an action only.
    """
    k_body, k_condition, k_head, k_z = jax.random.split(key, 4)
    seen = jax.eval_shape(lambda: environment.observe(environment.source()))
    leaves = jax.tree.leaves(seen)
    width, extra, num_logits = config.width, int(flow_head), environment.num_actions * values
    match config.kind:
        case "mlp":
            if len(leaves) != 1 or len(leaves[0].shape) != 1 or not jnp.issubdtype(leaves[0].dtype, jnp.floating):
                raise BadInput(
                    "network.kind = 'mlp' needs a vector of floats for an observation; this environment's "
                    f"is {_shown(leaves)}"
                )
            size, num_tokens = leaves[0].shape[0], 0
            start_size = size
        case "transformer":
            if not environment.is_sequence:
                raise BadInput("network.kind = 'transformer' needs an environment of sequences (is_sequence)")
            size, num_tokens, start_size = 0, environment.num_actions + 1, 0
        case "set_transformer":
            if values > 1:
                raise BadInput(
                    "network.kind = 'set_transformer' has one value for an action; must be 'mlp' or 'transformer'"
                )
            if len(leaves) != 2 or len(leaves[0].shape) != 1 or leaves[0].shape != leaves[1].shape:
                raise BadInput(
                    "network.kind = 'set_transformer' needs (tokens [L], edited [L]) for an observation; "
                    f"this environment's is {_shown(leaves)}"
                )
            size = leaves[0].shape[0]
            if (environment.num_actions - 1) % size != 0:
                raise BadInput(
                    f"network.kind = 'set_transformer': {environment.num_actions} actions are not 1 + "
                    f"{size}·V for the {size} places of the observation"
                )
            num_tokens = (environment.num_actions - 1) // size + 1
            start_size = size * num_tokens
        case _:
            raise BadInput(f"network.kind = {config.kind!r} is not one of mlp, transformer, set_transformer")

    z = make_log_z(k_z, condition_size, start_size if z_reads_start else 0, num_tokens, config)
    if config.kind == "mlp":
        # One affine map of both side by side: each weight is as large as the size of the two together says.
        both = condition_size + size
        of_condition = linear(k_condition, condition_size, width, fan_in((condition_size / both) ** 0.5))
        rest = mlp(k_head, width, width, config.layers - 1, num_logits + extra, name=ACTIVATION)
        of_observation = fan_in((size / both) ** 0.5)(k_body, (size, width))
        return MLPPolicy(of_condition, of_observation, rest, z, num_logits)
    of_condition = linear(k_condition, condition_size, width, fan_in())
    k_tokens, k_blocks, k_edited = jax.random.split(k_body, 3)
    tokens = 0.5 * jax.random.normal(k_tokens, (num_tokens, width), jnp.float32)
    body = transformer(k_blocks, width, config.layers, config.heads)
    if config.kind == "transformer":
        head = mlp(k_head, 2 * width, 4 * width, 2, num_logits + extra, name=ACTIVATION)
        return TransformerPolicy(tokens, body, of_condition, head, z, num_logits, environment.max_steps)
    k_place, k_whole = jax.random.split(k_head)
    return SetTransformerPolicy(
        tokens,
        0.5 * jax.random.normal(k_edited, (width,), jnp.float32),
        body,
        of_condition,
        mlp(k_place, 2 * width, 4 * width, 1, num_tokens - 1, name=ACTIVATION),
        mlp(k_whole, 2 * width, 4 * width, 1, 1 + extra, name=ACTIVATION),
        z,
    )


def make_log_z(
    key: Key[Array, ""], condition_size: int, start_size: int, num_tokens: int, config: NetworkConfig
) -> LogZ:
    """An untrained log Z; `start_size` 0: of the condition alone."""
    size, of_start = condition_size + start_size, start_size > 0
    if config.z_layers == 0:
        return LogZ(None, linear(key, size, config.z_width, fan_in()), of_start, num_tokens)
    return LogZ(mlp(key, size, config.z_width, config.z_layers, 1, name=ACTIVATION), None, of_start, num_tokens)


def _shown(leaves: list[jax.ShapeDtypeStruct]) -> str:
    return " and ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in leaves)
