"""`--study NAME`: only the tests that concern one system.

They are those of the families that its map leads to, the study's own (`test_NAME….py`, wherever they are), and those of
the other modules that its map names.
"""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FAMILIES = ("attention", "continual", "curricula", "gflownets", "posttraining")


def pytest_addoption(parser):
    parser.addoption("--study", default="", help="run what concerns this study only")


def concerns(study: str) -> tuple[set[str], set[str]]:
    """Families of a study, and the names of its test files."""
    from tutelage.lab.errors import BadInput
    from tutelage.studies import load

    try:
        load(study)
    except BadInput as error:
        raise pytest.UsageError(str(error)) from None
    modules = [place.partition(":")[0].split(".") for place in load(study).map.values()]
    families = {parts[1] for parts in modules} & {*FAMILIES}
    return families, {f"test_{parts[-1]}" for parts in modules} | {f"test_{study}"}


def pytest_configure(config):
    if name := config.getoption("--study"):
        config.stash[_CONCERNS] = concerns(name), name


_CONCERNS = pytest.StashKey[tuple[tuple[set[str], set[str]], str]]()


def pytest_ignore_collect(collection_path, config):
    if _CONCERNS not in config.stash or collection_path.suffix != ".py":
        return None
    (families, files), name = config.stash[_CONCERNS]
    inside = collection_path.relative_to(TESTS).parts
    wanted = inside[0] in families or collection_path.stem in files or collection_path.stem.startswith(f"test_{name}")
    return None if wanted or not collection_path.stem.startswith("test_") else True
