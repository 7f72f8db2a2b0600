"""Times QuantEcon.py's stationary laws: `python quantecon_laws.py --work JSON --law FILE`.

A fresh `MarkovChain` every time, which looks for the recurrent classes and solves by the algorithm of Grassmann, Taksar
and Heyman; and that algorithm alone, `gth_solve`, compiled by Numba.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json

import numpy as np
from stopwatch import Stopwatch, peak_memory, report, samples


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=json.loads, required=True)
    parser.add_argument("--law", required=True, help="where the law goes, .npy")
    given = parser.parse_args()
    watch, work = Stopwatch(), given.work

    from quantecon import MarkovChain
    from quantecon.markov import gth_solve

    watch.mark("imported")
    P = np.load(work["chain"])
    [law], first = watch.time(lambda: MarkovChain(P).stationary_distributions)
    gth_solve(P)
    np.save(given.law, law)
    report(
        library="quantecon",
        versions={name: importlib.metadata.version(name) for name in ("quantecon", "numba", "numpy")},
        marks=watch.marks,
        first=first,
        seconds={
            "MarkovChain": samples(lambda: MarkovChain(P).stationary_distributions, work["seconds"]),
            "gth_solve": samples(lambda: gth_solve(P), work["seconds"]),
        },
        peak_memory_bytes=peak_memory(),
    )


if __name__ == "__main__":
    main()
