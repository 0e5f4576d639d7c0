"""The whole path with real models: the exact output tree, 25 rows, the same bytes twice."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest

from classify.network.checkpoint import load_card
from pipelines.cli import main
from pipelines.demo import DemoOptions, demo
from pipelines.grader import LEAST_SCORE
from shared.data.challenge import read_grades
from shared.detections import read_localizations
from shared.labels import FINDINGS
from shared.metric import score
from shared.probabilities.files import read_probabilities, read_submission
from shared.probabilities.table import shrunk
from shared.runtime.documents import read_json
from shared.runtime.errors import InputError


def tree(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_the_exact_output_tree(tiny_demo: Path) -> None:
    studies = {p.name for p in (tiny_demo / "data" / "test_images").iterdir()}
    views = ("sagittal_t1", "sagittal_t2", "axial_t2")
    expected = {
        "demo.json",
        "steps.json",
        "splits.json",
        "submission.csv",
        "run.json",
        "reports/scores.json",
        "reports/index.html",
    }
    expected |= {f"reports/{r}/report.{s}" for r in ("localize", "classify", "evaluation") for s in ("html", "json")}
    expected |= {f"prediction/{n}" for n in ("submission.csv", "probabilities.csv", "localizations.csv")}
    expected |= {f"prediction/{n}" for n in ("detections.csv", "failures.csv", "run.json", "state.json", "index.html")}
    expected |= {f"prediction/studies/{s}.{kind}" for s in studies for kind in ("html", "json")}
    folders = ("", "prediction/", "reports/localize/", "reports/classify/", "reports/evaluation/")
    expected |= {f"{folder}.lumbar" for folder in folders}
    found = {n for n in tree(tiny_demo) if not n.startswith(("data/", "truth/", "localizer/", "classifier/"))}
    assert found == expected
    localizer = {f"fold0/{v}.safetensors" for v in views} | {f"fold0/{n}" for n in ("chain.json", "metrics.json")}
    localizer |= {"fold0/detections.csv", "fold0/localizations.csv", "localizations.csv", "errors.json"}
    assert localizer | {"config.toml", "run.json", "splits.json"} <= tree(tiny_demo / "localizer")
    classifier = {"fold0/model.safetensors", "fold0/model.json", "fold0/log.csv", "fold0/probabilities.csv"}
    assert classifier | {"config.toml", "run.json", "splits.json", "out_of_fold.csv"} <= tree(tiny_demo / "classifier")


def test_25_rows_for_every_test_study_each_summing_to_one(tiny_demo: Path) -> None:
    rows = pd.read_csv(tiny_demo / "submission.csv")
    sample = pd.read_csv(tiny_demo / "data" / "sample_submission.csv")
    assert list(rows.columns) == ["row_id", "normal_mild", "moderate", "severe"]
    assert list(rows["row_id"]) == list(sample["row_id"])
    studies = {p.name for p in (tiny_demo / "data" / "test_images").iterdir()}
    assert len(rows) == 25 * len(studies)
    assert {f.row_id(s) for s in studies for f in FINDINGS} == set(rows["row_id"])
    np.testing.assert_allclose(rows[["normal_mild", "moderate", "severe"]].sum(axis=1), 1, atol=1e-8)


def test_scores_stand_beside_their_baselines(tiny_demo: Path) -> None:
    scores = read_json(tiny_demo / "reports" / "scores.json")
    names = [line["name"] for line in scores["lines"]]
    assert names == ["uniform", "weighted prior", "this pipeline", "this pipeline, true points", "oracle"]
    # On three studies nothing need beat anything; but the printed score is the metric of the written file.
    truth = read_grades(tiny_demo / "truth" / "test.csv")
    table = read_submission(tiny_demo / "submission.csv").table.select(list(truth))
    ours = next(line for line in scores["lines"] if line["name"] == "this pipeline")
    assert ours["score"]["score"] == pytest.approx(
        score(table.submission, np.stack(list(truth.values()))).score, abs=1e-5
    )
    assert ours["interval"]["low"] <= ours["score"]["score"] <= ours["interval"]["high"]


def test_one_splits_file_governs_both_stages(tiny_demo: Path) -> None:
    splits = read_json(tiny_demo / "splits.json")
    assert splits == read_json(tiny_demo / "localizer" / "splits.json")
    assert splits == read_json(tiny_demo / "classifier" / "splits.json")
    held_out = set(splits["folds"][0])
    assert set(pd.read_csv(tiny_demo / "classifier" / "out_of_fold.csv", dtype=str)["study_id"]) == held_out
    localized = pd.read_csv(tiny_demo / "localizer" / "localizations.csv", dtype=str)
    assert set(localized["study_id"]) <= held_out


class EnoughError(Exception):
    pass


def test_the_same_seed_gives_the_same_submission(
    tiny_demo: Path, tiny_options: DemoOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in one process; the studies are the same by a test of their own, both stages are trained anew on a copy."""

    def enough(*_: object) -> None:
        raise EnoughError

    for part in ("data", "truth"):
        shutil.copytree(tiny_demo / part, tmp_path / "again" / part)
    monkeypatch.setattr("pipelines.demo.run._at_true_points", enough)  # what comes after the submission
    with pytest.raises(EnoughError):
        demo(tmp_path / "again", replace(tiny_options, workers=1), resume=True)
    assert (tmp_path / "again" / "submission.csv").read_bytes() == (tiny_demo / "submission.csv").read_bytes()


def test_predict_starts_from_any_folder_says_what_is_missing_and_names_no_patient(
    tiny_demo: Path, tmp_path: Path
) -> None:
    images = tiny_demo / "data" / "test_images"
    study = sorted(images.iterdir())[0]
    for number, series in enumerate(sorted(study.iterdir())):
        shutil.copytree(series, tmp_path / "export" / f"folder {number}")
    for path in (tmp_path / "export").rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Doe^Jane", "MRN4711", "19500102"
        dataset.save_as(path)
    (tmp_path / "export" / "notes.txt").write_text("junk")
    arguments = ["--localizer", str(tiny_demo / "localizer"), "--classifier", str(tiny_demo / "classifier")]
    assert main(["predict", str(tmp_path / "export"), str(tmp_path / "out"), *arguments, "--device", "cpu"]) == 0
    table = read_submission(tmp_path / "out" / "submission.csv").table
    assert len(table.study_ids) == 1
    run = read_json(tmp_path / "out" / "run.json")
    assert run["rows"] == 25
    for path in (p for p in (tmp_path / "out").rglob("*") if p.is_file()):
        text = path.read_text()
        assert not any(secret in text for secret in ("Doe^Jane", "MRN4711", "19500102")), path
    # A second run into the same folder would mix two answers.
    assert main(["predict", str(tmp_path / "export"), str(tmp_path / "out"), *arguments, "--device", "cpu"]) == 1


def test_a_study_without_axial_series_gets_prior_rows(tiny_demo: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny_demo / "data", data, ignore=shutil.ignore_patterns("train_images"))
    series = pd.read_csv(data / "test_series_descriptions.csv", dtype=str)
    victim = series["study_id"].iloc[0]
    series[(series["study_id"] != victim) | (series["series_description"] != "Axial T2")].to_csv(
        data / "test_series_descriptions.csv", index=False
    )
    arguments = ["--localizer", str(tiny_demo / "localizer"), "--classifier", str(tiny_demo / "classifier")]
    assert main(["predict", str(data), str(tmp_path / "out"), *arguments, "--device", "cpu", "--strict"]) == 1
    rows = pd.read_csv(tmp_path / "out" / "probabilities.csv", dtype={"study_id": str})
    of_victim = rows[(rows["study_id"] == victim) & rows["finding"].str.contains("subarticular")]
    assert len(of_victim) == 10
    assert set(of_victim["source"]) == {"prior"}
    assert set(of_victim["reason"]) == {"no_series"}
    assert rows["reason"].notna().equals(rows["source"] == "prior")


def test_a_tampered_model_file_is_refused(tiny_demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "localizer"
    shutil.copytree(tiny_demo / "localizer", run)
    with (run / "fold0" / "axial_t2.safetensors").open("ab") as file:
        file.write(b"x")
    arguments = ["--localizer", str(run), "--classifier", str(tiny_demo / "classifier"), "--device", "cpu"]
    assert main(["predict", str(tiny_demo / "data"), str(tmp_path / "out"), *arguments]) == 1
    assert "SHA-256" in capsys.readouterr().err


def test_a_real_study_is_graded(tiny_demo: Path, real_data: Path, tmp_path: Path) -> None:
    arguments = ["--localizer", str(tiny_demo / "localizer"), "--classifier", str(tiny_demo / "classifier")]
    assert main(["predict", str(real_data / "lumbar_study"), str(tmp_path / "out"), *arguments, "--device", "cpu"]) == 0
    assert read_submission(tmp_path / "out" / "submission.csv").table.submission.shape == (1, 25, 3)
    assert len(read_json(tmp_path / "out" / "run.json")["problems"]) >= 3


def test_training_studies_are_predicted_by_the_fold_that_held_them_out(tiny_demo: Path, tmp_path: Path) -> None:
    arguments = ["--localizer", str(tiny_demo / "localizer"), "--classifier", str(tiny_demo / "classifier")]
    out = tmp_path / "out"
    data = str(tiny_demo / "data")
    assert main(["predict", data, str(out), "--part", "train", *arguments, "--device", "cpu"]) == 0
    held_out = read_json(tiny_demo / "splits.json")["folds"][0]
    assert sorted(read_submission(out / "submission.csv").table.study_ids) == sorted(held_out)
    assert read_json(out / "run.json")["out_of_fold"] is True
    ours = read_probabilities(out / "probabilities.csv").select(held_out)
    trained = read_probabilities(tiny_demo / "classifier" / "out_of_fold.csv").select(held_out)
    # The pipeline also shrinks its answers to the prior by the doubt of their points.
    points = read_localizations(out / "localizations.csv")
    scores = np.array([[points[s][f].score if f in points.get(s, {}) else 0.0 for f in FINDINGS] for s in held_out])
    prior = load_card(tiny_demo / "classifier" / "fold0").prior
    expected = shrunk(trained.submission, prior, np.where(scores >= LEAST_SCORE, scores, 0.0))
    np.testing.assert_allclose(ours.submission, expected, atol=2e-3)


@pytest.mark.usefixtures("undrawn")
def test_evaluate_the_demo_submission_from_files(tiny_demo: Path, tmp_path: Path) -> None:
    arguments = ["--train", str(tiny_demo / "data"), "--oracle", str(tiny_demo / "truth" / "oracle.csv")]
    submission, truth = str(tiny_demo / "submission.csv"), str(tiny_demo / "truth")
    assert main(["evaluate", submission, truth, str(tmp_path / "out"), *arguments]) == 0
    written = read_json(tmp_path / "out" / "report.json")["comparison"]
    again = read_json(tiny_demo / "reports" / "scores.json")
    ours = next(line for line in written["lines"] if line["name"] == "submission")
    same = next(line for line in again["lines"] if line["name"] == "this pipeline")
    assert ours["score"]["score"] == pytest.approx(same["score"]["score"], abs=1e-5)


def test_nothing_is_emptied_before_models_and_device_are_there(
    tiny_demo: Path, tiny_options: DemoOptions, tmp_path: Path
) -> None:
    (tmp_path / "kept.txt").touch()
    arguments = ["--localizer", str(tiny_demo / "localizer"), "--classifier", str(tiny_demo / "classifier")]
    words = ["predict", str(tiny_demo / "data"), str(tmp_path), *arguments, "--overwrite", "--device", "99"]
    assert main(words) == 1
    with pytest.raises(InputError, match="--device"):
        demo(tmp_path, replace(tiny_options, device="99"), overwrite=True)
    with pytest.raises(InputError, match="--fold '5': expected all or a number from 0 to 4"):
        demo(tmp_path, replace(tiny_options, fold="5"), overwrite=True)
    assert (tmp_path / "kept.txt").exists()


def test_a_resumed_demo_has_the_configs_it_was_begun_with(tiny_demo: Path, tiny_options: DemoOptions) -> None:
    other = replace(tiny_options, classify_config=None)
    with pytest.raises(InputError, match="another --classify-config"):
        demo(tiny_demo, other, resume=True)
    with pytest.raises(InputError, match="begun with --preset demo"):
        demo(tiny_demo, replace(tiny_options, preset="full"), resume=True)


def test_the_demo_keeps_the_seconds_of_each_step(tiny_demo: Path) -> None:
    steps = read_json(tiny_demo / "steps.json")
    assert len(steps) == 6
    assert all(seconds >= 0 for seconds in steps.values())
    assert read_json(tiny_demo / "run.json")["step_seconds"] == steps


def test_the_demo_names_the_device_it_ran_on(tiny_demo: Path) -> None:
    assert read_json(tiny_demo / "run.json")["device"] == read_json(tiny_demo / "classifier" / "run.json")["device"]


def test_studies_side_by_side_give_the_files_of_one_process(
    tiny_demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.predict.request._FEWEST_STUDIES", 1)
    words = ["predict", str(tiny_demo / "data"), str(tmp_path / "two"), "--part", "test", "--workers", "2"]
    words += ["--localizer", str(tiny_demo / "localizer"), "--classifier", str(tiny_demo / "classifier")]
    assert main([*words, "--device", "cpu"]) == 0
    alone, beside = tiny_demo / "prediction", tmp_path / "two"  # so few studies the demo grades in one process
    assert tree(alone) == tree(beside)
    other = [n for n in tree(alone) if (alone / n).read_bytes() != (beside / n).read_bytes()]
    assert set(other) <= {"run.json", ".lumbar"}
