"""The baseline that a public starter notebook uses: one ResNet50 looks at a whole study at once.

Ten slices of each of the three series, in the order of their instance numbers and evenly spread, are the 30 channels of
one image; one torchvision ResNet50 gives 75 outputs, three for each of the 25 findings; the loss is cross-entropy with
class weights 1/2/4. Missing grades are filled with Normal, as the notebook does, or masked. It is trained here for a
given time with what does not belong to crops: the optimiser with the same groups of weights, the schedule, the
precision and the averaged weights of ours; its outputs start at the log of the weighted training prior, and a
temperature per condition family is fitted on the held-out fold. `DIFFERENCES` lists what is not the same.
"""

import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet50

from classify.calibrate import Calibration, fit_where_it_helps
from classify.device import use_bf16
from classify.network.augment import standardise
from shared.data.challenge import Challenge
from shared.dicom.pixels import slice_pixels
from shared.labels import FINDINGS, SEVERITY_WEIGHTS, Condition, View, findings_of
from shared.metric import score
from shared.probabilities.table import floored, weighted_prior
from shared.runtime.progress import log, track
from shared.study import LoadedStudy

SLICES: Final = 10
VIEWS: Final = (View.SAGITTAL_T1, View.SAGITTAL_T2, View.AXIAL_T2)
CHANNELS: Final = SLICES * len(VIEWS)
# How it is treated otherwise than our grader, beside what it looks at.
DIFFERENCES: Final = (
    "keeps the epoch with the lowest score on the held-out fold; ours keeps the last one",
    "no gamma, noise, blur or reversed slices in the augmentation; no jitter of points, for it takes none",
    "the loss counts every graded finding alike: no balance of families, no emphasis on the canal",
    "a head for each finding; ours has one per family and learns both sides from mirrored crops",
    "no dropout",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyNetworkOptions:
    """How the baseline is trained. `fill_missing`: as the notebook, else missing grades are masked."""

    seconds: float
    fill_missing: bool
    size_px: int = 128
    batch: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    ema_decay: float = 0.99
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The kept network and how it came about; the scores are the competition metric on the held-out fold, before the
    calibration that is fitted there."""

    model: nn.Module
    calibration: Mapping[Condition, Calibration]
    epochs: int
    kept_epoch: int
    seconds: float
    held_out_scores: tuple[float, ...]


def study_image(loaded: LoadedStudy, size_px: int) -> NDArray[np.uint8]:  # [30, size, size]
    """The 30 channels of a study; black where a view is missing."""
    out = np.zeros((CHANNELS, size_px, size_px), np.uint8)
    for v, view in enumerate(VIEWS):
        series = loaded.study.of_view(view)
        if not series:
            continue
        slices = sorted(series[0].slices, key=lambda s: s.instance_number)
        for k, i in enumerate(np.linspace(0, len(slices) - 1, SLICES).round().astype(int)):
            pixels = slice_pixels(slices[i])
            out[v * SLICES + k] = cv2.resize(pixels, (size_px, size_px), interpolation=cv2.INTER_AREA)
    return out


def study_images(data: Challenge, study_ids: Sequence[str], size_px: int) -> NDArray[np.uint8]:  # [n, 30, size, size]
    """The images of many studies."""
    return np.stack([study_image(data.load_study(s), size_px) for s in track(study_ids, "study images")])


def train_study_network(
    training: tuple[NDArray[np.uint8], NDArray[np.int8]],
    held_out: tuple[NDArray[np.uint8], NDArray[np.int8]],
    options: StudyNetworkOptions,
    device: torch.device,
) -> Trained:
    """Trains for `options.seconds` on images (n, 30, s, s) and grades (n, 25), where -1 means not graded."""
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    model = resnet50(weights=None, zero_init_residual=True)
    model.conv1 = nn.Conv2d(CHANNELS, 64, kernel_size=7, stride=2, padding=3, bias=False)
    images, grades = training
    grades = np.where(grades < 0, 0, grades).astype(np.int8) if options.fill_missing else grades
    model.fc = _output(model.fc.in_features, weighted_prior(grades))
    model = model.to(device, memory_format=torch.channels_last)
    averaged = copy.deepcopy(model).eval()
    optimizer = _optimizer(model, options)
    bf16 = use_bf16("auto", device)
    best: dict[str, Tensor] = {}
    scores: list[float] = []
    started, spent, step = time.monotonic(), 0.0, 0
    while not scores or spent < options.seconds:
        model.train()
        order = rng.permutation(len(images))
        for start in range(0, len(order) - 1, options.batch):
            spent = time.monotonic() - started
            for group in optimizer.param_groups:  # a cosine over the time there is, after a short rise
                share = min(spent / options.seconds, 1.0)
                group["lr"] = options.learning_rate * min(share / 0.03, 0.5 * (1 + math.cos(math.pi * share)))
            rows = order[start : start + options.batch]
            x = _augmented(torch.from_numpy(images[rows]).to(device), rng)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits = model(x).float()
            loss = _loss(logits, torch.from_numpy(grades[rows].astype(np.int64)).to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            _average(averaged, model, min(options.ema_decay, (1 + step) / (10 + step)))
            step += 1
            if spent >= options.seconds and scores:
                break
        scores.append(score(floored(_softmax(study_logits(averaged, held_out[0], device))), held_out[1]).score)
        if scores[-1] <= min(scores):
            best = {k: v.detach().clone() for k, v in averaged.state_dict().items()}
        spent = time.monotonic() - started
        log(f"study network epoch {len(scores)}: held out {scores[-1]:.4f} ({spent:.0f} of {options.seconds:.0f} s)")
    averaged.load_state_dict(best)
    return Trained(
        model=averaged, calibration=_calibrations(study_logits(averaged, held_out[0], device), held_out[1]),
        epochs=len(scores), kept_epoch=len(scores) - int(np.argmin(scores[::-1])), seconds=spent,
        held_out_scores=tuple(scores),
    )  # fmt: skip


def predict_study_network(trained: Trained, images: NDArray[np.uint8], device: torch.device) -> NDArray[np.float64]:
    """Probabilities (n, 25, 3) of images (n, 30, s, s)."""
    logits = study_logits(trained.model, images, device)
    out = np.empty_like(logits)
    for condition, calibration in trained.calibration.items():
        columns = [f.index for f in findings_of(condition)]
        out[:, columns] = calibration(logits[:, columns])
    return floored(out)


@torch.no_grad()
def study_logits(model: nn.Module, images: NDArray[np.uint8], device: torch.device) -> NDArray[np.float64]:
    """Outputs (n, 25, 3) for images (n, 30, s, s)."""
    model.eval()
    out = []
    for start in range(0, len(images), 16):
        x = standardise(torch.from_numpy(images[start : start + 16]).to(device).float() / 255)
        logits = model(x.contiguous(memory_format=torch.channels_last)).double()
        out.append(logits.view(-1, len(FINDINGS), 3).cpu().numpy())
    return np.concatenate(out)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return Calibration()(logits)


def _calibrations(logits: NDArray[np.float64], grades: NDArray[np.int8]) -> dict[Condition, Calibration]:
    """A temperature per family, as ours has; logits (n, 25, 3), grades (n, 25)."""
    calibrations = {}
    for condition in Condition:
        own = [f.index for f in findings_of(condition)]
        study = np.repeat(np.arange(len(grades)), len(own))
        calibrations[condition] = fit_where_it_helps(logits[:, own].reshape(-1, 3), grades[:, own].reshape(-1), study)
    return calibrations


def _output(features: int, prior: NDArray[np.float64]) -> nn.Linear:  # [25, 3]
    """The last layer, which at first answers the weighted training prior."""
    layer = nn.Linear(features, 3 * len(FINDINGS))
    nn.init.normal_(layer.weight, std=0.005)
    with torch.no_grad():
        layer.bias.copy_(torch.from_numpy(np.log(prior)).flatten())
    return layer


def _optimizer(model: nn.Module, options: StudyNetworkOptions) -> torch.optim.AdamW:
    """AdamW; biases and normalisation gains are not decayed."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=options.learning_rate, fused=True)


@torch.no_grad()
def _average(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    for kept, new in zip(averaged.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def _loss(logits: Tensor, label: Tensor) -> Tensor:  # [b, 75], [b, 25]
    """Weighted cross-entropy over graded findings, as torch averages it: by the sum of weights."""
    weight = torch.tensor(SEVERITY_WEIGHTS, device=logits.device)
    return functional.cross_entropy(logits.view(-1, 3), label.view(-1), weight=weight, ignore_index=-1)


def _augmented(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Shift, rotation, scale and contrast as strong as ours; never a mirror image, which would swap the sides."""
    b = len(images)
    angle, scale = np.radians(8.0) * rng.standard_normal(b), np.exp(0.08 * rng.standard_normal(b))
    theta = np.zeros((b, 2, 3), np.float32)
    theta[:, 0, 0], theta[:, 0, 1] = np.cos(angle) * scale, -np.sin(angle) * scale
    theta[:, 1, 0], theta[:, 1, 1] = np.sin(angle) * scale, np.cos(angle) * scale
    theta[:, :, 2] = 0.05 * rng.standard_normal((b, 2))
    grid = functional.affine_grid(torch.from_numpy(theta), list(images.shape), align_corners=False).to(images.device)
    x = functional.grid_sample(images.float() / 255, grid, mode="bilinear", align_corners=False)
    gain = torch.from_numpy(np.exp(0.2 * rng.standard_normal((b, 1, 1, 1))).astype(np.float32)).to(x.device)
    offset = torch.from_numpy((0.15 * rng.standard_normal((b, 1, 1, 1))).astype(np.float32)).to(x.device)
    x = ((x - 0.5) * gain + 0.5 + offset).clamp(0, 1)
    return standardise(x).contiguous(memory_format=torch.channels_last)
