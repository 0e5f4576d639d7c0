"""What it costs and gains that waiting threads sleep: steps with both wait policies, alone and beside a busy process.

    python -m benchmarks.machine.contention                             # writes results/contention.json

The policy is read when OpenMP is loaded, so each measurement is a process of its own. The two policies take turns, and
the machine is idle and busy in turns too. "grader" and "detector" are training steps of the demo's networks, the latter
on one thread as `lumbar localize train` runs it; "detect" is a detector on large slices, with all cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.results import header, parser, save

# What OpenMP does by default, and what every command of ours sets.
POLICIES: Final = {"spin": None, "sleep": "PASSIVE"}
PARTS: Final = ("grader", "detector", "detect")
# A step and its network.
Step = tuple[Callable[[], object], Any]
# A spinning process on a machine that has been idle is only found after a while.
_SETTLE_SECONDS: Final = 0.5


def read_arguments() -> argparse.Namespace:
    arguments = parser(__doc__)
    arguments.add_argument("out", type=Path, nargs="?", default=Path("results/contention.json"))
    arguments.add_argument("--rounds", type=int, default=3, help="turns of each side (default %(default)s)")
    arguments.add_argument("--steps", type=int, default=5, help="steps of a turn (default %(default)s)")
    arguments.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    return arguments.parse_args()


def grader_step() -> Step:
    """One training step of the demo's grader on random crops."""
    import torch

    from classify.config import ClassifyConfig
    from classify.device import use_all_cores
    from classify.network.model import empty_model

    config = ClassifyConfig.load(Path("configs/classify/demo.toml"))
    use_all_cores()
    torch.manual_seed(0)
    model = empty_model(config.model, slices=config.crop.channels).to(memory_format=torch.channels_last).train()
    optimizer, batch = torch.optim.AdamW(model.parameters()), config.train.batch
    images = torch.randn(batch, config.crop.channels, config.crop.size_px, config.crop.size_px)
    images = images.contiguous(memory_format=torch.channels_last)
    families, levels = torch.randint(0, 3, (batch,)), torch.randint(0, 5, (batch,))

    def step() -> None:
        optimizer.zero_grad()
        model(images, families, levels).square().mean().backward()
        optimizer.step()

    return step, model


def detector_step() -> Step:
    """One training step of the demo's detector on random slices, on one thread."""
    import torch

    from localize.config import LocalizeConfig
    from localize.detector.yolo.network import build_network

    config = LocalizeConfig.load(Path("configs/localize/demo.toml"))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    view = config.sagittal_t2
    network = build_network(config.model.architecture, {}).train()
    optimizer = torch.optim.AdamW(network.parameters())
    images = torch.randn(view.batch, 1, *view.image_px)

    def step() -> None:
        optimizer.zero_grad()
        raw = network(images)
        (raw["boxes"].square().mean() + raw["scores"].square().mean()).backward()
        optimizer.step()

    return step, network


def detect_step() -> Step:
    """A detector of the full run's architecture on eight slices of the full run's size, with all cores."""
    import torch

    from localize.config import LocalizeConfig
    from localize.detector.yolo.library import inference_threads
    from localize.detector.yolo.network import build_network

    config = LocalizeConfig()
    rows, columns = config.sagittal_t2.image_px
    torch.set_num_threads(inference_threads((rows, columns)))
    network = build_network(config.model.architecture, {}).eval()
    images = torch.randn(8, 1, rows, columns)

    def step() -> None:
        with torch.inference_mode():
            network(images)

    return step, network


STEPS: Final = {"grader": grader_step, "detector": detector_step, "detect": detect_step}


def time_part(part: str, steps: int) -> None:
    """Prints the milliseconds of each step; the first two warm up."""
    (step, _), times = STEPS[part](), []
    for _ in range(steps + 2):
        started = time.perf_counter()
        step()
        times.append(1000 * (time.perf_counter() - started))
    sys.stdout.write(json.dumps(times[2:]) + "\n")


def measured(part: str, policy: str | None, steps: int) -> float:
    """The median step of a new process in milliseconds."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if policy is not None:
        environment["OMP_WAIT_POLICY"] = policy
    command = [sys.executable, "-m", "benchmarks.machine.contention", "--part", part, "--steps", str(steps)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return statistics.median(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    options = read_arguments()
    if options.part:
        time_part(options.part, options.steps)
        return
    times: dict[tuple[str, str, str], list[float]] = {}
    for _ in range(options.rounds):
        for part in PARTS:
            for load in ("idle", "busy"):
                spinner = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if load == "busy" else None
                try:
                    time.sleep(_SETTLE_SECONDS)
                    for name, policy in POLICIES.items():
                        times.setdefault((part, load, name), []).append(measured(part, policy, options.steps))
                finally:
                    if spinner is not None:
                        spinner.kill()
                        spinner.wait()
    save(options.out, header("python -m benchmarks.machine.contention", device="cpu") | {
        "load": "busy: one process that spins; idle: none of ours", "rounds": options.rounds, "steps": options.steps,
        "step_ms": {part: {load: summary(times, part, load) for load in ("idle", "busy")} for part in PARTS},
    })  # fmt: skip


def summary(times: dict[tuple[str, str, str], list[float]], part: str, load: str) -> dict[str, object]:
    """Medians over the rounds, and the median of the paired ratios: below 1, sleeping is faster."""
    spin, sleep = times[part, load, "spin"], times[part, load, "sleep"]
    ratios = [b / a for a, b in zip(spin, sleep, strict=True)]
    return {
        "spin": round(statistics.median(spin), 1), "sleep": round(statistics.median(sleep), 1),
        "sleep_by_spin": round(statistics.median(ratios), 3), "per_round": np.round(ratios, 3).tolist(),
    }  # fmt: skip


if __name__ == "__main__":
    main()
