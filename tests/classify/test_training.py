"""Training end to end on crude phantoms: checkpoints, resume, leak rules, prior rows."""

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import classify.report as report_module
import classify.train.fold as fold_module
import classify.train.loop as fit_module
import classify.train.run as train_module
from classify.calibrate import IDENTITY
from classify.cli import add_parsers
from classify.config import ClassifyConfig
from classify.crop_cache import CacheJob, build_cache, using_cache
from classify.device import use_deterministic
from classify.evaluate import EvaluateRequest, evaluate, evaluate_run
from classify.network.checkpoint import MODEL_FILE, PREPROCESSING, load_card, load_model
from classify.predict import Classifier, PredictRequest, predict_studies
from classify.samples import Crops
from classify.train.command import main
from classify.train.held_out import held_out_table
from classify.train.request import TrainingResources, TrainRequest
from classify.train.run import train
from shared.annotations import annotated_localizations
from shared.data.challenge import Challenge
from shared.detections import write_localizations
from shared.labels import FINDINGS, Condition
from shared.out_of_fold import OutOfFold
from shared.probabilities.files import read_probabilities
from shared.probabilities.reasons import PriorReason
from shared.probabilities.table import FLOOR
from shared.runtime.errors import InputError, exit_code
from shared.runtime.run_folder import sha256_of
from shared.splits import read_splits
from tests.tracked import curves_of, tracking_of

CPU = TrainingResources(device="cpu")
RESUME = TrainingResources(device="cpu", resume=True)


def command(*words: object) -> int:
    """Exit code of `lumbar classify ...`."""
    parser = argparse.ArgumentParser()
    add_parsers(parser.add_subparsers())
    arguments = parser.parse_args(list(map(str, words)))
    return exit_code(lambda: arguments.func(arguments))


def test_run_folder_explains_itself(run, challenge, splits):
    names = sorted(str(p.relative_to(run)) for p in run.rglob("*") if p.is_file() and "cache" not in p.parts)
    fold = [".lumbar", "log.csv", "model.json", "model.safetensors", "probabilities.csv"]
    assert names == sorted(
        ["config.toml", "noisy_labels.csv", "out_of_fold.csv", "run.json", "splits.json", "state.json"]
        + [f"fold{k}/{name}" for k in (0, 1) for name in fold]
    )
    facts = json.loads((run / "run.json").read_text())
    assert (facts["kind"], facts["folds"], facts["device"]) == ("classify", [0, 1], "cpu")
    pooled = read_probabilities(run / "out_of_fold.csv")
    assert sorted(pooled.study_ids) == sorted(splits.held_out(0) + splits.held_out(1))
    assert pooled.from_model.all()


def test_a_killed_run_continues_to_the_same_weights(run, one_fold, tmp_path, monkeypatch):
    class KilledError(Exception):
        pass

    save = fit_module.save_progress  # type: ignore[attr-defined]

    def save_then_die(*arguments: Any) -> None:
        save(*arguments)
        raise KilledError

    def die(*_: object) -> None:
        raise KilledError

    # Curves are written here and were not by the other run: they change no weight.
    tracked = replace(RESUME, tracking=tracking_of(tmp_path))
    # The kept cache of the other run spares the decoding; a run's own state is what is tested.
    monkeypatch.setattr(fit_module, "SAVE_EVERY_SECONDS", -1.0)  # after every step
    shutil.copytree(run / "cache", tmp_path / "cache")
    monkeypatch.setattr(fit_module, "save_progress", save_then_die)
    with pytest.raises(KilledError):
        train(one_fold, tmp_path, CPU)
    assert [p.name for p in (tmp_path / "fold0" / "progress").iterdir()] == ["epoch-0000-step-000001"]
    assert not (tmp_path / "fold0" / MODEL_FILE).exists()
    with pytest.raises(InputError, match="unfinished"):
        Classifier.load(tmp_path)
    monkeypatch.setattr(fit_module, "save_progress", save)
    with monkeypatch.context() as patch:
        patch.setattr(fold_module, "save_card", die)
        with pytest.raises(KilledError):  # after the last epoch, before the model card
            train(one_fold, tmp_path, tracked)
    monkeypatch.setattr(fit_module.Trainer, "run_epoch", die)  # the epochs are not run again
    train(one_fold, tmp_path, RESUME)
    for name in ("model.safetensors", "probabilities.csv", "log.csv", "model.json"):
        assert (tmp_path / "fold0" / name).read_bytes() == (run / "fold0" / name).read_bytes(), name
    assert not (tmp_path / "fold0" / "progress").exists()
    assert not (tmp_path / "cache").exists()
    names = ("loss/training", "loss/held_out", "learning_rate")
    assert curves_of(tmp_path, "fold0") in (None, {name: [1, 2] for name in names})


def test_another_config_cannot_resume(run, one_fold):
    other = ClassifyConfig.model_validate(one_fold.config.model_dump() | {"jitter": {"slice_shift": 0.0}})
    with pytest.raises(InputError, match="config changed"):
        train(replace(one_fold, config=other), run, RESUME)


def test_predict_grades_nothing_without_its_studies(challenge, run, localizer, write_localizer, tmp_path):
    out = tmp_path / "out"
    words = ["predict", challenge.root, run, out, "--part", "train", "--device", "cpu"]
    words += ["--localizations", localizer / "localizations.csv"]
    assert command(*words) == 0
    files = ["failures.csv", "probabilities.csv", "run.json", "state.json", "submission.csv"]
    assert sorted(p.name for p in out.iterdir()) == [".lumbar", *files]
    write_localizer(localizer, {})
    assert command(*words, "--overwrite") == 1
    assert (out / "submission.csv").exists()


def test_training_studies_are_graded_at_out_of_fold_points_alone(challenge, run, points_of):
    with pytest.raises(TypeError, match="expected OutOfFold, got dict"):
        PredictRequest(data=challenge, run=run, points=points_of())


def test_points_of_detectors_that_saw_none_of_the_studies_are_held_out_under_any_splits(
    challenge, run, predicted, points_of, tmp_path, capsys, monkeypatch
):
    calls = []
    monkeypatch.setattr(train_module, "train", lambda request, *_: calls.append(request))
    csv = predicted / "localizations.csv"
    words = [str(challenge.root), str(tmp_path / "new"), "--localizations", str(csv), "--device", "cpu"]
    assert main(words) == 0  # folds of its own: there is no splits.json to share
    assert calls[0].points.localizations == points_of()
    assert calls[0].measured[Condition.CANAL].in_plane_sd_mm == 1.5
    request = PredictRequest(data=challenge, run=run, points=OutOfFold.of_file(csv), device="cpu")
    assert set(request.fold_of.values()) == {0, 1}  # graded by the fold that held each study out
    write_localizations(csv, {})
    facts = json.loads((predicted / "run.json").read_text())
    (predicted / "run.json").write_text(json.dumps(facts | {"localizations_sha256": sha256_of(csv)}))
    assert main([*words[:-2], "--overwrite"]) == 1
    assert "the detectors that ship found no point in any of them" in capsys.readouterr().err


def test_a_foreign_folder_is_not_resumed(one_fold, localizer):
    before = sorted(localizer.iterdir())
    with pytest.raises(InputError, match="cannot resume"):
        train(one_fold, localizer, RESUME)
    assert sorted(localizer.iterdir()) == before


def test_a_resumed_run_keeps_problems_and_seconds_of_before(one_fold, run, tmp_path):
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    facts = json.loads((copy / "run.json").read_text())
    earlier = facts | {"problems": ["study 7: lost"], "seconds": 20.0, "earlier_seconds": 100.0}
    earlier["started"] = "2000-01-01T00:00:00Z"
    (copy / "run.json").write_text(json.dumps(earlier))
    train(one_fold, copy, RESUME)
    again = json.loads((copy / "run.json").read_text())
    assert again["problems"] == ["study 7: lost"]
    assert again["earlier_seconds"] == 120.0


def test_no_held_out_probability_is_below_the_floor():
    crops = Crops(
        patches=np.zeros((1, 25, 1, 1, 1), np.uint8), study=np.zeros(1, int), finding=np.array([0]),
        label=np.zeros(1, np.int8), annotated=np.ones(1, bool),
    )  # fmt: skip
    table = held_out_table(
        np.array([[40.0, 0.0, -40.0]]), crops, dict.fromkeys(Condition, IDENTITY), np.full((25, 3), 1 / 3),
        study_ids=["1"], rows=np.array([0]),
    )  # fmt: skip
    assert table.submission.min() == pytest.approx(FLOOR, rel=1e-3)


def test_evaluate_empties_nothing_for_a_run_of_other_data(challenge, localizer, tmp_path):
    out = tmp_path / "report"
    out.mkdir()
    (out / "kept.txt").touch()
    assert command("evaluate", challenge.root, localizer, out, "--overwrite") == 1
    assert (out / "kept.txt").exists()


def test_gpus_are_asked_for_deterministic_algorithms(monkeypatch):
    calls = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda on, warn_only: calls.append((on, warn_only)))
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    use_deterministic(torch.device("cpu"))
    assert calls == []
    use_deterministic(torch.device("cuda"))
    assert calls == [(True, True)]
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (True, False)


def test_divergence_is_named(one_fold, run, tmp_path, monkeypatch):
    shutil.copytree(run / "cache", tmp_path / "cache")
    monkeypatch.setattr(fit_module, "weighted_loss", lambda logits, *_, **__: logits.sum() * float("nan"))
    with pytest.raises(InputError, match=r"fold 0 epoch 1: .* train\.learning_rate"):
        train(one_fold, tmp_path, CPU)
    monkeypatch.undo()
    monkeypatch.setattr(fold_module, "predict_logits", lambda *_, **__: np.full((1, 3), np.nan))
    with pytest.raises(InputError, match=r"fold 0: training diverged, .* train\.learning_rate"):
        train(one_fold, tmp_path, RESUME)


def test_the_last_process_deletes_the_cache(tmp_path):
    folder, lock = tmp_path / "cache", tmp_path / "state.json"
    lock.touch()
    folder.mkdir()
    with using_cache(folder, lock=lock, keep=False):
        with using_cache(folder, lock=lock, keep=False):
            pass
        assert folder.exists()
    assert not folder.exists()


def test_checkpoint_round_trip_and_versions(run, tmp_path):
    card = load_card(run / "fold0")
    assert card.fold == 0
    assert card.families == tuple(Condition)
    model = load_model(run / "fold0", card, torch.device("cpu"))
    assert not model.training
    shutil.copytree(run / "fold0", tmp_path / "fold0")
    value = json.loads((tmp_path / "fold0" / MODEL_FILE).read_text())
    for change in (
        {"extra": 1},
        {"version": 99},
        {"preprocessing": {**PREPROCESSING, "version": 0}},
        {"calibration": 3},
        {"calibration": {"canal": {"temperature": 1.0}}},
        {"calibration": {name: {"temperature": 0} for name in value["calibration"]}},
    ):
        (tmp_path / "fold0" / MODEL_FILE).write_text(json.dumps(value | change))
        with pytest.raises(InputError, match=MODEL_FILE):
            load_card(tmp_path / "fold0")
    (tmp_path / "fold0" / "model.safetensors").write_bytes(b"short")
    with pytest.raises(InputError, match="no usable weights"):
        load_model(tmp_path / "fold0", card, torch.device("cpu"))


def test_models_of_release_0_1_0_are_read(run, tmp_path):
    card = load_card(run / "fold0")
    value = json.loads((run / "fold0" / MODEL_FILE).read_text())
    old = value | {"version": 2, "calibration": {n: x | {"bias": [0, 0, 0]} for n, x in value["calibration"].items()}}
    config = old["config"] = json.loads(json.dumps(value["config"]))
    config["crop"]["unmirror"] = old.pop("unmirror")
    config["model"]["pretrained"] = config["model"].pop("weights")
    config["train"]["channels_last"] = True
    config["calibration"] = {"method": "temperature"}
    (tmp_path / MODEL_FILE).write_text(json.dumps(old))
    read = load_card(tmp_path)
    assert (read.config, read.unmirror, read.calibration) == (card.config, card.unmirror, card.calibration)
    old["calibration"]["canal"]["bias"] = [0, 0.1, 0]
    (tmp_path / MODEL_FILE).write_text(json.dumps(old))
    with pytest.raises(InputError, match="vector scaling"):
        load_card(tmp_path)
    del config["model"]["pretrained"]
    (tmp_path / MODEL_FILE).write_text(json.dumps(old))
    with pytest.raises(InputError, match="malformed"):
        load_card(tmp_path)


def test_prediction_equals_the_held_out_probabilities(run, challenge, localizer):
    """One cropper: grading a held-out study from its DICOM files gives what training wrote for it."""
    request = PredictRequest(data=challenge, run=run, points=OutOfFold(localizer), device="cpu")
    table, problems = predict_studies(request.models(), challenge, request.study_ids, request.localizations)
    assert problems == ()
    written = read_probabilities(run / "out_of_fold.csv").select(table.study_ids)
    assert np.allclose(table.submission, written.submission, atol=1e-6)


def test_fold_ensemble_is_the_mean(run, challenge):
    study = challenge.load_study(challenge.study_ids[0]).study
    points = annotated_localizations(study, challenge.points[study.study_id])
    one, two, both = (Classifier.load(run, folds=f, device="cpu").grade(study, points) for f in ([0], [1], None))
    assert np.allclose((one.submission + two.submission) / 2, both.submission)
    averaged = Classifier.load(run, folds=[0], device="cpu", tta=True).grade(study, points)
    assert averaged.from_model.all()
    assert averaged.submission.sum(1) == pytest.approx(np.ones(25))
    assert not np.allclose(averaged.submission, one.submission, atol=1e-4)
    with pytest.raises(InputError, match="fold 2 is not trained"):
        Classifier.load(run, folds=[2])


def test_missing_or_unreadable_findings_get_the_prior(run, challenge, points_of, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(challenge.root, root)
    study_id, other = challenge.study_ids[:2]
    localizations = points_of()
    del localizations[study_id][FINDINGS[0]]
    broken = localizations[study_id][FINDINGS[20]]
    path = root / "train_images" / study_id / broken.series_id / f"{broken.instance_number}.dcm"
    path.write_bytes(path.read_bytes()[:-2000])
    classifier = Classifier.load(run, device="cpu")
    table, problems = predict_studies(lambda _: classifier, Challenge.open(root), [study_id, other], localizations)
    assert not table.from_model[0, [0, 20]].any()
    expected = {FINDINGS[0]: PriorReason.NOT_COVERED, FINDINGS[20]: PriorReason.SLICE_DAMAGED}
    assert expected.items() <= table.reasons[study_id].items()
    assert np.allclose(table.submission[0, 0], classifier.prior[0])
    assert table.from_model[1].all()
    assert problems
    assert all(study_id in p for p in problems)


def test_trained_on_localizations(challenge, one_fold, splits, points_of, write_localizer, tmp_path, monkeypatch):
    """Held-out studies are graded at localizations alone; without one the row is the prior's."""
    monkeypatch.setattr(report_module, "OCCLUSIONS", 1)
    points = points_of()
    study_id = splits.held_out(0)[0]
    del points[study_id][FINDINGS[7]]
    one_epoch = one_fold.config.model_copy(update={"train": one_fold.config.train.model_copy(update={"epochs": 1})})
    request = TrainRequest(
        data=challenge, config=one_epoch, folds=(0,), splits=splits, conditions=(Condition.CANAL, Condition.FORAMINAL),
        points=OutOfFold(write_localizer(tmp_path / "localizer", points, unmirror=False)),
    )  # fmt: skip
    run = tmp_path / "run"
    run.mkdir()
    train(request, run, CPU)
    table = read_probabilities(run / "fold0" / "probabilities.csv").select([study_id])
    trained = np.array([f.condition is not Condition.SUBARTICULAR for f in FINDINGS])
    trained[7] = False
    assert np.array_equal(table.from_model[0], trained)
    card = load_card(run / "fold0")
    assert (card.held_out_points, card.unmirror) == ("localized", False)
    evaluate_run(EvaluateRequest(data=challenge, run=run), tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Not shown" in page
    assert page.count("<img") == 4


def test_cache_is_continued_not_repeated(challenge, tiny_config, run, tmp_path, monkeypatch):
    job = CacheJob(data=challenge, config=tiny_config.crop, localizations=None, conditions=tuple(Condition))
    shutil.copytree(run / "cache", tmp_path / "cache")
    log = tmp_path / "cache" / "done.jsonl"
    lines = log.read_text().splitlines()
    log.write_text("\n".join(lines[:-2]) + "\n" + lines[-2][:40])
    whole = build_cache(job, run / "cache")
    seen = []
    load = Challenge.load_study
    monkeypatch.setattr(Challenge, "load_study", lambda self, s: seen.append(s) or load(self, s))
    continued = build_cache(job, tmp_path / "cache")
    assert len(seen) == 2
    assert np.array_equal(continued.patches, whole.patches)
    assert np.array_equal(continued.present, whole.present)


def test_evaluate_and_report(run, challenge, tmp_path, monkeypatch):
    monkeypatch.setattr(report_module, "OCCLUSIONS", 1)
    grades = dict(zip(challenge.study_ids, challenge.grades, strict=True))
    table = read_probabilities(run / "out_of_fold.csv")
    figures = evaluate(table, grades, read_splits(run / "splits.json"))
    assert [line["name"] for line in figures["comparison"]["lines"]] == ["uniform", "weighted prior", "model"]
    assert [f["fold"] for f in figures["folds"]] == [0, 1]
    assert sum(row["n"] for row in figures["levels"]) == figures["graded_rows"]
    assert sum(map(sum, figures["conditions"]["canal"]["confusion"])) == figures["conditions"]["canal"]["n"]
    summary = evaluate_run(EvaluateRequest(data=challenge, run=run), tmp_path)
    assert "out of fold, 8 studies" in summary
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.json"]
    assert (tmp_path / "report.html").read_text().count("<img") == 10
    written = json.loads((tmp_path / "report.json").read_text())["calibration"]
    assert sorted(written) == ["0", "1"]
    assert written["1"]["canal"]["temperature"] == load_card(run / "fold1").calibration[Condition.CANAL].temperature
