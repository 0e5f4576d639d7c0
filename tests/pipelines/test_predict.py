"""The pipeline around the models, with stand-ins for both stages: what it writes, and what bad input becomes."""

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classify.config import CropConfig
from classify.predict import Classifier, StudyGrades
from pipelines.cli import main
from pipelines.grader import Grader, check_same_data
from pipelines.predict import predict_source, to_table, write_prediction_run
from pipelines.report import prediction_report
from pipelines.result import StudyResult
from shared.data.source import open_source
from shared.detections import Detection, Localization, Source
from shared.labels import FINDINGS, Condition, Finding, Level, View, findings_of
from shared.mirror.correct import OrientedStudy, with_turned
from shared.numbering import Numbering
from shared.probabilities import PriorReason, ProbabilityTable, read_probabilities, read_submission, write_probabilities
from shared.runtime.documents import read_json
from shared.runtime.errors import InputError
from shared.runtime.run_folder import write_run
from shared.study import Series, Study
from tests.dicom_files import write_dicom

PRIOR = np.tile([0.7, 0.2, 0.1], (25, 1))


@dataclass(frozen=True)
class Located:
    localizations: Mapping[Finding, Localization]
    detections: tuple[Detection, ...] = ()
    problems: tuple[str, ...] = ()
    numbering: Numbering | None = None
    not_lumbar: str = ""


class CanalLocalizer:
    """Finds every canal level on the first series; fails on a study without series."""

    def __init__(self, *, unmirror: bool = True, score: float = 1.0) -> None:
        self.unmirror, self.score = unmirror, score

    def localize(self, study: Study) -> Located:
        if not study.series:
            raise InputError("nothing to localize")
        series = study.series[0]
        found = {
            f: Localization(
                study_id=study.study_id, finding=f, series_id=series.series_id,
                instance_number=series.slices[0].instance_number, x_px=3, y_px=f.level, point_mm=(0, 0, 0),
                source=Source.DETECTED, score=self.score,
            )
            for f in FINDINGS
            if f.condition is Condition.CANAL
        }  # fmt: skip
        return Located(found)


class ConstantClassifier(Classifier):
    """The real thing around a network that always gives one answer."""

    def __init__(self, families: Collection[Condition] = tuple(Condition)) -> None:
        self.prior, self.families, self._crop = PRIOR, frozenset(families), CropConfig(size_px=32, slices=3)

    def _predict(self, crops: np.ndarray, findings: np.ndarray) -> np.ndarray:
        return np.tile((0.1, 0.2, 0.7), (len(crops), 1))


def grader_of(localizer: Any, classifier: Any) -> Grader:
    """Takes stand-ins of both stages."""
    return Grader(localizer=localizer, classifier=classifier)


def stand_ins(study_id: str) -> Grader:
    return grader_of(CanalLocalizer(), ConstantClassifier())


def write_test_part(root: Path) -> Path:
    """Study 5 is whole, study 6 has lost its files, study 7 has one broken file."""
    rows = [("5", "51"), ("6", "61"), ("7", "71")]
    pd.DataFrame(
        [(study, series, "Sagittal T2/STIR") for study, series in rows],
        columns=["study_id", "series_id", "series_description"],
    ).to_csv(root / "test_series_descriptions.csv", index=False)
    for study, series in (("5", "51"), ("7", "71")):
        for number in range(1, 6):
            write_dicom(root / "test_images" / study / series / f"{number}.dcm", ImagePositionPatient=[number, 0, 0])
    (root / "test_images/7/71/3.dcm").write_bytes(b"broken")
    return root


def test_25_rows_per_study_whatever_happens(tmp_path: Path) -> None:
    source = open_source(write_test_part(tmp_path))
    out = tmp_path / "out"
    predictions = predict_source(source, stand_ins, out)
    write_prediction_run(out, predictions, started=0.0, input=source.kind)
    assert sum(p.is_file() for p in (out / "unfinished").rglob("*")) == 3
    written = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file() and "unfinished" not in p.parts}
    assert written == {
        "submission.csv", "probabilities.csv", "localizations.csv", "detections.csv", "run.json",
        "studies/5.json", "studies/6.json", "studies/7.json",
    }  # fmt: skip
    table = read_submission(out / "submission.csv").table
    assert set(table.study_ids) == {"5", "6", "7"}
    np.testing.assert_allclose(table.select(["6"]).values[0], PRIOR)
    run = read_json(out / "run.json")
    assert run["rows"] == 75
    assert run["prior_rows"] == 20 + 25 + 20
    assert run["prior_reasons"] == {"no_series": 60, "series_unreadable": 5}
    assert run["localization_sources"] == {"detected": 10}
    # Study 6 has no readable slice and so nothing to localize; study 7 has one broken file.
    assert len([text for text in run["problems"] if "come from the prior" not in text]) == 3
    assert not any("study 6: has no Sagittal T2" in text for text in run["problems"])
    assert sum("study 5: has no Axial T2 series; its 10 rows" in text for text in run["problems"]) == 1
    record = read_json(out / "studies" / "5.json")
    assert record["findings"][0]["source"] == "model"
    assert record["findings"][0]["localization"]["series_id"] == "51"
    assert record["findings"][24]["localization"] is None
    assert [f["reason"] for f in record["findings"]] == [None] * 5 + ["no_series"] * 20
    assert list(predictions[0].table()["reason"].dropna()) == ["no_series"] * 20
    assert read_probabilities(out / "probabilities.csv").reasons == {p.study_id: p.reasons for p in predictions}
    assert to_table(predictions).from_model.sum() == 10


def test_the_sample_submission_gives_the_order(tmp_path: Path) -> None:
    write_test_part(tmp_path)
    row_ids = [f.row_id(s) for s in ("7", "5", "6") for f in FINDINGS]
    sample = pd.DataFrame({"row_id": row_ids, "normal_mild": 1 / 3, "moderate": 1 / 3, "severe": 1 / 3})
    sample.to_csv(tmp_path / "sample_submission.csv", index=False)
    predict_source(open_source(tmp_path), stand_ins, tmp_path / "out")
    assert list(pd.read_csv(tmp_path / "out/submission.csv")["row_id"]) == row_ids


def test_a_study_that_only_the_sample_names_gets_prior_rows(tmp_path: Path) -> None:
    write_test_part(tmp_path)
    row_ids = [f.row_id(s) for s in ("5", "6", "7", "8") for f in FINDINGS]
    sample = pd.DataFrame({"row_id": row_ids, "normal_mild": 1 / 3, "moderate": 1 / 3, "severe": 1 / 3})
    sample.to_csv(tmp_path / "sample_submission.csv", index=False)
    predict_source(open_source(tmp_path), stand_ins, tmp_path / "out")
    np.testing.assert_allclose(
        read_submission(tmp_path / "out/submission.csv").table.select(["8"]).values[0], PRIOR, atol=1e-6
    )


def test_images_that_are_not_there(tmp_path: Path) -> None:
    write_test_part(tmp_path)
    (tmp_path / "test_images").rename(tmp_path / "images")
    with pytest.raises(InputError, match="test_images"):
        open_source(tmp_path)


def test_any_dicom_folder_is_a_source(tmp_path: Path) -> None:
    for number in range(6):
        write_dicom(tmp_path / "export" / f"IM{number}", InstanceNumber=number, ImagePositionPatient=[number, 0, 0])
    source = open_source(tmp_path)
    assert source.kind == "folder"
    assert source.study_ids == ("1.2",)
    predictions = predict_source(source, stand_ins, tmp_path / "out")
    assert predictions[0].from_model.sum() == 5


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        open_source(tmp_path / "nowhere")
    (tmp_path / "train_images").mkdir()
    with pytest.raises(InputError, match="series_descriptions"):
        open_source(tmp_path)


def test_stages_trained_on_different_data_are_refused(tmp_path: Path) -> None:
    for name, kind, fingerprint in (("a", "localize", "1"), ("b", "classify", "1"), ("c", "classify", "2")):
        (tmp_path / name).mkdir()
        folds = {"0": {"models": {}}} if kind == "localize" else [0]
        write_run(tmp_path / name, command="train", started=0.0, kind=kind, data_fingerprint=fingerprint, folds=folds)
    check_same_data(tmp_path / "a", tmp_path / "b")
    with pytest.raises(InputError, match="different data"):
        check_same_data(tmp_path / "a", tmp_path / "c")
    with pytest.raises(InputError, match="expected a localize run"):
        check_same_data(tmp_path / "b", tmp_path / "b")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="unfinished"):
        check_same_data(tmp_path / "empty", tmp_path / "b")


def test_an_uncertain_numbering_is_in_the_studys_record() -> None:
    parts = {"as_named": 0.6, "one_higher": 0.3, "one_lower": 0.1, "disc_above": 0.4, "disc_below": 0.0}
    numbering = Numbering(**parts, missing=dict.fromkeys(Level, 0.0))
    prediction = StudyResult(
        study=Study(study_id="5", series=()), values=PRIOR, localizations={},
        reasons=dict.fromkeys(FINDINGS, PriorReason.NO_SERIES),
        detections=(), problems=(),
        numbering=numbering,
    )  # fmt: skip
    record = json.loads(json.dumps(prediction.to_json()))
    assert record["numbering"]["one_higher"] == 0.3
    assert record["numbering"]["certain"] is False
    assert replace(prediction, numbering=None).to_json()["numbering"] is None


def test_both_stages_get_one_corrected_study_and_files_the_headers_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at once; what stage 1 returns at the turned plane is written at the header's."""
    seen: list[Study] = []

    class SeeingClassifier(ConstantClassifier):
        def grade(self, study: Study, localizations: Mapping[Finding, Localization]) -> StudyGrades:
            seen.append(study)
            return super().grade(study, localizations)

    class TurnedLocalizer(CanalLocalizer):
        def localize(self, study: Study) -> Located:
            seen.append(study)
            return super().localize(study)

    def turn(study: Study) -> OrientedStudy:
        looks.append(study.study_id)
        ids = tuple(s.series_id for s in study.series)
        return OrientedStudy(given=study, study=with_turned(study, ids), turned=ids)

    looks: list[str] = []
    monkeypatch.setattr("shared.mirror.correct.corrected", turn)
    loaded = open_source(write_test_part(tmp_path)).load("5")
    prediction = grader_of(TurnedLocalizer(), SeeingClassifier()).predict(loaded)
    assert looks == ["5"]
    assert seen[0] is seen[1]
    assert seen[0] != loaded.study
    assert prediction.turned == ("51",)
    plane = loaded.study.series[0].slices[0].plane
    for found in prediction.localizations.values():
        assert found.point_mm == pytest.approx(plane.to_patient((found.x_px, found.y_px)))
    assert any("is mirrored" in text for text in prediction.problems)
    again = grader_of(CanalLocalizer(unmirror=False), ConstantClassifier()).predict(loaded)
    assert (looks, again.turned) == (["5"], ())


def test_answers_shrink_to_the_prior_by_the_doubt_of_their_place(tmp_path: Path) -> None:
    loaded = open_source(write_test_part(tmp_path)).load("5")
    sure, doubtful, lost = (
        grader_of(CanalLocalizer(score=score), ConstantClassifier()).predict(loaded) for score in (1.0, 0.5, 0.04)
    )
    np.testing.assert_allclose(sure.values[0], (0.1, 0.2, 0.7), atol=1e-6)
    assert PRIOR[0, 2] < doubtful.values[0, 2] < 0.7
    assert doubtful.from_model.sum() == 5
    np.testing.assert_array_equal(lost.values, PRIOR)
    assert not lost.from_model.any()
    assert any("is this a lumbar spine?" in text for text in lost.problems)
    assert not any("lumbar spine?" in text for text in doubtful.problems)


def test_a_gap_beside_graded_findings_is_named(tmp_path: Path) -> None:
    for study, places in {"1": (0, 20, 24, 28, 32, 36), "2": (0, 4, 24, 28, 48, 52, 72, 76)}.items():
        for number, x in enumerate(places, start=1):
            path = tmp_path / "test_images" / study / f"{study}1" / f"{number}.dcm"
            write_dicom(path, InstanceNumber=number, ImagePositionPatient=[x, 0, 0])
    table = "study_id,series_id,series_description\n1,11,Sagittal T2/STIR\n2,21,Sagittal T2/STIR\n"
    (tmp_path / "test_series_descriptions.csv").write_text(table)
    source, grader = open_source(tmp_path), grader_of(CanalLocalizer(), ConstantClassifier())
    (told,) = [text for text in grader.predict(source.load("1")).problems if "mm between" in text]
    assert "20.0 mm between instances 1 and 2, usually 4.0 mm; graded beside the gap: spinal_canal_stenosis_l1" in told
    # Pairs of slices with wide gaps between them are a protocol, not a loss.
    assert not [text for text in grader.predict(source.load("2")).problems if "mm between" in text]


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
    np.testing.assert_array_equal(result.values, PRIOR)
    assert any("no lumbar spine was seen" in text and "14 mm apart" in text for text in result.problems)


def test_a_stage_that_fails_is_the_reason(shelf: Mapping[tuple[str, View], Series]) -> None:
    class Failing(ScriptedLocalizer):
        def localize(self, study: Study) -> Located:
            raise InputError("the detector gave up")

    found = reasons_on(shelf, {View.SAGITTAL_T2: "sound"}, Failing(ALL))
    assert found[CANAL] == {"stage_failed": 5}
    assert found[SUBARTICULAR] == {"no_series": 10}


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
        row = result.values[finding.index]
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
            study=Study(study_id="5", series=()), values=PRIOR, localizations={}, detections=(), problems=(),
            reasons=dict.fromkeys(FINDINGS[1:], PriorReason.NO_SERIES),
        )  # fmt: skip


def test_strict_refuses_rows_from_the_prior(
    shelf: Mapping[tuple[str, View], Series], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def predicted(*views: View) -> ProbabilityTable:
        study = Study(study_id="1", series=tuple(shelf["sound", view] for view in views))
        return to_table([grader_of(ScriptedLocalizer(ALL), ConstantClassifier()).predict(study)])

    words = ["predict", "data", "out", "--localizer", "a", "--classifier", "b"]
    monkeypatch.setattr("pipelines.predict.predict", lambda *_, **__: predicted(View.SAGITTAL_T2))
    assert main(words) == 0
    assert main([*words, "--strict"]) == 1
    assert "20 rows from the prior: 20 no_series" in capsys.readouterr().err
    monkeypatch.setattr("pipelines.predict.predict", lambda *_, **__: predicted(*View))
    assert main([*words, "--strict"]) == 0


def test_the_report_says_in_words_why_rows_are_the_priors(
    shelf: Mapping[tuple[str, View], Series], tmp_path: Path
) -> None:
    study = Study(study_id="1", series=(shelf["sound", View.SAGITTAL_T2],))
    result = grader_of(ScriptedLocalizer(ALL), ConstantClassifier()).predict(study)
    page = prediction_report([result], tmp_path).read_text()
    assert (
        "From the training prior, because the study has no usable series of their view: 10 of "
        "neural_foraminal_narrowing, 10 of subarticular_stenosis." in page
    )
