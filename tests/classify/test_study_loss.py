"""The any-severe term in training, the batches it needs, and when training stops."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from classify.config import ClassifyConfig
from classify.network.augment import Augmenter
from classify.network.model import CANAL, any_severe_loss, build_model
from classify.samples import Crops
from classify.train.batches import plain_batches, study_batches
from classify.train.loop import EpochResult, Trainer, stops_early
from shared.labels import FINDINGS, Condition, findings_of
from shared.metric import study_losses
from shared.runtime.errors import InputError

CANAL_COLUMNS = [f.index for f in findings_of(Condition.CANAL)]


def crops_of(grades: np.ndarray) -> Crops:
    """One row for each graded finding of [studies, 25] grades."""
    study, finding = np.nonzero(grades >= 0)
    return Crops(
        patches=np.zeros((len(grades), len(FINDINGS), 1, 32, 32), np.uint8), study=study, finding=finding,
        label=grades[study, finding], annotated=np.ones(len(study), bool),
    )  # fmt: skip


@given(st.integers(0, 999))
def test_the_loss_is_the_metrics_own_term(seed):
    rng = np.random.default_rng(seed)
    grades = rng.integers(-1, 3, (6, len(FINDINGS))).astype(np.int8)
    grades[0, CANAL_COLUMNS] = -1  # a study without any graded canal row has no part in it
    grades[1, CANAL_COLUMNS[0]] = 2
    logits = rng.normal(size=(6, len(FINDINGS), 3))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    metric = study_losses(p, grades)
    study, place = np.nonzero(grades[:, CANAL_COLUMNS] >= 0)
    columns = np.array(CANAL_COLUMNS)[place]
    loss, weight = any_severe_loss(
        torch.from_numpy(logits[study, columns]),
        torch.from_numpy(grades[study, columns].astype(np.int64)),
        torch.from_numpy(np.unique(study, return_inverse=True)[1]),
        len(np.unique(study)),
    )
    there = metric.weights[:, -1] > 0
    assert loss.numpy() == pytest.approx(metric.losses[there, -1], rel=1e-6)
    assert weight.numpy() == pytest.approx(metric.weights[there, -1])


def test_only_the_worst_level_learns_from_it():
    logits = torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, 0.0], [0.0, 0.0, -1.0]], requires_grad=True)
    any_severe_loss(logits, torch.tensor([2, 0, 0]), torch.tensor([0, 0, 0]), 1)[0].sum().backward()
    assert logits.grad[0].abs().sum() > 0
    assert not logits.grad[1:].any()


@given(st.integers(2, 40), st.integers(8, 64), st.integers(0, 99))
def test_a_batch_holds_all_canal_crops_of_its_studies(studies, batch, seed):
    rng = np.random.default_rng(seed)
    grades = rng.integers(-1, 3, (studies, len(FINDINGS))).astype(np.int8)
    crops = crops_of(grades)
    batches = study_batches(crops, batch, rng)
    rows = np.concatenate(batches)
    assert len(np.unique(rows)) == len(rows)
    canal = crops.family == CANAL
    assert set(np.flatnonzero(canal)) <= set(rows)
    for own in batches:
        for study in np.unique(crops.study[own[canal[own]]]):
            assert (canal[own] & (crops.study[own] == study)).sum() == (canal & (crops.study == study)).sum()
    if not (len(crops) < batch):
        assert len(batches) == len(plain_batches(crops, batch, rng))
        share = [canal[own].mean() for own in batches]
        assert max(map(len, batches)) <= max(batch, batch * max(share) + 1)


def test_any_severe_one_counts_like_a_family():
    """Over an epoch the scaled study losses sum to the term, times the share that a family has of the row loss."""
    rng = np.random.default_rng(0)
    grades = rng.integers(0, 3, (12, len(FINDINGS))).astype(np.int8)
    crops = crops_of(grades)
    config = ClassifyConfig.load(
        None, ("crop.size_px=32", "crop.slices=1", "train.batch=50", "train.any_severe=1", "train.canal_emphasis=1")
    )
    model = build_model(config.model, slices=1, prior=np.full((len(FINDINGS), 3), 1 / 3))
    trainer = Trainer(model, crops, config, Augmenter.still(config.crop), fold=0, device=torch.device("cpu"))
    logits = torch.from_numpy(rng.normal(size=(len(crops), 3)))
    total = weights = 0.0
    for rows in study_batches(crops, config.train.batch, rng):
        canal = rows[crops.family[rows] == CANAL]
        label = torch.from_numpy(crops.label[canal].astype(np.int64))
        studies, study = np.unique(crops.study[canal], return_inverse=True)
        loss, weight = any_severe_loss(logits[canal], label, torch.from_numpy(study), len(studies))
        total, weights = total + float(loss.sum()), weights + float(weight.sum())
    assert trainer.any_scale * total / trainer.steps == pytest.approx(total / weights / 3, rel=1e-5)


def test_stops_after_epochs_without_a_lower_loss():
    def history(*losses: float) -> list[EpochResult]:
        return [EpochResult(epoch=1, train_loss=0, held_out_loss=v, learning_rate=0, seconds=0) for v in losses]

    assert not stops_early(history(3, 2, 2.5), 2)
    assert stops_early(history(3, 2, 2.5, 2.1), 2)
    assert not stops_early(history(3, 2, 2.5, 1.9), 2)
    assert not stops_early(history(3, 4, 5, 6), 0)
    with pytest.raises(InputError, match='keep = "best"'):
        ClassifyConfig.load(None, ("train.patience=2",))
