"""One system over several devices: each rolls out its share of the tasks, all of them train the same students.

Learners, keys and counters are the same on every device. The teacher's state is not: each device keeps a sub-buffer of
its own and replays from it, so nothing but gradients, a few sums and one bit ("is everybody ready to replay?") travels.
The phase of a cycle is decided from a shared key and that bit, so that all devices agree on it.

Sub-buffers make the curriculum on D devices another one than on a single device: ranks are among K/D levels, and a
level is compared with those of its own device only. The published code does the same.

Reference: Jiang, Dennis, Grefenstette & Rocktäschel (2023), minimax: Efficient Baselines for Autocurricula in JAX,
arXiv 2311.12716.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Key

from tutelage.backends.jax_program import Metric
from tutelage.curricula.ued import UED, UEDState
from tutelage.lab.errors import BadInput
from tutelage.lab.program import Last, Sometimes


@dataclass(frozen=True)
class Spread:
    """A system over D devices. Its state is that of a `UED` whose teacher's leaves have a leading axis [D].

    Attributes:
        init: `key -> state`; every device's teacher starts alike.
        update: `state -> (state, metrics)`: one update of all devices together. Metrics are means over devices.
        place: `state -> state`, with every leaf on the device, or devices, where `update` wants it.
    """

    init: Callable[[Key[Array, ""]], UEDState]
    update: Callable[[UEDState], tuple[UEDState, dict[str, Metric]]]
    place: Callable[[UEDState], UEDState]


def spread(ued: UED, num_devices: int) -> Spread:
    """`ued`, which describes the share of one device (N/D tasks, K/D slots), on the first D devices of this machine.

    Its `ppo`, and the adversary of PAIRED, must have the axis name of `ued`.

    Raises:
        BadInput: JAX sees fewer devices, or `ued` has no axis name.
    """
    axis = ued.axis_name
    if axis is None:
        raise BadInput("axis_name = None: a system over several devices needs the name of their axis")
    seen = jax.local_devices()
    if num_devices > len(seen):
        raise BadInput(f"num_devices = {num_devices} is more than the {len(seen)} that JAX sees here")
    mesh = jax.make_mesh((num_devices,), (axis,), axis_types=(AxisType.Auto,), devices=seen[:num_devices])
    # Prefixes of the state's tree: of its fields, only the teacher is another on every device.
    layout = [P(axis) if field == "teacher" else P() for field in UEDState._fields]
    specs = UEDState._make(layout)
    shardings = UEDState._make(NamedSharding(mesh, spec) for spec in layout)

    def init(key: Key[Array, ""]) -> UEDState:
        state = ued.init(key)
        return state._replace(
            teacher=jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_devices, *leaf.shape)), state.teacher)
        )

    def on_one(state: UEDState) -> tuple[UEDState, dict[str, Metric]]:
        own = state._replace(teacher=jax.tree.map(lambda leaf: leaf[0], state.teacher))
        own, metrics = ued.update(own)
        teacher = jax.tree.map(lambda leaf: leaf[None], own.teacher)
        return own._replace(teacher=teacher), {name: combined(metric, axis) for name, metric in metrics.items()}

    # What is equal on all devices is so by construction (means of gradients), which JAX's check cannot see through the
    # loops of a rollout.
    update = jax.shard_map(on_one, mesh=mesh, in_specs=(specs,), out_specs=(specs, P()), check_vma=False)

    def place(state: UEDState) -> UEDState:
        return jax.device_put(state, shardings)

    return Spread(init, update, place)


def combined(metric: Metric, axis_name: str) -> Metric:
    """One metric of all devices: the mean, of `Sometimes` over those that have a value; a `Last` is equal on all."""
    match metric:
        case Last():
            return metric
        case Sometimes(value):
            has_value = ~jnp.isnan(value)
            total, number = jax.lax.psum((jnp.where(has_value, value, 0.0), has_value.astype(jnp.float32)), axis_name)
            return Sometimes(jnp.where(number > 0, total / jnp.maximum(number, 1.0), jnp.nan))
        case _:
            return jax.lax.pmean(metric, axis_name)
