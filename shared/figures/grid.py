"""A grid of pictures at one scale: rows under headings, columns under headings, one scale bar."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.figures.page import INK, SOFT, Page

_MARGIN, _GAP, _TOP, _STRIP = 10, 6, 34, 30
_EMPTY = 0x1A


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A picture with a line of text in its corner.

    Attributes:
      picture: grey values, [height, width]; None where there is none.
    """

    picture: NDArray[np.uint8] | None
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Cells side by side under a heading of the given colour."""

    heading: str
    cells: tuple[Cell, ...]
    color: str = INK


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Rows with the same number of cells.

    Attributes:
      columns: one heading per column, possibly empty.
      size_px: width and height of every cell.
      px_per_mm: the scale all pictures share.
      rule_every: number of columns between wider gaps; 0 for none.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    size_px: tuple[int, int]
    px_per_mm: float
    rule_every: int = 0

    def left(self, column: int) -> int:
        """Left edge of a column in pixels."""
        groups = column // self.rule_every if self.rule_every else 0
        return _MARGIN + column * (self.size_px[0] + _GAP) + groups * 3 * _GAP

    @property
    def width_px(self) -> int:
        return self.left(len(self.columns) - 1) + self.size_px[0] + _MARGIN


def draw_grid(grid: Grid) -> NDArray[np.uint8]:
    """The grid as RGB, [height, width, 3]; cells without a picture say so."""
    width, height = grid.size_px
    head = _TOP if any(grid.columns) else 0
    tops = [head + _STRIP + k * (height + _STRIP) for k in range(len(grid.rows))]
    page = Page((grid.width_px, head + len(grid.rows) * (height + _STRIP) + _MARGIN))
    for column, heading in enumerate(grid.columns):
        page.write(grid.left(column) + 2, _TOP / 2 + 2, heading, 10, weight="bold")
    for row, top in zip(grid.rows, tops, strict=True):
        page.write(_MARGIN + 2, top - _STRIP / 2 + 1, row.heading, 10, color=row.color, weight="bold")
        for column, cell in enumerate(row.cells):
            left = grid.left(column)
            empty = np.full((height, width), _EMPTY, np.uint8)
            page.picture(empty if cell.picture is None else cell.picture, (left, top))
            page.write(left + 6, top + height - 11, cell.text, 8.5)
            if cell.picture is None:
                page.write(left + width / 2, top + height / 2, "none", 9, ha="center", color=SOFT)
    if grid.rows:
        page.bar(grid.width_px - _MARGIN - 4, tops[0] - _STRIP / 2, grid.px_per_mm, width / 2)
    return page.image()


def padded(cells: Sequence[Cell], count: int) -> tuple[Cell, ...]:
    """Exactly `count` cells: the first ones, or all of them and empty ones."""
    return (*cells[:count], *(Cell(picture=None) for _ in range(count - len(cells))))
