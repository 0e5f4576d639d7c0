"""Temperature scaling per condition family (Guo et al., ICML 2017), for the metric's weighted log loss.

Fitted on the fold's own held-out studies: at localizations, or at annotated points with the jitter of training, because
prediction will not have true points. With one trained fold that fold's score is therefore slightly optimistic: it
has chosen three numbers. Unseen test studies give the honest figure.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from shared.labels import SEVERITY_WEIGHTS

BOUNDS: Final = (0.4, 2.5)
# Fewer graded rows than this say too little about a temperature.
MIN_ROWS: Final = 20


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Along the last axis. # [..., 3] -> [..., 3]"""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))


def weighted_log_loss(probabilities: NDArray[np.float64], label: NDArray[np.int8]) -> float:
    """The metric's term over graded rows, NaN when there is none. # [n, 3], [n]"""
    graded = label >= 0
    if not graded.any():
        return float("nan")
    true = label[graded].astype(np.intp)
    weight = np.asarray(SEVERITY_WEIGHTS)[true]
    p = probabilities[graded][np.arange(len(true)), true]
    return float((weight * -np.log(np.clip(p, 1e-15, 1))).sum() / weight.sum())


def fit_temperature(logits: NDArray[np.float64], label: NDArray[np.int8]) -> float:
    """The divisor of the logits with the lowest weighted log loss, within `BOUNDS`; 1 for few rows. # [n, 3], [n]"""
    if (label >= 0).sum() < MIN_ROWS:
        return 1.0

    def loss(log_temperature: float) -> float:
        return weighted_log_loss(softmax(logits / np.exp(log_temperature)), label)

    found = minimize_scalar(loss, bounds=tuple(np.log(BOUNDS)), method="bounded")
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0
