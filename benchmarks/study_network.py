"""The baseline that a public starter notebook uses: one ResNet50 looks at a whole study at once.

Ten slices of each of the three series, in the order of their instance numbers and evenly spread, are the 30 channels of
one image; one torchvision ResNet50 gives 75 outputs, three for each of the 25 findings; the loss is cross-entropy with
class weights 1/2/4. Missing grades are filled with Normal, as the notebook does, or masked. It is trained here with the
optimiser, schedule, precision and augmentation of ours, for a given time, and the epoch with the lowest loss on the
held-out fold is kept.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet50

from classify.augment import standardise
from classify.device import use_bf16
from shared.challenge import Challenge, LoadedStudy
from shared.labels import FINDINGS, SEVERITY_WEIGHTS, View
from shared.metric import score
from shared.pixels import slice_pixels
from shared.progress import log, track

SLICES: Final = 10
VIEWS: Final = (View.SAGITTAL_T1, View.SAGITTAL_T2, View.AXIAL_T2)
CHANNELS: Final = SLICES * len(VIEWS)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyNetworkOptions:
    """How the baseline is trained. `fill_missing`: as the notebook, else missing grades are masked."""

    seconds: float
    fill_missing: bool
    size_px: int = 128
    batch: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The kept network and how it came about; losses are the competition metric on the held-out fold."""

    model: nn.Module
    epochs: int
    kept_epoch: int
    seconds: float
    held_out_scores: tuple[float, ...]


def study_image(loaded: LoadedStudy, size_px: int) -> NDArray[np.uint8]:
    """The 30 channels of a study; black where a view is missing. # [30, size, size]"""
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


def study_images(data: Challenge, study_ids: Sequence[str], size_px: int) -> NDArray[np.uint8]:
    """The images of many studies. # [n, 30, size, size]"""
    return np.stack([study_image(data.load_study(s), size_px) for s in track(study_ids, "study images")])


def train_study_network(
    training: tuple[NDArray[np.uint8], NDArray[np.int8]],
    held_out: tuple[NDArray[np.uint8], NDArray[np.int8]],
    options: StudyNetworkOptions,
    device: torch.device,
) -> Trained:
    """Trains for `options.seconds` on images [n, 30, s, s] and grades [n, 25], -1 not graded."""
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    model = resnet50(weights=None, zero_init_residual=True)
    model.conv1 = nn.Conv2d(CHANNELS, 64, kernel_size=7, stride=2, padding=3, bias=False)
    model.fc = nn.Linear(model.fc.in_features, 3 * len(FINDINGS))
    model = model.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
    images, grades = training
    grades = np.where(grades < 0, 0, grades) if options.fill_missing else grades
    bf16 = use_bf16("auto", device)
    best: dict[str, Tensor] = {}
    scores: list[float] = []
    started, spent = time.monotonic(), 0.0
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
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            if spent >= options.seconds and scores:
                break
        scores.append(score(predict_study_network(model, held_out[0], device), held_out[1]).score)
        if scores[-1] <= min(scores):
            best = {k: v.detach().clone() for k, v in model.state_dict().items()}
        spent = time.monotonic() - started
        log(f"study network epoch {len(scores)}: held out {scores[-1]:.4f} ({spent:.0f} of {options.seconds:.0f} s)")
    model.load_state_dict(best)
    return Trained(
        model=model, epochs=len(scores), kept_epoch=int(np.argmin(scores)) + 1, seconds=spent,
        held_out_scores=tuple(scores),
    )  # fmt: skip


@torch.no_grad()
def predict_study_network(model: nn.Module, images: NDArray[np.uint8], device: torch.device) -> NDArray[np.float64]:
    """Probabilities of images [n, 30, s, s]. # [n, 25, 3]"""
    model.eval()
    out = []
    for start in range(0, len(images), 16):
        x = standardise(torch.from_numpy(images[start : start + 16]).to(device).float() / 255)
        logits = model(x.contiguous(memory_format=torch.channels_last)).double()
        out.append(torch.softmax(logits.view(-1, len(FINDINGS), 3), dim=2).cpu().numpy())
    return np.concatenate(out)


def _loss(logits: Tensor, label: Tensor) -> Tensor:
    """Weighted cross-entropy over graded findings, as torch averages it: by the sum of weights. # [b, 75], [b, 25]"""
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
