"""Measures by group: traps, missing series, sources, shifted chains; and the report that shows them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from localize.config import LocalizeConfig
from localize.decoding.decode import decode_study
from localize.decoding.prior import ChainPrior
from localize.evaluate import EvaluateRequest, evaluate_run, read_traps
from localize.localizer import Localizer
from localize.measures import (
    by_study_group,
    evaluate,
    missing_series_groups,
    numbering_measures,
    shifted_studies,
    study_errors,
    trap_groups,
)
from localize.verdict import by_study, verdict
from shared.data.challenge import Challenge
from shared.detections import Localization, Source, read_localizations, write_localizations
from shared.labels import Condition, Finding, Level, View
from shared.numbering import Numbering, read_numbering
from shared.runtime.errors import InputError
from tests.localize.spine_phantom import CANAL_MM, model_study, perfect_detections, triple, truth_of

STUDY = model_study()
TRUTH = truth_of(STUDY)
SURE = Numbering(
    as_named=1.0, one_higher=0.0, one_lower=0.0, disc_above=0.0, disc_below=0.0, missing=dict.fromkeys(Level, 0.0)
)


def moved_down(step: int) -> dict[Finding, Localization]:
    """Every point at the place of the level `step` lower."""
    moved = {}
    for finding, loc in TRUTH.items():
        target = min(max(finding.level + step, 0), len(Level) - 1)
        shift = CANAL_MM[Level(target)] - CANAL_MM[finding.level]
        point = triple(np.array(loc.point_mm) + shift)
        moved[finding] = replace(loc, point_mm=point, source=Source.DETECTED, score=0.8, raw_score=0.5)
    return moved


@pytest.mark.parametrize(("step", "sign"), [(1, -1), (-1, 1)])
def test_a_shifted_chain_is_told_from_lone_errors(step: int, sign: int) -> None:
    errors = study_errors(STUDY, TRUTH, moved_down(step))
    assert shifted_studies(errors) == {"100": sign}
    good = dict(TRUTH)
    for side_finding in [f for f in TRUTH if f.level is Level.L3_L4]:
        good[side_finding] = moved_down(step)[side_finding]
    assert shifted_studies(study_errors(STUDY, TRUTH, good)) == {}
    doubtful = replace(SURE, as_named=0.4, one_higher=0.6)
    measures = numbering_measures(errors, {"100": doubtful})
    assert (measures["uncertain"], measures["shifted"], measures["shifted_and_uncertain"]) == (1, 1, 1)
    assert measures["by_certainty"]["uncertain"] == {"studies": 1, "all_levels_right": 0}
    assert numbering_measures(errors, {"100": SURE})["shifted_and_uncertain"] == 0


def test_right_means_near_and_on_the_level() -> None:
    errors = study_errors(STUDY, TRUTH, moved_down(1))
    # L5/S1 has nowhere to go, so it stays right.
    assert {e.finding.level for e in errors if e.right} == {Level.L5_S1}
    measures = evaluate(errors)
    assert measures["by_source"]["detected"]["expected"] == 25
    assert measures["reliability"]["raw"]["bins"][0]["mean_score"] == pytest.approx(0.5)
    assert measures["reliability"]["calibrated"]["ece"] == pytest.approx(abs(0.8 - 5 / 25))
    assert np.array(measures["level_confusion_by_view"]["sagittal_t2"]).sum() == 5


def test_groups_of_studies() -> None:
    views = {"1": frozenset(View), "2": frozenset({View.SAGITTAL_T1}), "3": frozenset(View)}
    assert missing_series_groups(views) == {"none": {"1", "3"}, "sagittal_t2": {"2"}, "axial_t2": {"2"}}
    groups = trap_groups(["1", "2", "3"], {"flipped": {"2", "9"}, "absent": {"9"}})
    assert groups == {"none": {"1", "3"}, "flipped": {"2"}}
    errors = [replace(e, study_id="2") for e in study_errors(STUDY, TRUTH, TRUTH)]
    measured = by_study_group(errors, groups)
    assert (measured["flipped"]["studies"], measured["flipped"]["within_5_mm"]) == (1, 1.0)
    assert (measured["none"]["expected"], measured["none"]["within_5_mm"]) == (0, None)


def test_without_geometry_the_order_and_looks_of_axial_slices_remain(prior: ChainPrior) -> None:
    config = LocalizeConfig.load(None, ("axial.geometry=false",))
    errors = study_errors(
        STUDY, TRUTH, decode_study(STUDY, perfect_detections(STUDY), prior, config).localizations
    )  # fmt: skip
    axial = [e for e in errors if e.finding.condition is Condition.SUBARTICULAR]
    assert all(e.nearest_level is e.finding.level and abs(e.slices or 0) <= 1 for e in axial)


def test_localizations_with_and_without_the_raw_score(tmp_path: Path) -> None:
    path = tmp_path / "localizations.csv"
    write_localizations(path, {"100": moved_down(1)})
    assert {x.raw_score for x in read_localizations(path)["100"].values()} == {0.5}
    lines = [line.rpartition(",")[0] for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")
    assert {x.raw_score for x in read_localizations(path)["100"].values()} == {None}


def test_report_by_trap_and_with_numbering(run: Path, challenge: Challenge, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"traps": [{"study_id": "101", "trap": "flipped_axial", "detail": "x"}]}))
    request = EvaluateRequest(data=challenge.root, run=run, manifest=manifest, device="cpu")
    page = evaluate_run(request, tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(report["by_trap"]) == {"none", "flipped_axial"}
    assert report["by_trap"]["flipped_axial"]["studies"] == 1
    assert report["by_missing_series"]["none"]["studies"] == 2
    assert report["numbering"]["studies"] == len(read_numbering(run / "fold0" / "numbering.csv"))
    for heading in ("Planted traps", "Numbering", "Missing series", "Confidence"):
        assert heading in page.read_text()
    with pytest.raises(InputError, match="--truth"):
        EvaluateRequest(data=challenge.root, run=run, overrides=["slices.focused=false"])


@pytest.mark.parametrize("content", ["[]", '{"traps": [1]}', '{"traps": 3}', "{}"])
def test_a_file_that_is_no_manifest_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"manifest\.json"):
        read_traps(tmp_path / "manifest.json")


def test_overrides_of_prediction_may_not_touch_training(run: Path) -> None:
    assert not Localizer.load(run, overrides=["slices.focused=false"], device="cpu").config.slices.focused
    for bad in ("optim.lr=1", "sagittal_t1.mm_per_px=3", "slices"):
        with pytest.raises(InputError):
            Localizer.load(run, overrides=[bad], device="cpu")


def test_the_verdict_agrees_with_the_measures() -> None:
    right, shifted = study_errors(STUDY, TRUTH, TRUTH), study_errors(STUDY, TRUTH, moved_down(1))
    without_a_level = {f: point for f, point in TRUTH.items() if f.level is not Level.L1_L2}
    lost = [replace(e, study_id="102") for e in study_errors(STUDY, TRUTH, without_a_level)]
    errors = [*right, *(replace(e, study_id="101") for e in shifted), *lost]
    numbering = {"100": SURE, "101": replace(SURE, as_named=0.4, one_higher=0.6)}
    measures = {**evaluate(errors), "by_study": by_study(errors, numbering)}
    counts = measures["by_study"]
    assert (counts["studies"], counts["all_levels_right"]) == (3, 1)
    assert (counts["judged"], counts["sure"], counts["sure_and_right"]) == (2, 1, 1)
    lines, tone = verdict(measures)
    assert lines[0].startswith("All levels are right in 1 of 3 studies (33%")
    assert f"{measures['overall']['within_8_mm']:.1%} of 75 points" in lines[1]
    assert "5 were not found" in lines[1]
    assert "sure of its numbering in 1 study" in lines[2]
    assert tone == "poor"
    assert verdict({**evaluate([]), "by_study": by_study([], {})})[1] == "open"
