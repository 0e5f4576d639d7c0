"""How certain the numbering of a study's levels is: what stage 1 reports beside its points, and the CSV file of it.

Four or six lumbar-type vertebrae, a residual disc between S1 and S2, or T12/L1 in view can shift the whole chain, and
so all 25 findings, by one disc.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from shared.labels import Level
from shared.runtime.errors import InputError
from shared.runtime.files import write_csv
from shared.runtime.tables import Kind, read_csv

# Below this probability a reader should count the vertebrae.
CERTAIN: Final = 0.95
_PARTS: Final = ("as_named", "one_higher", "one_lower", "disc_above", "disc_below")


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbering:
    """Belief in the numbering of one study.

    Attributes:
      as_named: probability that every level is the disc that its name says.
      one_higher, one_lower: probability that every level is really the next disc towards the head, or towards the feet;
        with `as_named` they sum to 1.
      disc_above, disc_below: evidence in [0, 1] for a further disc above L1/L2 and below L5/S1.
      missing: probability that a level is not visible in the images.
    """

    as_named: float
    one_higher: float
    one_lower: float
    disc_above: float
    disc_below: float
    missing: Mapping[Level, float]

    def __post_init__(self) -> None:
        values = np.array([*(getattr(self, part) for part in _PARTS), *self.missing.values()])
        if set(self.missing) != set(Level) or not ((values >= 0) & (values <= 1)).all():
            raise ValueError("a numbering needs probabilities in [0, 1], one of them for each level")
        if abs(self.as_named + self.one_higher + self.one_lower - 1) > 1e-6:
            raise ValueError("as_named, one_higher and one_lower must sum to 1")

    @property
    def certain(self) -> bool:
        return self.as_named >= CERTAIN

    def to_json(self) -> dict[str, Any]:
        """For studies/<id>.json."""
        return {
            **{part: getattr(self, part) for part in _PARTS},
            "certain": self.certain,
            "missing": {level.slug: self.missing[level] for level in Level},
        }


_COLUMNS: Final[dict[str, Kind]] = {
    "study_id": "id",
    **dict.fromkeys(_PARTS, "float64"),
    **{f"missing_{level.slug}": "float64" for level in Level},
}


def write_numbering(path: Path, numbering: Mapping[str, Numbering]) -> None:
    """Writes one row per study, sorted by study id."""
    rows = [
        (study_id, *(getattr(n, part) for part in _PARTS), *(n.missing[level] for level in Level))
        for study_id, n in sorted(numbering.items())
    ]
    write_csv(path, pd.DataFrame(rows, columns=list(_COLUMNS)))


def read_numbering(path: Path) -> dict[str, Numbering]:
    """Raises `InputError` for a missing file or column, or for invalid values."""
    result = {}
    for line, study_id, *numbers in read_csv(path, _COLUMNS).itertuples(name=None):
        parts, missing = numbers[: len(_PARTS)], numbers[len(_PARTS) :]
        try:
            result[study_id] = Numbering(
                **dict(zip(_PARTS, parts, strict=True)), missing=dict(zip(Level, missing, strict=True))
            )
        except ValueError as error:
            raise InputError(f"{path} line {line}: {error}") from error
    return result
