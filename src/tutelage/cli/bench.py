"""`bench`: the benchmark script of a study, which only a checkout of the repository has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import tutelage
from tutelage import studies
from tutelage.cli import DONE, FAILED
from tutelage.lab.errors import BadInput, nearest


def bench(argv: list[str]) -> int:
    """Run `benchmarks/STUDY.py` of the checkout; what follows the study's name goes to the script as it is."""
    if not argv or argv[0] in ("--help", "-h"):
        print("usage: tutelage bench STUDY […]\n\nRun benchmarks/STUDY.py of a checkout; the rest goes to the script.")
        return DONE
    name, *rest = argv
    if name not in studies.STUDIES:
        known = ", ".join(studies.STUDIES)
        raise BadInput(f"study {name!r} is not one of {known}{nearest(name, studies.STUDIES)}")
    script = find_script(name)
    return DONE if subprocess.run([sys.executable, str(script), *rest], check=False).returncode == 0 else FAILED


def find_script(name: str) -> Path:
    """The script in the working directory, above it, or in the checkout that this package is installed from.

    Raises `BadInput` when there is none.
    """
    here = Path.cwd()
    for root in (here, *here.parents, Path(tutelage.__file__).parents[2]):
        script = root / "benchmarks" / f"{name}.py"
        if script.is_file() and (root / "src" / "tutelage").is_dir():
            return script
    raise BadInput(
        f"benchmarks/{name}.py is not here: benchmarks belong to a checkout of the repository, not to the installed "
        "package; clone it and run the command inside"
    )
