"""The persistent compilation cache: a program compiled before is read back, not compiled again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from tutelage.backends import jax_cache
from tutelage.backends.jax_cache import enable_compilation_cache
from tutelage.backends.jax_program import JaxProgram, jax_program


@pytest.fixture
def unset() -> Iterator[None]:
    """JAX without a cache, and afterwards with the one that it had."""
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before)
    compilation_cache.reset_cache()


def run_program() -> JaxProgram:
    def update(state):
        return jnp.tanh(state @ state), {"norm": jnp.linalg.norm(state)}

    program = jax_program(lambda key: jax.random.normal(key, (9, 9)), update, lambda state, key: {}, seeds=[0])
    program.update(program.init(), 3)[1]()
    return program


def test_a_second_process_compiles_nothing(tmp_path: Path, unset: None, monkeypatch: pytest.MonkeyPatch) -> None:
    jnp.ones(3).sum().block_until_ready()  # JAX has compiled before the cache is switched on
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    counts: dict[str, int] = {}

    def count(event: str, **_: object) -> None:
        if event.startswith("/jax/compilation_cache/cache_"):
            name = event.rpartition("/")[2]
            counts[name] = counts.get(name, 0) + 1

    jax.monitoring.register_event_listener(count)
    try:
        run_program()
        assert counts.get("cache_hits", 0) == 0
        missed = counts["cache_misses"]
        assert missed >= 2
        jax.clear_caches()  # what a new process starts with
        run_program()
        assert counts == {"cache_misses": missed, "cache_hits": missed}
    finally:
        jax.monitoring.unregister_event_listener(count)


def test_where_the_cache_is(tmp_path: Path, unset: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.delenv("TUTELAGE_CACHE", raising=False)
    default = enable_compilation_cache()
    assert default is not None
    assert default.parent == tmp_path / ".cache" / "tutelage"
    assert default.name.startswith("xla-")
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "elsewhere"))
    jax.config.update("jax_compilation_cache_dir", None)
    assert enable_compilation_cache() == tmp_path / "elsewhere" / default.name
    assert enable_compilation_cache(tmp_path / "mine") == tmp_path / "mine"
    assert jax.config.values["jax_compilation_cache_dir"] == str(tmp_path / "mine")
    assert enable_compilation_cache() == tmp_path / "mine"  # what JAX was told is left alone


def test_off_and_impossible_places_change_nothing(tmp_path: Path, unset: None, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for place in ("off", str(tmp_path / "file" / "cache")):
        monkeypatch.setenv("TUTELAGE_CACHE", place)
        assert enable_compilation_cache() is None
        assert jax.config.values["jax_compilation_cache_dir"] is None


def test_other_processors_have_other_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = jax_cache._kind()
    assert mine == jax_cache._kind()
    monkeypatch.setattr(jax_cache.platform, "machine", lambda: "another")
    assert mine != jax_cache._kind()
