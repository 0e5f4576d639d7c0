"""What training adds to the network's own arithmetic: whole training steps beside pure steps.

    python -m benchmarks.feed                                   # writes results/feed.json
    python -m benchmarks.feed OUT.json --config configs/classify/full.toml --device cuda
    python -m benchmarks.feed OUT.json --set 'train.compile="on"'

"training" is the loop that `lumbar classify train` runs: it plans an epoch, takes patches from a cache on disk or from
the device, augments, trains, clips and averages. "pure" is forward, backward and a fused AdamW on tensors that are
already on the device, in the same precision and layout, with nothing else: no augmentation, no clipping, no averaged
network. All crops of a step pass at once.

Both sides take turns in one process, so that a noisy machine hits both, and each round swaps their order. The figure
is the median of the rounds' ratios with its bootstrap interval. The ratio of processor seconds stands beside it: it
says what the CPU worked, not what it waited. On a GPU, transfers that made the host wait within a step are counted too.
The targets are 95% on a CPU and 90% on a GPU.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.results import header, parser, save
from classify.config import ClassifyConfig
from classify.device import pick_device, use_all_cores, use_bf16, use_deterministic
from classify.network.augment import Augmenter
from classify.network.model import SeverityNet, build_model, weighted_loss
from classify.samples import FAMILY_OF, LEVEL_OF, Crops
from classify.train.loop import Trainer
from shared.labels import FINDINGS, Condition

TARGETS = {"cpu": 0.95, "cuda": 0.90}


def read_arguments() -> argparse.Namespace:
    arguments = parser(__doc__)
    arguments.add_argument("out", type=Path, nargs="?", default=Path("results/feed.json"))
    arguments.add_argument("--config", type=Path, default=Path("configs/classify/demo.toml"))
    arguments.add_argument("--set", action="append", default=[], dest="overrides", help="as of the trainings")
    arguments.add_argument("--studies", type=int, default=96, help="studies in the cache (default %(default)s)")
    arguments.add_argument("--steps", type=int, default=8, help="steps of a turn (default %(default)s)")
    arguments.add_argument("--rounds", type=int, default=11, help="turns of each side (default %(default)s)")
    arguments.add_argument("--cached", action="store_true", help="read the cache on disk even if it fits into memory")
    arguments.add_argument("--device", default="auto")
    return arguments.parse_args()


def random_crops(config: ClassifyConfig, folder: Path, studies: int, rows: int) -> Crops:
    """Rows of a cache file of random bytes, memory-mapped, with a grade for every crop."""
    crop, rng = config.crop, np.random.default_rng(0)
    shape = (studies, len(FINDINGS), crop.cached_channels, crop.cached_px, crop.cached_px)
    patches = np.lib.format.open_memmap(folder / "patches.npy", mode="w+", dtype=np.uint8, shape=shape)
    for study in range(studies):
        patches[study] = rng.integers(0, 256, shape[1:], dtype=np.uint8)
    patches.flush()
    chosen = np.sort(rng.permutation(studies * len(FINDINGS))[:rows])
    return Crops(
        patches=np.load(folder / "patches.npy", mmap_mode="r"), study=chosen // len(FINDINGS),
        finding=chosen % len(FINDINGS), label=rng.integers(0, 3, len(chosen)).astype(np.int8),
        annotated=np.ones(len(chosen), bool),
    )  # fmt: skip


def network_of(config: ClassifyConfig) -> SeverityNet:
    return build_model(config.model, slices=config.crop.channels, prior=np.full((len(FINDINGS), 3), 1 / 3))


def trainer_of(config: ClassifyConfig, crops: Crops, device: torch.device) -> Trainer:
    jitter = {c: config.jitter.jitter(c) for c in Condition}
    augmenter = Augmenter(
        crop=config.crop, augment=config.augment, jitter=jitter, detected_share=dict.fromkeys(Condition, 1.0)
    )
    return Trainer(network_of(config), crops, config, augmenter, fold=0, device=device)


def pure_step(config: ClassifyConfig, device: torch.device) -> Callable[[], object]:
    """One step of the stock recipe on tensors that are there."""
    layout = {"device": device, "memory_format": torch.channels_last}
    model = network_of(config).to(**layout).train()  # type: ignore[call-overload]  # torch's stub lacks this form
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=config.train.weight_decay, fused=True)
    batch, crop = config.train.batch * config.train.accumulate, config.crop
    x = torch.randn(batch, crop.channels, crop.size_px, crop.size_px, device=device)
    x = x.contiguous(memory_format=torch.channels_last)
    finding = np.resize(np.arange(len(FINDINGS)), batch)
    family, level = (torch.from_numpy(of[finding]).to(device) for of in (FAMILY_OF, LEVEL_OF))
    # Random, as in training: of one grade alone, the network would soon be sure.
    label, weight = torch.randint(3, (batch,), device=device), torch.ones(batch, device=device)
    bf16 = use_bf16(config.train.amp, device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = model(x, family, level)
        weighted_loss(logits, label, weight).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """What a turn took, in seconds: on the clock, and of the processor in all threads."""

    clock: float
    processor: float


def took(work: Callable[[], object], device: torch.device) -> Took:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    clock, processor = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Took(clock=time.perf_counter() - clock, processor=time.process_time() - processor)


def median_with_interval(values: list[float]) -> dict[str, Any]:
    """The median and the 95% bootstrap interval of it."""
    drawn = np.random.default_rng(0).choice(values, (10_000, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return {"median": statistics.median(values), "interval": [round(float(low), 4), round(float(high), 4)],
            "rounds": [round(v, 3) for v in values]}  # fmt: skip


def waits_of_a_step(trainer: Trainer, device: torch.device) -> int | None:
    """How often the host waits for the GPU within a step; None on a CPU."""
    if device.type != "cuda":
        return None
    (one, *_), *_ = trainer.plan(0)
    patches = next(trainer.feed.patches([one.rows]))
    torch.cuda.synchronize(device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        trainer.update([(trainer.prepare(patches, one.draw), one)], step=10_000)
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(w.message) for w in caught)


def main() -> None:
    options = read_arguments()
    config = ClassifyConfig.load(options.config, tuple(options.overrides))
    device = pick_device(options.device)
    use_all_cores()
    use_deterministic(device)
    rows = options.steps * config.train.batch * config.train.accumulate
    with tempfile.TemporaryDirectory() as name:
        crops = random_crops(config, Path(name), max(options.studies, -(-rows // len(FINDINGS))), rows)
        trainer = trainer_of(config, crops, device)
        if options.cached:
            trainer.feed = replace(trainer.feed, resident=None)
        one_pure = pure_step(config, device)

        def training() -> None:
            trainer.run_epoch(0)

        def pure() -> None:
            for _ in range(options.steps):
                one_pure()

        for warm_up in (training, pure):
            warm_up()
        turns: dict[Callable[[], None], list[Took]] = {training: [], pure: []}
        for round_number in range(options.rounds):
            for side in (training, pure) if round_number % 2 else (pure, training):
                turns[side].append(took(side, device))
        result = report(options, config, trainer, turns[training], turns[pure])
    save(options.out, result)


def report(
    options: argparse.Namespace, config: ClassifyConfig, trainer: Trainer, training: list[Took], pure: list[Took]
) -> dict[str, Any]:
    device, steps = trainer.device, options.steps
    pairs = list(zip(pure, training, strict=True))
    command = f"python -m benchmarks.feed --config {options.config}"
    command += "".join(f" --set '{text}'" for text in options.overrides) + (" --cached" if options.cached else "")
    return header(command, device=str(device)) | {
        "device": str(device),
        "config": str(options.config),
        "overrides": options.overrides,
        "batch": config.train.batch,
        "threads": torch.get_num_threads(),
        "resident": trainer.feed.resident is not None,
        "steps_per_second": {
            "training": steps / statistics.median(t.clock for t in training),
            "pure": steps / statistics.median(t.clock for t in pure),
        },
        "share_of_pure": median_with_interval([p.clock / t.clock for p, t in pairs]),
        "share_of_pure_by_processor_seconds": median_with_interval([p.processor / t.processor for p, t in pairs]),
        "waits_within_a_step": waits_of_a_step(trainer, device),
        "target": TARGETS.get(device.type),
    }


if __name__ == "__main__":
    main()
