"""The suite runs under checkers: JAX's for reused keys, and beartype for every shape and type in the JAX rooms."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

pytest_plugins = ["seconds", "selecting"]

# Set before anything imports JAX, so that tests of the framework-free floors need not import it.
_CACHE = Path(__file__).parent.parent / ".cache" / "xla"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_DEBUG_KEY_REUSE", "1")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# Of several workers each has a core: threads of their own would wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Named one by one, so that `lab` and the command line are imported as they are.
_JAX_ROOMS = ("backends", "continual", "curricula", "envs", "gflownets", "nn", "rl")
install_import_hook([f"tutelage.{room}" for room in _JAX_ROOMS], "beartype.beartype")


@pytest.fixture(scope="module", autouse=True)
def _nothing_left_compiled():
    """What a file compiled goes with it: kept for all files, executables would fill gigabytes in each worker."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
    gc.collect()
