"""The localizer's measured error: how far off crops will be at prediction, so that stage 2 can train on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from shared.labels import Condition
from shared.runtime.documents import Document, read_document
from shared.runtime.errors import InputError, quoted
from shared.runtime.files import write_json

_EXPECTED: Final = "expected errors.json of `lumbar localize train`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Jitter:
    """Error of one condition family's localizations.

    Attributes:
      in_plane_sd_mm: standard deviation along each in-plane axis, robust (from the median distance).
      slice_offsets: probability of each offset in slices, positive towards the end of the series; sums to 1.
    """

    in_plane_sd_mm: float
    slice_offsets: Mapping[int, float]

    def __post_init__(self) -> None:
        if not 0 <= self.in_plane_sd_mm < 50:
            raise ValueError(f"in_plane_sd_mm {self.in_plane_sd_mm}: expected 0 to 50 mm")
        chances = self.slice_offsets.values()
        if not chances or abs(sum(chances) - 1) > 1e-6 or min(chances) < 0:
            raise ValueError(f"slice_offsets {quoted(dict(self.slice_offsets))}: expected probabilities that sum to 1")

    def at_least(self, assumed: "Jitter") -> "Jitter":
        """The larger of the two in-plane errors, with the slice offsets of the one that leaves the slice more often."""
        return Jitter(
            in_plane_sd_mm=max(self.in_plane_sd_mm, assumed.in_plane_sd_mm),
            slice_offsets=min(self, assumed, key=lambda j: j.slice_offsets.get(0, 0.0)).slice_offsets,
        )


class _JitterFile(Document):
    in_plane_sd_mm: float
    slice_offsets: dict[Annotated[int, Field(ge=-100, le=100)], float]


class ErrorsFile(Document):
    """errors.json: the usual error of points. A condition that no held-out study shows is absent."""

    schema_: Literal["point-errors-1"] | None = Field(default=None, alias="schema")  # earlier versions wrote none
    canal: _JitterFile | None = None
    foraminal: _JitterFile | None = None
    subarticular: _JitterFile | None = None


def write_jitter(path: Path, jitter: Mapping[Condition, Jitter]) -> None:
    write_json(
        path,
        {"schema": "point-errors-1"}
        | {
            condition.short: {
                "in_plane_sd_mm": item.in_plane_sd_mm,
                "slice_offsets": {str(k): v for k, v in sorted(item.slice_offsets.items())},
            }
            for condition, item in jitter.items()
        },
    )


def read_jitter(path: Path) -> dict[Condition, Jitter]:
    """Raises `InputError` for a file that `write_jitter` did not write."""
    file = read_document(path, ErrorsFile, advice=_EXPECTED)
    found = {c: item for c in Condition if (item := getattr(file, c.short)) is not None}
    try:
        return {c: Jitter(in_plane_sd_mm=x.in_plane_sd_mm, slice_offsets=x.slice_offsets) for c, x in found.items()}
    except ValueError as error:
        raise InputError(f"{path}: {error}; {_EXPECTED}") from error
