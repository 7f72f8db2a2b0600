"""How much a candidate is expected to add to the hypervolume of the front, exactly and by samples, always as a log.

The region that no point of the front dominates is cut into boxes [l, u) above the reference point; what y adds to the
hypervolume is Σ_boxes Π_i (min(y_i, u_i) − l_i)+. Its expectation over independent Gaussian rewards is a sum of
products of σ h((m − l)/σ) − σ h((m − u)/σ) with h(z) = φ(z) + z Φ(z), here in logarithms throughout, so that it has a
value and a gradient however far below the front the candidate is (log-EHVI).

Over samples y of the tasks jointly the positive part is smoothed as it is by Ament et al.: s(x) = τ softplus(x/τ) +
0.1 τ/(1 + (x/τ)²), which falls as a power and not as an exponential. A side min(y, u) − l becomes s(y − l) − s(y − u).
As s' > 0, the sum is the integral of Π_i s'(y_i − t_i) over the undominated region, however that is cut.

References: Yang et al. (2019), arXiv 1904.11725; Daulton et al. (2020, 2021), arXiv 2006.05078 and 2105.08195; Ament et
al. (2023), arXiv 2310.20708.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Bool, Float, Int, Key

from tutelage.gflownets.active import gaussian_process as gp
from tutelage.gflownets.active.hypervolume import Boxes, cells, improvement

LOWEST = -1e4
"""log a(x) is never less: the logarithm of an improvement that even the tails give up on."""


def log_h(z: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """log(φ(z) + z Φ(z)), to a few units of rounding for every z."""
    near = jnp.where(z > -2.0, z, 0.0)
    phi = jnp.exp(-0.5 * near * near - _LOG_SQRT_2PI)
    direct = jnp.log(phi + near * jnp.exp(log_ndtr(near)))
    # Below, φ and |z| Φ cancel: Mills' ratio Φ(−t)/φ(t) = 1/(t + c) as a continued fraction leaves φ c/(t + c).
    t = jnp.where(z > -2.0, 2.0, -z)
    tail = jnp.zeros_like(t)
    for numerator in range(32, 0, -1):
        tail = numerator / (t + tail)
    far = -0.5 * t * t - _LOG_SQRT_2PI + jnp.log(tail / (t + tail))
    return jnp.where(z > -2.0, direct, far)


_LOG_SQRT_2PI = 0.9189385332046727
_CERTAIN = 1e-12
"""A deviation that is as good as none, and still divides."""


def log_ehvi(mean: Float[Array, "*b M"], deviation: Float[Array, "*b M"], boxes: Boxes) -> Float[Array, "*b"]:
    """log of the expected hypervolume improvement of independent N(mean, deviation²).

    A deviation of 0 is that of a known value: its plain improvement, finite also where there is none.
    """
    lower, upper, valid = _sides(boxes)
    mean, deviation = mean[..., None, :], jnp.maximum(deviation[..., None, :], _CERTAIN)
    above = log_h((mean - lower) / deviation)
    # An open side has h(−∞) = 0, which is not computed: its gradient would be 0/0.
    closed = jnp.isfinite(upper)
    beyond = log_h((mean - jnp.where(closed, upper, lower + 1.0)) / deviation)
    sides = above + jnp.where(closed, _log1mexp(above - beyond), 0.0) + jnp.log(deviation)
    return _log_sum(jnp.sum(sides, axis=-1), valid)


def log_improvement(rewards: Float[Array, "*b M"], boxes: Boxes, smoothing: float) -> Float[Array, "*b"]:
    """log of what rewards add to the hypervolume, smoothed by τ."""
    lower, upper, valid = _sides(boxes)
    above = _soft_positive((rewards[..., None, :] - lower) / smoothing)
    closed = jnp.isfinite(upper)
    beyond = _soft_positive((rewards[..., None, :] - jnp.where(closed, upper, 0.0)) / smoothing)
    sides = jnp.maximum(above - jnp.where(closed, beyond, 0.0), 1e-30) * smoothing
    return _log_sum(jnp.sum(jnp.log(sides), axis=-1), valid)


def _soft_positive(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    return jax.nn.softplus(x) + 0.1 / (1.0 + x * x)


def _sides(boxes: Boxes) -> tuple[Float[Array, "K M"], Float[Array, "K M"], Bool[Array, "K"]]:
    """The boxes with a volume; the others made harmless."""
    valid = jnp.all(boxes.upper > boxes.lower, axis=-1)
    lower = jnp.where(valid[:, None], boxes.lower, 0.0)
    return lower, jnp.where(valid[:, None], boxes.upper, 1.0), valid


def _log_sum(terms: Float[Array, "*b K"], valid: Bool[Array, "K"]) -> Float[Array, "*b"]:
    return jnp.maximum(jax.nn.logsumexp(jnp.where(valid, terms, -jnp.inf), axis=-1), LOWEST)


def _log1mexp(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """log(1 − exp(−x)) for x ≥ 0."""
    x = jnp.maximum(x, 1e-30)
    small = x < 0.6931
    return jnp.where(
        small,
        jnp.log(-jnp.expm1(-jnp.where(small, x, 0.5))),
        jnp.log1p(-jnp.exp(-jnp.where(small, 1.0, x))),
    )


class Acquisition(NamedTuple):
    """a(x) of one round.

    Attributes:
        posterior: of the rewards (z-scored), over the latent inputs.
        boxes: of each sample's front, leaves [S, K, M]; S = 1 where the front is known.
        baseline: the observed front as the process sees it, P points.
        factor: of their covariance, [M, P, P].
        baseline_normal: the standard normals behind each sample of the front, [S, M, P]; 0 where the front is known.
        normal: those behind each sample of a candidate, the same for all of them, [S', M].
    """

    posterior: gp.Posterior
    boxes: Boxes
    baseline: gp.Latent
    factor: Float[Array, "M P P"]
    baseline_normal: Float[Array, "S M P"]
    normal: Float[Array, "T M"]


def acquisition(
    key: Key[Array, ""],
    posterior: gp.Posterior,
    points: Float[Array, "P D"],
    rewards: Float[Array, "P M"],
    mask: Bool[Array, "P"],
    reference: Float[Array, "M"],
    kind: str,
    num_samples: int,
) -> Acquisition:
    """What is needed to evaluate a(x) often: the front at `points` with the `rewards` observed there (in the mask)."""
    k_front, k_candidate = jax.random.split(key)
    num_tasks, num_points = rewards.shape[1], points.shape[0]
    baseline = gp.latent(posterior, points)
    factor = gp.latent_factor(posterior, baseline)
    if kind == "nehvi":
        normal = jax.random.normal(k_front, (num_samples, num_tasks, num_points), rewards.dtype)
        g = baseline.mean + jnp.einsum("jpq,sjq->sjp", factor, normal)
        fronts = posterior.mean + jnp.einsum("sjp,aj->spa", g, posterior.mixing)
        boxes = jax.vmap(lambda front: cells(front, mask, reference))(fronts)
    else:
        normal = jnp.zeros((1, num_tasks, num_points), rewards.dtype)
        boxes = jax.tree.map(lambda leaf: leaf[None], cells(rewards, mask, reference))
    candidate = jax.random.normal(k_candidate, (num_samples, num_tasks), rewards.dtype)
    return Acquisition(posterior, boxes, baseline, factor, normal, candidate)


def log_acquisition(
    acquired: Acquisition, points: Float[Array, "q D"], kind: str, smoothing: float
) -> Float[Array, "q"]:
    """log a(x) at each point, at least `LOWEST`."""
    posterior = acquired.posterior
    if kind == "ehvi":
        mean, covariance = gp.predict(posterior, points)
        boxes = jax.tree.map(lambda leaf: leaf[0], acquired.boxes)
        return log_ehvi(mean, jnp.sqrt(jnp.diagonal(covariance, axis1=1, axis2=2)), boxes)
    at = gp.latent(posterior, points)
    mean, variance = at.mean[None], gp.latent_variance(posterior, at)
    if kind == "nehvi":
        # Given a sample of the front: what it says of the point beyond the observations, and what it leaves open.
        cross = gp.latent_covariance(posterior, acquired.baseline, at)
        said = jax.vmap(lambda lower, right: jax.scipy.linalg.solve_triangular(lower, right, lower=True))(
            acquired.factor, cross
        )
        mean = mean + jnp.einsum("jpq,sjp->sjq", said, acquired.baseline_normal)
        variance = jnp.maximum(variance - jnp.sum(said**2, axis=1), 1e-6 * posterior.variance[:, None])
    g = mean + jnp.sqrt(variance) * acquired.normal[:, :, None]
    samples = posterior.mean + jnp.einsum("sjq,aj->sqa", g, posterior.mixing)
    boxes = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(samples), *leaf.shape[1:])), acquired.boxes)
    of_each = jax.vmap(lambda sample, of_sample: log_improvement(sample, of_sample, smoothing))(samples, boxes)
    return jnp.maximum(jax.nn.logsumexp(of_each, axis=0) - jnp.log(float(len(samples))), LOWEST)


def log_expected_improvement(
    posterior: gp.Posterior,
    points: Float[Array, "q D"],
    preference: Float[Array, "q M"],
    observed: Float[Array, "n M"],
    mask: Bool[Array, "n"],
) -> Float[Array, "q"]:
    """log of E[(w·f(x) − max_n w·y_n)+], each point under its own preference; the rewards' covariance counts."""
    mean, covariance = gp.predict(posterior, points)
    deviation = jnp.sqrt(jnp.maximum(jnp.einsum("qa,qab,qb->q", preference, covariance, preference), 1e-12))
    best = jnp.max(jnp.where(mask[:, None], observed @ preference.T, -jnp.inf), axis=0)
    z = (jnp.sum(preference * mean, axis=1) - best) / deviation
    return jnp.maximum(log_h(z) + jnp.log(deviation), LOWEST)


def greedy_batch(
    key: Key[Array, ""],
    posterior: gp.Posterior,
    front: Float[Array, "P D"],
    rewards: Float[Array, "P M"],
    mask: Bool[Array, "P"],
    candidates: Float[Array, "C D"],
    allowed: Bool[Array, "C"],
    reference: Float[Array, "M"],
    *,
    number: int,
    num_samples: int,
    noisy: bool,
    smoothing: float,
) -> Int[Array, "q"]:
    """Indices of `number` different candidates, each the one that adds most to the front and to those before it.

    The sequential greedy maximiser of the expected improvement of the whole batch, over joint samples of all candidates
    (and, if `noisy`, of the front). At least `number` candidates must be allowed.
    """
    points = jnp.concatenate([front, candidates])
    samples = gp.draw(posterior, key, points, num_samples)
    num_front = front.shape[0]
    fronts = samples[:, :num_front] if noisy else jnp.broadcast_to(rewards, (num_samples, *rewards.shape))
    ours = samples[:, num_front:]
    # The front, then room for the batch.
    room = jnp.zeros((num_samples, number, rewards.shape[1]), rewards.dtype)
    known = jnp.concatenate([fronts, room], axis=1)

    def choose(carry, step):
        known, filled, allowed = carry
        boxes = jax.vmap(lambda points: cells(points, filled, reference))(known)
        added = jax.vmap(lambda sample, of_sample: log_improvement(sample, of_sample, smoothing))(ours, boxes)
        exact = jnp.mean(jax.vmap(improvement)(ours, boxes), axis=0)
        # Among candidates none of whose samples improves anything, the smoothed improvement decides.
        value = jnp.where(jnp.any(allowed & (exact > 0)), jnp.log(exact + 1e-30), jax.nn.logsumexp(added, axis=0))
        chosen = jnp.argmax(jnp.where(allowed, value, -jnp.inf))
        known = known.at[:, num_front + step].set(ours[:, chosen])
        return (known, filled.at[num_front + step].set(True), allowed.at[chosen].set(False)), chosen

    filled = jnp.concatenate([mask, jnp.zeros(number, bool)])
    _, batch = jax.lax.scan(choose, (known, filled, allowed), jnp.arange(number))
    return batch.astype(jnp.int32)
