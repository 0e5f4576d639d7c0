"""The pictures of docs/synthetic.md: written whole, small, and the same each time."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.atlas import MAX_BYTES, AtlasOptions, main, write_atlas
from shared.figures.grid import Cell, Grid, Row, draw_grid, padded

NAMES = ["synthetic_views.png", "synthetic_canal.png", "synthetic_foraminal.png", "synthetic_subarticular.png"]


def test_the_pictures_are_small_and_come_out_the_same(tmp_path: Path) -> None:
    options = AtlasOptions(studies=1, preset="demo", seed=2)
    paths = write_atlas(tmp_path / "a", options)
    assert [p.name for p in paths] == NAMES
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == sorted(NAMES)
    assert main([str(tmp_path / "b"), "--studies", "1", "--preset", "demo", "--seed", "2", "--workers", "1"]) == 0
    for name in NAMES:
        content = (tmp_path / "a" / name).read_bytes()
        assert len(content) < MAX_BYTES
        assert content == (tmp_path / "b" / name).read_bytes()


def test_the_committed_pictures_are_there_and_small() -> None:
    folder = Path(__file__).parents[2] / "docs" / "images"
    for name in NAMES:
        assert 10_000 < (folder / name).stat().st_size < MAX_BYTES


def test_a_grid_puts_every_picture_at_its_place() -> None:
    values = [[40, 90, 140], [60, 110, 160]]
    rows = tuple(
        Row(heading=f"row {k}", cells=tuple(Cell(picture=np.full((30, 50), v, np.uint8)) for v in row))
        for k, row in enumerate(values)
    )
    grid = Grid(columns=("a", "b", "c"), rows=rows, size_px=(50, 30), px_per_mm=2.0, rule_every=1)
    image = draw_grid(grid)[..., 1]
    assert image.shape[1] == grid.width_px
    for value in (v for row in values for v in row):
        assert (image == value).sum() == pytest.approx(30 * 50, rel=0.05)
    assert grid.left(2) - grid.left(1) > 50 + 6  # a wider gap between groups


def test_missing_examples_leave_empty_cells() -> None:
    one = Cell(picture=np.zeros((4, 4), np.uint8), text="x")
    assert padded([one], 3) == (one, Cell(picture=None), Cell(picture=None))
    assert padded([one] * 4, 3) == (one, one, one)
