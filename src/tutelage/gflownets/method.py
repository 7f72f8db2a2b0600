"""What every method here is, GFlowNet or baseline: it proposes objects, learns from their rewards, and samples.

An update is `learn(state, draft, rewards(draft.objects))` of `draft = propose(state)`. Where the objectives are JAX
functions all three are one compiled program; where they live on the host the oracle is called between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from tutelage.gflownets.condition import Condition
from tutelage.gflownets.environment import Objects
from tutelage.gflownets.objectives import Objectives, compiled_rewards

MethodState = Any
Metrics = Mapping[str, Any]


class Draft(NamedTuple):
    """Objects that await their rewards, and what the method needs to learn from them.

    Attributes:
        objects: [B, …].
        memory: any pytree of arrays (trajectories, conditions, a key).
    """

    objects: Objects
    memory: Any


class Method(NamedTuple):
    """A learner whose state is a pytree of arrays; all its randomness comes from a key in that state.

    Attributes:
        init: `key -> state`.
        propose: `state -> draft`; does not change the state.
        learn: `(state, draft, rewards f32 [B, M]) -> (state, metrics)`.
        sample: `(state, key, condition of n rows) -> objects [n, …]`: one object for each row.
        on_host: `propose` or `learn` are ordinary Python, not to be compiled.
        exponents: the lowest and the largest β that training knew (`config.beta_range`); None: β changes nothing.
        answers_preferences: `sample` depends on the preference.
    """

    init: Callable[[Key[Array, ""]], MethodState]
    propose: Callable[[MethodState], Draft]
    learn: Callable[[MethodState, Draft, Float[Array, "B M"]], tuple[MethodState, Metrics]]
    sample: Callable[[MethodState, Key[Array, ""], Condition], Objects]
    on_host: bool = False
    exponents: tuple[float, float] | None = None
    answers_preferences: bool = True


def compiled_update(method: Method, objectives: Objectives) -> Callable[[MethodState], tuple[MethodState, Metrics]]:
    """One update as a pure function of the state, for objectives and methods which can be compiled."""

    def update(state: MethodState) -> tuple[MethodState, Metrics]:
        draft = method.propose(state)
        return method.learn(state, draft, compiled_rewards(objectives, draft.objects))

    return update


def hosted_update(
    method: Method, score: Callable[[Objects], Float[Array, "B M"]]
) -> Callable[[MethodState], tuple[MethodState, Metrics]]:
    """One update with the rewards from the host: `score` gets NumPy objects and answers f32 [B, M] (`oracle`)."""
    propose, learn = (
        (method.propose, method.learn) if method.on_host else (jax.jit(method.propose), jax.jit(method.learn))
    )

    def update(state: MethodState) -> tuple[MethodState, Metrics]:
        draft = propose(state)
        return learn(state, draft, jnp.asarray(score(jax.device_get(draft.objects)), jnp.float32))

    return update
