"""Lives: defaults, seeds and numbers side by side as one at a time, what is refused, what is learnt."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_agents import agent

from tutelage.continual.agents.agent import begin, live
from tutelage.continual.agents.config import KINDS, AgentConfig
from tutelage.continual.agents.making import make_agent
from tutelage.continual.planning import solve_gain
from tutelage.continual.regret import gain_regret
from tutelage.continual.tabular import precise
from tutelage.continual.worlds import chains, rooms
from tutelage.lab.errors import BadInput

OFFICIAL = {
    "q_learning": {"epsilon": 0.35, "learning_rate": 0.5, "discount": 0.99},
    "dyna": {"epsilon": 0.25, "learning_rate": 0.35, "discount": 0.99, "steps": 5},
    "replay": {"epsilon": 0.2, "learning_rate": 0.3, "discount": 0.99, "steps": 5},
    "n_step": {"epsilon": 0.2, "learning_rate": 0.2, "discount": 0.99, "steps": 5},
    "policy_gradient": {
        "epsilon": 0.1, "learning_rate": 0.01, "policy_learning_rate": 0.01, "discount": 0.99, "steps": 5
    },
    "on_policy_rho": {"epsilon": 0.1},
    "off_policy_rho": {"epsilon": 0.1, "steps": 5},
    "rho_gradient": {"epsilon": 0.15, "learning_rate": 0.5, "steps": 10, "temperature": 0.9},
    "iterative_rho": {"sweeps": 10},
    "model": {"prior": 1e-4},
}  # fmt: skip


@pytest.mark.parametrize("kind", OFFICIAL)
def test_defaults_are_the_official_hyperparameters(kind):
    own = getattr(AgentConfig(), kind)
    assert {name: getattr(own, name) for name in OFFICIAL[kind]} == OFFICIAL[kind]
    if kind != "model":
        made = agent(kind, 3, 2)
        assert made.name == kind
        assert made.hyper == {name: getattr(own, name) for name in made.hyper}


FAST = ("on_policy_rho", "q_learning", "ucrl2")
"""Two compilations for each agent: the others are left to the slow tests."""


@pytest.mark.parametrize("kind", [k if k in FAST else pytest.param(k, marks=pytest.mark.slow) for k in KINDS])
def test_lives_side_by_side_are_lives_one_at_a_time(kind):
    world = chains.river_swim(4)
    made = agent(kind, *world.mdp.R.shape, **({"memory": 20} if kind == "replay" else {}))
    name = next(iter(made.hyper))
    values = np.array([1.0, 1.0, 0.5]) * made.hyper[name]

    def life(seed, value):
        return live(world, made, begin(world, made, jax.random.key(seed), {name: value}), 50)

    # In float64, so that no decision hangs on the order of a sum.
    with precise():
        seeds, alone = jnp.asarray([0, 1, 0]), jax.jit(life)
        together, paid = jax.jit(jax.vmap(life))(seeds, jnp.asarray(values))
        assert paid.shape == (3, 50)
        for i in range(3):
            single, own = alone(seeds[i], jnp.asarray(values[i]))
            assert (np.asarray(own) == np.asarray(paid)[i]).all()
            batch = jax.tree.map(lambda leaf, i=i: leaf[i], together)
            assert (jax.random.key_data(single.key) == jax.random.key_data(batch.key)).all()
            pairs = zip(jax.tree.leaves(single[:2]), jax.tree.leaves(batch[:2]), strict=True)
            for one, other in pairs:
                assert np.isfinite(np.asarray(one)).all()
                assert np.asarray(one) == pytest.approx(np.asarray(other), rel=1e-9, abs=1e-9)


def test_a_life_in_two_halves_is_the_whole_life():
    world = chains.river_swim(4)
    made = agent("dyna", *world.mdp.R.shape)
    start = begin(world, made, jax.random.key(0))
    run = jax.jit(lambda life, steps: live(world, made, life, steps), static_argnums=1)
    whole, paid = run(start._replace(key=jax.random.clone(start.key)), 40)
    half, first = run(start, 20)
    end, second = run(half, 20)
    assert (np.concatenate([first, second]) == np.asarray(paid)).all()
    assert (np.asarray(end.agent.Q) == np.asarray(whole.agent.Q)).all()


def test_an_agent_that_cannot_be_is_refused():
    with pytest.raises(BadInput, match=r"kind = .on_policy_roh..*did you mean .on_policy_rho."):
        make_agent(dataclasses.replace(AgentConfig(), kind="on_policy_roh"), 3, 2)
    with pytest.raises(BadInput, match=r"q_learning.discount = 1.0: must be in \[0, 1\)"):
        agent("q_learning", 3, 2, discount=1.0)
    with pytest.raises(BadInput, match="states = 0"):
        make_agent(AgentConfig(), 0, 2)


def test_a_number_that_the_agent_has_not_is_refused():
    world = chains.river_swim(4)
    made = agent("differential_q", *world.mdp.R.shape)
    for name, hint in (("gain_rat", "; did you mean 'gain_rate'"), ("discount", "must be of")):
        with pytest.raises(BadInput, match=f"hyper: differential_q has no '{name}'.*{hint}"):
            begin(world, made, jax.random.key(0), {name: 0.5})


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_on_policy_rho_earns_nearly_all_and_halves_the_regret_of_the_bootstrapping_baselines():
    world = rooms.n_bottleneck(5, 4, goals=[(3, 4), (0, 2), (4, 4), (4, 3)])
    rho_star, keys = solve_gain(world.mdp).rho, jax.random.split(jax.random.key(0), 8)
    assert rho_star == pytest.approx(0.27299556, abs=1e-8)

    def lives(kind):
        made = agent(kind, *world.mdp.R.shape)
        each = jax.vmap(lambda key: live(world, made, begin(world, made, jax.random.clone(key)), 20_000)[1])
        return np.asarray(jax.jit(each)(keys))

    paid = lives("on_policy_rho")
    assert paid[:, -5000:].mean() >= 0.235
    regret = gain_regret(paid, rho_star)[:, -1].mean()
    others = [gain_regret(lives(kind), rho_star)[:, -1].mean() for kind in ("q_learning", "dyna", "replay", "n_step")]
    assert regret <= min(others) / 2


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("kind", ["differential_q", "rvi_q", "reward_centred_q", "iterative_rho", "off_policy_rho"])
def test_the_others_learn_two_rooms(kind):
    world = rooms.n_bottleneck(5, 2)  # ρ* = 0.1199; all explore with probability 0.1.
    made = agent(kind, *world.mdp.R.shape)
    paid = jax.jit(lambda key: live(world, made, begin(world, made, key), 10_000)[1])(jax.random.key(0))
    assert np.asarray(paid)[-3000:].mean() > 0.085
