"""What is forgotten while other tasks are learnt: figures of a table of returns, one row for each evaluation.

References: Chaudhry et al. (2018), Riemannian Walk for Incremental Learning, arXiv 1801.10112, section 3;
Lopez-Paz & Ranzato (2017), Gradient Episodic Memory for Continual Learning, arXiv 1706.08840, section 2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tutelage.lab.errors import BadInput


def forgetting(returns: ArrayLike) -> np.ndarray:
    """How far each task's last return is below its best one before, f64 [Z]; negative where the last is the best.

    Args:
        returns: of each task at each evaluation, in the order of training, f64 [evaluations, Z], two or more rows.

    Raises:
        BadInput: another shape, or entries that are not finite.
    """
    table = _table(returns)
    return table[:-1].max(axis=0) - table[-1]


def average_performance(returns: ArrayLike) -> float:
    """The mean over tasks of the last returns (arguments and errors as `forgetting`)."""
    return float(_table(returns)[-1].mean())


def _table(returns: ArrayLike) -> np.ndarray:
    table = np.asarray(returns, np.float64)
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] < 1:
        raise BadInput(f"returns: shape {table.shape}; must be [evaluations, tasks] with at least 2 evaluations")
    if not np.isfinite(table).all():
        raise BadInput(
            f"returns: evaluations {np.flatnonzero(~np.isfinite(table).all(axis=1))[:5].tolist()} not finite"
        )
    return table
