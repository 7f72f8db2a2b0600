"""What is scored is what the policy says of the steps, however it is cut up; probabilities of objects are exact."""

from __future__ import annotations

import itertools
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from gflownets.small_grid import cells, grid

from tutelage.gflownets.condition import Condition
from tutelage.gflownets.config import LossConfig, NetworkConfig
from tutelage.gflownets.environment import Environment
from tutelage.gflownets.learning.losses import loss
from tutelage.gflownets.networks import make_policy
from tutelage.gflownets.rollout import rollout
from tutelage.gflownets.scoring import by_length, log_prob, replay, score
from tutelage.gflownets.worlds.sequences import all_sequences, sequence_environment
from tutelage.lab.errors import BadInput

B = 12
PREFERENCE = jax.random.dirichlet(jax.random.key(9), jnp.ones(2), (B,))
CONDITION = Condition(PREFERENCE, jnp.ones(B))
LOG_REWARD = jnp.linspace(-2.0, 0.0, B)


def _network(environment: Environment, kind: str, **options):
    config = NetworkConfig(kind=kind, width=16, layers=2, heads=2, z_width=8, z_layers=1)
    return make_policy(jax.random.key(0), environment, 2, config, flow_head=True, **options)


def _drawn(policy, environment, **options):
    run = jax.jit(lambda key: rollout(policy, environment, key, CONDITION, PREFERENCE, epsilon=0.2, **options))
    return run(jax.random.key(1))


@pytest.fixture(scope="module")
def on_grid():
    environment = grid(2, 5)
    policy = _network(environment, "mlp")
    return environment, policy, _drawn(policy, environment, keep_outputs=True)


def _gradient(environment, given, kind, **options):
    def of(policy, given):
        steps = score(policy, environment, given, PREFERENCE, LOG_REWARD, inflows=kind == "fm", **options)
        return loss(steps, LossConfig(kind=kind, num_copies=3))

    return partial(jax.jit(jax.value_and_grad(of)), given=given)


def _plainly(policy, environment, given):
    """The steps in one pass over all B × T states, by the package's network but none of its cutting."""
    states, rows = [given.start], []
    for t in range(given.action.shape[1]):
        after = jax.vmap(environment.step)(states[-1], given.action[:, t])
        states.append(
            jax.tree.map(
                lambda new, old, t=t: jnp.where(given.valid[:, t].reshape(-1, *[1] * (new.ndim - 1)), new, old),
                after,
                states[-1],
            )
        )
    observed = jnp.stack([jax.vmap(environment.observe)(state) for state in states[:-1]], axis=1)
    outputs = policy.trajectory(observed, PREFERENCE)
    for t, (before, after) in enumerate(itertools.pairwise(states)):
        mask = jax.vmap(environment.mask)(before) | ~given.valid[:, t][:, None]
        log_p = jax.nn.log_softmax(jnp.where(mask, outputs.logits[:, t], -1e9), axis=-1)
        chosen = jnp.take_along_axis(log_p, given.action[:, t][:, None], axis=1)[:, 0]
        rows.append((chosen, jax.vmap(environment.log_pb)(before, given.action[:, t], after)))
    log_pf, log_pb = (jnp.where(given.valid, jnp.stack(part, axis=1), 0.0) for part in zip(*rows, strict=True))
    log_z = policy.log_z(observed[:, 0], PREFERENCE)
    flow = jnp.where(given.valid, outputs.log_flow, 0.0).at[:, 0].set(log_z)
    following = jnp.concatenate([flow[:, 1:], jnp.zeros((B, 1))], axis=1)
    last = given.valid & ~jnp.concatenate([given.valid[:, 1:], jnp.zeros((B, 1), bool)], axis=1)
    target = jnp.where(last, LOG_REWARD[:, None], following)
    balance = jnp.where(given.valid, flow + log_pf - log_pb - target, 0.0)
    trajectory = log_z + (log_pf - log_pb).sum(axis=1) - LOG_REWARD
    return jnp.square(trajectory).mean() + jnp.square(balance).sum() / given.valid.sum()


@pytest.fixture(scope="module")
def plainly(on_grid):
    environment, policy, given = on_grid
    return jax.jit(jax.value_and_grad(lambda policy: _plainly(policy, environment, given)))(policy)


@pytest.mark.parametrize(("chunk", "known"), [(5, True), (16, False), (1000, True)])
def test_pieces_of_any_size_give_the_loss_and_gradients_of_one_plain_pass(on_grid, plainly, chunk, known):
    environment, policy, given = on_grid
    given = given if known else given._replace(log_pf=None, log_flow=None)
    value, grads = plainly

    def cut_up(policy):
        steps = score(policy, environment, given, PREFERENCE, LOG_REWARD, chunk=chunk)
        return loss(steps, LossConfig(kind="tb")) + loss(steps, LossConfig(kind="db"))

    found, grads_found = jax.jit(jax.value_and_grad(cut_up))(policy)
    np.testing.assert_allclose(float(found), float(value), rtol=1e-5)
    assert given.valid.sum() < given.valid.size, "there should be padding to leave out"
    for expected, leaf in zip(jax.tree.leaves(grads), jax.tree.leaves(grads_found), strict=True):
        np.testing.assert_allclose(np.asarray(leaf), np.asarray(expected), rtol=1e-4, atol=1e-5)


def test_inflows_are_summed_over_all_parents(on_grid):
    environment, policy, given = on_grid
    steps = jax.jit(lambda: score(policy, environment, given, PREFERENCE, LOG_REWARD, inflows=True, chunk=16))()
    row = int(given.valid.sum(axis=1).argmax())
    place = np.zeros(2, int)
    for t in range(int(given.valid[row].sum())):
        action = int(given.action[row, t])
        stops = action == 2
        after = place if stops else place + (np.arange(2) == action)
        parents = [(place, 2)] if stops else [(after - np.eye(2, dtype=int)[a], a) for a in (0, 1) if after[a] > 0]
        edges = []
        for parent, move in parents:
            seen = jax.nn.one_hot(jnp.asarray(parent), 5).reshape(1, 1, -1)
            outputs = policy.trajectory(seen, PREFERENCE[row : row + 1])
            legal = np.where(np.append(parent < 4, True), np.asarray(outputs.logits)[0, 0], -np.inf)
            source = not parent.any()
            flow = policy.log_z(seen[:, 0], PREFERENCE[row : row + 1])[0] if source else outputs.log_flow[0, 0]
            edges.append(float(flow) + legal[move] - np.logaddexp.reduce(legal))
        np.testing.assert_allclose(float(steps.log_inflow[row, t]), np.logaddexp.reduce(edges), atol=1e-4)
        place = after


def test_gradients_of_flow_matching_are_those_of_finite_differences(on_grid):
    environment, policy, given = on_grid
    gradient = _gradient(environment, given, "fm", chunk=16)
    _, grads = gradient(policy)
    direction = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(leaf.size), leaf.shape), policy)
    direction = jax.tree.map(lambda leaf: leaf / optax.tree.norm(direction), direction)
    step = 2e-2
    up, down = (
        gradient(eqx.apply_updates(policy, jax.tree.map(lambda d, s=s: s * d, direction)))[0] for s in (step, -step)
    )
    slope = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(direction), strict=True))
    np.testing.assert_allclose(float((up - down) / (2 * step)), float(slope), rtol=0.05)


def test_flow_matching_refuses_an_environment_that_cannot_name_parents(on_grid):
    environment, policy, given = on_grid
    with pytest.raises(BadInput, match="'fm' needs all parents"):
        score(policy, environment._replace(parents=None), given, PREFERENCE, LOG_REWARD, inflows=True)


WORDS = sequence_environment(2, 1, 6)


@pytest.fixture(scope="module")
def on_words():
    policy = _network(WORDS, "transformer")
    return policy, _drawn(policy, WORDS)


def test_lengths_that_a_pass_is_cut_to_change_neither_loss_nor_gradients(on_words):
    policy, given = on_words
    short = jax.tree.map(
        lambda leaf: jnp.tile(leaf[given.valid.sum(axis=1).argmin()], (B, *[1] * (leaf.ndim - 1))), given
    )

    def of(policy, given):
        return loss(score(policy, WORDS, given, PREFERENCE, LOG_REWARD), LossConfig(kind="subtb"))

    whole = jax.jit(jax.value_and_grad(of))
    cut = jax.jit(lambda policy, given: by_length(given, lambda given: jax.value_and_grad(of)(policy, given)))
    for trajectories in (given, short):
        expected, found = whole(policy, trajectories), cut(policy, trajectories)
        for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
            np.testing.assert_allclose(np.asarray(other), np.asarray(one), rtol=1e-4, atol=1e-5)


def test_no_pass_is_compiled_for_lengths_that_no_trajectory_has(on_words):
    given, seen = on_words[1], []
    by_length(given, lambda cut: seen.append(cut.action.shape[1]), least=WORDS.max_steps)
    assert seen == [WORDS.max_steps]


@pytest.mark.parametrize("kind", ["mlp", "transformer"])
def test_one_trajectory_is_read_under_several_conditions_as_if_it_were_there_for_each(kind):
    world = WORDS if kind == "transformer" else grid(2, 5)
    policy = _network(world, kind)
    given = jax.tree.map(lambda leaf: leaf[:2], _drawn(policy, world))
    states = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1)[:, :-1], replay(world, given))
    seen = jax.vmap(jax.vmap(world.observe))(states)
    asked = PREFERENCE[: B - B % 2]
    many = jax.tree.map(lambda leaf: jnp.repeat(leaf, len(asked) // 2, axis=0), seen)
    shared, own = policy.trajectory(seen, asked), policy.trajectory(many, asked)
    np.testing.assert_allclose(np.asarray(shared.logits), np.asarray(own.logits), rtol=1e-5, atol=1e-6)


def edits(length: int, letters: int) -> Environment:
    """Each place may be written once; action 0 stops."""

    def step(state, action):
        tokens, edited, over = state
        at = (jnp.arange(length) == (action - 1) // letters) & (action > 0)
        return jnp.where(at, (action - 1) % letters, tokens), edited | at, over | (action == 0)

    return Environment(
        num_actions=1 + length * letters,
        max_steps=length + 1,
        source=lambda: (jnp.zeros(length, jnp.int32), jnp.zeros(length, bool), jnp.zeros((), bool)),
        mask=lambda state: jnp.append(True, jnp.repeat(~state[1], letters)),
        step=step,
        done=lambda state: state[2],
        log_pb=lambda state, action, after: jnp.zeros(()),
        retrace=lambda key, after: (after, jnp.int32(0)),
        observe=lambda state: state[:2],
        object_of=lambda state: state[0],
        terminal=lambda tokens: (tokens, jnp.ones(length, bool), jnp.ones((), bool)),
    )


@pytest.mark.parametrize(
    ("kind", "environment"), [("mlp", grid(2, 3)), ("transformer", WORDS), ("set_transformer", edits(4, 3))]
)
def test_steps_of_a_rollout_are_the_pass_over_trajectories(kind, environment):
    policy = _network(environment, kind)

    @jax.jit
    def both(key):
        carry, state, rows, seen = policy.start(PREFERENCE), None, [], []
        state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (B, *leaf.shape)), environment.source())
        for t in range(4):
            seen.append(jax.vmap(environment.observe)(state))
            carry, outputs = policy.step(carry, seen[-1], PREFERENCE)
            rows.append(outputs)
            mask = jax.vmap(environment.mask)(state)
            action = jnp.argmax(
                jnp.where(mask, jax.random.uniform(jax.random.fold_in(key, t), mask.shape), -1.0), axis=1
            )
            state = jax.vmap(environment.step)(state, action)
        stack = lambda *leaves: jnp.stack(leaves, axis=1)  # noqa: E731
        return jax.tree.map(stack, *rows), policy.trajectory(jax.tree.map(stack, *seen), PREFERENCE)

    stepped, passed = both(jax.random.key(3))
    assert stepped.logits.shape == (B, 4, environment.num_actions)
    for one, other in zip(stepped, passed, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), atol=1e-5)
    assert float(jnp.abs(passed.log_flow[0] - passed.log_flow[1]).max()) > 1e-4, "two conditions, two outputs"


def test_log_z_depends_on_the_start_where_it_is_asked_to():
    environment = edits(4, 3)
    start = jnp.array([[0, 0, 0, 0], [1, 2, 0, 1]]), jnp.zeros((2, 4), bool)
    same = jnp.broadcast_to(PREFERENCE[0], (2, 2))
    of_start = _network(environment, "set_transformer", z_reads_start=True).log_z(start, same)
    of_condition = _network(environment, "set_transformer").log_z(start, same)
    assert float(jnp.abs(of_start[0] - of_start[1])) > 1e-5
    assert float(of_condition[0]) == float(of_condition[1])


def test_a_tree_gives_each_object_its_exact_probability(on_words):
    policy, _ = on_words
    objects = jnp.asarray(all_sequences(2, 1, 6))
    condition = Condition(jnp.broadcast_to(PREFERENCE[0], (len(objects), 2)), jnp.ones(len(objects)))
    run = jax.jit(lambda key: log_prob(policy, WORDS, key, objects, condition, condition.preference))
    np.testing.assert_allclose(float(jnp.exp(run(jax.random.key(0))).sum()), 1.0, atol=1e-5)


def test_a_dag_gives_each_object_nearly_its_probability():
    environment = grid(2, 3)
    policy, objects = _network(environment, "mlp"), jnp.asarray(cells(2, 3), jnp.int32)
    asked = jnp.broadcast_to(PREFERENCE[0], (9, 2))
    run = jax.jit(
        lambda key: log_prob(policy, environment, key, objects, Condition(asked, jnp.ones(9)), asked, num_draws=400)
    )
    found = np.exp(np.asarray(run(jax.random.key(0))))
    observed = jax.vmap(lambda cell: jax.nn.one_hot(cell, 3).reshape(-1))(objects)
    logits = np.asarray(policy.trajectory(observed[None], asked[:1]).logits[0], np.float64)
    reach, law = np.zeros((4, 4)), np.zeros((3, 3))
    reach[0, 0] = 1.0
    for row, (i, j) in enumerate(cells(2, 3)):
        legal = np.exp(logits[row]) * [i < 2, j < 2, True]
        p = legal / legal.sum() * reach[i, j]
        reach[i + 1, j] += p[0]
        reach[i, j + 1] += p[1]
        law[i, j] = p[2]
    np.testing.assert_allclose(found, law.ravel(), rtol=0.05)
