"""Does the crop cache keep the network busy: training steps with it beside the same steps on random tensors.

    python benchmarks/feed.py                                   # writes results/feed.json
    python benchmarks/feed.py OUT.json --config configs/classify/full.toml --device cuda

Both sides train the same network in turns within one run, so that a noisy machine hits both. "cache" reads patches from
a file (random bytes, as large as a real cache of that many studies), augments and trains; "random" trains on a tensor
that is already there. The target is 85% of the speed.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.results import header, parser, save
from classify.config import ClassifyConfig
from classify.device import pick_device, use_all_cores
from classify.network.augment import Augmenter
from classify.network.model import build_model
from classify.samples import Crops
from classify.train.batches import plain_batches, prefetched
from classify.train.loop import Trainer
from shared.labels import FINDINGS, Condition

TARGET = 0.85


def read_arguments() -> argparse.Namespace:
    arguments = parser(__doc__)
    arguments.add_argument("out", type=Path, nargs="?", default=Path("results/feed.json"))
    arguments.add_argument("--config", type=Path, default=Path("configs/classify/demo.toml"))
    arguments.add_argument("--studies", type=int, default=96, help="studies in the cache (default %(default)s)")
    arguments.add_argument("--steps", type=int, default=6, help="steps of a turn (default %(default)s)")
    arguments.add_argument("--rounds", type=int, default=5, help="turns of each side (default %(default)s)")
    arguments.add_argument("--device", default="auto")
    return arguments.parse_args()


def random_crops(config: ClassifyConfig, folder: Path, studies: int) -> Crops:
    """A cache file of random bytes, memory-mapped, with a grade for every crop."""
    crop, rng = config.crop, np.random.default_rng(0)
    shape = (studies, len(FINDINGS), crop.cached_slices, crop.cached_px, crop.cached_px)
    patches = np.lib.format.open_memmap(folder / "patches.npy", mode="w+", dtype=np.uint8, shape=shape)
    for study in range(studies):
        patches[study] = rng.integers(0, 256, shape[1:], dtype=np.uint8)
    patches.flush()
    rows = studies * len(FINDINGS)
    return Crops(
        patches=np.load(folder / "patches.npy", mmap_mode="r"), study=np.repeat(np.arange(studies), len(FINDINGS)),
        finding=np.tile(np.arange(len(FINDINGS)), studies), label=rng.integers(0, 3, rows).astype(np.int8),
        annotated=np.ones(rows, bool),
    )  # fmt: skip


def timed(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def main() -> None:
    options = read_arguments()
    config = ClassifyConfig.load(options.config)
    device = pick_device(options.device)
    use_all_cores()
    with tempfile.TemporaryDirectory() as name:
        crops = random_crops(config, Path(name), options.studies)
        jitter = {c: config.jitter.jitter(c) for c in Condition}
        augmenter = Augmenter(
            crop=config.crop, augment=config.augment, jitter=jitter, detected_share=dict.fromkeys(Condition, 1.0)
        )
        prior = np.full((len(FINDINGS), 3), 1 / 3)
        model = build_model(config.model, slices=config.crop.channels, prior=prior)
        trainer = Trainer(model, crops, config, augmenter, fold=0, device=device)
        trainer.model.train()
        rng = np.random.default_rng(0)
        size = (config.train.batch, config.crop.channels, config.crop.size_px, config.crop.size_px)
        ready = torch.randn(size, device=device).contiguous(memory_format=torch.channels_last)

        def from_cache() -> None:
            batches = plain_batches(crops, config.train.batch, rng)[: options.steps]
            for rows, patches in prefetched(crops, batches):
                trainer.update(trainer.prepare(rows, patches, rng), rows, step=10_000)

        def from_tensor() -> None:
            for rows in plain_batches(crops, config.train.batch, rng)[: options.steps]:
                trainer.update(ready, rows, step=10_000)

        for warm_up in (from_cache, from_tensor):
            warm_up()
        seconds: dict[str, list[float]] = {"cache": [], "random": []}
        for _ in range(options.rounds):
            seconds["cache"].append(timed(from_cache, device) / options.steps)
            seconds["random"].append(timed(from_tensor, device) / options.steps)
    ratios = [r / c for c, r in zip(seconds["cache"], seconds["random"], strict=True)]
    result = header(f"python benchmarks/feed.py --config {options.config}", device=str(device)) | {
        "device": str(device),
        "config": str(options.config),
        "batch": config.train.batch,
        "steps_per_second": {side: 1 / statistics.median(values) for side, values in seconds.items()},
        "share_of_random": statistics.median(ratios),
        "share_of_random_per_round": [round(r, 3) for r in ratios],
        "target": TARGET,
    }
    save(options.out, result)


if __name__ == "__main__":
    main()
