"""JAX's persistent compilation cache, switched on for programs of the lab."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

from tutelage.lab.storage.cache import cache_folder


def enable_compilation_cache(path: str | Path | None = None) -> Path | None:
    """Keep compiled programs on disk, so that the second start of a program compiles nothing. Returns the folder.

    The folder is `path`, else what JAX was configured with (`JAX_COMPILATION_CACHE_DIR`), else one for this kind of
    processor under `$TUTELAGE_CACHE`, which is `~/.cache/tutelage` when it is not set (`tutelage.lab.storage.cache`).
    None, and nothing is changed, if `TUTELAGE_CACHE` is "off" or the folder cannot be made.
    """
    configured: str | None = jax.config.values["jax_compilation_cache_dir"]
    chosen = path or configured
    folder = Path(chosen).expanduser() if chosen else cache_folder(_kind())
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None  # a cache that cannot be had costs time, not correctness
    if str(folder) != configured:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        compilation_cache.reset_cache()  # JAX looks at the setting once, when it first compiles anything
    # By default only what took a second to compile is kept, which leaves a start of many small programs slow.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def _kind() -> str:
    """Machines of a cluster may share a home; code made for one processor must not be loaded by another."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text(encoding="utf-8", errors="replace").splitlines() if cpu.is_file() else []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return "xla-" + hashlib.sha256(f"{platform.machine()} {features}".encode()).hexdigest()[:8]
