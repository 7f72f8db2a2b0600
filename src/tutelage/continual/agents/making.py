"""The agent that a configuration describes."""

from __future__ import annotations

from collections.abc import Callable

from tutelage.continual.agents.agent import Agent
from tutelage.continual.agents.config import AgentConfig
from tutelage.continual.agents.planning_q import dyna, n_step, replay
from tutelage.continual.agents.policy_gradient import policy_gradient
from tutelage.continual.agents.psrl import psrl
from tutelage.continual.agents.q_learning import differential_q, q_learning, reward_centred_q, rvi_q
from tutelage.continual.agents.rho_gradient import rho_gradient
from tutelage.continual.agents.rho_learning import iterative_rho, off_policy_rho, on_policy_rho
from tutelage.continual.agents.ucrl2 import ucrl2
from tutelage.lab.configuration import validate
from tutelage.lab.errors import BadInput

PLANNING: dict[str, Callable[..., Agent]] = {
    "on_policy_rho": on_policy_rho,
    "off_policy_rho": off_policy_rho,
    "rho_gradient": rho_gradient,
    "iterative_rho": iterative_rho,
    "dyna": dyna,
    "n_step": n_step,
}
"""Agents with a tabular model, by name."""

OTHERS: dict[str, Callable[..., Agent]] = {
    "q_learning": q_learning,
    "replay": replay,
    "policy_gradient": policy_gradient,
    "differential_q": differential_q,
    "rvi_q": rvi_q,
    "reward_centred_q": reward_centred_q,
    "ucrl2": ucrl2,
    "psrl": psrl,
}
"""Agents without one, by name."""


def make_agent(config: AgentConfig, num_states: int, num_actions: int) -> Agent:
    """The agent of these settings for a world of so many states and actions.

    Raises:
        BadInput: if a setting is not allowed, or there is no state or action.
    """
    validate(config)
    if num_states < 1 or num_actions < 1:
        raise BadInput(f"states = {num_states}, actions = {num_actions}: must be at least 1")
    own = getattr(config, config.kind)
    if config.kind in PLANNING:
        return PLANNING[config.kind](num_states, num_actions, own, config.model)
    return OTHERS[config.kind](num_states, num_actions, own)
