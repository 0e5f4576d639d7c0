"""Records a finished demo in results/: scores, localization figures, times, command, commit and hardware.

    python benchmarks/record_demo.py demo results/demo.json

Prints the tables that README quotes.
"""

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any


def cpu_name() -> str:
    """The processor's name as Linux gives it, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def hardware(device: str) -> str:
    """The cores, and the GPU that a run's resolved device names.

    Raises:
      ValueError: for a device that was never resolved, as in demos of before.
    """
    if device == "auto":
        raise ValueError("run.json says device auto, which names no hardware; run the demo again")
    cores = f"{os.cpu_count()} cores of {cpu_name()}"
    if device == "cpu":
        return f"{cores}, no GPU"
    import torch

    there = device.startswith("cuda") and torch.cuda.is_available()
    return f"{cores}, {torch.cuda.get_device_name(device) if there else device}"


def demo_command(run: dict[str, Any]) -> str:
    """What gives the demo that `run` (its run.json) describes."""
    usual = {"studies": 240, "test_studies": 24, "preset": "demo", "seed": 0, "fold": "0"}
    flags = [f"--{k.replace('_', '-')} {run[k]}" for k, v in usual.items() if run.get(k, v) != v]
    for stage in ("localize", "classify"):
        usual_config = f"configs/{stage}/demo.toml"
        config = run.get(f"{stage}_config", usual_config)
        flags += [f"--{stage}-config {config}"] if config != usual_config else []
    return " ".join(["lumbar demo DEMO", *flags]) if flags else "make demo"


def record(demo: Path) -> dict[str, Any]:
    run = json.loads((demo / "run.json").read_text())
    scores = json.loads((demo / "reports" / "scores.json").read_text())
    localization = json.loads((demo / "reports" / "localize" / "report.json").read_text())
    prediction = json.loads((demo / "prediction" / "run.json").read_text())
    return {
        "command": demo_command(run),
        "commit": run["git_commit"],
        "hardware": hardware(run["device"]),
        "seconds": run["seconds"],
        "step_seconds": run["step_seconds"],
        "studies": run["studies"],
        "test_studies": run["test_studies"],
        "seed": run["seed"],
        "submission_sha256": run["submission_sha256"],
        "rows": prediction["rows"],
        "prior_rows": prediction["prior_rows"],
        "scores": scores,
        "localization": localization,
    }


def markdown(result: dict[str, Any]) -> str:
    lines = [
        "| submission | score | 95% interval | gain over the prior, paired | gap closed |",
        "|---|---|---|---|---|",
    ]
    for line in result["scores"]["lines"]:
        bounds, gain = line["interval"], line["gain_interval"]
        gain_text = f"{line['gain']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]" if gain else ""
        closed = f"{line['gap_closed']:.0%}" if line["gap_closed"] is not None else ""
        name, score = line["name"], line["score"]["score"]
        lines.append(f"| {name} | {score:.3f} | {bounds['low']:.3f} to {bounds['high']:.3f} | {gain_text} | {closed} |")
    return "\n".join(lines)


if __name__ == "__main__":
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    result = record(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    print(markdown(result))
