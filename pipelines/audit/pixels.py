"""Checks that decode pixels: can they be read at all, and do axial pictures fit the sagittal ones side by side.

Where an axial slice cuts a sagittal one both show the same tissue along a line. Along all these lines of a slice their
grey values must agree better than those of the mirrored picture do: vessels, scoliosis and a spine beside the picture's
middle are not symmetric. It takes no points, so it finds mirrored series in unlabelled data too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from pipelines.audit.files import FileRead, StudyRead
from pipelines.audit.findings import Code, Issue
from shared.dicom import read_raw_pixels
from shared.errors import InputError
from shared.geometry import Plane
from shared.labels import View
from shared.study import Series, Slice

Picture = NDArray[np.float32]

_BLUR_PX: Final = 1.0
_EVERY_ROW: Final = 2
_MIN_SAMPLES: Final = 200
_MIN_SLICES: Final = 5
# Of the slices that can be compared: share that fits better mirrored, and by how much rank correlation on average.
_MIRRORED_SHARE: Final = 0.8
_MIRRORED_MARGIN: Final = 0.02


class Pixels(StrEnum):
    """Which pixels an audit decodes."""

    NONE = "none"
    SAMPLE = "sample"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How well the slices of an axial series fit the sagittal ones, as they are and mirrored. # [n] each"""

    direct: NDArray[np.float64]
    mirrored: NDArray[np.float64]

    @property
    def is_mirrored(self) -> bool:
        gain = self.mirrored - self.direct
        return len(gain) >= _MIN_SLICES and bool(
            (gain > 0).mean() >= _MIRRORED_SHARE and gain.mean() > _MIRRORED_MARGIN
        )


def check_pixels(root: Path, read: StudyRead, mode: Pixels) -> list[Issue]:
    """Decodes the middle slice of each series (SAMPLE) or all, and with ALL compares axial with sagittal pictures.

    Args:
      root: the data folder, which paths in reasons start below.
    """
    issues: list[Issue] = []
    pictures: dict[str, list[tuple[Slice, Picture]]] = {}
    for item in read.series if mode is not Pixels.NONE else ():
        whole = [f for f in item.files if f.encoding.damage is None]
        chosen = whole if mode is Pixels.ALL else whole[len(whole) // 2 : len(whole) // 2 + 1]
        pictures[item.series.series_id] = decoded = []
        for file in chosen:
            picture = _decode(root, read, item.series, file, issues)
            if picture is not None:
                decoded.append((file.slice, picture))
    if mode is Pixels.ALL:
        issues += _mirrored(read, pictures)
    return issues


def _decode(root: Path, read: StudyRead, series: Series, file: FileRead, issues: list[Issue]) -> Picture | None:
    path = file.slice.path

    def tell(code: Code, reason: str) -> None:
        issues.append(
            Issue(
                code=code, part=read.part, study_id=read.study_id, series_id=series.series_id,
                instance_number=file.slice.instance_number, file=str(path.relative_to(root)), reason=reason,
            )
        )  # fmt: skip

    try:
        picture = read_raw_pixels(path)
    except InputError as error:
        tell(Code.PIXELS_UNREADABLE, str(error).removeprefix(f"{path}: "))
        return None
    if np.ptp(picture) == 0:
        tell(Code.PIXELS_FLAT, f"all pixels are {float(picture.flat[0]):g}")
    return picture


def _mirrored(read: StudyRead, pictures: dict[str, list[tuple[Slice, Picture]]]) -> list[Issue]:
    study = read.study
    sagittal = [*study.of_view(View.SAGITTAL_T2), *study.of_view(View.SAGITTAL_T1)]
    issues = []
    for series in study.of_view(View.AXIAL_T2):
        fit = next(
            (
                fit
                for s in sagittal
                if len((fit := fit_series(pictures[series.series_id], pictures[s.series_id])).direct)
            ),
            None,
        )
        if fit is not None and fit.is_mirrored:
            worse, better = float(fit.direct.mean()), float(fit.mirrored.mean())
            reason = (
                f"rank correlation with sagittal slices {worse:.2f}, mirrored {better:.2f}; {len(fit.direct)} slices"
            )
            issues.append(
                Issue(code=Code.PIXELS_MIRRORED, part=read.part, study_id=read.study_id, series_id=series.series_id,
                      reason=reason)
            )  # fmt: skip
    return issues


def fit_series(axial: Sequence[tuple[Slice, Picture]], sagittal: Sequence[tuple[Slice, Picture]]) -> Fit:
    """Compares every axial slice with the sagittal ones that it cuts; slices with too short a cut are left out."""
    smooth = [(item, _blur(picture)) for item, picture in sagittal]
    direct, mirrored = [], []
    for item, picture in axial:
        picture = _blur(picture)
        pair = [_correlation(item, seen, smooth) for seen in (picture, np.ascontiguousarray(picture[:, ::-1]))]
        if pair[0] is not None and pair[1] is not None:
            direct.append(pair[0])
            mirrored.append(pair[1])
    return Fit(direct=np.array(direct), mirrored=np.array(mirrored))


def _blur(picture: Picture) -> Picture:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), _BLUR_PX), dtype=np.float32)


def _correlation(item: Slice, picture: Picture, sagittal: Sequence[tuple[Slice, Picture]]) -> float | None:
    """Spearman's correlation of the grey values along the lines where a picture cuts the sagittal ones."""
    ours, theirs = [], []
    for other, other_picture in sagittal:
        here, there = cut(item, other)
        ours.append(_sample(picture, here))
        theirs.append(_sample(other_picture, there))
    a = np.concatenate(ours) if ours else np.empty(0)
    b = np.concatenate(theirs) if theirs else np.empty(0)
    if len(a) < _MIN_SAMPLES or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def cut(axial: Slice, sagittal: Slice) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pixel points (x, y) of the line where two slices cut, in either picture. # [n, 2] each"""
    plane: Plane = axial.plane
    rows = np.arange(0, axial.shape[0], _EVERY_ROW, dtype=np.float64)
    along = float(np.asarray(plane.row_dir) @ sagittal.plane.normal) * plane.spacing_mm[1]
    if abs(along) < 1e-6:  # the planes are parallel
        return np.empty((0, 2), np.float32), np.empty((0, 2), np.float32)
    start = plane.to_patient(np.stack([np.zeros_like(rows), rows], axis=1))
    here = np.stack([-sagittal.plane.distance_mm(start) / along, rows], axis=1)
    there = sagittal.plane.to_pixel(plane.to_patient(here))
    inside = _inside(here, axial.shape) & _inside(there, sagittal.shape)
    return here[inside].astype(np.float32), there[inside].astype(np.float32)


def _inside(points_px: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    x, y = points_px[:, 0], points_px[:, 1]
    return (x >= 0) & (x <= shape[1] - 1) & (y >= 0) & (y <= shape[0] - 1)


def _sample(picture: Picture, points_px: NDArray[np.float32]) -> Picture:
    if not len(points_px):
        return np.empty(0, np.float32)
    x, y = points_px[None, :, 0], points_px[None, :, 1]
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_LINEAR)[0], dtype=np.float32)
