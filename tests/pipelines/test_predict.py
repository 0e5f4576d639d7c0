"""The pipeline around the models, with stand-ins for both stages: what it writes, and what bad input becomes."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from classify.predict import StudyGrades
from pipelines.predict import predict_source, to_table, write_prediction_run
from pipelines.predict.answers import Here
from pipelines.result import StudyResult
from shared.data.source import open_source
from shared.detections import Localization
from shared.labels import FINDINGS, Finding, Level
from shared.mirror.correct import OrientedStudy, with_turned
from shared.numbering import Numbering
from shared.probabilities.files import read_probabilities, read_submission
from shared.probabilities.reasons import PriorReason
from shared.runtime.documents import read_json
from shared.runtime.errors import InputError
from shared.study import Study
from tests.dicom_files import write_dicom
from tests.pipelines.stand_ins import (
    PRIOR,
    CanalLocalizer,
    ConstantClassifier,
    Located,
    grader_of,
    stand_ins,
    write_test_part,
)


def test_25_rows_per_study_whatever_happens(tmp_path: Path) -> None:
    source = open_source(write_test_part(tmp_path))
    out = tmp_path / "out"
    predictions = predict_source(source, Here(stand_ins), out)
    write_prediction_run(out, predictions, started=0.0, input=source.kind)
    assert sum(p.is_file() for p in (out / "unfinished").rglob("*")) == 3
    written = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file() and "unfinished" not in p.parts}
    assert written == {
        "submission.csv", "probabilities.csv", "localizations.csv", "detections.csv", "failures.csv", "run.json",
        "index.html", *(f"studies/{n}.{kind}" for n in "567" for kind in ("html", "json")),
    }  # fmt: skip
    table = read_submission(out / "submission.csv").table
    assert set(table.study_ids) == {"5", "6", "7"}
    np.testing.assert_allclose(table.select(["6"]).submission[0], PRIOR)
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
    predict_source(open_source(tmp_path), Here(stand_ins), tmp_path / "out")
    assert list(pd.read_csv(tmp_path / "out/submission.csv")["row_id"]) == row_ids


def test_a_study_that_only_the_sample_names_gets_prior_rows(tmp_path: Path) -> None:
    write_test_part(tmp_path)
    row_ids = [f.row_id(s) for s in ("5", "6", "7", "8") for f in FINDINGS]
    sample = pd.DataFrame({"row_id": row_ids, "normal_mild": 1 / 3, "moderate": 1 / 3, "severe": 1 / 3})
    sample.to_csv(tmp_path / "sample_submission.csv", index=False)
    predict_source(open_source(tmp_path), Here(stand_ins), tmp_path / "out")
    np.testing.assert_allclose(
        read_submission(tmp_path / "out/submission.csv").table.select(["8"]).submission[0], PRIOR, atol=1e-6
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
    predictions = predict_source(source, Here(stand_ins), tmp_path / "out")
    assert predictions[0].from_model.sum() == 5


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        open_source(tmp_path / "nowhere")
    (tmp_path / "train_images").mkdir()
    with pytest.raises(InputError, match="series_descriptions"):
        open_source(tmp_path)


def test_an_uncertain_numbering_is_in_the_studys_record() -> None:
    parts = {"as_named": 0.6, "one_higher": 0.3, "one_lower": 0.1, "disc_above": 0.4, "disc_below": 0.0}
    numbering = Numbering(**parts, missing=dict.fromkeys(Level, 0.0))
    prediction = StudyResult(
        study=Study(study_id="5", series=()), submission=PRIOR, localizations={},
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
    np.testing.assert_allclose(sure.submission[0], (0.1, 0.2, 0.7), atol=1e-6)
    assert PRIOR[0, 2] < doubtful.submission[0, 2] < 0.7
    assert doubtful.from_model.sum() == 5
    np.testing.assert_array_equal(lost.submission, PRIOR)
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
