"""What is graded: views, conditions, sides, levels, severities and the 25 findings.

The only module that spells the challenge's names. Everywhere else a grade is addressed by its `Finding`.
"""

import re
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from shared.runtime.errors import InputError, quoted


class View(StrEnum):
    """A kind of series; the value is the challenge's `series_description`."""

    SAGITTAL_T1 = "Sagittal T1"
    SAGITTAL_T2 = "Sagittal T2/STIR"
    AXIAL_T2 = "Axial T2"

    @property
    def slug(self) -> str:
        """Lower-case name for files, flags and JSON keys."""
        return {"Sagittal T1": "sagittal_t1", "Sagittal T2/STIR": "sagittal_t2", "Axial T2": "axial_t2"}[self.value]

    @property
    def is_sagittal(self) -> bool:
        return self is not View.AXIAL_T2

    @classmethod
    def from_slug(cls, slug: str) -> "View":
        """Raises `InputError` for an unknown slug."""
        for view in cls:
            if view.slug == slug:
                return view
        raise InputError(f"unknown view {quoted(slug)}: expected one of {', '.join(v.slug for v in cls)}")

    @classmethod
    def from_text(cls, text: str) -> "View":
        """From the challenge's description or the slug, in any case; raises `InputError`."""
        for view in cls:
            if _letters(text) in (_letters(view.value), _letters(view.slug)):
                return view
        raise InputError(f"unknown view {quoted(text)}: expected one of {', '.join(v.value for v in cls)}")


class Level(IntEnum):
    """Intervertebral disc level, head to foot; the value is also the detector's class index."""

    L1_L2 = 0
    L2_L3 = 1
    L3_L4 = 2
    L4_L5 = 3
    L5_S1 = 4

    @property
    def slug(self) -> str:
        """As in `row_id`, for example `l1_l2`."""
        return self.name.lower()

    @property
    def display(self) -> str:
        """As in `train_label_coordinates.csv`, for example `L1/L2`."""
        return self.name.replace("_", "/")

    @classmethod
    def from_text(cls, text: str) -> "Level":
        """From any usual spelling, for example L4/L5, l4_l5, L4-L5 or L4/5; raises `InputError`."""
        parts = re.fullmatch(r"(L[1-5])\s*[/_\-\u2010-\u2013 ]\s*([LS]?[1-5])", text.strip().upper())
        for level in cls:
            upper, lower = level.name.split("_")
            if parts is not None and parts[1] == upper and parts[2] in (lower, lower.removeprefix("L")):
                return level
        raise InputError(f"unknown level {quoted(text)}: expected one of {', '.join(v.display for v in cls)}")


class Side(StrEnum):
    """The patient's side. In LPS coordinates the patient's left is +x."""

    LEFT = "left"
    RIGHT = "right"

    @property
    def opposite(self) -> "Side":
        return Side.RIGHT if self is Side.LEFT else Side.LEFT


class Condition(StrEnum):
    """A condition family; the metric and the classifier's heads are per family."""

    CANAL = "spinal_canal_stenosis"
    FORAMINAL = "neural_foraminal_narrowing"
    SUBARTICULAR = "subarticular_stenosis"

    @property
    def view(self) -> View:
        """The view in which the challenge annotates the condition."""
        return _CONDITION_VIEW[self]

    @property
    def sides(self) -> tuple[Side | None, ...]:
        return (None,) if self is Condition.CANAL else (Side.LEFT, Side.RIGHT)

    @property
    def display(self) -> str:
        return {"spinal_canal_stenosis": "Spinal canal", "neural_foraminal_narrowing": "Neural foramen"}.get(
            self.value, "Subarticular"
        )

    @property
    def short(self) -> str:
        """One word for flags and columns: canal, foraminal, subarticular."""
        return self.name.lower()


_CONDITION_VIEW: Final = {
    Condition.CANAL: View.SAGITTAL_T2,
    Condition.FORAMINAL: View.SAGITTAL_T1,
    Condition.SUBARTICULAR: View.AXIAL_T2,
}


class Severity(IntEnum):
    """Grade of a finding; also the column index of every probability array."""

    NORMAL_MILD = 0
    MODERATE = 1
    SEVERE = 2

    @property
    def display(self) -> str:
        """As in `train.csv`."""
        return ("Normal/Mild", "Moderate", "Severe")[self]

    @property
    def weight(self) -> float:
        """Row weight of the competition metric."""
        return (1.0, 2.0, 4.0)[self]

    @property
    def column(self) -> str:
        """Column name in a submission."""
        return self.name.lower()

    @classmethod
    def from_text(cls, text: str) -> "Severity":
        """From the words of `train.csv` or of a submission, in any case; raises `InputError`."""
        for severity in cls:
            if _letters(text) == _letters(severity.name):
                return severity
        raise InputError(f"unknown grade {quoted(text)}: expected one of {', '.join(v.display for v in cls)}")


SEVERITY_COLUMNS: Final = tuple(s.column for s in Severity)
SEVERITY_WEIGHTS: Final = tuple(s.weight for s in Severity)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """One of the 25 graded things of a study. `side` is None for the spinal canal and for nothing else."""

    condition: Condition
    side: Side | None
    level: Level

    def __post_init__(self) -> None:
        if (self.side is None) != (self.condition is Condition.CANAL):
            raise ValueError(f"{self.condition} with side {self.side}: only the spinal canal has no side")

    @property
    def view(self) -> View:
        return self.condition.view

    @property
    def column(self) -> str:
        """Column of `train.csv`, for example `left_subarticular_stenosis_l4_l5`."""
        return f"{self.condition_column}_{self.level.slug}"

    @property
    def condition_column(self) -> str:
        """Side and condition without level, for example `left_subarticular_stenosis`."""
        return self.condition.value if self.side is None else f"{self.side.value}_{self.condition.value}"

    @property
    def condition_display(self) -> str:
        """As in `train_label_coordinates.csv`, for example `Left Subarticular Stenosis`."""
        return self.condition_column.replace("_", " ").title()

    @property
    def index(self) -> int:
        """Position in `FINDINGS`."""
        return _INDEX[self]

    def row_id(self, study_id: str) -> str:
        """Row identifier of a submission, for example `4003253_spinal_canal_stenosis_l1_l2`."""
        return f"{study_id}_{self.column}"

    @classmethod
    def from_column(cls, column: str) -> "Finding":
        """From a name in any case; raises `InputError` for an unknown one."""
        try:
            return _BY_COLUMN[column.lower()]
        except KeyError:
            raise InputError(f"unknown finding {quoted(column)}: expected for example {FINDINGS[0].column!r}") from None

    @classmethod
    def from_display(cls, condition: str, level: str) -> "Finding":
        """From the `condition` and `level` of `train_label_coordinates.csv`, in any case; raises `InputError`."""
        words = "_".join(re.split(r"[\s_\-]+", condition.strip().lower()))
        found = _BY_COLUMN.get(f"{words}_{Level.from_text(level).slug}")
        if found is None:
            known = ", ".join(dict.fromkeys(f.condition_display for f in FINDINGS))
            raise InputError(f"unknown condition {quoted(condition)}: expected one of {known}")
        return found


# The order of train.csv's columns: canal, left and right foraminal, left and right subarticular.
FINDINGS: Final = tuple(
    Finding(condition=condition, side=side, level=level)
    for condition in Condition
    for side in condition.sides
    for level in Level
)
_INDEX: Final = {finding: i for i, finding in enumerate(FINDINGS)}
_BY_COLUMN: Final = {finding.column: finding for finding in FINDINGS}


_ROW_ID: Final = re.compile(f"(.+)_((?i:{'|'.join(_BY_COLUMN)}))")


def parse_row_id(row_id: str) -> tuple[str, Finding]:
    """Splits a row_id into study id and finding; raises `InputError` for a malformed one."""
    match = _ROW_ID.fullmatch(row_id)
    if match is None:
        raise InputError(f"malformed row_id {quoted(row_id)}: expected for example 4003253_{FINDINGS[0].column}")
    return match[1], _BY_COLUMN[match[2].lower()]


def _letters(text: str) -> str:
    """What the spellings of a word have in common: its letters and digits in lower case."""
    return "".join(c for c in text.casefold() if c.isalnum())


def findings_of(condition: Condition) -> tuple[Finding, ...]:
    """The findings of one condition family, in canonical order."""
    return tuple(f for f in FINDINGS if f.condition is condition)
