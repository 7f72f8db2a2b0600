"""Model types that transformers does not know, taught by installed packages.

A package's entry point in the group `tutelage.model_types`, named for the type, is a module whose import registers it
with transformers' Auto classes.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from transformers import PretrainedConfig

GROUP = "tutelage.model_types"


def register_type_of(source: str, *, local_files_only: bool = False) -> None:
    """Import what knows the type of the model in a folder or of a hub id.

    Raises:
        OSError: there is no configuration to tell the type.
    """
    kind = PretrainedConfig.get_config_dict(source, local_files_only=local_files_only)[0].get("model_type", "")
    for entry in entry_points(group=GROUP, name=kind):
        entry.load()
