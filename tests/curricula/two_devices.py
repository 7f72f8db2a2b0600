"""What two simulated devices do, as one JSON object on the standard output: a process of its own, since the number of
devices is fixed when JAX starts.

    XLA_FLAGS=--xla_force_host_platform_device_count=2 python tests/curricula/two_devices.py
"""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from studies.tiny_minimax import tiny

from tutelage.curricula.sharding import combined
from tutelage.lab.program import Last, Sometimes
from tutelage.rl.config import PPOConfig
from tutelage.rl.ppo import ppo
from tutelage.rl.returns import gae
from tutelage.rl.rollout import rollout
from tutelage.studies.minimax.build import build, environment, student_maker
from tutelage.studies.minimax.exhibits import exhibits

AXIS = "devices"
MESH = jax.make_mesh((2,), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,))


def per_device(leaf) -> list[np.ndarray]:
    """What each device really holds of an array that should be the same on all."""
    assert len(leaf.addressable_shards) == 2
    return [np.asarray(shard.data) for shard in leaf.addressable_shards]


def equal_on_both(tree) -> bool:
    return all(np.array_equal(*per_device(leaf)) for leaf in jax.tree.leaves(tree))


def same_arrays(one, other) -> bool:
    return list(one) == list(other) and all(np.array_equal(one[name], other[name]) for name in one)


def one_update_of_two_devices_and_of_one() -> dict:
    """PPO on 4 environments at once, and on 2 and 2."""
    config = tiny("dr")
    env = environment(config)
    net = student_maker(config, env)(jax.random.key(0))
    k_tasks, k_rollout = jax.random.split(jax.random.key(1))
    tasks = jax.vmap(env.sample_task)(jax.random.split(k_tasks, 4))
    played = jax.jit(lambda k: rollout(k, net, env, tasks, 8).trajectory)(k_rollout)
    # Rewards unlike on the two halves: normalising each half by itself would be seen.
    played = played._replace(reward=played.reward + jnp.arange(4.0) ** 2 + jnp.arange(8.0)[:, None] % 3)
    advantage, target = gae(
        played.reward, played.discount, played.last, played.value, played.next_value, gamma=0.9, lam=0.9
    )
    settings = PPOConfig(learning_rate=1e-2, num_epochs=3, num_minibatches=1)
    alone, together = ppo(settings, num_updates=1), ppo(settings, num_updates=1, axis_name=AXIS)
    learner = alone.init(net)
    rows = P(None, AXIS)
    spread_update = jax.shard_map(
        together.update, mesh=MESH, in_specs=(P(), P(), rows, rows, rows), out_specs=P(), check_vma=False
    )
    expected, metrics = jax.jit(alone.update)(learner, jax.random.key(2), played, advantage, target)
    found, metrics_found = jax.jit(spread_update)(learner, jax.random.key(2), played, advantage, target)

    def distance(one, other) -> float:
        return max(float(jnp.abs(a - b).max()) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)))

    return {
        "moved": distance(expected.net, net),
        "apart": distance(expected.net, found.net),
        "metrics_apart": {name: abs(float(metrics[name] - metrics_found[name])) for name in metrics},
        "equal": equal_on_both(found),
    }


def robust_replay() -> dict:
    """Six updates without a stop; two, then through the disk's form, then four more."""
    config = tiny("plr_robust", rollout__num_devices=2, evaluation__robust_levels=0)
    program = build(config, [0])
    state, _ = program.update(program.init(), 2)
    saved = program.save(state)
    (half,) = state
    counts = [int(half.cycles), int(half.updates)]
    # Each device counts its own cycles, and ends a loop of its own when its phase is to be learnt from.
    teacher_cycles = np.asarray(half.teacher.cycle).ravel().tolist()
    teacher_sizes = np.asarray(half.teacher.buffer.size).ravel().tolist()
    walls = np.asarray(half.teacher.buffer.level.wall)[:, 0]
    shape = list(walls.shape)
    equal = equal_on_both((half.learners, half.cycles, half.updates, jax.random.key_data(half.key)))
    moved = not equal_on_both(half.teacher.buffer.level)
    state, _ = program.update(state, 2)
    state, figures = program.update(state, 2)
    figures = figures()[0]
    undisturbed = program.save(state)
    again = build(config, [0])
    resumed, _ = again.update(again.load(saved), 2)
    resumed, _ = again.update(resumed, 2)
    # Another run in which the second device has lost most of its buffer: nobody may replay before it is ready again.
    (uneven,) = program.load(saved)
    size = uneven.teacher.buffer.size
    poor = uneven.teacher.buffer._replace(size=jax.device_put(np.array([[6], [1]], np.int32), size.sharding))
    (uneven,), _ = program.update((uneven._replace(teacher=uneven.teacher._replace(buffer=poor)),), 2)
    evaluated = again.evaluate(resumed, 6)[0]
    shown = exhibits(config, again, resumed)
    return {
        "counts": counts,
        "teacher_cycles": teacher_cycles,
        "teacher_sizes": teacher_sizes,
        "uneven_cycles": (np.asarray(uneven.teacher.cycle).ravel() - teacher_cycles[0]).tolist(),
        "uneven_sizes": np.asarray(uneven.teacher.buffer.size).ravel().tolist(),
        "walls_shape": shape,
        "sub_buffers_differ": moved and not np.array_equal(walls[0], walls[1]),
        "equal": equal,
        "equal_after_resuming": equal_on_both(again.seed_state(resumed, 0).learners),
        "saved_on_the_way": not same_arrays(saved, undisturbed),
        "resumed_is_the_same": same_arrays(again.save(resumed), undisturbed),
        "traces": [program.traces["update"], again.traces["update"]],
        "figures": figures,
        "evaluated": evaluated,
        "captions": [exhibit.caption for exhibit in shown],
        "device": again.device(),
    }


def teacher_that_learns() -> dict:
    """PAIRED: the adversary's learner sits in the teacher's state, one copy for each device."""
    program = build(tiny("paired", rollout__num_devices=2), [0])
    state, figures = program.update(program.init(), 2)
    (state,) = state
    adversary = jax.tree.map(np.asarray, state.teacher.learner)
    weights = np.asarray(state.learners.net.hidden.weight)
    return {
        "adversaries_equal": all(np.array_equal(leaf[0], leaf[1]) for leaf in jax.tree.leaves(adversary)),
        "adversary_updates": adversary.num_updates.ravel().tolist(),
        "students_equal_on_both": equal_on_both(state.learners),
        "students_are_two": not np.array_equal(weights[0], weights[1]),
        "loss": figures()[0]["teacher/ppo/loss"],
    }


def teacher_that_searches() -> dict:
    """SFL: each device keeps the best of its own search."""
    program = build(tiny("sfl", rollout__num_devices=2), [0])
    (state,), figures = program.update(program.init(), 2)
    walls = np.asarray(state.teacher.level.wall)[:, 0]
    figures()
    return {
        "kept": list(walls.shape),
        "differ": not np.array_equal(walls[0], walls[1]),
        "equal": equal_on_both(state.learners),
    }


def metrics_of_all() -> dict:
    """One value per device in, one value for all out."""

    def of_one(values):
        (value,) = values
        found = {"mean": combined(value, AXIS), "last": combined(Last(jnp.float32(7)), AXIS).value}
        found["sometimes"] = combined(Sometimes(value), AXIS).value
        found["some"] = combined(Sometimes(jnp.where(value > 2, value, jnp.nan)), AXIS).value
        found["never"] = combined(Sometimes(value * jnp.nan), AXIS).value
        return found

    found = jax.shard_map(of_one, mesh=MESH, in_specs=P(AXIS), out_specs=P(), check_vma=False)(jnp.array([1.0, 4.0]))
    return {name: None if np.isnan(value) else float(value) for name, value in found.items()}


if __name__ == "__main__":
    checks = (one_update_of_two_devices_and_of_one, robust_replay, teacher_that_learns, teacher_that_searches)
    print(json.dumps({check.__name__: check() for check in (*checks, metrics_of_all)}))
