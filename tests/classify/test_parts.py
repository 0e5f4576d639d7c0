"""Loss, weights, jitter, calibration, schedule, configs, import rules: each against what it promises."""

import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from classify.calibrate import IDENTITY, fit_calibration, softmax
from classify.config import (
    AugmentConfig,
    ClassifyConfig,
    CropConfig,
    JitterConfig,
    ModelConfig,
    PerFamily,
    TrainConfig,
)
from classify.device import pick_device
from classify.network.augment import UNCHANGED, Augmenter, center, standardise
from classify.network.model import (
    FAMILIES,
    SeverityNet,
    build_model,
    check_starting_weights,
    for_prediction,
    row_weights,
    weighted_loss,
)
from classify.network.trunk import load_trunk
from classify.samples import Crops
from classify.train.command import main
from classify.train.feed import Feed
from classify.train.held_out import predict_logits
from classify.train.optimizer import learning_rate
from shared.agreement import calibration_error, confusion
from shared.jitter import Jitter
from shared.labels import FINDINGS, Condition, Finding, Level, Side
from shared.metric import weighted_log_loss
from shared.probabilities.table import class_weighted, unweighted
from shared.runtime.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
CROP = CropConfig(
    size_px=32, slices=3, margin_px=12, margin_slices=2, mm_per_px=PerFamily(canal=0.5, foraminal=0.5, subarticular=0.5)
)
CANAL = Finding(condition=Condition.CANAL, side=None, level=Level.L1_L2).index
FORAMEN = {s: Finding(condition=Condition.FORAMINAL, side=s, level=Level.L1_L2).index for s in Side}


def augmenter(
    sd_mm: float, offsets: dict[int, float], augment: AugmentConfig = UNCHANGED, share: float = 0.5
) -> Augmenter:
    jitter = {c: Jitter(in_plane_sd_mm=sd_mm, slice_offsets=offsets) for c in Condition}
    return Augmenter(crop=CROP, augment=augment, jitter=jitter, detected_share=dict.fromkeys(Condition, share))


@settings(deadline=None)
@given(st.lists(st.integers(-1, 2), min_size=1, max_size=20), st.integers(0, 99))
def test_rows_without_a_grade_count_nothing(labels, seed):
    generator = torch.Generator().manual_seed(seed)
    label = torch.tensor(labels)
    logits = torch.randn(len(label), 3, generator=generator, requires_grad=True)
    weight = torch.rand(len(label), generator=generator)
    loss = weighted_loss(logits, label, weight)
    loss.backward()
    log_p = torch.log_softmax(logits, 1)
    by_hand = sum(-weight[i] * log_p[i, labels[i]] for i in range(len(labels)) if labels[i] >= 0)
    assert loss.item() == pytest.approx(float(torch.as_tensor(by_hand).detach()) / len(labels), abs=1e-6)
    assert not logits.grad[label < 0].any()


def test_row_weights_follow_the_metric():
    label = np.array([0, 1, 2, -1, 0, 0], np.int8)
    family = np.array([0, 0, 0, 0, 1, 1])
    plain = row_weights(label, family, balance=0.0, canal_emphasis=1.0)
    assert plain / plain[0] == pytest.approx([1, 2, 4, 0, 1, 1])
    balanced = row_weights(label, family, balance=1.0, canal_emphasis=1.0)
    assert balanced[:4].sum() == pytest.approx(balanced[4:].sum())
    assert balanced.mean() == pytest.approx(1)
    emphasised = row_weights(label, family, balance=1.0, canal_emphasis=1.5)
    assert emphasised[:4].sum() == pytest.approx(1.5 * emphasised[4:].sum())


def test_jitter_has_the_measured_spread():
    rng = np.random.default_rng(0)
    finding = np.full(20000, CANAL)
    annotated = np.arange(20000) < 10000
    draw = augmenter(2.0, {-1: 0.2, 0: 0.5, 2: 0.3}).draw(rng, finding, annotated)
    assert draw.shift_px[annotated].std(axis=0) == pytest.approx([4, 4], rel=0.05)  # 2 mm at 0.5 mm/px
    assert draw.shift_px[~annotated].std(axis=0) == pytest.approx([2, 2], rel=0.05)
    for offset, share in ((-1, 0.2), (0, 0.5), (2, 0.3)):
        assert (draw.slice_offset[annotated] == offset).mean() == pytest.approx(share, abs=0.02)
    assert (draw.slice_offset[~annotated] == 0).mean() == pytest.approx(0.75, abs=0.02)
    assert np.abs(draw.shift_px).max() <= CROP.margin_px


@given(measured_mm=st.floats(0.0, 6.0), off=st.floats(0.0, 0.9))
def test_crops_are_at_least_as_far_off_as_assumed(measured_mm, off):
    config = JitterConfig(at_least=True)
    measured = Jitter(in_plane_sd_mm=measured_mm, slice_offsets={0: 1 - off, 2: off})
    jitter = config.of_annotated(Condition.CANAL, measured)
    assert jitter.in_plane_sd_mm == max(measured_mm, 2.0)
    assert jitter.slice_offsets[0] == min(1 - off, 0.7)
    share = config.share_of_detected(Condition.CANAL, measured)
    assert config.detected_share <= share <= 1
    # A detected point's own error and what is added reach the whole.
    assert np.hypot(measured_mm, share * jitter.in_plane_sd_mm) >= jitter.in_plane_sd_mm * (1 - 1e-9)
    as_measured = JitterConfig()
    assert as_measured.of_annotated(Condition.CANAL, measured) == measured
    assert as_measured.share_of_detected(Condition.CANAL, measured) == as_measured.detected_share
    assert config.of_annotated(Condition.CANAL, None) == config.jitter(Condition.CANAL)


def test_slice_jitter_runs_with_the_series_on_both_sides():
    rng = np.random.default_rng(0)
    finding = np.array([FORAMEN[Side.LEFT], FORAMEN[Side.RIGHT], CANAL])
    draw = augmenter(0.0, {1: 1.0}).draw(rng, finding, np.ones(3, bool))
    assert draw.slice_offset.tolist() == [1, -1, 1]


def test_no_change_gives_the_centre_crop_and_a_shift_moves_it():
    rng = np.random.default_rng(0)
    patches = torch.from_numpy(rng.integers(0, 256, (4, 7, 56, 56)).astype(np.uint8))
    plain = augmenter(0.0, {0: 1.0})
    draw = plain.draw(rng, np.full(4, CANAL), np.ones(4, bool))
    assert torch.allclose(plain.apply(patches, draw), center(patches, CROP), atol=1e-4)
    draw.shift_px[:] = (3, -2)
    draw.slice_offset[:] = 1
    expected = patches[:, 3:6, 12 - 2 : 44 - 2, 12 + 3 : 44 + 3].float() / 255
    assert torch.allclose(plain.apply(patches, draw), expected, atol=1e-4)


def test_only_the_canal_is_mirrored_and_only_across_slices():
    rng = np.random.default_rng(0)
    mirroring = augmenter(0.0, {0: 1.0}, UNCHANGED.model_copy(update={"mirror_canal": True}))
    finding = np.array([CANAL, FORAMEN[Side.LEFT]] * 50)
    draw = mirroring.draw(rng, finding, np.ones(100, bool))
    assert not draw.mirror[1::2].any()
    assert 0.2 < draw.mirror[::2].mean() < 0.8
    patches = torch.from_numpy(rng.integers(0, 256, (100, 7, 56, 56)).astype(np.uint8))
    out, plain = mirroring.apply(patches, draw), center(patches, CROP)
    flipped = torch.from_numpy(draw.mirror)
    assert torch.allclose(out[flipped], plain[flipped].flip(1), atol=1e-4)
    assert torch.allclose(out[~flipped], plain[~flipped], atol=1e-4)


def test_augmentation_is_finite_and_standardised():
    rng = np.random.default_rng(0)
    everything = augmenter(2.0, {0: 1.0}, AugmentConfig())
    draw = everything.draw(rng, np.full(8, CANAL), np.ones(8, bool))
    patches = torch.from_numpy(rng.integers(0, 256, (8, 7, 56, 56)).astype(np.uint8))
    x = standardise(everything.apply(patches, draw))
    assert x.shape == (8, 3, 32, 32)
    assert torch.isfinite(x).all()
    assert x.mean(dim=(1, 2, 3)).abs().max() < 1e-4
    assert torch.isfinite(standardise(torch.zeros(1, 3, 32, 32))).all()


@pytest.mark.parametrize("change", ["brightness", "contrast"])
def test_brightness_and_contrast_survive_standardising(change):
    rng = np.random.default_rng(0)
    changing = augmenter(0.0, {0: 1.0}, UNCHANGED.model_copy(update={change: 0.3}))
    patches = torch.from_numpy(rng.integers(0, 256, (8, 7, 56, 56)).astype(np.uint8))
    out = standardise(changing.apply(patches, changing.draw(rng, np.full(8, CANAL), np.ones(8, bool))))
    plain = standardise(center(patches, CROP))
    assert ((out - plain).abs().amax(dim=(1, 2, 3)) > 0.05).sum() >= 4
    still = changing.only_jitter()
    same = standardise(still.apply(patches, still.draw(rng, np.full(8, CANAL), np.ones(8, bool))))
    assert torch.allclose(same, plain, atol=1e-3)


def test_calibration_crops_are_off_by_the_jitter_alone():
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 256, (2, len(FINDINGS), 7, 56, 56)).astype(np.uint8)
    study, finding = np.repeat([0, 1], 5), np.tile(np.arange(5), 2)
    crops = Crops(
        patches=patches, study=study, finding=finding, label=np.zeros(10, np.int8), annotated=np.ones(10, bool)
    )  # fmt: skip
    torch.manual_seed(0)
    model, feed = SeverityNet(slices=3, dropout=0.0), Feed.of(crops, torch.device("cpu"))

    def logits(of: Augmenter | None) -> np.ndarray:
        return predict_logits(model, feed, CROP, bf16=False, augmenter=of)

    still, off = augmenter(0.0, {0: 1.0}, AugmentConfig()), augmenter(2.0, {-1: 0.5, 1: 0.5}, AugmentConfig())
    assert logits(still.only_jitter()) == pytest.approx(logits(None), abs=1e-3)
    assert logits(off.only_jitter()) != pytest.approx(logits(None), abs=1e-3)
    assert np.array_equal(logits(off.only_jitter()), logits(off.only_jitter()))


def test_an_untrained_network_starts_near_the_prior():
    rng = np.random.default_rng(0)
    prior = rng.dirichlet([4, 2, 1], size=len(FINDINGS))
    model = build_model(ClassifyConfig().model, slices=3, prior=prior).eval()
    family = torch.tensor([FAMILIES.index(Condition.CANAL)])
    with torch.no_grad():
        p = torch.softmax(model(torch.randn(1, 3, 32, 32), family, torch.tensor([2])), 1)[0]
    row = Finding(condition=Condition.CANAL, side=None, level=Level.L3_L4).index
    assert p.numpy() == pytest.approx(prior[row], abs=0.15)


@pytest.mark.parametrize("backbone", ["resnet50", "densenet121", "convnext_tiny"])
def test_a_network_that_only_predicts_answers_as_the_trained_one(backbone):
    torch.manual_seed(0)
    model = SeverityNet(slices=3, dropout=0.2, backbone=backbone)
    for tensor in model.trunk.state_dict().values():
        if tensor.ndim == 1:  # statistics and gains; training would have moved them from 0 and 1, too
            tensor.uniform_(0.5, 1.5)
    model.eval()
    batch = torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 0]), torch.tensor([0, 1, 2, 3])

    def logits(network: SeverityNet, *, bf16: bool) -> torch.Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return network(*batch)

    exact, rounded = logits(model, bf16=False), logits(model, bf16=True)
    folded = logits(for_prediction(deepcopy(model)), bf16=False)
    torch.testing.assert_close(folded, exact, rtol=0, atol=1e-3 * float(exact.std()))
    quick = logits(for_prediction(deepcopy(model), bf16=True), bf16=True)
    # Kernels that are rounded after the folding err as much as those that are rounded before it.
    assert 0 < (quick - exact).norm() < 2 * (rounded - exact).norm()


@pytest.fixture(scope="module")
def starting_files(tmp_path_factory):
    """A torchvision state dict and a fold's network, with one trunk, and that trunk."""
    network, folder = SeverityNet(slices=3, dropout=0.0), tmp_path_factory.mktemp("start")
    state = network.trunk.state_dict() | {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    torch.save(state, folder / "torchvision.pt")
    save_file(network.state_dict(), folder / "model.safetensors")
    return folder, network.trunk


@pytest.mark.parametrize("name", ["torchvision.pt", "model.safetensors"])
def test_training_starts_from_a_torchvision_file_and_from_a_fold(starting_files, name):
    folder, trunk = starting_files
    config = ModelConfig(weights=str(folder / name))
    check_starting_weights(config)
    started = build_model(config, slices=3, prior=np.full((len(FINDINGS), 3), 1 / 3)).trunk
    assert all(torch.equal(a, b) for a, b in zip(started.parameters(), trunk.parameters(), strict=True))


@pytest.mark.parametrize("slices", [1, 3, 5])
def test_pretrained_weights_fit_any_number_of_slices(slices, starting_files):
    folder, source = starting_files
    target = SeverityNet(slices=slices, dropout=0.0).trunk
    load_trunk(target, str(folder / "torchvision.pt"))
    grey = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        three = source.conv1(grey.expand(-1, 3, -1, -1))
        assert torch.allclose(target.conv1(grey.expand(-1, slices, -1, -1)), three, atol=1e-4)
    with pytest.raises(InputError, match="starting weights"):
        load_trunk(target, str(folder / "absent.pt"))


def test_temperature_recovers_overconfidence():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3))
    # Labels drawn so that the weighted-optimal prediction is softmax(logits).
    truth = unweighted(softmax(logits))
    label = np.array([rng.choice(3, p=p) for p in truth], dtype=np.int8)
    assert fit_calibration(logits * 2, label).temperature == pytest.approx(2, rel=0.1)
    assert fit_calibration(logits[:5], label[:5]) == IDENTITY
    assert np.isnan(weighted_log_loss(softmax(logits[:2]), np.array([-1, -1], np.int8)))


@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=3))
def test_unweighted_undoes_the_class_weights(values):
    p = np.array([values]) / sum(values)
    assert unweighted(class_weighted(p)) == pytest.approx(p)


def test_confusion_and_calibration_by_hand():
    grades, predicted = np.array([0, 0, 1, 2], np.int8), np.array([0, 1, 1, 2], np.int8)
    assert confusion(grades, predicted).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    certain = np.eye(3)[grades]
    assert calibration_error(certain, grades) == 0
    assert calibration_error(np.roll(certain, 1, axis=1), grades) == pytest.approx(2 / 3)


def test_schedule_rises_then_falls_to_zero():
    config = TrainConfig(epochs=4, warmup_epochs=1, learning_rate=1e-3)
    rates = [learning_rate(config, step, 10) for step in range(40)]
    assert max(rates) == pytest.approx(1e-3)
    assert np.argmax(rates) in (9, 10)
    assert rates[0] < 2e-4
    assert rates[-1] < 1e-5


def test_every_shipped_config_parses():
    paths = sorted((ROOT / "configs" / "classify").glob("*.toml"))
    assert {"demo", "full"} <= {p.stem for p in paths}
    for path in paths:
        ClassifyConfig.load(path)


def test_the_defaults_are_the_full_run():
    assert ClassifyConfig.load(ROOT / "configs" / "classify" / "full.toml") == ClassifyConfig()


def test_devices_by_name_and_number(monkeypatch):
    assert pick_device("cpu").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("1") == torch.device("cuda", 1)
    assert pick_device("cuda:0") == torch.device("cuda", 0)
    for name in ("2", "cuda:2"):
        with pytest.raises(InputError, match="there is no such device, torch sees 2 CUDA devices"):
            pick_device(name)


def test_an_even_number_of_slices_is_refused():
    with pytest.raises(InputError, match="odd number"):
        ClassifyConfig.load(None, ("crop.slices=4",))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent", "run"], "no such folder"),
        ([".", "run", "--set", "train.epoch=3"], "did you mean 'train.epochs'"),
        ([".", "run", "--weights", "none", "--set", "model.weights=none"], "keep one"),
    ],
)
def test_bad_arguments_give_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    *begun, error = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert len(begun) <= 1


def test_importable_without_ultralytics():
    code = (
        "import sys, pkgutil, importlib\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('ultralytics', 'localize', 'pipelines'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import classify\n"
        "for m in pkgutil.walk_packages(classify.__path__, 'classify.'):\n"
        "    if not m.name.endswith('__main__'): importlib.import_module(m.name)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


def test_command_line_loads_no_torch():
    code = "import sys, classify.cli, classify.train.command; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)
