"""`doctor`: what of this machine the lab needs, one line each, with what to do where something is amiss."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tutelage
from tutelage.cli import DONE, FAILED, options
from tutelage.lab.errors import BadInput

DEVICE_SECONDS = 60.0
"""How long JAX may take to find its devices: a driver that hangs must not hang the doctor."""

_ASK_JAX = """
import json, jax
from tutelage.backends.jax_cache import enable_compilation_cache
devices = [f"{device.platform}: {device.device_kind}" for device in jax.devices()]
print(json.dumps({"devices": devices, "cache": str(enable_compilation_cache() or "")}))
"""
_USAGE = """usage: tutelage doctor [--deep]

Check this machine: versions, devices, compile cache, disk, browser, threads.
--deep: the mathematics too. The expected updates of PPO, RLOO, Dr. GRPO and GRPO, summed over every output of small
policies, against the exact gradients (seconds)."""
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One line: how it stands, what was looked at, what was found, and what to do about it."""

    level: Literal["ok", "warn", "fail"]
    what: str
    found: str
    advice: str = ""


def doctor(argv: list[str]) -> int:
    """Print all findings. Exit code 1 when one of them is a failure; a warning is none."""
    if options.wants_help(argv):
        print(_USAGE)
        return DONE
    given = options.read(options.DoctorOptions, argv)
    if given.words:
        raise BadInput(f"{given.words[0]!r}: doctor takes no words")
    failed = False
    for check in (*CHECKS, *(DEEP_CHECKS if given.options.deep else ())):
        for finding in check():
            advice = f" ({finding.advice})" if finding.advice else ""
            print(f"{finding.level:<4}  {finding.what:<14}  {finding.found}{advice}", flush=True)
            failed |= finding.level == "fail"
    return FAILED if failed else DONE


def python() -> list[Finding]:
    """The interpreter, and this package in it."""
    found = f"{platform.python_version()} at {sys.executable}; tutelage {tutelage.__version__}; {platform.platform()}"
    if (3, 11) <= sys.version_info < (3, 14):
        return [Finding("ok", "python", found)]
    return [Finding("fail", "python", found, "use Python 3.11, 3.12 or 3.13")]


def packages() -> list[Finding]:
    """What the package requires, from its own metadata; extras that are not installed are named, not missed."""
    try:
        requirements = importlib.metadata.requires("tutelage") or []
    except importlib.metadata.PackageNotFoundError:
        return [Finding("fail", "packages", "tutelage is not installed", "pip install -e . in the checkout")]
    present, missing, extras = [], [], set()
    for requirement in requirements:
        match = re.match(r"[A-Za-z0-9._-]+", requirement)
        name = match.group() if match else requirement
        extra = re.search(r"extra == ['\"](\w+)['\"]", requirement)
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if extra is None:
                missing.append(requirement)
            else:
                extras.add(extra.group(1))
            continue
        if extra is None:
            present.append(f"{name} {version}")
    findings = [Finding("ok", "packages", ", ".join(present))]
    if missing:
        findings.append(Finding("fail", "packages", f"missing: {', '.join(missing)}", "pip install tutelage"))
    if extras:
        wanted = ", ".join(f"tutelage[{extra}]" for extra in sorted(extras))
        findings.append(Finding("ok", "extras", f"not installed in full: {wanted} (only needed for what they name)"))
    return findings


def jax(timeout: float = DEVICE_SECONDS, program: str = _ASK_JAX) -> list[Finding]:
    """What JAX computes on and where it keeps compiled programs, asked in a process of its own."""
    root = str(Path(tutelage.__file__).parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    try:
        answer = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
            env={**os.environ, "PYTHONPATH": path},
        )
    except subprocess.TimeoutExpired:
        advice = "the accelerator's driver may hang; JAX_PLATFORMS=cpu computes without it"
        return [Finding("fail", "devices", f"JAX found none within {timeout:g} s", advice)]
    if answer.returncode != 0:
        last = answer.stderr.strip().splitlines()[-1:] or ["no message"]
        return [
            Finding("fail", "devices", last[0][:200], "JAX cannot start; JAX_PLATFORMS=cpu leaves accelerators out")
        ]
    found = json.loads(answer.stdout.splitlines()[-1])
    return [Finding("ok", "devices", "; ".join(found["devices"])), compile_cache(found["cache"])]


def compile_cache(folder: str) -> Finding:
    """Whether compiled programs can be kept between processes."""
    advice = "every start compiles anew; set JAX_COMPILATION_CACHE_DIR to a folder that can be written"
    if not folder:
        return Finding("warn", "compile cache", "off, or its folder cannot be made", advice)
    finding = _writable("compile cache", Path(folder), advice)
    return finding if finding.level == "ok" else dataclasses.replace(finding, level="warn")


def disk() -> list[Finding]:
    """Whether runs can be written here, and how much room there is."""
    found = _writable("run folder", Path("runs"), "work in another folder, or give --out")
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{free / _GIB:.1f} GiB free here"
    if free < _GIB / 2:
        return [found, Finding("fail", "disk", text, "a run with checkpoints may need more; make room")]
    if free < 5 * _GIB:
        return [found, Finding("warn", "disk", text, "enough for the quick preset; longer runs keep more checkpoints")]
    return [found, Finding("ok", "disk", text)]


def browser() -> list[Finding]:
    """The browser in which the tests open the report."""
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if found:
        return [Finding("ok", "chromium", found)]
    advice = "only the report's browser test needs it; on Debian: apt-get install chromium"
    return [Finding("warn", "chromium", "not found", advice)]


def threads() -> list[Finding]:
    """Cores that this process may use, memory, and settings that bind it to fewer."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    found = f"{usable} of {os.cpu_count()} cores, {memory:.0f} GiB memory"
    bound = [f"{name}={os.environ[name]}" for name in ("OMP_NUM_THREADS", "XLA_FLAGS") if os.environ.get(name)]
    if bound:
        return [Finding("warn", "threads", f"{found}; {', '.join(bound)}", "set on purpose? they change the speed")]
    return [Finding("ok", "threads", found)]


def policy_gradients() -> list[Finding]:
    """Expected updates of the policy-gradient algorithms against exact gradients; loads PyTorch."""
    try:
        from tutelage.posttraining.policy_gradient.gradient_checks import check_policy_gradients
    except ImportError as error:
        return [Finding("fail", "gradients", f"cannot be checked: {error}", "pip install 'tutelage[lm]'")]
    advice = "updates computed here are not those of the method; please report it with your versions"
    return [
        Finding("ok", "gradients", f"{name}: off by {error:.2g}, at most {limit:g}")
        if error <= limit
        else Finding("fail", "gradients", f"{name}: off by {error:.2g}, at most {limit:g}", advice)
        for name, error, limit in check_policy_gradients()
    ]


def _writable(what: str, folder: Path, advice: str) -> Finding:
    """Try to write in the folder, or in the nearest one above it that exists."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return Finding("ok", what, f"{folder} can be written")
    except OSError as error:
        return Finding("fail", what, f"{folder}: {error.strerror or error}", advice)


CHECKS: tuple[Callable[[], list[Finding]], ...] = (python, packages, jax, disk, browser, threads)

DEEP_CHECKS: tuple[Callable[[], list[Finding]], ...] = (policy_gradients,)
