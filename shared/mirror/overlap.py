"""Finds series that lie elsewhere in the patient than all others of their study.

The series of one examination show one body part, so the boxes around their slices meet. A series that meets none was
placed in another frame of reference or shows another part of the body; what it shows cannot be put together with the
rest.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from shared.geometry import FloatArray
from shared.study import Series, Study

# Boxes of neighbouring axial blocks may be this far from a sagittal field that ends early.
_TOLERANCE_MM: Final = 10.0


def far_series(study: Study) -> Mapping[str, float]:
    """Series id -> distance in mm to the nearest other series, for those that lie apart from all others.

    Nothing is apart unless at least two other series meet, for it takes a third to tell which of two is wrong.
    """
    boxes = {series.series_id: _box_mm(series) for series in study.series}
    gaps = {a: {b: _gap_mm(boxes[a], boxes[b]) for b in boxes if b != a} for a in boxes}
    apart = {a: min(of.values()) for a, of in gaps.items() if of and min(of.values()) > _TOLERANCE_MM}
    return apart if len(boxes) - len(apart) >= 2 else {}


def _box_mm(series: Series) -> FloatArray:  # [2, 3]
    """Least and largest patient coordinates of the corners of all slices."""
    corners = np.concatenate([
        item.plane.to_patient([[x, y] for x in (0, item.shape[1] - 1) for y in (0, item.shape[0] - 1)])
        for item in series.slices
    ])  # fmt: skip
    return np.stack([corners.min(axis=0), corners.max(axis=0)])


def _gap_mm(a: FloatArray, b: FloatArray) -> float:
    """Distance between two boxes; 0 where they meet."""
    return float(np.linalg.norm(np.clip(np.maximum(a[0] - b[1], b[0] - a[1]), 0, None)))
