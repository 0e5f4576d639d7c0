"""Training one detector alone: on all cores beside one core, and beside the network's own arithmetic.

    python -m benchmarks.machine.detector                         # writes results/detector.json
    python -m benchmarks.machine.detector OUT.json --device cuda --batch 64 --image-px 384 256

Every turn trains the demo's detector on random pictures with boxes, in a process of its own that may use one core or
all of them, and runs the same network's steps (forward, loss, backward, optimizer) on a batch that is there already.
Turns alternate, so that a noisy machine hits both. The first epoch is left out: it warms up.
"""

import argparse
import os
import statistics
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import header, parser, save
from localize.config import LocalizeConfig
from shared.labels import Level
from shared.runtime.hardware.cores import let_threads_sleep, usable_cores

TARGET = 1.6


def read_arguments() -> argparse.Namespace:
    arguments = parser(__doc__)
    arguments.add_argument("out", type=Path, nargs="?", default=Path("results/detector.json"))
    arguments.add_argument("--config", type=Path, default=Path("configs/localize/demo.toml"))
    arguments.add_argument("--image-px", type=int, nargs=2, default=(128, 96), help="rows and columns")
    arguments.add_argument("--batch", type=int, default=32)
    arguments.add_argument("--images", type=int, default=512, help="images of an epoch (default %(default)s)")
    arguments.add_argument("--epochs", type=int, default=3, help="epochs of a turn (default %(default)s)")
    arguments.add_argument("--rounds", type=int, default=3, help="turns of each kind (default %(default)s)")
    arguments.add_argument("--device", default="cpu")
    return arguments.parse_args()


def write_data(folder: Path, images: int, shape: tuple[int, int]) -> None:
    """A data set of noise with five boxes a picture, as `localize.detector.export` writes it."""
    import cv2

    rng = np.random.default_rng(0)
    for part, count in (("train", images), ("val", 32)):
        for kind in ("images", "labels"):
            (folder / kind / part).mkdir(parents=True)
        for k in range(count):
            picture = cv2.GaussianBlur(rng.integers(0, 256, shape).astype(np.uint8), (0, 0), 2)
            cv2.imwrite(str(folder / "images" / part / f"{k:06d}.png"), picture)
            lines = [f"{level.value} {x:.4f} {0.1 + 0.16 * level.value:.4f} 0.12 0.1\n" for level, x in
                     zip(Level, rng.uniform(0.3, 0.7, len(Level)), strict=True)]  # fmt: skip
            (folder / "labels" / part / f"{k:06d}.txt").write_text("".join(lines))
    names = "".join(f"  {level.value}: {level.slug}\n" for level in Level)
    text = f"path: {folder}\ntrain: images/train\nval: images/val\nchannels: 1\nnc: {len(Level)}\nnames:\n{names}"
    (folder / "data.yaml").write_text(text)


def turn(options: argparse.Namespace, folder: Path, cores: int) -> dict[str, float]:
    """Seconds per step of a training and of the network alone, on so many cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    let_threads_sleep()
    import torch

    from localize.detector.yolo.feed import Feed
    from localize.detector.yolo.training import TrainJob, _trainer_class
    from localize.detector.yolo.training import _overrides as overrides
    from shared.labels import View

    torch.set_num_threads(1)
    size = ", ".join(map(str, options.image_px))
    changed = f"sagittal_t2={{image_px=[{size}], batch={options.batch}, epochs={options.epochs}}}"
    config = LocalizeConfig.load(options.config, (changed,))
    view = config.of_view(View.SAGITTAL_T2)
    job = TrainJob(
        data_yaml=folder / "data.yaml", folder=folder / str(os.getpid()), name="turn", view=view, config=config,
        device=options.device,
    )  # fmt: skip
    seconds: list[float] = []
    iterate = Feed.__iter__

    def timed(self: Feed) -> Any:
        begun = time.perf_counter()
        yield from iterate(self)
        _wait(options.device)
        seconds.append((time.perf_counter() - begun) / len(self))

    Feed.__iter__ = timed  # type: ignore[method-assign]
    from localize.detector.yolo.library import ultralytics

    ultralytics()
    trainer = _trainer_class(job, None, None, lambda *_: None)(overrides=overrides(job))
    trainer.final_eval = lambda: None
    trainer.train()
    torch.set_num_threads(1)
    ready = trainer.train_loader.batch(range(options.batch))
    alone = []
    for _ in range(2 * len(trainer.train_loader)):
        begun = time.perf_counter()
        loss, _ = trainer.model(ready)
        loss.sum().backward()
        trainer.optimizer_step()
        _wait(options.device)
        alone.append(time.perf_counter() - begun)
    return {"training": statistics.median(seconds[1:]), "network": statistics.median(alone)}


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()


def main() -> None:
    options = read_arguments()
    every = usable_cores()
    kinds = {"one core": 1, f"{every} cores": every} if options.device == "cpu" else {"all cores": every}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}
    with tempfile.TemporaryDirectory() as scratch:
        write_data(Path(scratch), options.images, tuple(options.image_px))
        for _ in range(options.rounds):
            for name, cores in kinds.items():
                with get_context("spawn").Pool(1) as pool:
                    found[name].append(pool.apply(turn, (options, Path(scratch), cores)))
    result: dict[str, Any] = header("python -m benchmarks.machine.detector", device=options.device) | {
        "images_per_second": {
            name: round(options.batch / statistics.median(t["training"] for t in turns), 1)
            for name, turns in found.items()
        },
        "share_of_the_network_alone": {
            name: round(statistics.median(t["network"] / t["training"] for t in turns), 3)
            for name, turns in found.items()
        },
    }
    if len(kinds) == 2:
        ratios = [a["training"] / b["training"] for a, b in zip(*found.values(), strict=True)]
        result |= {"all_cores_over_one": round(statistics.median(ratios), 2), "target": TARGET}
        result["all_cores_over_one_per_round"] = [round(r, 2) for r in ratios]
    save(options.out, result)


if __name__ == "__main__":
    main()
