"""Times the mixing time by its definition: `python matrix_powers.py --work JSON`.

Multiply by P until every row of the power is within ε of the stationary law. NumPy only.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from stopwatch import Stopwatch, peak_memory, report


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=json.loads, required=True)
    given = parser.parse_args()
    watch, work = Stopwatch(), given.work
    P = np.load(work["chain"])
    watch.mark("imported")

    def scanned() -> int:
        equations = np.vstack([P.T - np.eye(len(P)), np.ones(len(P))])
        mu = np.linalg.lstsq(equations, np.append(np.zeros(len(P)), 1.0), rcond=None)[0]
        power, t = np.eye(len(P)), 0
        while np.abs(power - mu).sum(axis=1).max() / 2 > work["eps"] + 1e-12:
            power, t = power @ P, t + 1
        return t

    steps, cost = watch.time(scanned)
    report(
        library="matrix powers",
        versions={"numpy": np.__version__},
        marks=watch.marks,
        steps=steps,
        seconds={"mixing time": [cost["cpu"]]},
        peak_memory_bytes=peak_memory(),
    )


if __name__ == "__main__":
    main()
