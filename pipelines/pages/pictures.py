"""The slices of a study as a page holds them: upright grey JPEGs, all of them together within a bound of bytes."""

import base64
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.dicom.pixels import slice_pixels
from shared.figures.tiles import toward
from shared.runtime.errors import InputError
from shared.study import Series, Slice, Study

# Of base64 text. A page must stay below 3 MB, and everything else on it takes 100 kB and 1.5 kB for each slice.
MOST_BYTES: Final = 2_200_000
# Pixels of all slices together; a sagittal series of 17 slices of 384 x 384 has 2.5 million.
_MOST_PIXELS: Final = 9_000_000
_LONGEST_SIDE, _SHORTEST_SIDE, _STEP = 512, 96, 16
_QUALITIES: Final = (75, 55, 35, 15)
# Of a study with more slices, every second or third is shown, and all that were graded on.
MOST_SLICES: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One slice on a page, in mm of the upright slice from the centre of its top-left pixel.

    Attributes:
      key: names it on the page.
      item: the upright slice.
      jpeg: base64; empty where the pixels cannot be read.
    """

    key: str
    item: Slice
    jpeg: str

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """Width and height of a pixel."""
        dy, dx = self.item.plane.spacing_mm
        return dx, dy

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height of the slice."""
        (rows, columns), (dx, dy) = self.item.shape, self.pixel_mm
        return columns * dx, rows * dy

    @property
    def corner_mm(self) -> tuple[float, float]:
        """The corner of the top-left pixel."""
        dx, dy = self.pixel_mm
        return -dx / 2, -dy / 2

    @property
    def edges(self) -> dict[str, str]:
        """The patient direction that each edge of the picture faces: R, L, A, P, H or F."""
        x, y = np.asarray(self.item.plane.row_dir), np.asarray(self.item.plane.col_dir)
        return {"left": toward(-x), "right": toward(x), "top": toward(-y), "bottom": toward(y)}

    def to_mm(self, stored_px: tuple[float, float]) -> tuple[float, float]:
        """A pixel (x, y) of the file to mm on the picture."""
        (x, y), (dx, dy) = self.item.orientation.to_upright(stored_px, self.item.stored_shape), self.pixel_mm
        return float(x * dx), float(y * dy)

    def to_patient(self, stored_px: tuple[float, float]) -> NDArray[np.float64]:
        """A pixel (x, y) of the file to mm in the patient. [3]"""
        return self.item.plane.to_patient(self.item.orientation.to_upright(stored_px, self.item.stored_shape))

    def project(self, point_mm: NDArray[np.float64]) -> tuple[float, float]:
        """The foot of a patient point [3] on the slice, in mm on the picture."""
        (x, y), (dx, dy) = self.item.plane.to_pixel(point_mm), self.pixel_mm
        return float(x * dx), float(y * dy)


@dataclass(frozen=True, slots=True, kw_only=True)
class PicturedSeries:
    """A series on a page.

    Attributes:
      pictures: its slices in anatomical order, perhaps not all of them.
      whole: how many slices it has.
    """

    series: Series
    pictures: tuple[Picture, ...]
    whole: int

    def by_instance(self, number: int) -> Picture | None:
        return next((p for p in self.pictures if p.item.instance_number == number), None)


def pictured(study: Study, graded: Collection[tuple[str, int]]) -> tuple[PicturedSeries, ...]:
    """Reads and encodes the slices of all series.

    Args:
      study: with its slices as they are stored.
      graded: series and instance of the slices that must be among the pictures.
    """
    kept = [_thinned(series, len(study.series), graded) for series in study.series]
    upright = [[item.upright() for item in slices] for slices in kept]
    side = _longest_side([item for slices in upright for item in slices])
    pixels = [[_read(item, side) for item in slices] for slices in upright]
    encoded = _within_bound(pixels)
    return tuple(
        PicturedSeries(
            series=series, whole=len(series.slices),
            pictures=tuple(
                Picture(key=f"i{n}-{k}", item=item, jpeg=jpeg)
                for k, (item, jpeg) in enumerate(zip(upright[n], encoded[n], strict=True))
            ),
        )
        for n, series in enumerate(study.series)
    )  # fmt: skip


def _thinned(series: Series, among: int, graded: Collection[tuple[str, int]]) -> list[Slice]:
    """All slices, or of very many evenly spread ones and those that were graded on."""
    step = math.ceil(len(series.slices) * among / MOST_SLICES)
    return [
        item
        for k, item in enumerate(series.slices)
        if k % step == 0 or (series.series_id, item.instance_number) in graded
    ]


def _longest_side(slices: Sequence[Slice]) -> int:
    """The longest side in pixels at which all slices together stay within the bound."""
    for side in range(_LONGEST_SIDE, _SHORTEST_SIDE, -_STEP):
        sizes = (_size_px(item, side) for item in slices)
        if sum(width * height for width, height in sizes) <= _MOST_PIXELS:
            return side
    return _SHORTEST_SIDE


def _size_px(item: Slice, side: int) -> tuple[int, int]:
    """Width and height of the picture: square pixels, none finer than those of the file, at most `side` of them."""
    (rows, columns), (dy, dx) = item.shape, item.plane.spacing_mm
    width_mm, height_mm = columns * dx, rows * dy
    per_mm = min(1 / min(dx, dy), side / max(width_mm, height_mm))
    return max(round(width_mm * per_mm), 1), max(round(height_mm * per_mm), 1)


def _read(item: Slice, side: int) -> NDArray[np.uint8] | None:
    """The pixels at the size of the page, or None where they cannot be read, which the problems tell."""
    try:
        pixels = slice_pixels(item)
    except InputError:
        return None
    size = _size_px(item, side)
    if size == (item.shape[1], item.shape[0]):
        return pixels
    method = cv2.INTER_AREA if size[0] <= item.shape[1] and size[1] <= item.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, size, interpolation=method), np.uint8)


def _within_bound(pixels: Sequence[Sequence[NDArray[np.uint8] | None]]) -> list[list[str]]:
    """All pictures as base64 JPEGs, at the best quality at which they stay within the bound together."""
    result: list[list[str]] = []
    for quality in _QUALITIES:
        result = [["" if p is None else _jpeg(p, quality) for p in series] for series in pixels]
        if sum(len(text) for series in result for text in series) <= MOST_BYTES:
            break
    return result


def _jpeg(pixels: NDArray[np.uint8], quality: int) -> str:
    _, content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return base64.b64encode(content.tobytes()).decode()
