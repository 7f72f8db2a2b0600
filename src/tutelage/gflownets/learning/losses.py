"""What makes flows agree with a reward, as functions of the steps of trajectories.

With r_t = log P_F(a_t | s_t) − log P_B(s_t | s_{t+1}), F_0 = log Z, F_t = log F(s_t) and F_n = ℓ(x):

- trajectory balance        (log Z + Σ r_t − ℓ)²                         Malkin et al. (2022), arXiv 2201.13259
- detailed balance          (F_t + r_t − F_{t+1})²                       Bengio et al. (2023), arXiv 2111.09266
- sub-trajectory balance    (F_i + Σ_{i≤t<j} r_t − F_j)², all i < j      Madan et al. (2023), arXiv 2209.12782
- VarGrad                   (Σ r_t − ℓ − its mean over the group)²       Zhang et al. (2023), arXiv 2302.05446
- flow matching             (log Σ_p F(p → s_{t+1}) − F_{t+1})²          Bengio et al. (2021), arXiv 2106.04399

In flow matching an edge's flow is F(s, a) = F(s) P_F(a | s), so that what flows out of a state is F(s) by construction,
and what flows in is summed over all its parents: the one the trajectory came by, where the graph is a tree.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from tutelage.gflownets.config import LossConfig
from tutelage.gflownets.trajectories import Steps
from tutelage.lab.errors import BadInput

NEEDS_FLOWS = ("db", "subtb", "fm")
"""Losses that read `Steps.log_flow`."""


def loss(steps: Steps, config: LossConfig) -> Float[Array, ""]:
    """The loss that the configuration names."""
    match config.kind:
        case "tb":
            return trajectory_balance(steps)
        case "subtb":
            return subtrajectory_balance(steps, config.subtb_lambda)
        case "db":
            return detailed_balance(steps)
        case "fm":
            return flow_matching(steps)
        case "vargrad":
            return vargrad(steps, config.num_copies)
        case _:
            raise BadInput(f"loss.kind = {config.kind!r} is not one of tb, subtb, db, fm, vargrad")


def trajectory_balance(steps: Steps) -> Float[Array, ""]:
    """Mean over trajectories."""
    return jnp.mean(jnp.square(steps.log_z + _ratios(steps).sum(axis=1) - steps.log_reward))


def detailed_balance(steps: Steps) -> Float[Array, ""]:
    """Mean over all transitions of the batch."""
    residual = steps.log_flow + _ratios(steps) - _flow_after(steps)
    return jnp.sum(jnp.where(steps.valid, jnp.square(residual), 0.0)) / jnp.maximum(steps.valid.sum(), 1)


def subtrajectory_balance(steps: Steps, decay: float) -> Float[Array, ""]:
    """Mean over trajectories of the mean over their sub-trajectories i < j, weighted by λ^(j − i)."""
    ratios = _ratios(steps)
    travelled = jnp.pad(jnp.cumsum(ratios, axis=1), ((0, 0), (1, 0)))
    flows = jnp.concatenate([steps.log_flow[:, :1], _flow_after(steps)], axis=1)
    # F_i + (c_j − c_i) − F_j is a difference of two numbers, one of each end.
    level = flows - travelled
    residual = level[:, :, None] - level[:, None, :]
    length = steps.valid.sum(axis=1)
    place = jnp.arange(flows.shape[1])
    apart = place[None, :] - place[:, None]
    exist = (apart > 0) & (place[None, None, :] <= length[:, None, None])
    weight = jnp.where(exist, jnp.asarray(decay, flows.dtype) ** jnp.maximum(apart, 0), 0.0)
    total = jnp.sum(weight * jnp.square(residual), axis=(1, 2))
    return jnp.mean(total / jnp.maximum(weight.sum(axis=(1, 2)), jnp.finfo(flows.dtype).tiny))


def vargrad(steps: Steps, num_copies: int) -> Float[Array, ""]:
    """Mean over trajectories; each `num_copies` in a row share a condition and a start, and so a log Z."""
    batch = steps.log_reward.shape[0]
    if batch % num_copies != 0:
        raise BadInput(f"num_copies = {num_copies} does not divide the batch of {batch} trajectories")
    residual = (_ratios(steps).sum(axis=1) - steps.log_reward).reshape(-1, num_copies)
    return jnp.mean(jnp.square(residual - residual.mean(axis=1, keepdims=True)))


def flow_matching(steps: Steps) -> Float[Array, ""]:
    """Mean over all states of the batch but the first ones."""
    assert steps.log_inflow is not None
    residual = jnp.where(steps.valid, steps.log_inflow - _flow_after(steps), 0.0)
    return jnp.sum(jnp.square(residual)) / jnp.maximum(steps.valid.sum(), 1)


def _ratios(steps: Steps) -> Float[Array, "B T"]:
    return jnp.where(steps.valid, steps.log_pf - steps.log_pb, 0.0)


def _flow_after(steps: Steps) -> Float[Array, "B T"]:
    """log F(s_{t+1}), ℓ(x) after the last step."""
    following = jnp.pad(steps.log_flow[:, 1:], ((0, 0), (0, 1)))
    continues = jnp.pad(steps.valid[:, 1:], ((0, 0), (0, 1)))
    return jnp.where(continues, following, jnp.where(steps.valid, steps.log_reward[:, None], 0.0))
