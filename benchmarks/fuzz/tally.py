"""What became of all cases: counts, faults with how they were told, and peak memory beside that of sound inputs."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from benchmarks.fuzz.case import kind_of
from benchmarks.fuzz.server import Result

# Of a reading process beside one that reads the sound file: the promise of docs/reliability.md.
PEAK_FACTOR: Final = 1.5
PEAK_MORE_MIB: Final = 64.0
_MOST_FAULTS: Final = 40
_LONGEST: Final = 160
_SEVERAL: Final = "several kinds"
_UNTOLD: Final = ("exception", "signal", "timeout", "memory")


def judged(result: Result, sound: Mapping[str, Result]) -> str:
    """The outcome, or `memory` where the child took too much of it."""
    clean = sound[f"{result.kind}/{result.name}"]
    if result.outcome in ("read", "told") and result.peak_mib > PEAK_FACTOR * clean.peak_mib + PEAK_MORE_MIB:
        return "memory"
    return result.outcome


def tally(results: Sequence[Result], sound: Mapping[str, Result]) -> dict[str, Any]:
    """The content of results/fuzz.json below its head.

    Args:
      sound: kind and name -> what became of the sound input.
    """
    outcomes = Counter(judged(r, sound) for r in results)
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    names: dict[str, Counter[str]] = defaultdict(Counter)
    for r in results:
        kinds[r.kind][judged(r, sound)] += 1
        names[f"{r.kind}: {r.name}"][judged(r, sound)] += 1
    return {
        "cases": len(results),
        "untold": {name: outcomes[name] for name in _UNTOLD},
        "outcomes": dict(sorted(outcomes.items())),
        "by_kind": {kind: dict(sorted(count.items())) for kind, count in sorted(kinds.items())},
        "by_input": {name: dict(sorted(count.items())) for name, count in sorted(names.items())},
        "peak_memory": _peaks(results, sound),
        "seconds": {"longest_case": max((r.seconds for r in results), default=0.0)},
        "untold_cases": [r.to_json() for r in results if judged(r, sound) in _UNTOLD],
        "faults": _faults(results),
    }


def _peaks(results: Iterable[Result], sound: Mapping[str, Result]) -> dict[str, Any]:
    """Per kind, the largest child, and the largest beside its own sound input."""
    peaks: dict[str, dict[str, float]] = {}
    for r in results:
        clean = sound[f"{r.kind}/{r.name}"].peak_mib
        own = peaks.setdefault(r.kind, {"sound_mib": 0.0, "damaged_mib": 0.0, "most_above_sound_mib": 0.0})
        own["sound_mib"] = max(own["sound_mib"], clean)
        own["damaged_mib"] = max(own["damaged_mib"], r.peak_mib)
        own["most_above_sound_mib"] = max(own["most_above_sound_mib"], round(r.peak_mib - clean, 1))
    return {"bound": f"{PEAK_FACTOR} x sound + {PEAK_MORE_MIB:.0f} MiB", **dict(sorted(peaks.items()))}


def _faults(results: Iterable[Result]) -> dict[str, list[dict[str, Any]]]:
    """Kind -> what was told, after what damage, and how often; the rarest ones are only counted."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    damages: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for r in results:
        damage = r.damage[0] if len(set(r.damage)) == 1 else _SEVERAL
        for said in dict.fromkeys(map(normalised, r.said)) if r.outcome == "told" else ():
            counts[r.kind][said] += 1
            damages[r.kind, said][damage] += 1
    return {
        kind: [
            {"told": said, "cases": n, "damage": dict(damages[kind, said].most_common(5))}
            for said, n in of_kind.most_common(_MOST_FAULTS)
        ]
        + ([{"told": f"{len(of_kind) - _MOST_FAULTS} rarer messages"}] if len(of_kind) > _MOST_FAULTS else [])
        for kind, of_kind in sorted(counts.items())
    }


def normalised(text: str) -> str:
    """A message without what differs from case to case: names, quoted values and numbers."""
    text = text.splitlines()[0] if text else text
    text = re.sub(r"<folder>[\w./ -]*", "FILE", text)
    text = re.sub(r"'[^']*'|\"[^\"]*\"", "'...'", text)
    text = re.sub(r"[^\x20-\x7e]+", "?", text)
    return re.sub(r"\d+(\.\d+)?", "N", text)[:_LONGEST]


def numbers_of(cases: int, first: int, only: Sequence[str]) -> list[int]:
    """The numbers of the first so many cases of the wanted kinds."""
    found: list[int] = []
    number = first
    while len(found) < cases:
        if not only or kind_of(number) in only:
            found.append(number)
        number += 1
    return found
