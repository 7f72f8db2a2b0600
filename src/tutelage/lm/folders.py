"""Models as ordinary Hugging Face folders: `AutoTokenizer` and `AutoModelForCausalLM` read what is written here."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tutelage.lab.errors import BadInput
from tutelage.lab.storage import atomic


def load(name: str | Path, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> tuple[Any, Any]:
    """Model (in eval mode) and tokenizer of a folder or hub id. Weights from safetensors only; no code is fetched.

    Raises `BadInput` for a folder that is not there or not a model, and for a hub that cannot be reached.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tutelage.lm.model_types import register_type_of

    local = Path(name).is_dir()
    if not local and (isinstance(name, Path) or name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise BadInput(f"{name}: no such folder")
    try:
        with without_bars():
            register_type_of(str(name), local_files_only=local)
            tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=local)
            model = AutoModelForCausalLM.from_pretrained(
                name, local_files_only=local, dtype=dtype, use_safetensors=True
            )
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"{name}: cannot be loaded as a causal language model: {reason[:200]}") from error
    return model.eval().to(device), tokenizer  # type: ignore[arg-type]


def save(model: Any, tokenizer: Any, folder: str | Path, *, extra: dict[str, Any] | None = None) -> Path:
    """Write model and tokenizer, all or nothing: a temporary folder, then one rename.

    Args:
        tokenizer: None: the model alone.
        extra: files to lay beside the model, by name: bytes as they are, anything else as JSON.

    A model that is there already is replaced. Raises `BadInput` if the folder holds anything else.
    """
    target = Path(folder)
    if target.exists() and not (target / "config.json").is_file() and (target.is_file() or any(target.iterdir())):
        raise BadInput(f"{folder}: exists and is not a model; choose another name")
    partial = target.with_name(f".partial-{os.getpid()}-{target.name}")
    old = target.with_name(f".partial-old-{os.getpid()}-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        with without_bars():
            model.save_pretrained(partial)
            if tokenizer is not None:
                tokenizer.save_pretrained(partial)
        for name, value in (extra or {}).items():
            (atomic.write_bytes if isinstance(value, bytes) else atomic.write_json)(partial / name, value)
        for file in partial.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())
        atomic.sync_folder(partial)
        if target.exists():
            target.rename(old)
        partial.rename(target)
        atomic.sync_folder(target.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise atomic.unwritable(target, error) from error
    return target


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """Without transformers' progress bars, which would run across those of whoever loads a model."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
