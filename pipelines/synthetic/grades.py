"""Latent stenosis and recorded grades of the 25 findings, without any image.

One absolute scale per condition, the same at every level: latent 1 is where a perfect reader passes from Normal/Mild
to Moderate, latent 2 from Moderate to Severe. Level and side shift and stretch the population along that scale so that
the prevalence is the data set's, and a given latent always looks the same. A reader sees latent + noise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from shared.labels import FINDINGS, Condition, Finding, Level, Severity, Side

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

THRESHOLDS: Final = (1.0, 2.0)
# Standard deviation of a reader's judgement on the latent scale; sets the best score anyone can reach.
READER_NOISE: Final[Mapping[Condition, float]] = {
    Condition.CANAL: 0.62,
    Condition.FORAMINAL: 0.36,
    Condition.SUBARTICULAR: 0.42,
}
MISSING: Final = -1

# Moderate / Severe in percent, L1/L2 to L5/S1, of the 1,975 training studies.
_PREVALENCE: Final[Mapping[tuple[Condition, Side | None], tuple[tuple[float, float], ...]]] = {
    (Condition.CANAL, None): ((3.4, 1.1), (7.6, 2.7), (11.7, 6.2), (12.0, 12.9), (2.6, 1.0)),
    (Condition.FORAMINAL, Side.LEFT): ((3.2, 0.1), (8.7, 0.6), (20.8, 2.0), (31.9, 7.1), (26.4, 10.4)),
    (Condition.FORAMINAL, Side.RIGHT): ((3.2, 0.7), (8.5, 0.3), (21.0, 2.1), (32.0, 6.6), (25.2, 9.7)),
    (Condition.SUBARTICULAR, Side.LEFT): ((5.1, 1.5), (13.5, 4.4), (23.0, 9.8), (31.6, 23.4), (20.8, 7.5)),
    (Condition.SUBARTICULAR, Side.RIGHT): ((6.1, 1.3), (12.8, 3.9), (23.0, 10.0), (31.5, 23.3), (20.1, 8.8)),
}

# Ungraded findings per 1,975 studies; they come in whole studies (185 of 1,975 have any).
_MISSING_STUDIES: Final = 185 / 1975
_MISSING_COUNTS: Final[Mapping[tuple[Condition, Level], float]] = {
    (Condition.SUBARTICULAR, Level.L1_L2): 163.0,
    (Condition.SUBARTICULAR, Level.L2_L3): 82.0,
    (Condition.SUBARTICULAR, Level.L3_L4): 8.0,
    (Condition.SUBARTICULAR, Level.L4_L5): 3.0,
    (Condition.SUBARTICULAR, Level.L5_S1): 2.5,
}
_MISSING_OTHER: Final = 3.7

# Correlation of the latents between condition/side columns (canal, foraminal L R, subarticular L R) at one level...
_COLUMN_CORRELATION: Final = np.array(
    [
        [1.00, 0.42, 0.42, 0.87, 0.87],
        [0.42, 1.00, 0.70, 0.52, 0.42],
        [0.42, 0.70, 1.00, 0.42, 0.52],
        [0.87, 0.52, 0.42, 1.00, 0.80],
        [0.87, 0.42, 0.52, 0.80, 1.00],
    ]
)
# ... and between levels: a patient's general degeneration plus what decays with the distance.
_LEVEL_FLOOR: Final = 0.30
_LEVEL_DECAY: Final = 0.42
# Canal stenosis at L5/S1 has less to do with everything else: the sac is small and lies in fat there.
_CANAL_L5_S1_COMMUNALITY: Final = 0.90
_CANAL_L5_S1_SUBARTICULAR: Final = 0.80
# A reader grades a level's canal and recesses together, so they share this part of the noise, L1/L2 to L5/S1.
_SHARED_NOISE: Final = (0.8, 0.6, 0.2, 0.1, 0.0)


def prevalence(finding: Finding) -> tuple[float, float, float]:
    """Population shares of Normal/Mild, Moderate and Severe."""
    moderate, severe = _PREVALENCE[finding.condition, finding.side][finding.level]
    return 1 - (moderate + severe) / 100, moderate / 100, severe / 100


def latent_scale(finding: Finding) -> tuple[float, float]:
    """Mean and standard deviation of latent + reader noise that give the finding's prevalence."""
    normal, _, severe = prevalence(finding)
    low, high = float(ndtri(normal)), float(ndtri(1 - severe))
    deviation = (THRESHOLDS[1] - THRESHOLDS[0]) / (high - low)
    return THRESHOLDS[0] - deviation * low, deviation


def latent_correlation() -> FloatArray:  # [25, 25]
    """Correlation of the latents in `FINDINGS` order."""
    gap = np.abs(np.subtract.outer(np.arange(len(Level)), np.arange(len(Level))))
    levels = _LEVEL_FLOOR + (1 - _LEVEL_FLOOR) * _LEVEL_DECAY**gap
    # FINDINGS runs through the columns and within them through the levels, so the Kronecker order matches.
    correlation = np.kron(_COLUMN_CORRELATION, levels)
    shared = np.ones(len(FINDINGS))
    canal_l5_s1 = Finding(condition=Condition.CANAL, side=None, level=Level.L5_S1)
    shared[canal_l5_s1.index] = _CANAL_L5_S1_COMMUNALITY
    correlation = correlation * np.outer(shared, shared)
    for side in Side:
        beside = Finding(condition=Condition.SUBARTICULAR, side=side, level=Level.L5_S1)
        correlation[canal_l5_s1.index, beside.index] *= _CANAL_L5_S1_SUBARTICULAR
        correlation[beside.index, canal_l5_s1.index] *= _CANAL_L5_S1_SUBARTICULAR
    np.fill_diagonal(correlation, 1.0)
    return correlation


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Labels of n studies, columns in `FINDINGS` order.

    Attributes:
      latent: stenosis on the absolute scale.
      grade: recorded `Severity`, or MISSING.
      degeneration: standard normal general degeneration of the patient, which follows age.
    """

    latent: FloatArray  # [n, 25]
    grade: IntArray  # [n, 25]
    degeneration: FloatArray  # [n]


def sample_labels(n: int, seed: int | np.random.SeedSequence) -> Labels:
    """Samples latents and recorded grades of `n` studies."""
    rng = np.random.default_rng(seed)
    factor = np.linalg.cholesky(latent_correlation())
    normal = rng.standard_normal((n, len(FINDINGS))) @ factor.T
    scale = np.array([latent_scale(f) for f in FINDINGS])  # [25, 2]
    noise = np.array([READER_NOISE[f.condition] for f in FINDINGS])
    latent = scale[:, 0] + normal * np.sqrt(scale[:, 1] ** 2 - noise**2)
    judged = latent + noise * _reader_noise(n, rng)
    grade = np.digitize(judged, THRESHOLDS).astype(np.int64)
    grade[_sample_missing(n, rng)] = MISSING
    own = rng.standard_normal(n)
    mean = normal.mean(axis=1) / np.sqrt(latent_correlation().mean())
    return Labels(latent=latent, grade=grade, degeneration=0.85 * mean + np.sqrt(1 - 0.85**2) * own)


def _reader_noise(n: int, rng: np.random.Generator) -> FloatArray:  # [n, 25]
    """Standard normal noise of every judgement; a level's canal and recesses share some."""
    own = rng.standard_normal((n, len(FINDINGS)))
    common = rng.standard_normal((n, len(Level)))
    for f in FINDINGS:
        if f.condition is not Condition.FORAMINAL:
            share = _SHARED_NOISE[f.level]
            own[:, f.index] = np.sqrt(1 - share) * own[:, f.index] + np.sqrt(share) * common[:, f.level]
    return own


def _sample_missing(n: int, rng: np.random.Generator) -> NDArray[np.bool_]:  # [n, 25]
    """Which findings nobody graded; left and right go together."""
    study = rng.random(n) < _MISSING_STUDIES
    side_blind = rng.random((n, len(Condition), len(Level)))
    missing = np.zeros((n, len(FINDINGS)), dtype=bool)
    for f in FINDINGS:
        share = _MISSING_COUNTS.get((f.condition, f.level), _MISSING_OTHER) / 1975 / _MISSING_STUDIES
        missing[:, f.index] = side_blind[:, list(Condition).index(f.condition), f.level] < share
    result: NDArray[np.bool_] = missing & study[:, None]
    return result


def grade_probabilities(latent: FloatArray) -> FloatArray:  # [n, 25, 3]
    """P(recorded grade | latent), the best any reader of the image can know."""
    noise = np.array([READER_NOISE[f.condition] for f in FINDINGS])
    above = [ndtr((latent - threshold) / noise) for threshold in THRESHOLDS]
    probabilities = np.stack([1 - above[0], above[0] - above[1], above[1]], axis=-1)
    probabilities = np.clip(probabilities, 1e-6, None)
    return np.asarray(probabilities / probabilities.sum(axis=-1, keepdims=True))


def severity_text(grade: int) -> str:
    """As in `train.csv`; empty for MISSING."""
    return "" if grade == MISSING else Severity(grade).display
