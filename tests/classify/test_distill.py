"""The fast grader: what it learns from, what is stored of it, and which studies it must not answer."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

import classify.distill.run as distill_module
import classify.train.loop as loop_module
from classify.calibrate import Calibration
from classify.config import DistillConfig
from classify.distill.request import DistillRequest
from classify.distill.run import best_fold, distill
from classify.distill.student import Student, Teachers
from classify.network.augment import Augmenter
from classify.network.checkpoint import ModelCard, halved, load_card, load_model
from classify.network.fast import FastFile, load_fast_card
from classify.network.model import FAMILIES, SeverityNet, build_model
from classify.predict import Classifier, PredictRequest
from classify.samples import Crops
from classify.train.request import TrainingResources
from shared.annotations import annotated_localizations
from shared.detections import write_localizations
from shared.labels import FINDINGS, Condition, Severity
from shared.out_of_fold import OutOfFold
from shared.runtime.documents import adapter_of, read_json
from shared.runtime.errors import InputError
from shared.runtime.files import write_json
from shared.runtime.run_folder import sha256_of, trained_digest
from tests.classify.test_training import command
from tests.fast_run import add_fast

CPU = TrainingResources(device="cpu", keep_cache=True)
RECIPE = DistillConfig(length=0.5, teachers=1)
DEVICE = torch.device("cpu")


class KilledError(Exception):
    pass


def die(*_: object, **__: object) -> None:
    raise KilledError


@pytest.fixture(scope="module")
def distilled(run: Path, challenge: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run, with a fast grader made of its two folds."""
    copy = shutil.copytree(run, tmp_path_factory.mktemp("distilled") / "run")
    assert command("distill", challenge.root, copy, "--device", "cpu", "--keep-cache", "--set", "length=0.5",
                   "--set", "teachers=1", "--workers", 1) == 0  # fmt: skip
    return copy


@pytest.fixture
def with_fast(run: Path, tmp_path: Path) -> Path:
    """The run, with its first fold in the place of a fast grader."""
    return add_fast(shutil.copytree(run, tmp_path / "run"))


def test_a_run_says_what_its_fast_grader_was_made_of(distilled: Path, run: Path) -> None:
    names = sorted(p.name for p in (distilled / "fast").iterdir())
    assert names == [".lumbar", "log.csv", "model.json", "model.safetensors", "state.json"]
    card = load_fast_card(distilled)
    assert card.distilled.teachers == {str(k): sha256_of(run / f"fold{k}" / "model.safetensors") for k in (0, 1)}
    assert card.distilled.recipe == RECIPE
    assert card.distilled.crops == 12 * len(FINDINGS) - 1  # one grade is missing
    assert (card.network.fold, card.network.held_out_points) == (None, "annotated")
    assert adapter_of(FastFile).validate_json((distilled / "fast" / "model.json").read_text())
    facts, before = read_json(distilled / "run.json"), read_json(run / "run.json")
    record = facts.pop("fast")
    assert facts == before
    assert (record["folds"], record["sha256"]) == ([0, 1], trained_digest(distilled, fast=True))
    # What the folds answer is as it was.
    assert trained_digest(distilled) == trained_digest(run)


def test_it_is_half_as_large_and_answers_as_it_did_before_it_was_stored(distilled: Path) -> None:
    sizes = [(distilled / part / "model.safetensors").stat().st_size for part in ("fast", "fold0")]
    assert 0.49 < sizes[0] / sizes[1] < 0.52
    made = load_fast_card(distilled).distilled
    assert 0 < made.half_precision < 0.01
    assert 0 < made.divergence < 1


def test_it_grades_in_place_of_the_folds(distilled: Path, challenge: Any) -> None:
    study = challenge.load_study(challenge.study_ids[0]).study
    points = annotated_localizations(study, challenge.points[study.study_id])
    fast, folds = (Classifier.load(distilled, device="cpu", fast=fast) for fast in (True, False))
    answers = [c.grade(study, points) for c in (fast, folds)]
    assert answers[0].from_model.all()
    np.testing.assert_allclose(fast.prior, folds.prior)  # rows without a model's answer stay as they are
    assert 0 < np.abs(answers[0].submission - answers[1].submission).max() < 0.6


def test_a_killed_call_continues_to_the_same_bytes(
    distilled: Path, challenge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(distilled, tmp_path / "run")
    shutil.rmtree(run / "fast")
    (run / "fast").mkdir()
    request = DistillRequest(data=challenge, run=run, recipe=RECIPE)
    save = loop_module.save_progress  # type: ignore[attr-defined]

    def save_then_die(*arguments: Any) -> None:
        save(*arguments)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(loop_module, "SAVE_EVERY_SECONDS", -1.0)  # after every step
        patch.setattr(loop_module, "save_progress", save_then_die)
        with pytest.raises(KilledError):
            distill(request, CPU)
    with pytest.raises(InputError, match="has no fast grader"):
        Classifier.load(run, fast=True)
    with pytest.raises(InputError, match="recipe changed"):
        distill(replace(request, recipe=DistillConfig()), replace(CPU, resume=True))
    distill(request, replace(CPU, resume=True))
    for name in ("model.safetensors", "model.json", "log.csv"):
        assert (run / "fast" / name).read_bytes() == (distilled / "fast" / name).read_bytes(), name
    monkeypatch.setattr(distill_module, "build_cache", die)
    distill(request, replace(CPU, resume=True))  # it is finished


def test_a_fast_grader_of_other_folds_is_refused(with_fast: Path) -> None:
    card = with_fast / "fast" / "model.json"
    kept = card.read_text()
    Classifier.load(with_fast, device="cpu", fast=True)
    card.write_text(kept.replace(sha256_of(with_fast / "fold1" / "model.safetensors"), "0" * 64))
    with pytest.raises(InputError, match="was made of another fold 1 than is there now; make it again"):
        Classifier.load(with_fast, device="cpu", fast=True)
    card.write_text(kept)
    shutil.rmtree(with_fast / "fold1")
    with pytest.raises(InputError, match="was made of fold 0, 1, but trained are 0; make it again"):
        Classifier.load(with_fast, device="cpu", fast=True)
    shutil.rmtree(with_fast / "fold0")
    Classifier.load(with_fast, device="cpu", fast=True)  # a pack may leave the folds out
    with pytest.raises(InputError, match="holds only the fast grader of the run, not its folds; give --fast"):
        Classifier.load(with_fast, device="cpu")


def test_its_training_studies_are_not_its_to_answer(
    with_fast: Path, run: Path, challenge: Any, localizer: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    points = OutOfFold(localizer)
    with pytest.raises(InputError, match=r"has learned from all studies.*leave --fast out"):
        PredictRequest(data=challenge, run=with_fast, points=points, fast=True)
    words = ["predict", challenge.root, run, tmp_path / "out", "--localizations", localizer / "localizations.csv"]
    assert command(*words, "--part", "train", "--fast", "--device", "cpu") == 1
    assert "has no fast grader; make it with `lumbar classify distill" in capsys.readouterr().err


def test_what_cannot_teach_is_refused(
    run: Path, challenge: Any, points_of: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="was trained at annotated points; leave it out"):
        DistillRequest(data=challenge, run=run, localizations=points_of())
    with pytest.raises(InputError, match="was trained on other data than"):
        DistillRequest(data=replace(challenge, grades=None), run=run)
    copy = shutil.copytree(run, tmp_path / "run")
    write_json(copy / "state.json", {**read_json(copy / "state.json"), "crops": "other"})
    with pytest.raises(InputError, match="its crops were made by another version or of other points"):
        DistillRequest(data=challenge, run=copy)
    shutil.rmtree(copy / "fold1")
    write_localizations(tmp_path / "localizations.csv", {})
    assert command("distill", challenge.root, copy, "--localizations", tmp_path / "localizations.csv") == 1
    assert "has 1 trained fold; expected at least 2 to learn from" in capsys.readouterr().err


def test_the_best_fold_is_the_one_with_the_lowest_held_out_loss(run: Path, challenge: Any, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    request = DistillRequest(data=challenge, run=copy)
    for losses, best in (((1.0, 0.5), 1), ((0.5, 1.0), 0), ((0.5, 0.5), 0)):
        for k, loss in enumerate(losses):
            (copy / f"fold{k}" / "log.csv").write_text(f"epoch,held_out_loss\n1,0.1\n2,{loss}\n")
        assert best_fold(request) == best


@pytest.fixture(scope="module")
def teachers_of(run: Path) -> Any:
    cards = {k: load_card(run / f"fold{k}") for k in (0, 1)}
    # Folds may be calibrated; these tell one from the other.
    warm = [
        replace(card, calibration={c: Calibration(temperature=1.0 + k + n / 4) for n, c in enumerate(Condition)})
        for k, card in cards.items()
    ]
    members = [(card, load_model(run / f"fold{k}", card, DEVICE)) for k, card in enumerate(warm)]

    def teachers(recipe: DistillConfig = RECIPE) -> tuple[Teachers, list[tuple[ModelCard, SeverityNet]]]:
        return Teachers(members, recipe, DEVICE), members

    return teachers


@pytest.fixture(scope="module")
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Nine crops: every family at three levels."""
    x = torch.randn((9, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    return x, torch.arange(9) % len(FAMILIES), torch.arange(9) // 3


def test_teachers_answer_as_their_run_does(teachers_of: Any, batch: Any) -> None:
    teachers, members = teachers_of()
    x, family, level = batch
    both = teachers(x, family, level)
    each = []
    for card, network in members:
        logits = network(x, family, level).detach().double().numpy()
        each.append([card.calibration[FAMILIES[f]](row) for f, row in zip(family, logits, strict=True)])
    np.testing.assert_allclose(both, np.mean(each, axis=0), atol=1e-6)
    # Asking some of them teaches the same on average.
    single = [teachers(x, family, level, asked=[k]) for k in range(len(teachers))]
    torch.testing.assert_close(both, torch.stack(single).mean(0))


def student(teachers: Teachers, card: ModelCard) -> Student:
    b = 9
    crops = Crops(
        patches=np.zeros((1, len(FINDINGS), 5, 40, 40), np.uint8), study=np.zeros(b, np.intp),
        finding=np.array([next(f.index for f in FINDINGS if f.condition is c and f.level.value == n // 3)
                          for n, c in enumerate(list(Condition) * 3)]),
        label=(np.arange(b) % 3).astype(np.int8), annotated=np.ones(b, bool),
    )  # fmt: skip
    model = build_model(card.config.model, slices=3, prior=np.full((len(FINDINGS), 3), 1 / 3))
    still = Augmenter.still(card.config.crop)
    return Student(model, crops, card.config, still, teachers=teachers, device=DEVICE)


def test_nothing_is_better_than_to_say_what_is_taught(
    teachers_of: Any, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    teachers, members = teachers_of()
    own = student(teachers, members[0][0])
    x, family, level = batch
    answers = teachers(x, family, level)
    grades = functional.one_hot(torch.from_numpy(own.crops.label.astype(np.int64)), len(Severity))
    weight = torch.from_numpy(own.weights)
    label = torch.from_numpy(own.crops.label.astype(np.int64))
    one: Any = SimpleNamespace(family=family, level=level, label=label, weight=weight)

    def loss(logits: torch.Tensor) -> float:
        return float(own.loss(lambda *_: logits, x, one))

    for share in (0.0, 0.3, 0.9):
        monkeypatch.setattr(own, "_recipe", DistillConfig(teachers=0, label_share=share))
        taught = (1 - share) * answers + share * grades
        said = taught.log()
        assert loss(said) == pytest.approx(float((weight * -(taught * said).sum(1)).mean()), abs=1e-5)
        for seed in range(3):
            other = said + 0.1 * torch.randn(said.shape, generator=torch.Generator().manual_seed(seed))
            assert loss(other) > loss(said)


@settings(max_examples=30)
@given(st.lists(st.floats(-6e4, 6e4, width=32), min_size=1, max_size=20))
def test_halving_keeps_vectors_and_three_digits_of_the_rest(values: list[float]) -> None:
    vector = torch.tensor(values, dtype=torch.float32)
    state = halved({"kernel": vector[:, None], "variance": vector, "steps": torch.tensor(7)})
    assert (state["kernel"].dtype, state["steps"].dtype) == (torch.float16, torch.int64)
    torch.testing.assert_close(state["variance"], vector, rtol=0, atol=0)
    torch.testing.assert_close(state["kernel"][:, 0].float(), vector, rtol=1e-3, atol=1e-7)


def test_a_damaged_card_is_one_error(with_fast: Path) -> None:
    card = with_fast / "fast" / "model.json"
    value = json.loads(card.read_text())
    for change in ({"points": "anywhere"}, {"distilled": {**value["distilled"], "teachers": {}}}, {"fold": 3}):
        card.write_text(json.dumps(value | change))
        with pytest.raises(InputError, match="make it again with"):
            load_fast_card(with_fast)
