"""Records a finished demo in results/: scores, localization figures, times, command, commit and hardware.

    python benchmarks/record_demo.py demo results/demo.json

Prints the tables that docs/results.md and README quote.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.demo_folder import demo_command
from benchmarks.results import hardware, parser
from shared.runtime.files import write_json


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


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("demo", type=Path, help="folder of a finished `lumbar demo`")
    arguments.add_argument("out", type=Path, nargs="?", default=Path("results/demo.json"))
    a = arguments.parse_args()
    result = record(a.demo)
    write_json(a.out, result)
    print(markdown(result))


if __name__ == "__main__":
    main()
