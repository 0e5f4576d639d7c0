"""The audit on hand-made data: one fault each, and nothing but that fault found."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines.audit import AuditOptions, audit, inspect, run, summary
from pipelines.audit import pixels as audit_pixels
from pipelines.audit.issues import Category, Code, Issue
from pipelines.audit.page import verdict
from pipelines.audit.pixels import Pixels
from pipelines.audit.points import place_points
from pipelines.cli import main
from shared.data.challenge import Point
from shared.geometry import Plane
from shared.labels import FINDINGS, View
from shared.mirror.correct import fit_study
from shared.mirror.fit import Fit, Pictures
from shared.runtime.errors import InputError
from shared.study import Series, Slice, Study
from tests.dicom_files import write_dicom
from tests.pipelines.audit_case import STUDY, TAGS, edit_points, edit_tags, folder_of, write_case
from tests.pipelines.audit_faults import (
    AX,
    CASES,
    T1,
    T2,
    cut_off,
    mirror_axial,
    one_series_less,
    other_study,
    renumber,
    set_points,
    swap_sides,
)

# All but those of the place, so that nothing is said of tags that are absent.
TAGS_OF_ALL: dict[str, Any] = {name: value for name, value in TAGS.items() if name != "PixelSpacing"}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_case(tmp_path_factory.mktemp("audit") / "data")


@pytest.fixture
def case(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "data"))


def codes(root: Path, **options: object) -> list[str]:
    return [i.code.slug for i in inspect(root, AuditOptions(**options)).issues]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CASES)
def test_one_fault_is_found_and_nothing_else(case: Path, name: str) -> None:
    spoil, expected = CASES[name]
    spoil(case)
    assert sorted(codes(case)) == sorted(expected)


def test_every_code_has_a_case() -> None:
    assert {slug for _, expected in CASES.values() for slug in expected} == {c.slug for c in Code}


def test_mirrored_pixels_are_seen_without_points(case: Path) -> None:
    edit_points(case, lambda t: t.iloc[:0])
    assert codes(case, pixels=Pixels.ALL) == ["study-without-points"]
    mirror_axial(case)
    for mode in (Pixels.SAMPLE, Pixels.ALL):
        assert codes(case, pixels=mode) == ["study-without-points", "pixels-mirrored"]
    assert codes(case, pixels=Pixels.NONE) == ["study-without-points"]


def test_tables_alone(case: Path) -> None:
    shutil.rmtree(case / "train_images")
    assert codes(case, images=False) == []
    set_points("Canal", "L1/L2", x=5, y=5)(case)
    swap_sides("Subarticular", "L5/S1")(case)
    set_points("Right Neural", "L2/L3", instance_number=6)(case)
    set_points("Left Neural", "L4/L5", y=5)(case)
    found = set(codes(case, images=False))
    assert found == {"point-in-corner", "sides-swapped", "foramina-on-one-slice", "level-order"}


@pytest.mark.parametrize("column", ["instance_number", "x"])
def test_points_of_which_none_can_be_used_are_named_one_by_one(case: Path, column: str) -> None:
    edit_points(case, lambda t: t.assign(**{column: "x"}))
    assert codes(case, images=False) == ["cell-invalid"] * len(FINDINGS) + ["study-without-points"]


def test_a_study_in_both_parts_and_an_odd_sample_submission(case: Path) -> None:
    shutil.copytree(case / "train_images", case / "test_images")
    shutil.copy(case / "train_series_descriptions.csv", case / "test_series_descriptions.csv")
    rows = [FINDINGS[0].row_id(STUDY), FINDINGS[0].row_id("300")]
    pd.DataFrame({"row_id": rows}).to_csv(case / "sample_submission.csv", index=False)
    assert sorted(codes(case)) == ["study-in-both-parts", "submission-rows", "submission-rows"]
    assert codes(case, part="train") == []


def test_a_plain_folder(tmp_path: Path) -> None:
    for n in range(6):
        write_dicom(tmp_path / "1" / str(n), ImagePositionPatient=[4 * n, 0, 0], InstanceNumber=1, **TAGS_OF_ALL)
    for n in range(2):
        write_dicom(tmp_path / "2" / str(n), SeriesInstanceUID="1.5", ImagePositionPatient=[4 * n, 0, 0])
    write_dicom(tmp_path / "2" / "IM7", NumberOfFrames=20)
    bare: dict[str, Any] = dict.fromkeys(("Rows", "Columns", "PixelData", "PixelSpacing", "ImagePositionPatient"))
    write_dicom(tmp_path / "DICOMDIR", sop_class="1.2.840.10008.1.3.10", **bare)
    write_dicom(tmp_path / "2" / "IM8", **bare)
    found = inspect(tmp_path, AuditOptions()).issues
    where = [(i.code.slug, i.series_id, i.file) for i in found if i.code is not Code.VIEW_MISSING]
    assert sorted(where) == [
        ("file-unreadable", "", "2/IM7"),
        ("no-image", "", "DICOMDIR"),
        ("no-plane", "", "2/IM8"),
        ("numbers-repeated", "1.2.3", ""),
        ("series-unused", "1.5", ""),
    ]
    assert len(found) == len(where) + 2
    assert not any(str(tmp_path) in i.reason for i in found)
    with pytest.raises(InputError, match="without images"):
        inspect(tmp_path, AuditOptions(images=False))


def test_a_folder_that_cannot_be_read_is_an_issue(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = {case / "train_images", case / "train_images" / STUDY, folder_of(case, T1)}
    listed = Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if path in closed:
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    found = inspect(case, AuditOptions()).issues
    files = {i.file for i in found if i.code is Code.FILE_UNREADABLE}
    assert files == {str(folder.relative_to(case)) for folder in closed}
    assert any("Permission denied" in i.reason for i in found)


def test_the_names_of_stray_files_stay_out_of_the_report(case: Path) -> None:
    for name in ("Doe^Jane.txt", "Doe^John.TXT", "scan.Doe"):
        (folder_of(case, T1) / name).write_text("x")
    (issue,) = inspect(case, AuditOptions()).issues
    assert (issue.reason, issue.file) == ("3 entries: 2 .txt, 1 of another name", "")


def test_the_output_is_checked_before_the_audit_begins(
    case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    monkeypatch.setattr(run, "inspect", lambda *_: pytest.fail("audited first"))
    with pytest.raises(InputError, match="not empty"):
        audit(case, tmp_path / "full")


def test_few_pictures_of_a_study_are_held(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = []

    def fit(study: Study, axial: Series, pictures: Callable[[Series], Pictures]) -> Fit:
        kept = [pictures(s) for s in (axial, *study.of_view(View.SAGITTAL_T2))]
        held.append((*map(len, kept), {p.dtype.name for some in kept for _, p in some}))
        return fit_study(study, axial, pictures)

    monkeypatch.setattr(audit_pixels, "fit_study", fit)
    assert codes(case, pixels=Pixels.ALL) == []
    assert held == [(12, 7, {"uint8"})]


@pytest.mark.usefixtures("undrawn")
def test_page_and_terminal_count_the_same_studies(case: Path, tmp_path: Path) -> None:
    other_study("train.csv")(case)  # graded, without a series
    result = audit(case, tmp_path / "out")
    assert result.studies == 2
    assert "2 studies: " in summary(result, tmp_path / "out")
    assert "2 studies: " in (tmp_path / "out" / "report.html").read_text()


def test_output_is_exactly_these_files_that_name_no_one(case: Path, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>$x^{"
    edit_tags(folder_of(case, T1), Manufacturer=hostile)
    set_points("Canal", "L1/L2", condition=hostile)(case)
    out = tmp_path / "out"
    assert main(["audit", str(case), str(out), "--workers", "1"]) == 0
    assert {p.name for p in out.iterdir()} == {
        ".lumbar", "report.html", "report.json", "findings.csv", "failures.csv", "state.json",
    }  # fmt: skip
    page = (out / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script" in page
    assert 'src="http' not in page
    assert 'href="' not in page.replace('href="#', "")
    for path in out.iterdir():
        text = re.sub(r"base64,[^\"]+", "", path.read_text())  # of figures, where any three letters occur
        assert "Doe" not in text, path.name
        assert str(tmp_path) not in text, path.name
    report = json.loads((out / "report.json").read_text())
    assert report["codes"]["cell-invalid"] == {"severity": "error", "findings": 1, "studies": 1}
    table = pd.read_csv(out / "findings.csv", dtype={"study_id": str})
    assert list(table["code"]) == ["cell-invalid", "grade-without-point"]
    assert table["study_id"].tolist() == [STUDY, STUDY]
    assert report["findings"] == {"error": 1, "warning": 1, "note": 0}


def test_the_same_result_whatever_the_workers(case: Path) -> None:
    cut_off(case)
    other_study("train_series_descriptions.csv")(case)
    alone, together = (inspect(case, AuditOptions(workers=n)) for n in (1, 2))
    assert alone == together


@pytest.mark.usefixtures("undrawn")
def test_strict_exits_1_after_writing(case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(case), str(tmp_path / "a"), "--strict", "--workers", "1"]) == 0
    cut_off(case)
    assert main(["audit", str(case), str(tmp_path / "b"), "--strict", "--workers", "1"]) == 1
    assert "1 error" in capsys.readouterr().err
    assert (tmp_path / "b" / "findings.csv").is_file()


def test_bad_calls(case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    store = tmp_path / "store"
    store.mkdir()
    (store / "store.json").write_text('{"format": 1, "checksum": ""}')
    images_only = tmp_path / "images"
    (images_only / "train_images").mkdir(parents=True)
    for arguments, message in [
        ([str(tmp_path / "nowhere"), str(tmp_path / "o")], "no such folder"),
        ([str(case), str(tmp_path / "full")], "not empty"),
        ([str(case), str(case / "o")], "inside the audited data"),
        ([str(case), str(tmp_path / "o"), "--part", "test"], "test_series_descriptions.csv"),
        ([str(store), str(tmp_path / "o")], "prepared store"),
        ([str(images_only), str(tmp_path / "o")], "series_descriptions.csv"),
    ]:
        assert main(["audit", *arguments]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_categories_are_sorted_errors_first(case: Path) -> None:
    cut_off(case)
    one_series_less(T2)(case)
    renumber(case, AX, lambda n: n + 5000)
    order = [i.code.category for i in inspect(case, AuditOptions()).issues]
    assert order == sorted(order, key=list(Category).index)
    assert set(order) == set(Category)


def test_sagittal_directions_are_counted(case: Path) -> None:
    renumber(case, T1, lambda n: 8 - n)
    order = inspect(case, AuditOptions()).facts["order"]
    assert order["sagittal_t1"] == {"along": 0, "against": 1, "neither": 0}
    assert order["sagittal_t2"] == {"along": 1, "against": 0, "neither": 0}


def test_points_are_shares_of_the_upright_image() -> None:
    """A sagittal slice that is stored upside down and back to front."""
    plane = Plane(origin_mm=(0, 0, 0), row_dir=(0, -1, 0), col_dir=(0, 0, 1), spacing_mm=(1, 2))
    item = Slice(path=Path("1.dcm"), instance_number=1, plane=plane, shape=(40, 30))
    series = Series(series_id="9", view=View.SAGITTAL_T2, slices=(item,))
    point = Point(study_id="1", series_id="9", instance_number=1, finding=FINDINGS[0], x_px=26.0, y_px=19.0)
    (placed,) = place_points(Study(study_id="1", series=(series,)), [point]).placed
    assert placed.relative == (3 / 30, 20 / 40)


def test_the_audits_verdict_counts_what_the_report_counts() -> None:
    wrong = Issue(code=Code.VIEW_WRONG, reason="r", study_id="7")
    odd = [Issue(code=Code.LOSSY, reason="r", study_id=s) for s in ("7", "8", "8")]
    note = Issue(code=Code.FEET_FIRST, reason="r", study_id="9")
    lines, tone = verdict([wrong, *odd, note], 9)
    assert lines[0].startswith("1 error in 1 of 9 studies: ")
    assert lines[1].startswith("3 warnings in 2 of 9 studies: ")
    assert lines[2].endswith(Code.VIEW_WRONG.advice)
    assert tone == "poor"
    assert verdict(odd, 9)[1] == "open"
    assert verdict([note], 9) == (["No errors in 9 studies: nothing is known to be wrong or unusable."], "good")
