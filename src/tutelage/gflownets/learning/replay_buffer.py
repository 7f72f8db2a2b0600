"""A ring of finished objects with their rewards, and preferences in hindsight."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from tutelage.gflownets.environment import Objects


class ReplayBuffer(NamedTuple):
    """K slots, filled from the first; the newest take the place of the oldest.

    Attributes:
        objects: [K, …].
        rewards: f32 [K, M].
        inserted: how many objects were ever inserted.
    """

    objects: Objects
    rewards: Float[Array, "K M"]
    inserted: Int[Array, ""]

    @property
    def size(self) -> Int[Array, ""]:
        """Filled slots."""
        return jnp.minimum(self.inserted, self.rewards.shape[0])


def empty_buffer(number: int, example: Objects, num_objectives: int) -> ReplayBuffer:
    """A buffer of `number` slots for objects shaped like `example`, of which only shapes and types are read."""
    objects = jax.tree.map(lambda leaf: jnp.zeros((number, *leaf.shape), leaf.dtype), example)
    return ReplayBuffer(objects, jnp.zeros((number, num_objectives), jnp.float32), jnp.zeros((), jnp.int32))


def insert(buffer: ReplayBuffer, objects: Objects, rewards: Float[Array, "n M"]) -> ReplayBuffer:
    """The buffer after n more objects; of more than K the last K stay."""
    number, slots = rewards.shape[0], buffer.rewards.shape[0]
    kept = min(number, slots)
    place = (buffer.inserted + number - kept + jnp.arange(kept)) % slots

    def write(old: Array, new: Array) -> Array:
        return old.at[place].set(new[number - kept :], unique_indices=True)

    return ReplayBuffer(
        jax.tree.map(write, buffer.objects, objects), write(buffer.rewards, rewards), buffer.inserted + number
    )


def draw(buffer: ReplayBuffer, key: Key[Array, ""], number: int) -> tuple[Objects, Float[Array, "n M"]]:
    """`number` of its objects, uniformly with replacement, with their rewards. It must not be empty."""
    slots = jax.random.randint(key, (number,), 0, jnp.maximum(buffer.size, 1))
    return jax.tree.map(lambda leaf: leaf[slots], buffer.objects), buffer.rewards[slots]


def hindsight_preference(rewards: Float[Array, "*batch M"]) -> Float[Array, "*batch M"]:
    """R / ‖R‖₁: the trade-off that an object is an answer to; the uniform one where all its rewards are 0."""
    total = rewards.sum(axis=-1, keepdims=True)
    return jnp.where(total > 0, rewards / jnp.where(total > 0, total, 1.0), 1.0 / rewards.shape[-1])
