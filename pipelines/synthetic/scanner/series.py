"""What leaves the scanner: the series of a study with their pixels, and the points that readers mark on them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import RLELossless

from pipelines.synthetic.anatomy.patient import Case
from shared.geometry import Plane
from shared.labels import Finding, View


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSlice:
    """One image as it goes to disk."""

    instance_number: int
    plane: Plane
    pixels: NDArray[Any]  # [rows, columns]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSeries:
    """One series as it goes to disk.

    Attributes:
      header: elements to add or change in every slice, keyword -> value; None removes the element.
      syntax: transfer syntax UID.
      damaged: instance numbers of files that are cut off in the middle.
    """

    study_id: str
    series_id: str
    view: View
    slices: tuple[StoredSlice, ...]
    thickness_mm: float
    gap_mm: float
    window: tuple[float, float]
    header: Mapping[str, Any] = field(default_factory=dict)
    syntax: str = str(RLELossless)
    damaged: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One annotated point, a row of `train_label_coordinates.csv`."""

    series_id: str
    instance_number: int
    finding: Finding
    x_px: float
    y_px: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """A study before it is written: its series, the recorded grades and where readers marked them."""

    study_id: str
    case: Case
    series: tuple[StoredSeries, ...]
    points: tuple[Point, ...]
    grade: NDArray[np.int64]  # [25]
    summary: dict[str, Any]
