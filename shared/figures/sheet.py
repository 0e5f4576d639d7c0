"""Draws slices with their marks: sections of tiles on a dark page, with headings, a legend and scale bars.

Every picture of slices in this project is a `Sheet`: the contact sheet of `lumbar show`, the graded studies of
predictions, the examples and worst cases of the localizer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.figures.marks import BoxMark, LegendEntry, PointMark
from shared.figures.page import SOFT, Page
from shared.figures.tiles import Window
from shared.geometry import dominant_axis
from shared.runtime.errors import InputError
from shared.runtime.problems import counted
from shared.study import Slice

MAX_HEIGHT_PX: Final = 30_000
_MARGIN, _GAP, _TITLE, _HEAD, _FOOT = 28, 6, 118, 56, 26
# So that title and legend have room.
_NARROWEST: Final = 1500
_EMPTY, _BORDER, _MARKED = 0x1A, 0x2C, 0x8A

ReadPixels = Callable[[Slice], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One slice or a part of it.

    Attributes:
      title: top left, one or more lines.
      note: top right.
      side: bottom left, large: the side of a sagittal slice, empty for an axial one.
      edge: at the middle of the left edge, the patient direction it faces.
      linked: whether a dotted line joins the points.
    """

    item: Slice
    window: Window
    title: str
    note: str
    side: str
    edge: str
    points: tuple[PointMark, ...] = ()
    boxes: tuple[BoxMark, ...] = ()
    linked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Tiles of one size under a heading, `columns` of them in a row; tiles of one scale get a scale bar."""

    title: str
    detail: str
    tiles: tuple[Tile, ...]
    columns: int

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of each tile; zero for a section without tiles."""
        return self.tiles[0].window.size_px if self.tiles else (0, 0)

    @property
    def rows(self) -> int:
        return -(-len(self.tiles) // self.columns) if self.tiles else 0

    @property
    def width_px(self) -> int:
        return 2 * _MARGIN + self.columns * (self.size_px[0] + _GAP) - _GAP

    @property
    def height_px(self) -> int:
        return _HEAD + self.rows * (self.size_px[1] + _GAP) + _FOOT

    def corner(self, index: int) -> tuple[int, int]:
        """Left and top of a tile relative to the section's top left."""
        row, column = divmod(index, self.columns)
        width, height = self.size_px
        return _MARGIN + column * (width + _GAP), _HEAD + row * (height + _GAP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A whole page, as wide as its widest section."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    legend: tuple[LegendEntry, ...] = ()

    @property
    def width_px(self) -> int:
        return max(_NARROWEST, *(s.width_px for s in self.sections))

    @property
    def height_px(self) -> int:
        return _TITLE + sum(s.height_px for s in self.sections)

    def tops(self) -> list[int]:
        """Top of each section."""
        heights = [_TITLE, *(s.height_px for s in self.sections)]
        return [int(v) for v in np.cumsum(heights)[:-1]]

    def corners(self) -> dict[tuple[int, int], tuple[int, int]]:
        """Left and top of every tile on the page, by (section, tile)."""
        return {
            (k, i): (left, top + section_top)
            for k, (section, section_top) in enumerate(zip(self.sections, self.tops(), strict=True))
            for i, (left, top) in enumerate(map(section.corner, range(len(section.tiles))))
        }


def tile_size(count: int, *, width_px: int, most: int, largest_px: int) -> tuple[int, int]:
    """Columns and tile width for `count` tiles in rows as even as possible, with at most `most` columns."""
    columns = min(count, most)
    columns = -(-count // -(-count // columns))
    return columns, min((width_px - 2 * _MARGIN - (columns - 1) * _GAP) // columns, largest_px)


def draw_sheet(sheet: Sheet, read: ReadPixels) -> tuple[NDArray[np.uint8], list[str]]:
    """Draws the page.

    Returns:
      The page in RGB, [height, width, 3], and why slices could not be read: a slice that `read` refuses with
      `InputError` becomes a tile that says so.

    Raises:
      InputError: when the page would be too tall for a picture.
    """
    if sheet.height_px > MAX_HEIGHT_PX:
        slices = counted(sum(len(s.tiles) for s in sheet.sections), "slice")
        raise InputError(
            f"{slices} would need {counted(sheet.height_px, 'row')} of pixels; "
            f"expected at most {MAX_HEIGHT_PX}: choose one series with --series or one level with --level"
        )
    page = Page((sheet.width_px, sheet.height_px))
    unreadable: dict[tuple[int, int], str] = {}
    for key, corner in sheet.corners().items():
        tile = sheet.sections[key[0]].tiles[key[1]]
        try:
            picture = tile.window.render(read(tile.item), tile.item.plane)
        except InputError as error:
            unreadable[key] = str(error)
            picture = np.full(tile.window.size_px[::-1], _EMPTY, np.uint8)
        page.picture(picture, corner, rim=_MARKED if tile.points else _BORDER)
    _title(page, sheet)
    for section, top in zip(sheet.sections, sheet.tops(), strict=True):
        _head(page, section, top, sheet.width_px)
    for key, corner in sheet.corners().items():
        _annotate(page, sheet.sections[key[0]].tiles[key[1]], corner, readable=key not in unreadable)
    return page.image(), list(unreadable.values())


def _title(page: Page, sheet: Sheet) -> None:
    page.write(_MARGIN, 34, sheet.title, 17, weight="bold")
    page.write(_MARGIN, 66, sheet.subtitle, 10, color=SOFT)
    x = float(_MARGIN)
    for entry in sheet.legend:
        if entry.kind == "box":
            page.line([x, x + 16, x + 16, x, x], [90, 90, 104, 104, 90], color=entry.color, lw=1.3, ls=(0, (4, 2)))
        else:
            page.mark(x + 8, 97, diamond=entry.kind == "diamond", color=entry.color, size=8.0)
        page.write(x + 24, 97, entry.label, 10)
        x += 24 + 8.2 * len(entry.label) + 34


def _head(page: Page, section: Section, top: int, width_px: int) -> None:
    page.line([_MARGIN, width_px - _MARGIN], [top + 4, top + 4], color="#3a444d", lw=1)
    page.write(_MARGIN, top + 20, section.title, 12.5, weight="bold")
    page.write(_MARGIN, top + 42, section.detail, 9.5, color=SOFT)
    scales = {tile.window.px_per_mm for tile in section.tiles}
    if len(scales) == 1:
        page.bar(width_px - _MARGIN - 4, top + 30, scales.pop(), section.size_px[0] / 3)


def _annotate(page: Page, tile: Tile, corner: tuple[int, int], *, readable: bool) -> None:
    (left, top), (width, height) = corner, tile.window.size_px
    small = 8.0 if width < 240 else 9.5
    page.write(left + 6, top + 4, tile.title, small, va="top")
    page.write(left + width - 6, top + 4, tile.note, small, ha="right", va="top", color=SOFT)
    if not readable:
        x, y = left + width / 2, top + height / 2
        page.write(x, y, "pixels cannot\nbe read", small + 1, ha="center", color="#ff8a65")
    page.write(left + 6, top + height / 2, tile.edge, small, color=SOFT)
    if tile.side:
        page.write(left + 7, top + height - 15, tile.side, small + 5, weight="bold")
    for box in tile.boxes:
        _box(page, tile, box, corner, small)
    places = [
        tile.window.to_tile(tile.item.plane, np.array([p.x_px, p.y_px])) + np.asarray(corner) for p in tile.points
    ]
    if tile.linked:
        page.line([float(x) for x, _ in places], [float(y) for _, y in places], color="white", lw=1, ls=":")
    large = width >= 400
    for point, (x, y), label_y in zip(tile.points, places, _label_heights(tile, 1.5 * small), strict=True):
        size = (7.5 if large else 6.0) if point.predicted else (13.0 if large else 9.0)
        page.mark(float(x), float(y), diamond=point.predicted, color=point.color, size=size)
        shift = 15 if large else 10
        align = "right" if point.label_left else "left"
        if not 0.15 < (x - left) / width < 0.85:  # a label must stay on its tile
            align = "left" if x < left + width / 2 else "right"
        x += shift if align == "left" else -shift
        page.write(x, top + label_y, point.label, small, color=point.color, ha=align)


def _label_heights(tile: Tile, line_px: float) -> list[float]:
    """Where each point's label stands on the tile, moved down as little as keeps the labels of one side apart."""
    at = [float(tile.window.to_tile(tile.item.plane, np.array([p.x_px, p.y_px]))[1]) for p in tile.points]
    lines = [1 + p.label.count("\n") for p in tile.points]
    for left in (False, True):
        order = sorted((i for i, p in enumerate(tile.points) if p.label_left is left), key=lambda i: at[i])
        for above, below in pairwise(order):
            at[below] = max(at[below], at[above] + line_px * (lines[above] + lines[below]) / 2)
    return at


def _box(page: Page, tile: Tile, box: BoxMark, corner: Sequence[int], size: float) -> None:
    corners = np.array(box.box_xyxy_px).reshape(2, 2)
    turned = tile.window.to_tile(tile.item.plane, corners) + np.asarray(corner)
    (x0, y0), (x1, y1) = turned.min(axis=0), turned.max(axis=0)
    (left, top), (width, height) = corner, tile.window.size_px
    x0, x1 = np.clip([x0, x1], left, left + width - 1)
    y0, y1 = np.clip([y0, y1], top, top + height - 1)
    page.line([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color=box.color, lw=1.1, ls=(0, (4, 2)))
    if dominant_axis(tile.item.plane) == 0 and x0 - left > 10 * size:
        # Boxes of a sagittal slice stand one above another, with the labels of points to their right.
        page.write(x0 - 4, y0 + 3, box.label, size - 1.5, color=box.color, ha="right")
        return
    label_y = y0 - 7 if y0 - 14 > top + 16 else y0 + 8  # clear of what stands along the tile's top
    page.write(x0 + 3, label_y, box.label, size - 1.5, color=box.color)
