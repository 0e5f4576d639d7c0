"""Figures are upright: a study gives the same pictures, with marks at the same places, however its files store it."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.data.challenge import Point
from shared.detections import Detection, Localization, Source
from shared.figures.marks import Marks
from shared.figures.result_sheet import Miss, example_sheet, graded_sheet, misses_sheet
from shared.figures.sheet import Sheet, Tile, draw_sheet
from shared.figures.study_sheet import level_sheet, overview_sheet
from shared.geometry import Plane
from shared.labels import FINDINGS, Level, View
from shared.mirror.correct import with_turned
from shared.orientation import Orientation
from shared.study import Series, Slice, Study, order_slices

SHAPE, SPACING = (40, 56), (1.3, 0.7)  # not square in any way
ROW_AND_COLUMN = {True: ((0, 1, 0), (0, 0, -1)), False: ((1, 0, 0), (0, 1, 0))}
TURNS = [Orientation(transposed=t, flipped_x=x, flipped_y=y) for t, x, y in product((False, True), repeat=3)]
UPRIGHT = dict.fromkeys(View, Orientation())


def anatomy(item: Slice) -> np.ndarray:
    """A picture without any symmetry whose values depend on the place in mm alone. # [rows, columns]"""
    y, x = np.mgrid[: item.shape[0], : item.shape[1]]
    mm = item.plane.to_patient(np.stack([x.ravel(), y.ravel()], axis=1))
    wave = np.sin(mm @ [0.11, 0.05, 0.02]) + np.cos(mm @ [0.03, 0.13, -0.07])
    return np.round(127 + 60 * wave).astype(np.uint8).reshape(item.shape)


def stored_slice(view: View, position: int, turn: Orientation, number: int) -> Slice:
    """A slice whose stored picture `turn` makes upright."""
    row, column = ROW_AND_COLUMN[view.is_sagittal]
    middle = np.array([4.0 * position, 0, 0] if view.is_sagittal else [0, 0, -4.0 * position])
    origin = middle - np.array(row) * 27.5 * SPACING[1] - np.array(column) * 19.5 * SPACING[0]
    plane = Plane.from_arrays(origin_mm=origin, row_dir=row, col_dir=column, spacing_mm=SPACING)
    # The turn back: flips are their own inverse, and they change places when the axes do.
    flips = (turn.flipped_y, turn.flipped_x) if turn.transposed else (turn.flipped_x, turn.flipped_y)
    back = replace(turn, flipped_x=flips[0], flipped_y=flips[1])
    return Slice(
        path=Path(f"{number}.dcm"), instance_number=number, plane=back.plane(plane, SHAPE), shape=back.shape(SHAPE)
    )


def scene(turns: dict[View, Orientation]) -> tuple[Study, Marks]:
    """A study of three series stored in the given ways, and a point, a localization and a box of each finding's view.

    Marks are in pixels of the files.
    """
    series = tuple(
        Series(
            series_id=str(k), view=view,
            slices=order_slices([stored_slice(view, p, turns[view], p + 3) for p in (-1, 0, 1)], view),
        )
        for k, view in enumerate(View)
    )  # fmt: skip
    study = Study(study_id="1", series=series)
    points, found, boxes = [], [], []
    for finding in FINDINGS:
        home = next(s for s in series if s.view is finding.view)
        item, turn = home.slices[finding.index % 3], turns[home.view]
        at = np.array([12.0 + finding.index, 6.0 + 6 * finding.level])
        places = turn.to_stored(at + np.array([(0, 0), (4, 2), (-6, -3), (6, 3)]), item.shape)
        (x, y), (found_x, found_y), *corners = places.tolist()
        where: dict[str, Any] = {"study_id": "1", "series_id": home.series_id, "instance_number": item.instance_number}
        points.append(Point(**where, finding=finding, x_px=x, y_px=y))
        found.append(
            Localization(
                **where, finding=finding, x_px=found_x, y_px=found_y, source=Source.DETECTED, score=0.9,
                point_mm=tuple(item.plane.to_patient((found_x, found_y)).tolist()),
            )
        )  # fmt: skip
        box = (*np.min(corners, axis=0).tolist(), *np.max(corners, axis=0).tolist())
        boxes.append(Detection(**where, view=home.view, level=finding.level, box_xyxy_px=box, score=0.9))
    values = np.tile([0.2, 0.3, 0.5], (25, 1))
    return study, Marks(points=tuple(points), localizations=tuple(found), detections=tuple(boxes), probabilities=values)


def truth(study: Study, marks: Marks) -> list[Localization]:
    """The annotated points as localizations."""
    return [
        replace(x, x_px=p.x_px, y_px=p.y_px, point_mm=(x.point_mm[0], x.point_mm[1] + 9, x.point_mm[2]))
        for p, x in zip(marks.points, marks.localizations, strict=True)
    ]


SHEETS: dict[str, Callable[[Study, Marks], Sheet]] = {
    "overview": overview_sheet,
    "level": lambda study, marks: level_sheet(study, marks, Level.L3_L4),
    "graded": graded_sheet,
    "examples": lambda study, marks: example_sheet(study, marks, truth(study, marks)),
    "misses": lambda study, marks: misses_sheet(
        [
            Miss(study=study, true=a, found=b, true_text="true", found_text="found")
            for a, b in zip(truth(study, marks), marks.localizations, strict=True)
        ]
    ),
}


def texts(tile: Tile) -> tuple[object, ...]:
    return tile.title, tile.note, tile.side, tile.edge, [(p.label, p.label_left) for p in tile.points]


def places(tile: Tile) -> np.ndarray:
    """Points and opposite corners of boxes in pixels of the tile, boxes with their top left corner first."""
    points = [tile.window.to_tile(tile.item.plane, np.array([p.x_px, p.y_px])) for p in tile.points]
    corners = [tile.window.to_tile(tile.item.plane, np.reshape(b.box_xyxy_px, (2, 2))) for b in tile.boxes]
    return np.array([*points, *(c.min(axis=0) for c in corners), *(c.max(axis=0) for c in corners)])


def assert_same(sheet: Sheet, usual: Sheet) -> None:
    assert [len(s.tiles) for s in sheet.sections] == [len(s.tiles) for s in usual.sections]
    pairs = [(s.tiles, u.tiles) for s, u in zip(sheet.sections, usual.sections, strict=True)]
    for tile, other in ((t, u) for tiles, others in pairs for t, u in zip(tiles, others, strict=True)):
        assert texts(tile) == texts(other)
        assert tile.window.size_px == other.window.size_px
        np.testing.assert_allclose(places(tile), places(other), atol=1e-6)
        pictures = [t.window.render(anatomy(t.item), t.item.plane).astype(int) for t in (tile, other)]
        # Beyond the edge of the slice the tile is black; only the edge itself depends on rounding.
        assert np.mean(np.abs(pictures[0] - pictures[1]) > 2) < 0.02


@settings(max_examples=6)
@given(turns=st.fixed_dictionaries({view: st.sampled_from(TURNS) for view in View}))
def test_every_stored_order_gives_the_same_figures(turns: dict[View, Orientation]) -> None:
    (study, marks), (usual_study, usual_marks) = scene(turns), scene(UPRIGHT)
    for name, sheet in SHEETS.items():
        usual = sheet(usual_study, usual_marks)
        assert usual.sections, name
        assert {t.edge for s in usual.sections for t in s.tiles} <= {"A", "R"}, name
        assert_same(sheet(study, marks), usual)


def test_a_drawn_page_is_the_same_to_the_eye() -> None:
    """Everything that is drawn goes through the turned window: rings, diamonds, labels and boxes."""
    turned = scene(dict(zip(View, (TURNS[3], TURNS[4], TURNS[7]), strict=True)))
    pages = [draw_sheet(SHEETS["examples"](*both), anatomy)[0].astype(int) for both in (turned, scene(UPRIGHT))]
    assert pages[0].shape == pages[1].shape
    assert np.mean(np.abs(pages[0] - pages[1]) > 8) < 0.005


def test_a_series_mirrored_against_its_header_is_drawn_as_the_patient_is() -> None:
    study, marks = scene(UPRIGHT)
    axial = next(s for s in study.series if s.view is View.AXIAL_T2)
    shown = with_turned(study, [axial.series_id])
    as_header, as_patient = (graded_sheet(s, marks).sections[1].tiles[0] for s in (study, shown))
    assert as_header.edge == as_patient.edge == "R"
    pixels = anatomy(as_header.item)  # the file's, whatever its plane is taken for
    header, patient = (t.window.render(pixels, t.item.plane).astype(int) for t in (as_header, as_patient))
    assert np.abs(header[:, ::-1] - patient).mean() < 1
    np.testing.assert_allclose(places(as_patient)[:, 0], as_header.window.size_px[0] - 1 - places(as_header)[:, 0])
