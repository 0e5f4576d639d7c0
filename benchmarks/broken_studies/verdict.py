"""Whether a prediction of planted studies keeps its promises, and what it said of each damage."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.broken_studies.damage import DAMAGES
from benchmarks.broken_studies.planting import TWIN
from shared.labels import FINDINGS

_QUOTED: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one broken study.

    Attributes:
      rows: of the submission.
      said: the first message on the study that names the damage; empty if none does.
      kept: whether the study has 25 rows, and its damage was named or, if it damaged nothing, changed no row.
    """

    rows: int
    said: str
    kept: bool


def rows_of(out: Path) -> dict[str, list[str]]:
    """Study id -> its rows of a submission, without the id."""
    rows: dict[str, list[str]] = {}
    for line in (out / "submission.csv").read_text(encoding="utf-8").splitlines()[1:]:
        study_id, rest = line.split("_", 1)
        rows.setdefault(study_id, []).append(rest)
    return rows


def verdicts(out: Path, ids: Mapping[str, str]) -> dict[str, Verdict]:
    """Damage -> what an output folder of `lumbar predict` says of it.

    Args:
      ids: damage -> study id, as `plant` returns it.
    """
    rows, problems = rows_of(out), _run(out)["problems"]
    found = {}
    for name, study_id in ids.items():
        told, own = DAMAGES[name].told, rows.get(study_id, [])
        said = [text for text in problems if re.match(rf"study {study_id}\b", text)]
        fitting = [text for text in said if told and re.search(told, text)]
        named = own == rows[TWIN] if told is None else bool(fitting) or not told
        found[name] = Verdict(
            rows=len(own),
            said=_without_paths((fitting or said or [""])[0], study_id)[:_QUOTED],
            kept=named and len(own) == len(FINDINGS),
        )
    return found


def _run(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "run.json").read_text(encoding="utf-8")))


def _without_paths(text: str, study_id: str) -> str:
    """A message without the folders above the images and without the study's id."""
    return re.sub(rf"\S*_images/{study_id}/", "", text).replace(f"study {study_id}", "study")
