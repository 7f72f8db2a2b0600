"""The inner loops that look for queries on the surrogate, each one compiled program for all rounds.

`mogfn` trains a GFlowNet of edits with the reward a(x)^β and samples it. `lambo` mutates the pool, drawing letters from
the encoder's own language model, and keeps what raises a(x): the evolutionary half of LaMBO (its other half moves
the latent features of the masked letters along the gradient before it decodes them).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from tutelage.gflownets.active.acquisition import (
    LOWEST,
    Acquisition,
    acquisition,
    log_acquisition,
    log_expected_improvement,
)
from tutelage.gflownets.active.config import ActiveLearningConfig
from tutelage.gflownets.active.edits import Edit, edited_to, starting_at
from tutelage.gflownets.active.elites import Elites, draw, insert, no_elites
from tutelage.gflownets.active.surrogate import Fitted
from tutelage.gflownets.condition import draw_conditions
from tutelage.gflownets.environment import Environment
from tutelage.gflownets.learning.gflownet import GFlowNetState, Trainer
from tutelage.gflownets.method import Metrics
from tutelage.gflownets.rollout import backward_rollout, where_rows
from tutelage.gflownets.trajectories import Trajectories


class Situation(NamedTuple):
    """What a round starts from.

    Attributes:
        pool: the sequences to be edited, int32 [P, L].
        front: the sequences of the front, int32 [F, L].
        front_rewards: as measured, f32 [F, M].
        front_mask: the rows of the front that are there.
        objects: all that were evaluated, int32 [N, L].
        rewards: all that were measured, f32 [N, M].
        there: which of them.
        reference: in the units of the rewards, f32 [M].
        beta: the exponent of this round.
    """

    pool: Int[Array, "P L"]
    front: Int[Array, "F L"]
    front_rewards: Float[Array, "F M"]
    front_mask: Bool[Array, "F"]
    objects: Int[Array, "N L"]
    rewards: Float[Array, "N M"]
    there: Bool[Array, "N"]
    reference: Float[Array, "M"]
    beta: Float[Array, ""]


class Candidates(NamedTuple):
    """Objects [C, L] with their log a(x) [C]; row r came from start r // (C / P) of the pool."""

    objects: Int[Array, "C L"]
    value: Float[Array, "C"]


def acquired(key: Key[Array, ""], fitted: Fitted, at: Situation, config: ActiveLearningConfig) -> Acquisition:
    """The acquisition of a round, in z-scored rewards."""
    return acquisition(
        key,
        fitted.posterior,
        fitted.surrogate.encoder(at.front),
        fitted.scaling(at.front_rewards),
        at.front_mask,
        fitted.scaling(at.reference),
        config.acquisition.kind,
        config.acquisition.num_samples,
    )


def known(objects: Int[Array, "n L"], at: Situation) -> Bool[Array, "n"]:
    """Which objects are evaluated: to ask for them again adds nothing, whatever a surrogate with noise believes."""
    return jnp.any(jnp.all(objects[:, None] == at.objects, axis=-1) & at.there, axis=1)


def substituted(key: Key[Array, ""], tokens: Int[Array, "n L"], num_letters: int) -> Int[Array, "n L"]:
    """Each sequence with another letter at one random place."""
    k_place, k_letter = jax.random.split(key)
    place = jax.random.categorical(k_place, jnp.where(tokens >= 0, 0.0, -jnp.inf))
    shift = jax.random.randint(k_letter, (len(tokens), 1), 1, num_letters)
    here = jnp.arange(tokens.shape[1]) == place[:, None]
    return jnp.where(here, (tokens + shift) % num_letters, tokens)


def pool_starts(key: Key[Array, ""], number: int, pool: Int[Array, "P L"]) -> Edit:
    """Starts drawn from the pool, anew for every update."""
    return starting_at(pool[jax.random.randint(key, (number,), 0, pool.shape[0])])


def mogfn(
    trainer: Trainer, edits: Environment, num_letters: int, config: ActiveLearningConfig
) -> Callable[[GFlowNetState, Fitted, Situation, Key[Array, ""]], tuple[GFlowNetState, Candidates, Metrics]]:
    """`(sampler, fitted, situation, key) -> (sampler, candidates, metrics)`.

    ℓ(x) = max(β' (log a(x) − c), floor), where c is the largest log a among random edits of the pool: an acquisition
    has no natural scale, and far from 1 it would sink below the floor everywhere. Nor has its logarithm a natural
    range: β' is β, or less where so large an exponent would bring more than half of the random edits below half of the
    floor, for a sampler that sees nothing else has nothing to learn from. What is evaluated has the floor. With
    preferences, a(x | w) is the expected improvement of w·f over the best w·y so far.

    With `elites`, each trajectory is followed by one that is built backwards from one of the best edits of its start so
    far, at first of the random ones: side by side, so that groups which share log Z have some of both.
    """
    conditional, floor = config.gflownet.preference.use, config.gflownet.reward.floor
    per_start = config.eval_samples

    def joined(key: Key[Array, ""], elites: Elites, pool_row: Int[Array, "n"], fresh: Trajectories) -> Trajectories:
        """With a trajectory to an elite of the same start after each; with itself where there is none."""
        k_draw, k_back = jax.random.split(key)
        objects, some = draw(elites, k_draw, pool_row)
        begin = fresh.start.tokens
        objects = jnp.where(some[:, None], objects, fresh.objects)
        old = backward_rollout(
            edits, k_back, objects, fresh.condition, start=fresh.start, terminal=edited_to(begin, objects)
        )
        old = where_rows(some, old, fresh)
        return jax.tree.map(lambda *rows: jnp.stack(rows, axis=1).reshape(-1, *rows[0].shape[1:]), fresh, old)

    def run(
        sampler: GFlowNetState, fitted: Fitted, at: Situation, key: Key[Array, ""]
    ) -> tuple[GFlowNetState, Candidates, Metrics]:
        k_acquisition, k_probe, k_asked, k_sample, k_replay = jax.random.split(key, 5)
        acquisition = acquired(k_acquisition, fitted, at, config)
        observed, num_objectives = fitted.scaling(at.rewards), at.rewards.shape[1]

        def plain(objects: Int[Array, "n L"]) -> Float[Array, "n"]:
            points = fitted.surrogate.encoder(objects)
            value = log_acquisition(acquisition, points, config.acquisition.kind, config.acquisition.smoothing)
            return jnp.where(known(objects, at), LOWEST, value)

        def asked_for(objects: Int[Array, "n L"], preference: Float[Array, "n M"]) -> Float[Array, "n"]:
            if not conditional:
                return plain(objects)
            points = fitted.surrogate.encoder(objects)
            value = log_expected_improvement(fitted.posterior, points, preference, observed, at.there)
            return jnp.where(known(objects, at), LOWEST, value)

        number = at.pool.shape[0] * per_start
        starts = jnp.repeat(at.pool, per_start, axis=0)
        asked = draw_conditions(k_asked, number, num_objectives, config.gflownet.preference, config.gflownet.beta)

        def probe(objects: Int[Array, "n L"], key: Key[Array, ""]) -> tuple[Array, tuple[Array, Array]]:
            objects = substituted(key, objects, num_letters)
            return objects, (objects, asked_for(objects, asked.preference))

        _, (edited, probed) = jax.lax.scan(
            probe, starts, jax.random.split(k_probe, config.max_edits or starts.shape[1])
        )
        unit = jnp.max(probed)
        steepest = -0.5 * floor / jnp.maximum(unit - jnp.median(probed), 1e-6)
        beta = jnp.minimum(at.beta, steepest)

        def update(carry: tuple[GFlowNetState, Elites], key: Key[Array, ""]) -> tuple[Any, Metrics]:
            sampler, elites = carry
            trajectories: Trajectories = trainer.propose(sampler).memory
            pool_row = jnp.argmax(jnp.all(trajectories.start.tokens[:, None] == at.pool, axis=-1), axis=1)
            own = slice(None, None, 2) if config.elites else slice(None)
            if config.elites:
                trajectories = joined(key, elites, pool_row, trajectories._replace(log_pf=None, log_flow=None))
            log_a = asked_for(trajectories.objects, trajectories.condition.preference)
            log_reward = jnp.maximum(beta * (log_a - unit), floor)
            sampler, metrics = trainer.train(sampler, trajectories, log_reward)
            if config.elites:
                elites = insert(elites, pool_row, trajectories.objects[own], log_a[own], LOWEST)
            log_reward = log_reward[own]
            floored = jnp.mean(log_reward <= floor, dtype=jnp.float32)
            return (sampler, elites), {**metrics, "log_reward": log_reward.mean(), "reward_floor": floored}

        elites = no_elites(at.pool.shape[0], config.elites, at.pool.shape[1])
        if config.elites:
            rows = jnp.tile(jnp.repeat(jnp.arange(at.pool.shape[0]), per_start), len(probed))
            # What fewer edits lead to than are asked for, no trajectory leads to.
            least = jnp.minimum(config.min_edits, jnp.sum(starts >= 0, axis=1))
            reached = jnp.where(jnp.sum(edited != starts, axis=-1) >= least, probed, LOWEST)
            elites = insert(elites, rows, edited.reshape(-1, starts.shape[1]), reached.reshape(-1), LOWEST)
        (sampler, _), metrics = jax.lax.scan(
            update, (sampler._replace(context=at.pool), elites), jax.random.split(k_replay, config.opt_steps)
        )
        objects = trainer.sample(sampler, k_sample, asked, start=starting_at(starts))
        last = -(-config.opt_steps // 5)
        found = {name: metric[-last:].mean() for name, metric in metrics.items()}
        return sampler, Candidates(objects, plain(objects)), found | {"beta": beta}

    return run


def lambo(num_letters: int, config: ActiveLearningConfig) -> Callable[[Fitted, Situation, Key[Array, ""]], Candidates]:
    """`(fitted, situation, key) -> candidates`: `eval_samples` climbers from each start, `generations` steps each."""

    def run(fitted: Fitted, at: Situation, key: Key[Array, ""]) -> Candidates:
        k_acquisition, k_first, k_climb = jax.random.split(key, 3)
        acquisition, encoder = acquired(k_acquisition, fitted, at, config), fitted.surrogate.encoder

        def value(objects: Int[Array, "n L"]) -> Float[Array, "n"]:
            points = encoder(objects)
            value = log_acquisition(acquisition, points, config.acquisition.kind, config.acquisition.smoothing)
            return jnp.where(known(objects, at), LOWEST, value)

        def mutants(key: Key[Array, ""], tokens: Int[Array, "n L"]) -> Int[Array, "n L"]:
            k_place, k_letter = jax.random.split(key)
            place = jax.random.categorical(k_place, jnp.where(tokens >= 0, 0.0, -jnp.inf))
            here = jnp.arange(tokens.shape[1]) == place[:, None]
            logits = encoder.logits(tokens, encoder.features(tokens, here))
            same = tokens[..., None] == jnp.arange(num_letters)
            letter = jax.random.categorical(k_letter, jnp.where(same, -jnp.inf, logits))
            return jnp.where(here, letter.astype(tokens.dtype), tokens)

        def climb(population: Candidates, key: Key[Array, ""]) -> tuple[Candidates, None]:
            objects = mutants(key, population.objects)
            found = value(objects)
            better = found >= population.value
            return Candidates(
                jnp.where(better[:, None], objects, population.objects), jnp.where(better, found, population.value)
            ), None

        first = substituted(k_first, jnp.repeat(at.pool, config.eval_samples, axis=0), num_letters)
        population, _ = jax.lax.scan(
            climb, Candidates(first, value(first)), jax.random.split(k_climb, config.generations)
        )
        return population

    return run
