"""The table of docs/performance.md, made from results/bench.json."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

BEGIN: Final = "<!-- made by `python -m benchmarks.bench --page` from results/bench.json -->"
END: Final = "<!-- end -->"


def table(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """All lines of all sections, one row each."""
    rows = ["| section | what | against | ratio (range) | asked for | measured |", "|---|---|---|---|---|---|"]
    for part, section in sections.items():
        if part == "predict":
            rows += [row for name, own in section.items() if isinstance(own, Mapping) for row in _predict(name, own)]
            continue
        for own in section["lines"]:
            ratio = f"{own['ratio']:.2f} ({own['low']:.2f} to {own['high']:.2f}, {own['rounds']} rounds)"
            rows.append(f"| `{part}` | {own['what']} | {own['against']} | {ratio} | {own['target']} | {own['note']} |")
    return "\n".join(rows)


def _predict(name: str, own: Mapping[str, Any]) -> list[str]:
    """The rows of one classifier: `benchmarks.bench.predict` measures whole commands, each once."""
    study, floor = own["seconds_per_study"], own["floor"]["seconds"] / own["studies"]
    start, naive = own["seconds_to_start"], own["naive"]
    head = f"| `predict` | a study, with {name} |"
    rows = [
        f"{head} its floor: decoding and pure forward | {own['study_over_floor']:.2f} | at most 1.25 | "
        f"{study:.2f} s, floor {floor:.2f} s; line through the commands: R2 {own['r2']:.4f}, start {start:.1f} s |",
        f"{head} a notebook's loop, which takes so many times as long | {own['times_naive']:.1f} | at least 3 | "
        f"{naive['seconds_per_study']:.2f} s; rows differ by {naive['largest_difference']:.2g} at most |",
    ]
    memory = own["memory_of_longest_over_quarter"]
    if memory is not None:
        rows.append(
            f"| `predict` | memory at the most studies, with {name} | at a quarter | {memory:.2f} | at most 1.10 | |"
        )
    return rows


def provenance(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Command, commit and machine of each section, and the load average where it was noted."""
    return "\n".join(
        f"- `{part}`: `{s['command']}`, commit `{s['commit'][:10]}`, {s['hardware']}"
        + (f", load average {s['load_average']:.1f}" if "load_average" in s else "")
        for part, s in sections.items()
    )


def with_table(page: str, sections: Mapping[str, Mapping[str, Any]]) -> str:
    """A page whose part between the two marks says what the sections say."""
    made = f"{BEGIN}\n\n{table(sections)}\n\n{provenance(sections)}\n\n{END}" if sections else f"{BEGIN}\n\n{END}"
    return re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: made, page, flags=re.DOTALL)


def write_page(path: Path, sections: Mapping[str, Mapping[str, Any]]) -> None:
    path.write_text(with_table(path.read_text(encoding="utf-8"), sections), encoding="utf-8")
