"""A training step: where its patches lie, how batches are divided and added up, and what it asks of the host."""

from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from classify import device as device_module
from classify.config import ClassifyConfig
from classify.network.augment import Augmenter
from classify.network.model import CANAL, build_model
from classify.samples import Crops
from classify.train import beside as beside_module
from classify.train import feed as feed_module
from classify.train.batches import divided
from classify.train.feed import Feed
from classify.train.loop import Trainer
from shared.labels import FINDINGS, Condition
from shared.runtime.errors import InputError

CPU = torch.device("cpu")
STUDIES = 4


def config_of(*overrides: str) -> ClassifyConfig:
    tiny = ("crop.size_px=32", "crop.slices=3", "crop.margin_px=4", "crop.margin_slices=1", "model.backbone='resnet18'")
    return ClassifyConfig.load(None, (*tiny, "train.amp='none'", "train.batch=20", *overrides))


def crops_of(config: ClassifyConfig) -> Crops:
    rng, crop, rows = np.random.default_rng(0), config.crop, STUDIES * len(FINDINGS)
    shape = (STUDIES, len(FINDINGS), crop.cached_channels, crop.cached_px, crop.cached_px)
    return Crops(
        patches=rng.integers(0, 256, shape, dtype=np.uint8), study=np.repeat(np.arange(STUDIES), len(FINDINGS)),
        finding=np.tile(np.arange(len(FINDINGS)), STUDIES), label=rng.integers(-1, 3, rows).astype(np.int8),
        annotated=rng.random(rows) < 0.5,
    )  # fmt: skip


def trainer_of(config: ClassifyConfig) -> Trainer:
    jitter = {c: config.jitter.jitter(c) for c in Condition}
    augmenter = Augmenter(
        crop=config.crop, augment=config.augment, jitter=jitter, detected_share=dict.fromkeys(Condition, 0.3)
    )
    torch.manual_seed(0)
    model = build_model(config.model, slices=config.crop.channels, prior=np.full((len(FINDINGS), 3), 1 / 3))
    return Trainer(model, crops_of(config), config, augmenter, fold=0, device=CPU)


def inputs_of(trainer: Trainer, step: int) -> list[Any]:
    passes = trainer.plan(0)[step]
    patches = trainer.feed.patches([one.rows for one in passes])
    return [(trainer.prepare(x, one.draw), one) for x, one in zip(patches, passes, strict=True)]


def weights_of(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def test_results_do_not_depend_on_where_the_patches_lie(monkeypatch):
    crops = crops_of(config_of())
    batches = [np.array([5, 2, 99]), np.array([0]), *(np.arange(k, k + 4) for k in range(12))]
    monkeypatch.setattr(feed_module, "_CHUNK", 7)
    resident = Feed.of(crops, CPU)
    assert resident.resident is not None
    needed = crops.patches.nbytes
    monkeypatch.setattr(feed_module, "free_memory_bytes", lambda: 2 * needed)
    assert Feed.of(crops, CPU).resident is not None
    assert Feed.of(crops, CPU, processes=2).resident is None  # two processes would take it twice
    monkeypatch.setattr(feed_module, "free_memory_bytes", lambda: 2 * needed - 1)
    cached = Feed.of(crops, CPU)
    assert cached.resident is None
    for kept, read, rows in zip(resident.patches(batches), cached.patches(batches), batches, strict=True):
        assert torch.equal(kept, read)
        assert np.array_equal(kept.numpy(), crops.read(rows))


@given(st.integers(1, 60), st.integers(1, 6), st.booleans(), st.integers(0, 99))
def test_a_batch_is_divided_without_loss_and_studies_stay_whole(size, parts, whole, seed):
    crops = crops_of(config_of())
    rows = np.random.default_rng(seed).permutation(len(crops))[:size]
    places = divided(crops, rows, parts, whole_studies=whole)
    assert len(places) == parts
    assert sorted(np.concatenate(places)) == list(range(size))
    if parts == 1:
        assert np.array_equal(places[0], np.arange(size))
    if whole:
        homes = [{int(s) for s in crops.study[rows[own]][crops.family[rows[own]] == CANAL]} for own in places]
        assert sum(map(len, homes)) == len(set().union(*homes))
    else:
        assert max(map(len, places)) - min(map(len, places)) <= 1


@pytest.mark.parametrize("more", [(), ("train.any_severe=1", "train.canal_emphasis=1")])
def test_accumulated_batches_learn_like_a_large_one(more):
    """Batch normalisation and dropout aside, which are switched off here."""
    results = []
    for split in (("train.batch=20", "train.accumulate=2"), ("train.batch=40",)):
        trainer = trainer_of(config_of(*split, *more))
        trainer.model.eval()
        steps = [inputs_of(trainer, k) for k in range(2)]
        assert {len(passes) for passes in steps} == ({2} if len(split) == 2 else {1})
        losses = [float(trainer.update(inputs, step)) for step, inputs in enumerate(steps)]
        results.append((losses, weights_of(trainer), trainer.steps))
    (few, few_weights, few_steps), (large, large_weights, large_steps) = results
    assert few_steps == large_steps == 2
    assert few == pytest.approx(large, rel=1e-5)
    start = weights_of(trainer_of(config_of()))
    assert (few_weights - large_weights).norm() < 0.02 * (large_weights - start).norm()


@pytest.mark.parametrize("accumulate", [2, 3])
def test_passes_side_by_side_teach_what_they_teach_in_turn(accumulate, monkeypatch):
    """Weights, running statistics and counters; in double precision the order of sums does not matter."""
    monkeypatch.setattr(beside_module, "usable_cores", lambda: 2)
    results = []
    for beside in (True, True, False):
        trainer = trainer_of(config_of("train.batch=9", f"train.accumulate={accumulate}", "model.dropout=0.3"))
        trainer.model.double()
        trainer.model.train()
        with trainer.side_by_side() if beside else nullcontext():
            assert (trainer._beside is not None) is beside
            losses = [
                float(trainer.update([(x.double(), one) for x, one in inputs_of(trainer, step)], step))
                for step in range(3)
            ]
        results.append((losses, trainer.model.state_dict()))
    (losses, state), (losses_again, state_again), (losses_in_turn, state_in_turn) = results
    assert losses == losses_again
    assert all(torch.equal(tensor, state_again[name]) for name, tensor in state.items())
    assert losses == pytest.approx(losses_in_turn, rel=1e-6)
    for name, tensor in state_in_turn.items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-4, atol=1e-6, msg=name)
    assert {int(t) for name, t in state.items() if name.endswith("tracked")} == {3 * accumulate}


def test_what_draws_while_it_computes_is_computed_in_turn(monkeypatch):
    monkeypatch.setattr(beside_module, "usable_cores", lambda: 2)
    config = config_of("train.batch=9", "train.accumulate=2", "model.backbone='efficientnet_b0'")
    trainer = trainer_of(config)
    with trainer.side_by_side():
        assert trainer._beside is None
    threads = torch.get_num_threads()
    plain = trainer_of(config_of("train.accumulate=2"))
    with plain.side_by_side():
        plain.update(inputs_of(plain, 0), 0)
    assert torch.get_num_threads() == threads


class Asked(TorchDispatchMode):
    """Counts operations whose result the host must know before it can go on."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").split(".")[0]
        indices = args[1] if name in ("index", "index_put_", "_index_put_impl_") else []
        masked = any(isinstance(i, torch.Tensor) and i.dtype == torch.bool for i in indices)
        if masked or name in ("_local_scalar_dense", "nonzero", "_unique2", "is_nonzero", "masked_select", "equal"):
            self.counted[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("more", [(), ("train.any_severe=1", "crop.second_view=true")])
def test_a_step_asks_the_host_for_nothing(more):
    # A CPU looks at the gradients' norm, because that spares it work; a GPU does not.
    trainer = trainer_of(config_of("train.gradient_clip=0", *more))
    (one, *_), *_ = trainer.plan(0)
    patches = next(trainer.feed.patches([one.rows]))
    with Asked() as asked:
        trainer.update([(trainer.prepare(patches, one.draw), one)], step=0)
    assert not asked.counted
    with Asked() as asked:
        patches[patches > 9].sum().item()
    assert len(asked.counted) == 2


def test_a_compiler_that_fails_stops_only_who_insists(monkeypatch):
    class Broken(torch._dynamo.exc.TorchDynamoException):  # type: ignore[name-defined]
        pass

    def broken(*_: object) -> None:
        raise Broken("no compiler here")

    calls = []
    monkeypatch.setattr(torch, "compile", lambda network: calls.append(network) or broken)
    network = torch.nn.Identity()
    assert device_module.compiled(network, "off", CPU) is network
    assert device_module.compiled(network, "auto", CPU) is network
    assert calls == []
    with pytest.raises(InputError, match=r"train\.compile: .*no compiler here"):
        device_module.compiled(network, "on", CPU)(torch.ones(1))
    going_on = device_module.compiled(network, "auto", torch.device("cuda"))
    assert [float(going_on(torch.ones(1))) for _ in range(2)] == [1, 1]


def test_a_part_of_a_batch_is_augmented_as_in_the_whole():
    trainer = trainer_of(config_of("crop.second_view=true"))
    rng, rows = np.random.default_rng(0), np.arange(12)
    draw = trainer.augmenter.draw(rng, trainer.crops.finding[rows], trainer.crops.annotated[rows])
    patches = torch.from_numpy(trainer.crops.read(rows))
    whole, own = trainer.augmenter.apply(patches, draw), np.array([7, 0, 11])
    assert torch.equal(trainer.augmenter.apply(patches[own], draw.part(own)), whole[own])
    quiet = replace(draw, noise=np.zeros(12, np.float32))
    assert trainer.augmenter.place([quiet], CPU)[0].noise_seed is None
    assert not torch.equal(trainer.augmenter.apply(patches, quiet), whole)
