"""A study in JAX whose state has one leaf of every kind: module, optimiser, key, bfloat16, flags, count.

A small network fits a random teacher from samples kept in a ring buffer. It compiles in a second and its numbers mean
nothing; what matters is that a resumed run ends bit for bit where an undisturbed one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.lab.program import Program
from tutelage.lab.schedule import Schedule
from tutelage.lab.settings import part, setting
from tutelage.lab.study import Arm, Paper, Preset, Study


@dataclass(frozen=True)
class FitConfig:
    """Fitting a random network."""

    hidden: int = setting(8, "Width of both networks.", interval="[1, inf)")
    abreast: bool = setting(False, "Seeds side by side.")
    schedule: Schedule = part(Schedule)


def build(config: FitConfig, seeds: Sequence[int]) -> Program:
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import optax

    from tutelage.backends.jax_program import jax_program
    from tutelage.lab.program import Last, Sometimes

    optimizer = optax.adam(1e-2)

    def init(key):
        k_net, k_teacher, k_state = jax.random.split(key, 3)
        net = eqx.nn.MLP(3, "scalar", config.hidden, 2, key=k_net)
        return {
            "net": net,
            "teacher": eqx.nn.MLP(3, "scalar", config.hidden, 1, key=k_teacher),
            "optimizer": optimizer.init(eqx.filter(net, eqx.is_array)),
            "seen": jnp.zeros((16, 3), jnp.bfloat16),
            "filled": jnp.zeros(16, bool),
            "count": jnp.zeros((), jnp.int32),
            "key": k_state,
        }

    def update(state):
        k_next, k_sample = jax.random.split(state["key"])
        slot = state["count"] % 16
        sample = jax.random.normal(k_sample, (3,)).astype(jnp.bfloat16)
        seen, filled = state["seen"].at[slot].set(sample), state["filled"].at[slot].set(True)

        def loss(net):
            inputs = seen.astype(jnp.float32)
            errors = jax.vmap(net)(inputs) - jax.vmap(state["teacher"])(inputs)
            return jnp.mean(errors**2, where=filled)

        value, gradient = eqx.filter_value_and_grad(loss)(state["net"])
        changes, opt_state = optimizer.update(gradient, state["optimizer"])
        after = state | {"net": eqx.apply_updates(state["net"], changes), "optimizer": opt_state}
        after |= {"seen": seen, "filled": filled, "count": state["count"] + 1, "key": k_next}
        wrapped = jnp.where(slot == 15, value, jnp.nan)
        return after, {"loss": value, "filled": Last(filled.sum()), "loss_when_wrapping": Sometimes(wrapped)}

    def evaluate(state, key):
        inputs = jax.random.normal(key, (32, 3))
        errors = jax.vmap(state["net"])(inputs) - jax.vmap(state["teacher"])(inputs)
        return {"error": jnp.mean(errors**2)}

    return jax_program(init, update, evaluate, seeds=seeds, mode="vmap" if config.abreast else "loop")


study = Study(
    name="fit",
    paper=Paper("Fitting a random network", "nobody", 2000, ""),
    question="Which lever is best?",
    summary="A network fits another.",
    config=FitConfig,
    arms={"fit": Arm("The only one.", lambda config: config)},
    presets={"quick": Preset("As configured.", lambda config: config)},
    claims=(),
    published=(),
    map={},
    check=lambda config: [],
    build=build,
    work=lambda config: ("samples", 1.0),
    headline="error",
)
