"""Do scores mean what they say? Calibration curve, expected calibration error and Brier score."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np

# Finer towards 1, where nearly all scores are.
_EDGES: Final = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)


def reliability(scores: Sequence[float], right: Sequence[bool]) -> dict[str, Any]:
    """How well scores agree with the share that is right.

    `ece` is the mean over all of |mean score - share right| of their bin (Naeini et al., AAAI 2015), `brier` the mean
    squared difference; both are None without any score.
    """
    values, hits = np.asarray(scores, np.float64), np.asarray(right, np.float64)
    rows = []
    for low, high in pairwise(_EDGES):
        inside = (values >= low) & ((values < high) | (high == 1.0))
        if inside.any():
            rows.append(
                {
                    "score_from": low,
                    "score_to": high,
                    "count": int(inside.sum()),
                    "mean_score": float(values[inside].mean()),
                    "right": float(hits[inside].mean()),
                }
            )
    gaps = [row["count"] * abs(row["mean_score"] - row["right"]) for row in rows]
    return {
        "ece": float(sum(gaps) / len(values)) if len(values) else None,
        "brier": float(((values - hits) ** 2).mean()) if len(values) else None,
        "bins": rows,
    }
