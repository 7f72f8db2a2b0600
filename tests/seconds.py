"""What the suite costs: processor seconds by package and the dearest files, and the memory that each worker came to.

Processor time of a test and of the processes that it waited for, so that two workers and other people's work on the
machine change nothing. The budgets are those of CONTRIBUTING.
"""

from __future__ import annotations

import resource
import sys
from collections import Counter

import pytest

DEAREST = 12
_PEAKS = pytest.StashKey[list[float]]()


def _spent() -> float:
    spent = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        spent += usage.ru_utime + usage.ru_stime
    return spent


def _peak() -> float:
    """GiB, the most that this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)  # Linux counts kilobytes


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    item.stash[_STARTED] = _spent()
    return (yield)


_STARTED = pytest.StashKey[float]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    now = _spent()
    report.processor_seconds = now - item.stash[_STARTED]
    item.stash[_STARTED] = now
    return report


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["peak"] = _peak()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    if "peak" in (getattr(node, "workeroutput", None) or {}):
        node.config.stash.setdefault(_PEAKS, []).append(node.workeroutput["peak"])


def pytest_terminal_summary(terminalreporter, config):
    files: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if hasattr(report, "processor_seconds"):
                name = report.nodeid.partition("::")[0].removeprefix("tests/")
                files[name] += report.processor_seconds
                tests[name] += report.when == "call"
    if sum(tests.values()) < DEAREST:
        return
    packages: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    for name, seconds in files.items():
        package = name.partition("/")[0]
        packages[package] += seconds
        numbers[package] += tests[name]
    terminalreporter.section("processor seconds by package")
    for name, seconds in packages.most_common():
        terminalreporter.write_line(f"{seconds:8.1f}  {name} ({numbers[name]} tests)")
    peaks = config.stash.get(_PEAKS, [_peak()])
    terminalreporter.write_line(
        f"{sum(packages.values()):8.1f}  in all; peak memory {', '.join(f'{peak:.2f}' for peak in sorted(peaks))} GiB"
    )
    terminalreporter.section("the dearest files")
    for name, seconds in files.most_common(DEAREST):
        terminalreporter.write_line(f"{seconds:8.1f}  {name} ({tests[name]} tests)")
