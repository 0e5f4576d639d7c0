"""Why rows come from the training prior: each reason, and how it is told."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.cli import main
from pipelines.predict import to_table
from pipelines.result import StudyResult
from shared.data.source import open_source
from shared.detections import Localization, Source
from shared.labels import FINDINGS, Condition, Finding, Level, View, findings_of
from shared.probabilities.files import read_probabilities, write_probabilities
from shared.probabilities.reasons import PriorReason
from shared.probabilities.table import ProbabilityTable
from shared.runtime.errors import InputError
from shared.runtime.problems import Failure
from shared.study import Series, Study
from tests.dicom_files import write_dicom
from tests.pipelines.stand_ins import PRIOR, ConstantClassifier, Located, grader_of

AXIAL = [1, 0, 0, 0, 1, 0]
PLANES = {View.SAGITTAL_T1: None, View.SAGITTAL_T2: None, View.AXIAL_T2: AXIAL}
BACKWARDS = {View.SAGITTAL_T1: AXIAL, View.SAGITTAL_T2: AXIAL, View.AXIAL_T2: None}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Mapping[tuple[str, View], Series]:
    """Of each view a sound series, one with a damaged first slice, one of damaged slices, and one of another plane."""
    root, rows = tmp_path_factory.mktemp("shelf"), []
    for number, (kind, view) in enumerate(product(("sound", "first", "damaged", "turned"), View)):
        rows.append((kind, f"{number}", view.value))
        for k in range(3):
            place = [0, 0, -k] if view is View.AXIAL_T2 else [k, 0, 0]
            direction = (BACKWARDS if kind == "turned" else PLANES)[view]
            tags: dict[str, Any] = {"ImagePositionPatient": place} | (
                {} if direction is None else {"ImageOrientationPatient": direction}
            )
            path = write_dicom(root / "test_images" / kind / f"{number}" / f"{k}.dcm", InstanceNumber=k, **tags)
            if kind == "damaged" or (kind, k) == ("first", 0):
                path.write_bytes(path.read_bytes()[:-50])
    columns = ["study_id", "series_id", "series_description"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "test_series_descriptions.csv", index=False)
    load = open_source(root).load
    return {(kind, s.view): s for kind in {row[0] for row in rows} for s in load(kind).study.series}


class ScriptedLocalizer:
    """Puts the given findings with the given scores on the slice of instance 0 of the first series of their view."""

    unmirror = False

    def __init__(self, scores: Mapping[Finding, float], not_lumbar: str = "") -> None:
        self.scores, self.not_lumbar = scores, not_lumbar

    def localize(self, study: Study) -> Located:
        found = {
            f: Localization(
                study_id=study.study_id, finding=f, series_id=study.of_view(f.view)[0].series_id, instance_number=0,
                x_px=3, y_px=4, point_mm=(0, 0, 0), source=Source.DETECTED, score=score,
            )
            for f, score in self.scores.items() if study.of_view(f.view)
        }  # fmt: skip
        return Located(found, not_lumbar=self.not_lumbar)


def reasons_on(
    shelf: Mapping[tuple[str, View], Series], kinds: Mapping[View, str], localizer: Any, **options: Any
) -> dict[Condition, Counter[str]]:
    """The reasons for each condition's rows in a study of one series per view; "" for rows of the model."""
    series = tuple(shelf[kind, view] for view, kind in kinds.items())
    result = grader_of(localizer, ConstantClassifier(**options)).predict(Study(study_id="1", series=series))
    return {c: Counter(str(result.reasons.get(f, "")) for f in findings_of(c)) for c in Condition}


ALL = dict.fromkeys(FINDINGS, 1.0)
SOUND = dict.fromkeys(View, "sound")
CANAL, FORAMINAL, SUBARTICULAR = Condition.CANAL, Condition.FORAMINAL, Condition.SUBARTICULAR


def test_each_way_to_a_prior_row_has_its_reason(shelf: Mapping[tuple[str, View], Series]) -> None:
    everything = {CANAL: {"": 5}, FORAMINAL: {"": 10}, SUBARTICULAR: {"": 10}}
    assert reasons_on(shelf, SOUND, ScriptedLocalizer(ALL)) == everything
    only_t2 = reasons_on(shelf, {View.SAGITTAL_T2: "sound"}, ScriptedLocalizer(ALL))
    assert only_t2 == {CANAL: {"": 5}, FORAMINAL: {"no_series": 10}, SUBARTICULAR: {"no_series": 10}}
    for kind, reason in {"damaged": "series_unreadable", "first": "slice_damaged", "turned": "wrong_plane"}.items():
        assert reasons_on(shelf, {**SOUND, View.AXIAL_T2: kind}, ScriptedLocalizer(ALL)) == {
            **everything, SUBARTICULAR: {reason: 10}
        }, kind  # fmt: skip
    unseen = {f: s for f, s in ALL.items() if f.level is not Level.L1_L2}
    found = reasons_on(shelf, SOUND, ScriptedLocalizer(unseen))
    assert found[CANAL] == {"": 4, "level_not_seen": 1}
    doubtful = {f: 0.05 if f.level is Level.L5_S1 else s for f, s in ALL.items()}
    assert reasons_on(shelf, SOUND, ScriptedLocalizer(doubtful))[FORAMINAL] == {"": 8, "level_not_seen": 2}
    # A level that the sagittal series show, beyond the reach of the axial one.
    beyond = {f: s for f, s in ALL.items() if f.condition is not SUBARTICULAR or f.level is not Level.L1_L2}
    assert reasons_on(shelf, SOUND, ScriptedLocalizer(beyond))[SUBARTICULAR] == {"": 8, "not_covered": 2}
    canal_alone = reasons_on(shelf, SOUND, ScriptedLocalizer(ALL), families=[CANAL])
    assert canal_alone == {CANAL: {"": 5}, FORAMINAL: {"not_trained": 10}, SUBARTICULAR: {"not_trained": 10}}


def test_a_study_that_is_no_lumbar_spine_has_one_reason(shelf: Mapping[tuple[str, View], Series]) -> None:
    localizer = ScriptedLocalizer(ALL, not_lumbar="discs 14 mm apart, no sacrum")
    result = grader_of(localizer, ConstantClassifier()).predict(
        Study(study_id="1", series=(shelf["sound", View.SAGITTAL_T2],))
    )
    assert set(result.reasons.values()) == {PriorReason.NOT_LUMBAR}
    np.testing.assert_array_equal(result.submission, PRIOR)
    assert any("no lumbar spine was seen" in text and "14 mm apart" in text for text in result.problems)


def test_a_stage_that_fails_is_the_reason(shelf: Mapping[tuple[str, View], Series]) -> None:
    class Failing(ScriptedLocalizer):
        def localize(self, study: Study) -> Located:
            raise InputError("the detector gave up")

    found = reasons_on(shelf, {View.SAGITTAL_T2: "sound"}, Failing(ALL))
    assert found[CANAL] == {"stage_failed": 5}
    assert found[SUBARTICULAR] == {"no_series": 10}
    failure = failure_of(shelf, {View.SAGITTAL_T2: "sound"}, Failing(ALL))
    assert failure is not None
    assert (failure.stage, failure.reason) == ("localize", "stage_failed")
    assert "the detector gave up" in failure.message


def test_what_stopped_the_second_stage_is_told_and_not_a_gap(shelf: Mapping[tuple[str, View], Series]) -> None:
    class Failing(ConstantClassifier):
        def grade(self, study: Study, localizations: Mapping[Finding, Localization]) -> Any:
            raise InputError("the grader gave up")

    series = shelf["sound", View.SAGITTAL_T2]
    slices = tuple(
        replace(series.slices[0], instance_number=n, plane=replace(series.slices[0].plane, origin_mm=(x_mm, 0, 0)))
        for n, x_mm in enumerate((0, 20, 24, 28, 32, 36))  # found points lie on instance 0, beside the gap
    )
    study = Study(study_id="1", series=(replace(series, slices=slices),))
    graded = grader_of(ScriptedLocalizer(ALL), ConstantClassifier()).predict(study)
    assert "graded beside the gap" in graded.problems[-1]
    failure = grader_of(ScriptedLocalizer(ALL), Failing()).predict(study).failure
    assert failure is not None
    assert (failure.stage, failure.message) == ("classify", "study 1: the grader gave up")


def failure_of(
    shelf: Mapping[tuple[str, View], Series], kinds: Mapping[View, str], localizer: Any, **options: Any
) -> Failure | None:
    series = tuple(shelf[kind, view] for view, kind in kinds.items())
    return grader_of(localizer, ConstantClassifier(**options)).predict(Study(study_id="1", series=series)).failure


def test_a_study_has_failed_when_errors_left_nothing_to_answer(shelf: Mapping[tuple[str, View], Series]) -> None:
    one, damaged = {View.SAGITTAL_T2: "sound"}, {View.SAGITTAL_T2: "damaged"}
    assert failure_of(shelf, SOUND, ScriptedLocalizer(ALL)) is None
    assert failure_of(shelf, one, ScriptedLocalizer(ALL)) is None  # what is missing is no error
    assert failure_of(shelf, one, ScriptedLocalizer({})) is None  # nothing was seen, and nothing was broken
    assert failure_of(shelf, damaged, ScriptedLocalizer(ALL, not_lumbar="a knee")) is None
    assert failure_of(shelf, {**SOUND, View.AXIAL_T2: "damaged"}, ScriptedLocalizer(ALL)) is None  # the rest is graded
    failure = failure_of(shelf, damaged, ScriptedLocalizer(ALL))
    assert failure is not None
    assert (failure.stage, failure.reason) == ("read", "series_unreadable")
    only_axial = failure_of(shelf, {**SOUND, View.AXIAL_T2: "damaged"}, ScriptedLocalizer(ALL), families=[SUBARTICULAR])
    assert only_axial is not None  # the classifier was trained for nothing that can be read


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.dictionaries(st.sampled_from(View), st.sampled_from(["sound", "first", "damaged", "turned"])),
    scores=st.dictionaries(st.sampled_from(FINDINGS), st.sampled_from([0.0, 0.05, 0.1, 0.6, 1.0]), max_size=25),
    not_lumbar=st.sampled_from(["", "", "a knee"]),
    families=st.sets(st.sampled_from(Condition), min_size=1),
)
def test_rows_of_the_model_and_reasons_make_25(
    tmp_path: Path, shelf: Mapping[tuple[str, View], Series], kinds: dict[View, str], scores: dict[Finding, float],
    not_lumbar: str, families: set[Condition],
) -> None:  # fmt: skip
    study = Study(study_id="1", series=tuple(shelf[kind, view] for view, kind in kinds.items()))
    result = grader_of(ScriptedLocalizer(scores, not_lumbar), ConstantClassifier(families)).predict(study)
    assert result.from_model.sum() + len(result.reasons) == 25
    for finding in FINDINGS:
        row = result.submission[finding.index]
        if finding in result.reasons:
            np.testing.assert_array_equal(row, PRIOR[finding.index])
        else:
            # At these scores an answer always differs from the prior.
            assert row[2] > PRIOR[finding.index, 2]
        absent = finding.view not in kinds and finding.condition in families and not not_lumbar
        assert (result.reasons.get(finding) is PriorReason.NO_SERIES) == absent
    table = to_table([result])
    assert sum(table.reason_counts.values()) == table.prior_rows
    write_probabilities(tmp_path / "p.csv", table)
    assert read_probabilities(tmp_path / "p.csv").reasons == ({"1": result.reasons} if result.reasons else {})


def test_a_row_of_the_model_needs_a_point() -> None:
    with pytest.raises(ValueError, match="neither a point nor a reason"):
        StudyResult(
            study=Study(study_id="5", series=()), submission=PRIOR, localizations={}, detections=(), problems=(),
            reasons=dict.fromkeys(FINDINGS[1:], PriorReason.NO_SERIES),
        )  # fmt: skip


def test_strict_refuses_rows_from_the_prior(
    shelf: Mapping[tuple[str, View], Series], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def predicted(*views: View) -> ProbabilityTable:
        study = Study(study_id="1", series=tuple(shelf["sound", view] for view in views))
        return to_table([grader_of(ScriptedLocalizer(ALL), ConstantClassifier()).predict(study)])

    # The options are checked before anything is called, so the input must be there; the runs are stood in for.
    (tmp_path / "data").mkdir()
    monkeypatch.setattr("pipelines.commands.predict.members_of", lambda _: None)
    words = ["predict", str(tmp_path / "data"), str(tmp_path / "out"), "--classifier", str(tmp_path / "data")]
    monkeypatch.setattr("pipelines.predict.predict", lambda *_, **__: predicted(View.SAGITTAL_T2))
    assert main(words) == 0
    assert main([*words, "--strict"]) == 1
    assert "20 rows from the prior: 20 no_series" in capsys.readouterr().err
    monkeypatch.setattr("pipelines.predict.predict", lambda *_, **__: predicted(*View))
    assert main([*words, "--strict"]) == 0


def test_the_page_says_in_words_why_findings_were_not_read(shelf: Mapping[tuple[str, View], Series]) -> None:
    study = Study(study_id="1", series=(shelf["sound", View.SAGITTAL_T2],))
    page = grader_of(ScriptedLocalizer(ALL), ConstantClassifier()).predict(study).page()
    named = "Neural foramen, all levels (10 findings); Subarticular, all levels (10 findings)"
    assert f"<li>{named}: the study has no usable series of their view.</li>" in page
