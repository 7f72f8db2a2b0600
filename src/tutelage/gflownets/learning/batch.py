"""What a batch of a GFlowNet is made of: copies that share a condition, trajectories from the replay buffer.

Free of any framework, so that a configuration is refused before any work.
"""

from __future__ import annotations

from tutelage.gflownets.config import GFlowNetConfig
from tutelage.lab.errors import BadInput


def num_copies(config: GFlowNetConfig) -> int:
    """Trajectories in a row that share a condition (and a start)."""
    return config.loss.num_copies if config.loss.kind == "vargrad" else 1


def num_replayed(config: GFlowNetConfig) -> int:
    """Rows of a batch that come from the replay buffer: whole groups of copies."""
    if not config.exploration.replay_size:
        return 0
    copies = num_copies(config)
    return round(config.batch_size * config.exploration.replay_share) // copies * copies


def check_batch(config: GFlowNetConfig, *, given_starts: bool = False) -> None:
    """Refuse batches that cannot be made up.

    Args:
        given_starts: trajectories begin at given states, which a replay buffer does not keep.

    Raises:
        BadInput: copies (times preferences) that do not divide the batch, replay that leaves nothing new, or that does
            not go with the loss or the starts.
    """
    batch, explore, copies = config.batch_size, config.exploration, num_copies(config)
    distinct = config.preference.prefs_per_batch
    if batch % copies != 0:
        raise BadInput(f"loss.num_copies = {copies}: must divide batch_size = {batch}")
    if copies > 1 and distinct and batch % (distinct * copies) != 0:
        raise BadInput(
            f"preference.prefs_per_batch = {distinct}: times loss.num_copies = {copies} it must divide "
            f"batch_size = {batch}"
        )
    if explore.replay_size == 0:
        return
    if given_starts:
        raise BadInput(
            f"exploration.replay_size = {explore.replay_size}: must be 0 where trajectories begin at given states"
        )
    if copies > 1 and explore.hindsight_share > 0:
        raise BadInput(
            f"exploration.hindsight_share = {explore.hindsight_share:g}: must be 0 with loss.kind = 'vargrad', "
            "whose copies share a preference"
        )
    if num_replayed(config) >= batch:
        raise BadInput(
            f"exploration.replay_share = {explore.replay_share:g}: must leave a new trajectory in a batch of {batch}"
        )
