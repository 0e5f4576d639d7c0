"""The chain prior: gaps between levels and offsets of findings, fitted on the true points of the training studies.

It is fitted once per fold and stored as `chain.json` beside the detectors. All values are in patient mm (LPS), so left
is +x.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field

from shared.detections import Localization
from shared.geometry import FloatArray
from shared.labels import FINDINGS, Condition, Finding, Level, Side
from shared.runtime.documents import Document, read_document
from shared.runtime.errors import InputError
from shared.runtime.files import write_json

VERSION: Final = 1
_AGAIN: Final = "restore the file or train the localizer again"
# No gap, offset or spread of a spine is longer.
_MOST_MM: Final = 1000.0
_SIDED: Final = tuple(f for f in FINDINGS if f.side is not None)
# A spread fitted on few studies must not become so small that it rules out a new patient.
_MIN_SD_MM: Final = 1.5
_MIN_STUDIES: Final = 3
# A sample farther than this from the median, in robust standard deviations, is a misplaced point.
_OUTLIER_SD: Final = 4.0

# An average adult, in mm, for training sets with too few points (Panjabi et al., Spine 1992).
_DEFAULT_GAP: Final = ((3.0, -33.0), (6.0, -34.5), (7.0, -35.0), (12.0, -32.0))
_DEFAULT_LATERAL: Final = {Condition.FORAMINAL: 18.0, Condition.SUBARTICULAR: 9.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainPrior:
    """The fitted prior.

    Attributes:
      gap_mean: from each level's canal point to the next one's, (y, z).
      gap_cov: covariance of the gaps.
      offset_mean: from the level's canal point to the point of each finding that has a side, (x, y, z).
      offset_sd: standard deviation of the offsets.
      studies: number of studies it was fitted on.
    """

    gap_mean: FloatArray  # [4, 2]
    gap_cov: FloatArray  # [4, 2, 2]
    offset_mean: Mapping[Finding, FloatArray]
    offset_sd: Mapping[Finding, FloatArray]
    studies: int

    def posed(self, size: float, lean_deg: float) -> "ChainPrior":
        """The prior of a patient who is `size` times as large and leans forward by `lean_deg`."""
        turn = pose(size, lean_deg)
        return replace(self, gap_mean=self.gap_mean @ turn.T, gap_cov=turn @ self.gap_cov @ turn.T)


def pose(size: float, lean_deg: float) -> FloatArray:
    """Takes (y, z) of the mean patient to one who is `size` times as large and leans forward by `lean_deg`. [2, 2]"""
    lean = np.radians(lean_deg)
    return np.array([[np.cos(lean), -np.sin(lean)], [np.sin(lean), np.cos(lean)]]) * size


Truth = Mapping[Finding, Localization]


def fit_prior(truths: Iterable[Truth]) -> ChainPrior:
    """Fits the prior. A quantity that fewer than three studies show keeps an average adult's value.

    Outliers are left out, because a few annotated points are in the corner of an image or at another level.
    """
    studies = list(truths)
    canal = [_canal_points(truth) for truth in studies]
    gap_mean, gap_cov = [], []
    for level, default in zip(list(Level)[:-1], _DEFAULT_GAP, strict=True):
        below = Level(level + 1)
        gaps = _trimmed(
            np.array([(c[below] - c[level])[1:] for c in canal if level in c and below in c]).reshape(-1, 2)
        )
        enough = len(gaps) >= _MIN_STUDIES
        gap_mean.append(gaps.mean(0) if enough else np.array(default))
        spread = np.cov(gaps.T) if enough else np.diag([36.0, 16.0])
        gap_cov.append(spread + np.eye(2) * _MIN_SD_MM**2)
    mean, sd = {}, {}
    for finding in _SIDED:
        found = [
            np.array(truth[finding].point_mm) - c[finding.level]
            for truth, c in zip(studies, canal, strict=True)
            if finding in truth and finding.level in c
        ]
        offsets = _trimmed(np.array(found).reshape(-1, 3))
        enough = len(offsets) >= _MIN_STUDIES
        mean[finding] = offsets.mean(0) if enough else _default_offset(finding)
        sd[finding] = np.maximum(offsets.std(0) if enough else np.array([4.0, 4.0, 4.0]), _MIN_SD_MM)
    return ChainPrior(
        gap_mean=np.array(gap_mean), gap_cov=np.array(gap_cov), offset_mean=mean, offset_sd=sd, studies=len(studies)
    )


def _trimmed(samples: FloatArray) -> FloatArray:
    """The samples within `_OUTLIER_SD` of the median in every coordinate, (n, d) -> (m, d)."""
    if not len(samples):
        return samples
    off = np.abs(samples - np.median(samples, axis=0))
    # The median absolute deviation of a normal sample is its standard deviation / 1.4826.
    sd = np.maximum(1.4826 * np.median(off, axis=0), _MIN_SD_MM)
    return samples[(off <= _OUTLIER_SD * sd).all(axis=1)]


def _default_offset(finding: Finding) -> FloatArray:
    lateral = _DEFAULT_LATERAL[finding.condition]
    return np.array([lateral if finding.side is Side.LEFT else -lateral, -4.0, 0.0])


def _canal_points(truth: Truth) -> dict[Level, FloatArray]:
    """True canal points; without one, the midpoint of the level's two foramina moved by the usual offset."""
    points = {f.level: np.array(loc.point_mm) for f, loc in truth.items() if f.condition is Condition.CANAL}
    for level in Level:
        sides = [
            truth.get(Finding(condition=Condition.FORAMINAL, side=side, level=level))
            for side in (Side.LEFT, Side.RIGHT)
        ]
        if level not in points and sides[0] is not None and sides[1] is not None:
            middle = (np.array(sides[0].point_mm) + np.array(sides[1].point_mm)) / 2
            points[level] = middle - np.array([0.0, -4.0, 0.0])
    return points


_Place = Annotated[float, Field(ge=-_MOST_MM, le=_MOST_MM)]
_Spread = Annotated[float, Field(gt=0, le=_MOST_MM)]
_Variance = Annotated[float, Field(ge=-(_MOST_MM**2), le=_MOST_MM**2)]
_Matrix = tuple[tuple[_Variance, _Variance], tuple[_Variance, _Variance]]
_Gap = tuple[_Place, _Place]


class PriorFile(Document):
    """chain.json of a fold: gaps between neighbouring levels, and where the sided findings lie beside their discs."""

    version: Literal[1]
    studies: Annotated[int, Field(ge=0)]
    gap_mean_yz_mm: tuple[_Gap, _Gap, _Gap, _Gap]
    gap_cov_yz_mm2: tuple[_Matrix, _Matrix, _Matrix, _Matrix]
    offset_mean_xyz_mm: dict[str, tuple[_Place, _Place, _Place]]
    offset_sd_xyz_mm: dict[str, tuple[_Spread, _Spread, _Spread]]


def write_prior(path: Path, prior: ChainPrior) -> None:
    write_json(
        path,
        {
            "version": VERSION,
            "studies": prior.studies,
            "gap_mean_yz_mm": _rounded(prior.gap_mean),
            "gap_cov_yz_mm2": _rounded(prior.gap_cov),
            "offset_mean_xyz_mm": {f.column: _rounded(prior.offset_mean[f]) for f in _SIDED},
            "offset_sd_xyz_mm": {f.column: _rounded(prior.offset_sd[f]) for f in _SIDED},
        },
    )


def read_prior(path: Path) -> ChainPrior:
    """Raises `InputError` for a file that `write_prior` did not write."""
    file = read_document(path, PriorFile, advice=_AGAIN)
    for name, offsets in (("offset_mean_xyz_mm", file.offset_mean_xyz_mm), ("offset_sd_xyz_mm", file.offset_sd_xyz_mm)):
        if offsets.keys() != {f.column for f in _SIDED}:
            raise InputError(f"{path}: {name}: expected the {len(_SIDED)} findings that have a side; {_AGAIN}")
    cov = np.array(file.gap_cov_yz_mm2)
    if not np.array_equal(cov, cov.transpose(0, 2, 1)) or np.linalg.eigvalsh(cov).min() <= 0:
        raise InputError(f"{path}: gap_cov_yz_mm2: expected symmetric matrices of positive spread; {_AGAIN}")
    return ChainPrior(
        gap_mean=np.array(file.gap_mean_yz_mm),
        gap_cov=cov,
        offset_mean={f: np.array(file.offset_mean_xyz_mm[f.column]) for f in _SIDED},
        offset_sd={f: np.array(file.offset_sd_xyz_mm[f.column]) for f in _SIDED},
        studies=file.studies,
    )


def mean_prior(priors: Iterable[ChainPrior]) -> ChainPrior:
    """Averages the priors of several folds."""
    every = list(priors)
    if len(every) == 1:
        return every[0]
    return ChainPrior(
        gap_mean=np.mean([p.gap_mean for p in every], axis=0),
        gap_cov=np.mean([p.gap_cov for p in every], axis=0),
        offset_mean={f: np.mean([p.offset_mean[f] for p in every], axis=0) for f in _SIDED},
        offset_sd={f: np.mean([p.offset_sd[f] for p in every], axis=0) for f in _SIDED},
        studies=max(p.studies for p in every),
    )


def _rounded(values: FloatArray) -> Any:
    return np.round(values, 4).tolist()
