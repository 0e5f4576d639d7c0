"""Contact sheets: what is on them, where, in which colour; and what a wrong call is told."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from pipelines.cli import main
from shared.data.challenge import Challenge, Point
from shared.detections import (
    Detection,
    Localization,
    Source,
    write_detections,
    write_localizations,
)
from shared.dicom.discover import discover_studies
from shared.figures.marks import SEVERITY_COLORS, Marks
from shared.figures.sheet import Sheet
from shared.figures.study_sheet import LEVEL_FIELD_MM, level_sheet, overview_sheet
from shared.figures.tiles import Window, image_left
from shared.geometry import Plane
from shared.labels import Condition, Finding, Level, Severity, Side, View
from shared.probabilities.files import write_probabilities
from shared.probabilities.table import ProbabilityTable, class_weighted
from shared.runtime.errors import InputError
from shared.runtime.names import masked
from shared.study import Series, Slice, Study
from tests.dicom_files import AXIAL, write_dicom

L4_L5 = Finding(condition=Condition.CANAL, side=None, level=Level.L4_L5)


@pytest.fixture(scope="module")
def data(few_studies: Path) -> Path:
    return few_studies / "data"


@pytest.fixture(scope="module")
def train(data: Path) -> Challenge:
    return Challenge.open(data, "train")


def marks_of(challenge: Challenge, study_id: str) -> Marks:
    return Marks(points=challenge.points[study_id], grades=challenge.grades_of([study_id])[0])


def sagittal(x_mm: list[float], numbers: list[int], *, row_dir: tuple[float, float, float] = (0, 1, 0)) -> Study:
    """Sagittal slices at the given patient x, listed right to left."""
    slices = tuple(
        Slice(
            path=Path(f"{n}.dcm"), instance_number=n, shape=(40, 30),
            plane=Plane(origin_mm=(x, 0, 0), row_dir=row_dir, col_dir=(0, 0, -1), spacing_mm=(2.0, 1.0)),
        )
        for x, n in zip(x_mm, numbers, strict=True)
    )  # fmt: skip
    return Study(study_id="1", series=(Series(series_id="9", view=View.SAGITTAL_T2, slices=slices),))


def canal_point(number: int) -> Point:
    return Point(study_id="1", series_id="9", instance_number=number, finding=L4_L5, x_px=15.0, y_px=20.0)


@pytest.mark.parametrize("numbers", [[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]])
def test_sides_follow_the_patient_whatever_the_instance_order(numbers: list[int]) -> None:
    sheet = overview_sheet(sagittal([-10, -5, 0, 5, 10], numbers), Marks())
    (section,) = sheet.sections
    assert [t.side for t in section.tiles] == ["R", "R", "M", "L", "L"]
    assert [t.title for t in section.tiles] == [str(n) for n in numbers]
    assert section.tiles[0].note == "x \N{MINUS SIGN}10.0 mm"


def test_the_midline_is_where_the_canal_is_marked() -> None:
    study = sagittal([-10, -5, 0, 5, 10], [1, 2, 3, 4, 5])
    (section,) = overview_sheet(study, Marks(points=(canal_point(4),))).sections
    assert [t.side for t in section.tiles] == ["R", "R", "R", "M", "L"]


def test_the_edge_letter_says_which_way_round_a_picture_is() -> None:
    for row_dir in ((0, 1, 0), (0, -1, 0)):
        (section,) = overview_sheet(sagittal([0, 5], [1, 2], row_dir=row_dir), Marks()).sections
        assert {t.edge for t in section.tiles} == {"A"}  # upright, however it is stored
    axial = Plane(origin_mm=(0, 0, 0), row_dir=(1, 0, 0), col_dir=(0, 1, 0), spacing_mm=(1, 1))
    coronal = replace(axial, col_dir=(0, 0, -1))
    assert [image_left(p) for p in (axial, replace(axial, row_dir=(-1, 0, 0)), coronal)] == ["R"] * 3


def test_every_slice_once_in_anatomical_order(train: Challenge) -> None:
    study = train.load_study(train.study_ids[0]).study
    sheet = overview_sheet(study, marks_of(train, study.study_id))
    assert len(sheet.sections) == 3
    assert sum(len(s.tiles) for s in sheet.sections) == sum(len(s.slices) for s in study.series)
    for section in sheet.sections:
        series = next(s for s in study.series if s.series_id in section.title)
        assert [t.item for t in section.tiles] == list(series.slices)
        rows, columns = series.slices[0].shape
        for part in (series.view.value, f"{rows} x {columns} pixels", f"gap {series.gap_mm:.1f}"):
            assert part in section.title + section.detail


def overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@pytest.mark.parametrize("count", [1, 2, 21, 22, 192])
def test_tiles_never_overlap_or_leave_the_page(count: int) -> None:
    sheet = overview_sheet(sagittal([float(i) for i in range(count)], list(range(1, count + 1))), Marks())
    width, height = sheet.sections[0].size_px
    boxes = [(x, y, x + width, y + height) for x, y in sheet.corners().values()]
    assert len(boxes) == count
    assert all(min(b) >= 0 and b[2] <= sheet.width_px and b[3] <= sheet.height_px for b in boxes)
    assert not any(overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_tiles_have_the_patients_proportions_and_one_scale_for_all_shapes() -> None:
    study = sagittal([0, 5], [1, 2])
    small, large = study.series[0].slices
    large = replace(large, shape=(80, 60))
    series = replace(study.series[0], slices=(small, large))
    (section,) = overview_sheet(Study(study_id="1", series=(series,)), Marks()).sections
    assert len({(t.window.size_px, t.window.px_per_mm) for t in section.tiles}) == 1
    width, height = section.size_px
    assert height / width == pytest.approx(160 / 60, abs=0.02)  # 80 rows of 2 mm, 60 columns of 1 mm
    corner = section.tiles[0].window.to_tile(small.plane, np.array([[-0.5, -0.5], [29.5, 39.5]]))
    np.testing.assert_allclose(corner[1] - corner[0], [width / 2, height / 2], atol=1)


def test_a_window_draws_a_pixel_where_it_says() -> None:
    plane = Plane(origin_mm=(0, 0, 0), row_dir=(0, 1, 0), col_dir=(0, 0, -1), spacing_mm=(0.5, 1.0))
    pixels = np.zeros((50, 40), np.uint8)
    pixels[30, 10] = 255
    for scale in (0.7, 6.0):
        window = Window(center_px=(12.0, 28.0), size_px=(61, 47), px_per_mm=scale)
        drawn = window.render(pixels, plane)
        assert drawn.shape == (47, 61)
        y, x = np.unravel_index(int(np.argmax(drawn)), drawn.shape)
        np.testing.assert_allclose([x, y], window.to_tile(plane, np.array([10, 30])), atol=0.51 if scale < 1 else 3)


def near_color(image: np.ndarray, x: float, y: float, color: str, radius: int = 9) -> bool:
    """Whether a pixel around (x, y) has the colour. image: # [h, w, 3] RGB"""
    part = image[int(y) - radius : int(y) + radius + 1, int(x) - radius : int(x) + radius + 1].astype(int)
    return bool((np.abs(part - np.round(np.array(to_rgb(color)) * 255)).max(axis=-1) < 30).any())


def read_png(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def on_page(sheet: Sheet, series_id: str, number: int, point_px: tuple[float, float]) -> tuple[float, float]:
    for (k, i), corner in sheet.corners().items():
        tile = sheet.sections[k].tiles[i]
        if series_id in sheet.sections[k].title and tile.item.instance_number == number:
            x, y = tile.window.to_tile(tile.item.plane, np.array(point_px)) + np.asarray(corner)
            return float(x), float(y)
    raise AssertionError(f"no tile of slice {number}")


def test_points_have_the_colour_of_their_grade(data: Path, train: Challenge, tmp_path: Path) -> None:
    study_id = train.study_ids[0]
    out = tmp_path / "sheet.png"
    assert main(["show", str(data), study_id, str(out)]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"sheet.png"}
    image = read_png(out)
    marks = marks_of(train, study_id)
    sheet = overview_sheet(train.load_study(study_id).study, marks)
    assert image.shape[:2] == (sheet.height_px, sheet.width_px)
    assert len(marks.points) > 15
    for point in marks.points:
        x, y = on_page(sheet, point.series_id, point.instance_number, (point.x_px, point.y_px))
        grade = marks.grade(point.finding)
        assert grade is not None
        assert near_color(image, x, y, SEVERITY_COLORS[grade]), point


def test_predictions_are_drawn(data: Path, train: Challenge, tmp_path: Path) -> None:
    study_id = train.study_ids[0]
    study = train.load_study(study_id).study
    point = next(p for p in train.points[study_id] if p.finding.view is View.SAGITTAL_T2)
    found = Localization(
        study_id=study_id, finding=point.finding, series_id=point.series_id, instance_number=point.instance_number,
        x_px=point.x_px - 30, y_px=point.y_px, point_mm=(0, 0, 0), source=Source.DETECTED, score=0.9,
    )  # fmt: skip
    boxes = [
        Detection(
            study_id=study_id, series_id=point.series_id, instance_number=point.instance_number,
            view=View.SAGITTAL_T2, level=point.finding.level, box_xyxy_px=(20, 20, 60 + 10 * k, 60), score=score,
        )
        for k, score in enumerate((0.9, 0.4, 0.1))
    ]  # fmt: skip
    values = np.full((1, 25, 3), 1 / 3)
    values[0, point.finding.index] = class_weighted(np.array([0.01, 0.01, 0.98]))
    table = ProbabilityTable(study_ids=(study_id,), submission=values, from_model=np.ones((1, 25), bool))
    folder = tmp_path / "prediction"
    write_localizations(folder / "localizations.csv", {study_id: {point.finding: found}})
    write_detections(folder / "detections.csv", boxes)
    write_probabilities(folder / "probabilities.csv", table)
    out = tmp_path / "sheet.png"
    arguments = ["show", str(data), study_id, str(out), "--series", point.series_id]
    assert main([*arguments, "--prediction", str(folder)]) == 0
    marks = replace(
        marks_of(train, study_id), localizations=(found,), detections=tuple(boxes),
        probabilities=table.probabilities[0],
    )  # fmt: skip
    sheet = overview_sheet(study, marks, point.series_id)
    x, y = on_page(sheet, point.series_id, point.instance_number, (found.x_px, found.y_px))
    assert near_color(read_png(out), x, y, SEVERITY_COLORS[Severity.SEVERE])
    (section,) = sheet.sections
    tile = next(t for t in section.tiles if t.item.instance_number == point.instance_number)
    assert [b.label for b in tile.boxes] == [f"{point.finding.level.display} 0.90"]  # the best of the level
    assert [p.label for p in tile.points if p.predicted] == ["0.98"]  # its name stands at the annotated point
    csv = ["--localizations", str(folder / "localizations.csv")]
    level = ["--level", point.finding.level.display]
    assert main([*arguments, *csv, *level, "--overwrite"]) == 0
    first = out.read_bytes()
    assert main([*arguments, *csv, *level, "--overwrite"]) == 0
    assert out.read_bytes() == first


def test_a_series_alone_is_larger(train: Challenge) -> None:
    study = train.load_study(train.study_ids[0]).study
    whole = overview_sheet(study, Marks())
    for series in study.series:
        (section,) = overview_sheet(study, Marks(), series.series_id).sections
        small = next(s for s in whole.sections if series.series_id in s.title)
        assert section.size_px[0] > 1.4 * small.size_px[0]


def test_a_level_shows_its_slices_around_its_points(train: Challenge) -> None:
    study_id = train.study_ids[0]
    study, marks = train.load_study(study_id).study, marks_of(train, study_id)
    sheet = level_sheet(study, marks, Level.L4_L5)
    wanted = [p for p in marks.points if p.finding.level is Level.L4_L5]
    drawn = [p.label for s in sheet.sections for t in s.tiles for p in t.points]
    assert len(drawn) == len(wanted)
    assert all(label.startswith("L4/L5") for label in drawn)
    for point in wanted:
        x, y = on_page(sheet, point.series_id, point.instance_number, (point.x_px, point.y_px))
        assert 0 < x < sheet.width_px
        assert 0 < y < sheet.height_px
    for section in sheet.sections:
        assert section.tiles[0].window.px_per_mm == pytest.approx(section.size_px[0] / LEVEL_FIELD_MM)
        assert len(section.tiles) <= 9


def test_a_level_without_points_is_refused() -> None:
    study = sagittal([0, 5], [1, 2])
    with pytest.raises(InputError, match="--localizations"):
        level_sheet(study, Marks(points=(canal_point(1),)), Level.L1_L2)


def test_points_of_any_kind_are_shown_or_counted() -> None:
    study = sagittal([0, 5], [1, 2])
    recess = Finding(condition=Condition.SUBARTICULAR, side=Side.LEFT, level=Level.L1_L2)
    foreign = replace(canal_point(1), finding=recess)
    lost = replace(canal_point(1), instance_number=77)
    sheet = overview_sheet(study, Marks(points=(canal_point(1), foreign, lost)))
    labels = [p.label for t in sheet.sections[0].tiles for p in t.points]
    assert labels == ["L4/L5", "L1/L2 L subarticular"]
    assert "1 lie on no slice" in sheet.subtitle
    assert any(entry.label == "annotated, no grade" for entry in sheet.legend)


def dicom_folder(folder: Path) -> Path:
    for k in range(6):
        write_dicom(
            folder / f"a{k}.dcm", np.full((40, 40), 10 * k, np.uint16) + np.eye(40, dtype=np.uint16) * 100,
            InstanceNumber=k + 1, SeriesDescription="AX T2", ImageOrientationPatient=AXIAL,
            ImagePositionPatient=[0, 0, 5.0 * k],
        )  # fmt: skip
    return folder


def test_any_folder_of_dicom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = dicom_folder(tmp_path / "scan"), tmp_path / "sheet.png"
    (loaded,) = discover_studies(folder).studies
    assert main(["show", str(folder), loaded.study.study_id, str(out)]) == 0
    assert "6 slices of 1 series" in capsys.readouterr().out
    (section,) = overview_sheet(loaded.study, Marks()).sections
    assert [t.title for t in section.tiles] == ["6", "5", "4", "3", "2", "1"]  # head to foot
    assert {(t.side, t.edge) for t in section.tiles} == {("", "R")}


def test_unreadable_pixels_are_a_tile_and_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = dicom_folder(tmp_path / "scan"), tmp_path / "sheet.png"
    (loaded,) = discover_studies(folder).studies
    damaged = folder / "a2.dcm"
    damaged.write_bytes(damaged.read_bytes()[:-1500])
    assert main(["show", str(folder), loaded.study.study_id, str(out)]) == 0
    captured = capsys.readouterr()
    assert "6 slices of 1 series, 1 unreadable" in captured.out
    assert masked("a2.dcm") in captured.err
    sheet, image = overview_sheet(loaded.study, Marks()), read_png(out)
    width, height = sheet.sections[0].size_px
    bright = [int(image[y : y + height, x : x + width].max(axis=-1).std()) for x, y in sheet.corners().values()]
    assert min(bright) == bright[3]  # the fourth from the head is flat but for its text


def test_wrong_calls_are_told_what_to_do(few_studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, there, folder = few_studies / "data", tmp_path / "there.png", tmp_path / "folder.png"
    there.write_bytes(b"kept")
    folder.mkdir()
    study = Challenge.open(data).study_ids[0]
    test_study = Challenge.open(data, "test").study_ids[0]
    out = str(tmp_path / "new.png")
    cases = [
        (["nobody", out], ["no study 'nobody'", study, test_study]),
        ([out], ["STUDY_ID is missing", study]),
        ([], ["STUDY_ID is missing", study]),
        ([study], ["OUT.png is missing"]),
        ([study, str(tmp_path / "new.jpg")], [".png"]),
        ([study, str(there)], ["exists already", "--overwrite"]),
        ([study, str(folder), "--overwrite"], ["is a folder"]),
        ([study, out, "--series", "12"], ["no readable series 12", "Axial T2"]),
        ([study, out, "--series", "12", "--level", "L4/L5"], ["no readable series 12"]),
        ([study, out, "--level", "L6"], ["unknown level", "L5/S1"]),
        ([test_study, out, "--level", "L4/L5"], ["no annotated point", "--prediction"]),
        ([test_study, out, "--part", "train"], ["no study", study]),
        ([study, out, "--prediction", str(folder)], ["localizations.csv"]),
        ([study, out, "--truth", str(few_studies / "truth")], ["other data"]),
    ]  # fmt: skip
    for arguments, expected in cases:
        assert main(["show", str(data), *arguments]) == 1, arguments
        *begun, error = capsys.readouterr().err.strip().splitlines()
        assert error.startswith("error: "), error
        assert len(begun) <= 1
        assert all(text in error for text in expected), (arguments, error)
    assert not Path(out).exists()
    assert there.read_bytes() == b"kept"
    assert main(["show", str(tmp_path / "nowhere"), study, out]) == 1


def test_test_studies_are_found_and_take_the_truth(few_studies: Path, tmp_path: Path) -> None:
    (study,) = Challenge.open(few_studies / "data", "test").study_ids
    out = tmp_path / "level.png"
    arguments = [str(few_studies / "data"), study, str(out), "--level", "l4_l5", "--truth", str(few_studies / "truth")]
    assert main(["show", *arguments]) == 0
    assert out.stat().st_size > 10_000


def test_a_failing_write_leaves_the_old_picture(data: Path, train: Challenge, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    out.write_bytes(b"old")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pathlib.Path.write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        assert main(["show", str(data), train.study_ids[0], str(out), "--overwrite"]) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]
    assert out.read_bytes() == b"old"


def test_levels_are_read_in_any_spelling() -> None:
    assert {Level.from_text(t) for t in ("L4/L5", "l4_l5", "L4-L5", " l4/l5 ")} == {Level.L4_L5}
    assert [Level.from_text(level.display) for level in Level] == list(Level)


def test_a_demo_prediction_is_drawn(tiny_demo: Path, tmp_path: Path) -> None:
    study = sorted(p.name for p in (tiny_demo / "data" / "test_images").iterdir())[0]
    out = tmp_path / "sheet.png"
    arguments = ["--prediction", str(tiny_demo / "prediction"), "--level", "L4/L5", "--truth", str(tiny_demo / "truth")]
    assert main(["show", str(tiny_demo / "data"), study, str(out), *arguments]) == 0
    assert out.stat().st_size > 10_000
