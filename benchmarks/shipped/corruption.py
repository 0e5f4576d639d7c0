"""Synthetic studies as bad scans show them: cut fields of view, metal, noise, blur, coils and missing series.

The calibration of the detectors that ship is fitted on these: on clean synthetic pictures hardly any point is wrong.
"""

import csv
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.real_study import Disguise, write_disguised
from shared.data.challenge import Challenge
from shared.labels import View
from shared.runtime.progress import track

_LOST: Final = {View.SAGITTAL_T1: 0.3, View.AXIAL_T2: 0.4}
_METAL: Final = 0.3
# Largest share of the field that is cut at the top, bottom, front and back.
_CUTS: Final = (0.25, 0.12, 0.2, 0.1)

Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looks:
    """Changes of the grey values, the same for all slices of a series."""

    gamma: float
    noise: float
    blur_px: float
    bias: tuple[float, float]
    metal: tuple[float, float, float] | None  # x, y and radius, as shares of the image

    @classmethod
    def drawn(cls, rng: np.random.Generator, *, metal: bool) -> "_Looks":
        spot = (rng.uniform(0.45, 0.75), rng.uniform(0.35, 0.8), rng.uniform(0.03, 0.07)) if metal else None
        return cls(
            gamma=float(np.exp(rng.uniform(-0.6, 0.6))), noise=rng.uniform(0, 0.07), blur_px=rng.uniform(0, 2.0),
            bias=(rng.uniform(-1, 1), rng.uniform(-1, 1)), metal=spot,
        )  # fmt: skip

    def apply(self, image: Image, rng: np.random.Generator) -> Image:
        rows, columns = image.shape
        y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j].astype(np.float32)
        image = image**self.gamma * np.exp(self.bias[0] * x + self.bias[1] * y)
        if self.metal is not None:
            across, down, radius = self.metal
            center = (round(across * columns), round(down * rows))
            size = (round(radius * rows * rng.uniform(0.6, 1.4)), round(radius * rows))
            cv2.ellipse(image, center, (size[0] + 4, size[1] + 4), 0, 0, 360, 1.2, -1)
            cv2.ellipse(image, center, size, 0, 0, 360, 0.0, -1)
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), self.blur_px + 0.01), np.float32)
        return image + self.noise * rng.standard_normal(image.shape, dtype=np.float32)


def write_corrupted(data: Challenge, out: Path, seed: int) -> None:
    """Writes a challenge directory whose studies are corrupted copies; a study's points stay where they are in space.

    Args:
      data: the train part of a challenge directory of synthetic studies.
      out: a new folder. Its studies have the names of those that they are copies of.
    """
    descriptions = []
    moved: dict[str, tuple[int, int, int, int]] = {}  # what is left of a series' images
    for study_id in track(list(data.study_ids), "corrupting"):
        rng = np.random.default_rng([seed, *study_id.encode()])
        study = data.load_study(study_id).study
        metal = bool(rng.random() < _METAL)
        cuts = tuple(float(rng.uniform(0, most)) if rng.random() < 0.5 else 0.0 for most in _CUTS)
        lost = {view for view, share in _LOST.items() if rng.random() < share}
        for series in study.series:
            looks = _Looks.drawn(rng, metal=metal and series.view.is_sagittal)
            if series.view in lost:
                continue
            descriptions.append((study_id, series.series_id, series.view.value))
            for item in series.slices:
                left = _left(item.shape, cuts if series.view.is_sagittal else (0.0,) * len(cuts))
                target = out / "train_images" / study_id / series.series_id / item.path.name
                write_disguised(item, _disguise(looks, left, rng), target)
                moved[series.series_id] = left
    _write_tables(data.root, out, descriptions, moved)


def _left(shape: tuple[int, int], cuts: tuple[float, ...]) -> tuple[int, int, int, int]:
    """First and last row, first and last column."""
    rows, columns = shape
    top, bottom, front, back = cuts
    return round(top * rows), round((1 - bottom) * rows), round(front * columns), round((1 - back) * columns)


def _disguise(looks: _Looks, kept: tuple[int, int, int, int], rng: np.random.Generator) -> Disguise:
    top, bottom, left, right = kept

    def pixels(image: Image) -> Image:
        return looks.apply(image, rng)[top:bottom, left:right]

    return Disguise(name="corrupted", pixels=pixels, crop_px=(left, top))


def _write_tables(
    root: Path, out: Path, descriptions: list[tuple[str, str, str]], moved: dict[str, tuple[int, int, int, int]]
) -> None:
    shutil.copyfile(root / "train.csv", out / "train.csv")
    series = [("study_id", "series_id", "series_description"), *descriptions]
    with (root / "train_label_coordinates.csv").open(newline="", encoding="utf-8") as file:
        header, *points = list(csv.reader(file))
    at = {name: header.index(name) for name in ("series_id", "x", "y")}
    visible = []
    for row in points:
        x, y = float(row[at["x"]]), float(row[at["y"]])
        top, bottom, left, right = moved.get(row[at["series_id"]], (0, 0, 0, 0))
        if left <= x <= right - 1 and top <= y <= bottom - 1:
            row[at["x"]], row[at["y"]] = str(x - left), str(y - top)
            visible.append(row)
    tables: dict[str, list[Any]] = {
        "train_series_descriptions.csv": series,
        "train_label_coordinates.csv": [header, *visible],
    }
    for name, rows in tables.items():
        with (out / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
