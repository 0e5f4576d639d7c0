"""What stage 1 hands to stage 2: detections (boxes on slices), localizations (places of findings), and their CSVs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import pandas as pd

from shared.labels import Finding, Level, View
from shared.runtime.errors import InputError
from shared.runtime.files import write_csv
from shared.runtime.tables import Kind, read_csv


class Source(StrEnum):
    """How a localization came about."""

    DETECTED = "detected"  # the detector saw the finding's level on this series
    PROJECTED = "projected"  # carried over in patient space from another series
    INTERPOLATED = "interpolated"  # placed between neighbouring levels of the chain
    ANNOTATED = "annotated"  # a true point, for training and for comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """One box of a detector. `box_xyxy_px` is (left, top, right, bottom); `score` is in [0, 1]."""

    study_id: str
    series_id: str
    instance_number: int
    view: View
    level: Level
    box_xyxy_px: tuple[float, float, float, float]
    score: float

    def __post_init__(self) -> None:
        left, top, right, bottom = self.box_xyxy_px
        if not (left < right and top < bottom):
            raise ValueError(f"empty box {self.box_xyxy_px}; expected left < right and top < bottom")
        if not 0 <= self.score <= 1:
            raise ValueError(f"score {self.score} is outside [0, 1]")

    @property
    def center_px(self) -> tuple[float, float]:
        left, top, right, bottom = self.box_xyxy_px
        return (left + right) / 2, (top + bottom) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Localization:
    """Where a finding is: a pixel of one slice and the same point in patient mm (LPS).

    `score` is in [0, 1]; `raw_score` is the score before calibration, None without calibration.
    """

    study_id: str
    finding: Finding
    series_id: str
    instance_number: int
    x_px: float
    y_px: float
    point_mm: tuple[float, float, float]
    source: Source
    score: float
    raw_score: float | None = None

    def __post_init__(self) -> None:
        if not np.isfinite([self.x_px, self.y_px, *self.point_mm]).all():
            raise ValueError("a localization needs finite coordinates")
        for score in (self.score, self.raw_score):
            if score is not None and not 0 <= score <= 1:
                raise ValueError(f"score {score} is outside [0, 1]")


Localizations = Mapping[str, Mapping[Finding, Localization]]  # study id -> finding -> localization

_DETECTION_COLUMNS: dict[str, Kind] = {
    "study_id": "id", "series_id": "id", "instance_number": "int64", "view": "string", "level": "string",
    "left_px": "float64", "top_px": "float64", "right_px": "float64", "bottom_px": "float64", "score": "float64",
}  # fmt: skip
_LOCALIZATION_COLUMNS: dict[str, Kind] = {
    "study_id": "id", "finding": "string", "series_id": "id", "instance_number": "int64", "x_px": "float64",
    "y_px": "float64", "x_mm": "float64", "y_mm": "float64", "z_mm": "float64", "source": "string", "score": "float64",
}  # fmt: skip
# Files that other programs write may lack it.
_OPTIONAL_COLUMNS: dict[str, Kind] = {"raw_score": "float64"}


def write_detections(path: Path, detections: Iterable[Detection]) -> None:
    """Writes detections.csv, sorted by study, series, instance, level and falling score."""
    ordered = sorted(detections, key=lambda d: (d.study_id, d.series_id, d.instance_number, d.level, -d.score))
    rows = [
        (d.study_id, d.series_id, d.instance_number, d.view.slug, d.level.slug, *d.box_xyxy_px, d.score)
        for d in ordered
    ]
    write_csv(path, pd.DataFrame(rows, columns=list(_DETECTION_COLUMNS)))


def read_detections(path: Path) -> list[Detection]:
    """Raises `InputError` for a missing file or column, or a row that breaks a rule of `Detection`."""
    levels = {level.slug: level for level in Level}
    detections = []
    for row in read_csv(path, _DETECTION_COLUMNS).itertuples(name=None):
        line, study_id, series_id, number, view, level, left, top, right, bottom, score = row
        try:
            detections.append(
                Detection(
                    study_id=study_id, series_id=series_id, instance_number=number, view=View.from_slug(str(view)),
                    level=levels[level], box_xyxy_px=(left, top, right, bottom), score=score,
                )
            )  # fmt: skip
        except (ValueError, KeyError, InputError) as error:
            raise InputError(f"{path} line {line}: {error}") from error
    return detections


def write_localizations(path: Path, localizations: Localizations) -> None:
    """Writes localizations.csv, sorted by study, then in `FINDINGS` order."""
    ordered = [
        loc for s in sorted(localizations) for loc in sorted(localizations[s].values(), key=lambda x: x.finding.index)
    ]
    rows = [
        (x.study_id, x.finding.column, x.series_id, x.instance_number, x.x_px, x.y_px, *x.point_mm, x.source.value,
         x.score, x.raw_score)
        for x in ordered
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=[*_LOCALIZATION_COLUMNS, *_OPTIONAL_COLUMNS])
    write_csv(path, table.astype(_OPTIONAL_COLUMNS))


def read_localizations(path: Path) -> dict[str, dict[Finding, Localization]]:
    """Raises `InputError` for a missing file or column, a bad row, or a finding listed twice."""
    result: dict[str, dict[Finding, Localization]] = {}
    table = read_csv(path, _LOCALIZATION_COLUMNS, optional=_OPTIONAL_COLUMNS)
    for row in table.itertuples(name=None):
        line, study_id, column, series_id, number, x_px, y_px, x_mm, y_mm, z_mm, source, score, raw_score = row
        try:
            localization = Localization(
                study_id=study_id, finding=Finding.from_column(str(column)), series_id=series_id,
                instance_number=number, x_px=x_px, y_px=y_px, point_mm=(x_mm, y_mm, z_mm),
                source=Source(str(source)), score=score,
                raw_score=None if np.isnan(raw_score) else raw_score,
            )  # fmt: skip
        except (ValueError, InputError) as error:
            raise InputError(f"{path} line {line}: {error}") from error
        of_study = result.setdefault(study_id, {})
        if localization.finding in of_study:
            raise InputError(f"{path} line {line}: study {study_id} lists {column} twice")
        of_study[localization.finding] = localization
    return result
