"""What a data set costs, from what was measured: the table of docs/scaling.md.

    python -m benchmarks.bench.cost            # prints it
    python -m benchmarks.bench.cost --write    # puts it into the page

Nothing is measured here: results/bench.json and results/prepare.json are, with command, commit and hardware.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.results import parser
from shared.runtime.documents import read_json

ROOT: Final = Path(__file__).parent.parent.parent
PAGE: Final = ROOT / "docs" / "scaling.md"
BEGIN, END = "<!-- costs: made by `python -m benchmarks.bench.cost --write` -->", "<!-- end of costs -->"
SIZES: Final = (1_975, 100_000, 10_000_000)
# Cores of a machine that one would rent for this.
MACHINE_CORES: Final = 64
SLICES: Final = 75  # of a study, 147,218 in the challenge's 1,975


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one study costs in one step.

    Attributes:
      core_s: seconds of one core.
      read, written: bytes.
      process_mib: memory of one process, which uses one core.
    """

    step: str
    core_s: float
    read: float
    written: float
    process_mib: float | None


def costs(bench: dict[str, Any], prepare: dict[str, Any]) -> Iterator[Cost]:
    """The steps of bulk work."""
    studies = prepare["slices"] / SLICES
    yield Cost(
        step="prepare", read=prepare["dicom_bytes"] / studies, written=prepare["store_bytes"] / studies,
        core_s=prepare["workers"] * SLICES / prepare["speeds"]["prepare"]["slices_per_second_without_start"],
        process_mib=None,
    )  # fmt: skip
    for name, found in bench["predict"].items():
        if isinstance(found, dict):
            longest = max(found["commands"].values(), key=lambda command: command["seconds"])
            yield Cost(
                step=f"predict, {name}", core_s=found["seconds_per_study"] * found["workers"],
                read=found["bytes_read_per_study"], written=found["bytes_written_per_study"],
                process_mib=longest["peak_pss_mib"] / found["workers"],
            )  # fmt: skip


def table(found: list[Cost]) -> str:
    """The table of a page."""
    sizes = " | ".join(f"{size:,} studies" for size in SIZES)
    lines = [
        f"| step | a study: core, read, written | memory a process | {sizes} |",
        "|---|---|---|" + "---|" * len(SIZES),
    ]
    for cost in found:
        memory = "" if cost.process_mib is None else f"{cost.process_mib / 1024:.1f} GiB"
        each = f"{cost.core_s:.2f} s, {_bytes(cost.read)}, {_bytes(cost.written)}"
        parts = [f"{_core_hours(cost.core_s * size)}, {_bytes(cost.read * size)} read" for size in SIZES]
        lines.append(f"| {cost.step} | {each} | {memory} | {' | '.join(parts)} |")
    return "\n".join(lines)


def _core_hours(seconds: float) -> str:
    hours = seconds / 3600
    machine = hours / MACHINE_CORES
    units = ((1 / 60, 3600, "s"), (1.5, 60, "min"), (72, 1, "h"))
    where = next((f"{machine * times:.0f} {unit}" for most, times, unit in units if machine < most), None)
    return f"{hours:,.1f} core hours ({where or f'{machine / 24:.0f} d'} of {MACHINE_CORES} cores)"


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def page_with(text: str, made: str) -> str:
    """The page with a new table between its marks."""
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", f"{BEGIN}\n\n{made}\n\n{END}", text, flags=re.S)


def current_table() -> str:
    """The table of what is in results/."""
    results = ROOT / "results"
    return table(list(costs(read_json(results / "bench.json"), read_json(results / "prepare.json"))))


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--write", action="store_true", help="put the table into docs/scaling.md")
    made = current_table()
    print(made)
    if arguments.parse_args().write:
        PAGE.write_text(page_with(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")


if __name__ == "__main__":
    main()
