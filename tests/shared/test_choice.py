"""Which of several series is used for a view."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.dicom.choice import Candidate, choose
from shared.dicom.discover import FoundSeries, discover_studies
from shared.dicom.header import Moment
from shared.dicom.views import Verdict
from shared.labels import View
from shared.runtime.errors import InputError
from tests.dicom_files import AXIAL, write_dicom

BEST: dict[View, Candidate] = {
    view: Candidate(
        series_id=view.slug, view=view, verdict=Verdict(view=view, score=3.0, reasons=("it is",)),
        heights_mm=((-150.0, 150.0),) if view.is_sagittal else ((-80.0, 80.0),), width_mm=(-32.0, 32.0), pixel_mm=0.6,
        gap_mm=4.4, tilt_deg=3.0, fat_suppressed=False, moment=Moment(time_s=100.0), kind=view,
    )
    for view in View
}  # fmt: skip
T2, AX = BEST[View.SAGITTAL_T2], BEST[View.AXIAL_T2]


def used(*candidates: Candidate) -> set[str]:
    return {series_id for series_id, choice in choose(candidates).items() if choice.used}


@pytest.mark.parametrize(
    ("best", "changes", "reason"),
    [
        (T2, {"pixel_mm": 0.9}, "has finer pixels (0.60 against 0.90 mm)"),
        (T2, {"gap_mm": 7.0}, "has closer slices (4.4 mm against 7.0 mm)"),
        (T2, {"tilt_deg": 35.0}, "is less oblique (3 against 35 degrees)"),
        (T2, {"fat_suppressed": True}, "shows fat unsuppressed"),
        (T2, {"width_mm": (-10.0, 10.0)}, "covers more (64 x 300 mm against 20 x 300 mm)"),
        (T2, {"heights_mm": ((-60.0, 60.0),)}, "covers more (64 x 300 mm against 64 x 120 mm)"),
        (AX, {"heights_mm": ((-80.0, 0.0),)}, "covers more (160 mm against 80 mm)"),
        (T2, {"verdict": Verdict(view=T2.view, score=1.0, reasons=())}, "is surer or less doubtful"),
        (T2, {"moment": Moment(time_s=50.0)}, "is a later repeat"),
        (T2, {"moment": Moment(series_number=3)}, "which is as good"),  # one has a time, the other a number
    ],
)
def test_the_best_is_used_and_the_other_says_why_not(best: Candidate, changes: dict[str, Any], reason: str) -> None:
    other = replace(best, series_id="z", **changes)
    choices = choose([other, best])
    assert (choices[best.series_id].used, choices["z"].used) == (True, False)
    assert (choices[best.series_id].rank, choices["z"].rank) == (1, 2)
    assert choices["z"].reason.startswith(f"it shows no more than {best.series_id}, which ")
    assert choices["z"].reason.endswith(reason)
    assert choices[best.series_id].reason == "it is the best of 2"


@pytest.mark.parametrize(
    ("best", "changes", "reason"),
    [
        (AX, {"heights_mm": ((-80.0, 0.0),)}, "lacks 80 mm of its levels"),
        (AX, {"heights_mm": ((-80.0, -40.0), (30.0, 80.0))}, "lacks 70 mm of its levels"),
        (T2, {"heights_mm": ((-150.0, 40.0),)}, "lacks 110 mm of its height"),
        (T2, {"width_mm": (-32.0, 4.0)}, "lacks 28 mm of its width"),
    ],
)
def test_a_further_series_is_used_where_it_shows_more(best: Candidate, changes: dict[str, Any], reason: str) -> None:
    part = replace(best, **changes)
    coarse = replace(best, series_id="z", verdict=Verdict(view=best.view, score=0.5, reasons=()), pixel_mm=1.2)
    narrow = Verdict(view=best.view, score=6.0, reasons=())
    choices = choose([coarse, replace(part, verdict=narrow)])
    assert [choices[s].used for s in (best.series_id, "z")] == [True, True]
    assert choices["z"].reason == f"it is used beside {best.series_id}, which {reason}"


def test_axial_slices_beyond_the_sagittal_series_do_not_count() -> None:
    chest = replace(AX, series_id="a", heights_mm=((140.0, 400.0),), pixel_mm=0.3)
    assert used(T2, AX, chest) == {T2.series_id, AX.series_id}
    assert used(AX, chest) == {AX.series_id, "a"}  # nothing says where the lumbar spine is


def test_a_doubtful_series_is_used_only_where_there_is_no_other() -> None:
    doubtful = replace(
        T2, series_id="a", verdict=Verdict(view=T2.view, score=9.0, doubt=2.0, reasons=()), width_mm=(-60.0, 60.0)
    )
    assert used(T2, doubtful) == {T2.series_id}
    assert used(doubtful) == {"a"}


def test_an_aborted_repeat_does_not_replace_the_first() -> None:
    aborted = replace(T2, series_id="z", moment=Moment(time_s=900.0), width_mm=(-32.0, -5.0))
    assert used(T2, aborted) == {T2.series_id}


CANDIDATES = st.lists(
    st.builds(
        replace, st.sampled_from(list(BEST.values())),
        pixel_mm=st.floats(0.3, 1.2), gap_mm=st.none() | st.floats(1, 9), tilt_deg=st.floats(0, 40),
        fat_suppressed=st.booleans(), moment=st.builds(Moment, time_s=st.none() | st.floats(0, 86000)),
        width_mm=st.tuples(st.floats(-40, 0), st.floats(1, 40)),
        heights_mm=st.tuples(st.tuples(st.floats(-150, 0), st.floats(1, 150))), kind=st.integers(0, 2),
    ),
    min_size=1, max_size=5,
).map(lambda found: [replace(c, series_id=f"s{n}") for n, c in enumerate(found)])  # fmt: skip


@given(CANDIDATES, st.randoms(use_true_random=False))
def test_the_order_of_candidates_changes_nothing(found: list[Candidate], random: Any) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)
    assert choose(shuffled) == choose(found)


@given(CANDIDATES, st.integers(0, 4))
def test_a_worse_copy_of_any_series_changes_nothing(found: list[Candidate], which: int) -> None:
    worse = found[which % len(found)]
    verdict = replace(worse.verdict, score=worse.verdict.score - 1)
    decoy = replace(worse, series_id="0", kind="decoy", verdict=verdict)
    assert used(*found, decoy) == used(*found)


@given(CANDIDATES)
def test_every_view_with_a_candidate_has_a_series(found: list[Candidate]) -> None:
    choices = choose(found)
    assert {c.view for c in found if choices[c.series_id].used} == {c.view for c in found}
    for view in View:
        ranks = sorted(choices[c.series_id].rank for c in found if c.view is view)
        assert ranks == list(range(1, len(ranks) + 1))


def export(folder: Path, uid: str, slices: int = 8, start_mm: float = 0.0, **tags: Any) -> None:
    axis = 2 if tags.get("ImageOrientationPatient") == AXIAL else 0
    for i in range(slices):
        place = [start_mm + 4.0 * i if k == axis else 0.0 for k in range(3)]
        write_dicom(
            folder / f"{uid}-{i}", SeriesInstanceUID=uid, InstanceNumber=i + 1,
            **{"ImagePositionPatient": place} | tags,
        )  # fmt: skip


def series_of(folder: Path, **options: Any) -> dict[str, FoundSeries]:
    (found,) = discover_studies(folder, **options).studies
    return {series.series_id: series for series in found.series}


def test_measures_come_from_the_headers_and_names_do_not_matter(tmp_path: Path) -> None:
    axial: dict[str, Any] = {"SeriesDescription": "AX T2", "ImageOrientationPatient": AXIAL}
    export(tmp_path / "a", "1.1", EchoTime=100, AcquisitionTime="101500")
    export(tmp_path / "a", "1.2", EchoTime=100, AcquisitionTime="102000.25")
    export(tmp_path / "a", "1.3", SeriesDescription="SAG STIR", EchoTime=60, InversionTime=150)
    export(tmp_path / "a", "1.4", start_mm=-40, **axial)
    export(tmp_path / "a", "1.5", start_mm=40, **axial)
    export(tmp_path / "a", "1.6", start_mm=-40, PixelSpacing=[0.8, 0.8], **axial)
    found = series_of(tmp_path / "a")
    assert {series_id for series_id, series in found.items() if series.used} == {"1.2", "1.4", "1.5"}
    assert "a later repeat" in found["1.1"].reasons[-1]
    assert "fat unsuppressed" in found["1.3"].reasons[-1]
    assert "finer pixels" in found["1.6"].reasons[-1]
    for n, path in enumerate(sorted((tmp_path / "a").iterdir(), key=lambda p: p.name[::-1])):
        (tmp_path / "b" / str(n % 7)).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, tmp_path / "b" / str(n % 7) / f"{n}")
    assert series_of(tmp_path / "b") == found


def test_the_user_may_choose_even_what_was_excluded(tmp_path: Path) -> None:
    export(tmp_path, "1.1")
    export(tmp_path, "1.2", SeriesDescription="SAG PD")
    found = series_of(tmp_path, chosen={"1.2": View.SAGITTAL_T2})
    assert {series_id: series.used for series_id, series in found.items()} == {"1.1": False, "1.2": True}
    assert found["1.1"].reasons[-1] == "1.2 was chosen with --series"
    assert found["1.2"].reasons[-1] == "it was chosen with --series"


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"1.9": View.SAGITTAL_T1}, r"sagittal_t1=1.9: no such series; there are: 1.1 \(sagittal, 8 slices\)"),
        ({"1.1": View.AXIAL_T2}, r"axial_t2=1.1: this series is sagittal, but the view is axial; its study has: 1.1"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(tmp_path: Path, chosen: dict[str, View], message: str) -> None:
    export(tmp_path, "1.1")
    with pytest.raises(InputError, match=message):
        discover_studies(tmp_path, chosen)


def test_the_views_of_one_examination_go_together(tmp_path: Path) -> None:
    """Of two examinations under one study UID no answer is mixed, though each has a series that is better."""
    pixel_mm = {("a", "T1"): 0.5, ("a", "T2"): 0.6, ("b", "T1"): 0.6, ("b", "T2"): 0.5}
    for (exam, kind), size in pixel_mm.items():
        export(
            tmp_path / exam / kind, f"1.{exam == 'a':d}.{kind[1]}", SeriesDescription=f"SAG {kind}",
            FrameOfReferenceUID=f"1.9.{exam == 'a':d}", PixelSpacing=[size, size],
        )  # fmt: skip
    used = {series_id for series_id, found in series_of(tmp_path).items() if found.used}
    assert used in ({"1.0.1", "1.0.2"}, {"1.1.1", "1.1.2"})
    wanted = series_of(tmp_path, chosen={"1.0.2": View.SAGITTAL_T2})
    assert {series_id for series_id, found in wanted.items() if found.used} == {"1.0.1", "1.0.2"}


def test_a_series_outside_the_frame_of_the_others_is_named(tmp_path: Path) -> None:
    for n, kind in enumerate(("SAG T1", "SAG T2", "AX T2")):
        plane: dict[str, Any] = {"ImageOrientationPatient": AXIAL} if n == 2 else {}
        export(tmp_path / str(n), f"1.{n}", SeriesDescription=kind, FrameOfReferenceUID=f"1.9.{n // 2}", **plane)
    (found,) = discover_studies(tmp_path).studies
    assert [p for p in found.problems if "series 1.2 have another frame of reference" in p]


def test_a_choice_against_the_header_is_named(tmp_path: Path) -> None:
    export(tmp_path, "1.1", SeriesDescription="SAG T2", EchoTime=100)
    (found,) = discover_studies(tmp_path, chosen={"1.1": View.SAGITTAL_T1}).studies
    assert "chosen for Sagittal T1, although it is sagittal and T2" in found.problems[0]
