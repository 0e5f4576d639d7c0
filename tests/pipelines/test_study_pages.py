"""The pages of a prediction: what they say, what they hold back, and how they behave in a browser."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.pages.index_page import StudyRow, index_page
from pipelines.pages.panels import Frame, Label, Panel, apart
from pipelines.pages.pictures import MOST_BYTES, MOST_SLICES, pictured
from pipelines.pages.readings import readings_of, worth_a_look
from pipelines.pages.scene import Scene
from pipelines.predict import predict_source
from pipelines.predict.answers import Here
from pipelines.result import StudyResult
from shared.data.source import open_source
from shared.detections import Localization, Source
from shared.dicom.pixels import kept_pixels, slice_pixels
from shared.labels import FINDINGS, Condition, Level, Severity, Side, View
from shared.orientation import Orientation
from shared.probabilities.reasons import PriorReason
from shared.probabilities.table import class_weighted
from shared.runtime.documents import read_json
from shared.runtime.errors import InputError
from shared.study import Series, Slice, Study
from tests.chromium import PROGRAM, Tab, opened_tab
from tests.pipelines.stand_ins import stand_ins, write_test_part
from tests.shared.test_upright_figures import TURNS, UPRIGHT, anatomy, scene

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;"


def result_of(study: Study, localizations: Any, values: Any = None, **rest: Any) -> StudyResult:
    """A result whose true probabilities are `values`, by default .2, .3 and .5 for every finding. # [25, 3]"""
    values = np.tile([0.2, 0.3, 0.5], (25, 1)) if values is None else np.asarray(values)
    given_rest: dict[str, Any] = {"reasons": {}, "detections": (), "problems": (), **rest}
    return StudyResult(study=study, submission=class_weighted(values), localizations=localizations, **given_rest)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices show the anatomy of their place instead of a file's pixels."""
    monkeypatch.setattr("pipelines.pages.pictures.slice_pixels", anatomy)


def test_nothing_from_data_becomes_markup(drawn: None) -> None:
    study, marks = scene(UPRIGHT)
    points = {x.finding: x for x in marks.localizations}
    series = tuple(Series(series_id=HOSTILE + s.series_id, view=s.view, slices=s.slices) for s in study.series)
    study = Study(study_id=HOSTILE, series=series)
    result = result_of(study, points, problems=(HOSTILE, f"study {HOSTILE} series {HOSTILE}0: {HOSTILE}"))
    for page in (result.page(), index_page([StudyRow.of(result, f"studies/{HOSTILE}.html")])):
        assert "alert" in page
        assert page.count("<script") == 1
        assert "<img" not in page
        policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
        assert policy is not None
        assert "unsafe" not in policy[1]
        assert policy[1].startswith("default-src &#39;none&#39;")


def test_the_worst_findings_come_first_and_the_priors_have_no_grade() -> None:
    values = np.tile([0.97, 0.02, 0.01], (25, 1))
    values[3], values[7], values[11] = (0.1, 0.7, 0.2), (0.1, 0.1, 0.8), (0.05, 0.05, 0.9)
    values[20], values[24] = (0.55, 0.4, 0.05), (0.0, 0.1, 0.9)
    found = {f: point_of(f, 0.4 if f.index == 15 else 0.9) for f in FINDINGS}
    result = result_of(Study(study_id="1", series=()), found, values, reasons={FINDINGS[24]: PriorReason.NO_SERIES})
    readings = readings_of(result)
    assert [r.finding.index for r in worth_a_look(readings)] == [11, 7, 3, 20, 15]
    assert readings[24].grade is None
    assert readings[20].doubts == ("Moderate is 40% likely",)
    assert readings[15].doubts == ("its point is only 40% sure",)
    row = StudyRow.of(result, "")
    assert (row.worst, dict(row.counts), row.doubtful, row.unread) == (
        Severity.SEVERE, {Severity.NORMAL_MILD: 21, Severity.MODERATE: 1, Severity.SEVERE: 2}, 2, 1
    )  # fmt: skip
    page = result.page()
    assert page.count('class="prior"') == 1
    assert 'title="Normal/Mild 0%, Moderate 10%, Severe 90%; training prior, because the study has no usable' in page


def test_a_study_that_failed_says_so_first() -> None:
    said = "study 1: the detector gave up near left_subarticular_stenosis_l4_l5"
    reasons = dict.fromkeys(FINDINGS, PriorReason.STAGE_FAILED)
    result = result_of(Study(study_id="1", series=()), {}, reasons=reasons, problems=(said,))
    row = StudyRow.of(result, "")
    assert row.failed
    assert row.worst is None
    assert row.notes[0] == "study 1: the detector gave up near L4/L5 left subarticular stenosis"
    assert "1 study failed, see failures.csv." in index_page([row])
    page = result.page()
    assert "Nothing could be done for this study" in page
    assert "Level by level" not in page
    assert page.count('href="#unseen"') == 25 + 2


def point_of(finding: Any, score: float) -> Localization:
    return Localization(
        study_id="1", finding=finding, series_id="1", instance_number=1, x_px=1, y_px=1, point_mm=(0, 0, 0),
        source=Source.DETECTED, score=score,
    )  # fmt: skip


@settings(max_examples=25)
@given(turns=st.tuples(*[st.sampled_from(TURNS)] * len(View)))
def test_panels_are_the_same_however_files_store_the_slices(turns: tuple[Orientation, ...]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.pages.pictures.slice_pixels", anatomy)
        panels: list[list[Panel | None]] = []
        for of_views in (dict(zip(View, turns, strict=True)), UPRIGHT):
            study, marks = scene(of_views)
            result = result_of(study, {x.finding: x for x in marks.localizations})
            shown = Scene.of(result, readings_of(result))
            panels.append([*(p for level in Level for p in shown.of_level(level)), shown.spine()])
    for turned, upright in zip(*panels, strict=True):
        assert turned.picture.edges == upright.picture.edges
        assert [(x.lines, x.margin) for x in turned.labels] == [(x.lines, x.margin) for x in upright.labels]
        for one, other in zip(turned.labels, upright.labels, strict=True):
            assert one.target == pytest.approx(other.target)


def test_the_patients_right_is_on_the_left(drawn: None) -> None:
    study, marks = scene(UPRIGHT)
    result = result_of(study, {x.finding: x for x in marks.localizations})
    shown = Scene.of(result, readings_of(result))
    axial = [p for p in shown.of_level(Level.L4_L5) if p.readings[0].finding.condition is Condition.SUBARTICULAR]
    assert axial[0].picture.edges == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    by_side = {r.finding.side: x.margin for r, x in zip(axial[0].readings, axial[0].labels, strict=False)}
    assert set(by_side.values()) == {"left", "right"}
    page = result.page()
    columns = re.findall(r'data-finding="([a-z]+)_subarticular_stenosis_l4_l5"', page)
    assert columns == [Side.RIGHT.value, Side.LEFT.value]


@given(st.lists(st.tuples(st.floats(0, 300), st.integers(1, 3)), max_size=6))
def test_labels_do_not_overlap_and_stay_on_the_panel(places: list[tuple[float, int]]) -> None:
    frame = Frame(width=400, height=300, right=100)
    labels = [Label(lines=("x",) * n, tone="", margin="right", y=y) for y, n in places]
    moved = sorted(apart(labels, frame), key=lambda label: label.y)
    spans = [(x.y - 7.5 * len(x.lines), x.y + 7.5 * len(x.lines)) for x in moved]
    assert all(above[1] <= below[0] + 1e-6 for above, below in itertools.pairwise(spans))
    assert all(span[0] >= -1e-6 and span[1] <= 300 + 1e-6 for span in spans)


def test_noise_and_many_slices_keep_within_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (320, 320)).astype(np.uint8)
    monkeypatch.setattr("pipelines.pages.pictures.slice_pixels", lambda item: noise)
    one = scene(UPRIGHT)[0].series[0]
    slices = tuple(
        Slice(path=Path("x"), instance_number=k, plane=one.slices[0].plane, shape=noise.shape) for k in range(900)
    )
    study = Study(study_id="1", series=(Series(series_id="9", view=View.SAGITTAL_T1, slices=slices),))
    (shown,) = pictured(study, {("9", 8)})
    assert len(shown.pictures) <= MOST_SLICES + 1
    assert shown.whole == 900
    assert shown.by_instance(8) is not None
    assert sum(len(p.jpeg) for p in shown.pictures) <= MOST_BYTES
    page = result_of(study, {}, reasons=dict.fromkeys(FINDINGS, PriorReason.LEVEL_NOT_SEEN)).page()
    assert len(page.encode()) < 3_000_000
    assert f"{len(shown.pictures) - 1} of 900 slices" in page


def test_a_slice_that_cannot_be_read_is_named_on_its_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    study, marks = scene(UPRIGHT)

    def read(item: Slice) -> np.ndarray:
        if item.instance_number == 3:
            raise InputError("damaged")
        return anatomy(item)

    monkeypatch.setattr("pipelines.pages.pictures.slice_pixels", read)
    page = result_of(study, {x.finding: x for x in marks.localizations}).page()
    assert page.count("this slice cannot be read") >= 3
    assert page.count("<image ") == 6


def test_within_the_block_each_slice_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    item = open_source(write_test_part(tmp_path)).load("5").study.series[0].slices[0]
    read = []
    monkeypatch.setattr(
        "shared.dicom.pixels.read_pixels", lambda *key: read.append(key) or np.zeros((4, 5), np.uint8)
    )  # fmt: skip
    with kept_pixels():
        slice_pixels(item)[:] = 7
        assert not slice_pixels(item).any()
    assert len(read) == 1
    slice_pixels(item)
    assert len(read) == 2


def test_pages_follow_the_results_that_are_kept(tmp_path: Path) -> None:
    source, out = open_source(write_test_part(tmp_path)), tmp_path / "out"
    predict_source(source, Here(stand_ins), out)
    page, other = out / "studies" / "5.html", out / "studies" / "7.html"
    whole = page.read_bytes()
    page.write_text("of an older result")
    other.write_text("kept")
    (tmp_path / "test_images" / "5" / "51" / "1.dcm").touch()  # so the study is predicted anew
    predict_source(source, Here(stand_ins), out)
    assert page.read_bytes() == whole
    assert other.read_text() == "kept"
    predict_source(source, Here(stand_ins), tmp_path / "bare", pages=False)
    assert not list((tmp_path / "bare").rglob("*.html"))


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    if PROGRAM is None:
        pytest.skip("Chromium is not installed")
    with opened_tab(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


CELLS = """[...document.querySelectorAll("table.grades tbody td")].map((cell) => ({
  finding: cell.dataset.finding, probabilities: cell.dataset.probabilities.split(" ").map(Number),
  text: cell.innerText, level: cell.parentElement.querySelector("th[scope=row]").innerText }))"""
SHOWN = """(() => { const viewer = document.querySelector(".viewer"); return {
  visible: [...viewer.querySelectorAll(".slice")].filter((g) => getComputedStyle(g).display !== "none").length,
  place: Number(viewer.querySelector("input").value), said: viewer.querySelector("output").textContent,
  aria: viewer.querySelector("input").getAttribute("aria-valuetext"), slices: viewer.querySelectorAll(".slice").length,
}; })()"""


def test_the_browser_shows_the_grades_of_the_json(tiny_demo: Path, tab: Tab) -> None:
    for path in sorted((tiny_demo / "prediction" / "studies").glob("*.json")):
        tab.open(path.with_suffix(".html"))
        cells = tab.run(CELLS)
        findings = {finding["finding"]: finding for finding in read_json(path)["findings"]}
        assert len(cells) == 25
        assert {cell["finding"] for cell in cells} == findings.keys()
        for cell in cells:
            finding = findings[cell["finding"]]
            true = [finding["probabilities"][s.column] for s in Severity]
            np.testing.assert_allclose(cell["probabilities"], true, atol=1e-9)
            assert cell["finding"].endswith(cell["level"].replace("/", "_").lower())
            words = cell["text"].replace("\n", " ")
            if finding["source"] == "prior":
                assert finding["reason"].replace("_", " ") in words
            else:
                assert Severity(int(np.argmax(true))).display in words
        assert tab.complaints() == []
        loaded = tab.run("performance.getEntriesByType('resource').map((entry) => entry.name)")
        assert [name for name in loaded if not name.startswith("data:")] == []
        assert path.with_suffix(".html").stat().st_size < 3_000_000


def test_keys_and_the_wheel_scroll_the_slices(tiny_demo: Path, tab: Tab) -> None:
    tab.open(sorted((tiny_demo / "prediction" / "studies").glob("*.html"))[0])
    tab.run("document.querySelector('.viewer input').focus()")
    tab.press("Home")
    first = tab.run(SHOWN)
    assert (first["visible"], first["place"]) == (1, 1)
    tab.press("ArrowDown", "ArrowRight", "ArrowDown", "ArrowUp")
    third = tab.run(SHOWN)
    assert (third["visible"], third["place"]) == (1, 3)
    assert third["said"].startswith(f"3 of {third['slices']}: ")
    assert third["said"] == third["aria"] != first["said"]
    tab.press("End", "ArrowDown")
    assert tab.run(SHOWN)["place"] == third["slices"]
    tab.run("document.querySelector('.viewer').scrollIntoView()")
    x, y = tab.run("(({x, y, width, height}) => [x + width / 2, y + height / 2])"
                   "(document.querySelector('.viewer svg').getBoundingClientRect())")  # fmt: skip
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    tab.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=-120)
    assert tab.run(SHOWN)["place"] == third["slices"] - 1
    for link in ("[...document.querySelectorAll('a.jump')].at(0)", "[...document.querySelectorAll('a.jump')].at(-1)"):
        tab.run(f"{link}.click()")
        jumped = tab.run("document.activeElement.closest('.viewer').querySelector('.slice.shown').dataset.key")
        assert jumped == tab.run(f"{link}.dataset.slice")


def test_the_index_sorts_and_filters(tab: Tab, tmp_path: Path) -> None:
    rows = []
    for k, grade in enumerate((0, 2, 1, 2)):
        values = np.tile([0.9, 0.05, 0.05], (25, 1))
        values[k] = np.roll([0.8 + k / 50, 0.1 - k / 50, 0.1], grade)
        reasons = dict.fromkeys(FINDINGS[20 + k :], PriorReason.NO_SERIES)
        found = {f: point_of(f, 0.9) for f in FINDINGS}
        result = result_of(Study(study_id=f"{k}", series=()), found, values, reasons=reasons)
        rows.append(StudyRow.of(result, f"{k}.html"))
    (tmp_path / "index.html").write_text(index_page(rows))
    tab.open(tmp_path / "index.html", width=420)
    ids = "[...document.querySelectorAll('tbody tr')].filter((r) => !r.hidden).map((r) => r.dataset.id).join('')"
    assert tab.run(ids) == "3120"
    sort = "document.querySelector('button[data-sort={}]').focus()"
    tab.run(sort.format("unread"))
    tab.press("Enter")
    assert tab.run(ids) == "0123"
    tab.press("Enter")
    assert tab.run(ids) == "3210"
    assert tab.run("document.querySelectorAll('th[aria-sort=ascending]').length") == 1
    tab.run("document.querySelector('input[type=search]').focus()")
    tab.call("Input.insertText", text="severe l2/l3")
    assert tab.run(ids) == "1"
    assert tab.run("document.querySelector('form output').textContent") == "1 of 4"
    assert tab.complaints() == []


@pytest.mark.parametrize("width", [420, 1280])
def test_pages_are_no_wider_than_the_screen(tiny_demo: Path, tab: Tab, width: int) -> None:
    prediction = tiny_demo / "prediction"
    for page in (prediction / "index.html", sorted((prediction / "studies").glob("*.html"))[0]):
        tab.open(page, width=width, dark=width == 420)
        assert tab.run("document.documentElement.scrollWidth") <= width
