"""What the pages say about each finding: its grade, how probable it is, and what makes it doubtful."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from shared.detections import Localization, Source
from shared.labels import FINDINGS, Condition, Finding, Level, Severity
from shared.probabilities.reasons import PriorReason

if TYPE_CHECKING:
    from pipelines.result import StudyResult

# A grade that is less probable than this is called doubtful; so is one whose point is more likely wrong than right.
SURE_GRADE: Final = 0.6
SURE_POINT: Final = 0.5
# A level that is less likely than this to have a place of its own in the images is named as missing.
SEEN: Final = 0.5
_PARTS: Final = {Condition.CANAL: "spinal canal", Condition.FORAMINAL: "neural foramen"}
_SOURCES: Final = {
    Source.PROJECTED: "its point is carried over from another series",
    Source.INTERPOLATED: "its point is placed between the neighbouring levels",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One finding as the pages show it.

    Attributes:
      probabilities: of the three grades, without the metric's weights.
      place: where it was graded; None where no point was found.
      reason: why the training prior answers it; None where the model does.
    """

    finding: Finding
    probabilities: tuple[float, float, float]
    place: Localization | None
    reason: PriorReason | None

    @property
    def grade(self) -> Severity | None:
        """The most probable grade; None where nothing was graded, because the prior says nothing about this patient."""
        return None if self.reason else Severity(int(np.argmax(self.probabilities)))

    @property
    def probability(self) -> float:
        """Of the most probable grade."""
        return max(self.probabilities)

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the grade should not be relied on; empty where nothing speaks against it, and where there is no grade."""
        if self.reason is not None:
            return ()
        doubts = []
        if round(self.probability, 2) < SURE_GRADE:  # as it is shown
            second = Severity(int(np.argsort(self.probabilities)[1]))
            doubts.append(f"{second.display} is {percent(self.probabilities[second])} likely")
        if self.place is not None and self.place.score < SURE_POINT:
            doubts.append(f"its point is only {percent(self.place.score)} sure")
        return tuple(doubts)

    @property
    def remark(self) -> str:
        """How its point was found, where it was not seen on its own series."""
        return _SOURCES.get(self.place.source, "") if self.place is not None and self.reason is None else ""

    @property
    def part(self) -> str:
        """The side and the part of the spine, for example "right neural foramen"."""
        side = "" if self.finding.side is None else f"{self.finding.side.value} "
        return side + _PARTS.get(self.finding.condition, "subarticular zone")

    @property
    def name(self) -> str:
        """For example "L4/L5 right neural foramen"."""
        return f"{self.finding.level.display} {self.part}"

    @property
    def said(self) -> str:
        """Grade and probability, or that there is none."""
        if self.grade is None:
            return "not read"
        return f"{self.grade.display} {percent(self.probability)}" + (", doubtful" if self.doubts else "")

    @property
    def spread(self) -> str:
        """All three probabilities in words."""
        return ", ".join(f"{s.display} {percent(self.probabilities[s])}" for s in Severity)


def readings_of(result: "StudyResult") -> tuple[Reading, ...]:  # [25]
    """One reading per finding, in the order of `FINDINGS`."""
    return tuple(
        Reading(
            finding=finding, probabilities=(row[0], row[1], row[2]), place=result.localizations.get(finding),
            reason=result.reasons.get(finding),
        )
        for finding, row in zip(FINDINGS, result.probabilities.tolist(), strict=True)
    )  # fmt: skip


def worth_a_look(readings: Sequence[Reading]) -> list[Reading]:
    """Severe findings, then moderate ones, then doubtful ones, the most probable first."""

    def order(reading: Reading) -> tuple[int, float]:
        grade = reading.grade or Severity.NORMAL_MILD
        return -grade, -sum(reading.probabilities[max(grade, Severity.MODERATE) :])

    return sorted((r for r in readings if r.grade or r.doubts), key=order)


def missing_levels(result: "StudyResult") -> list[Level]:
    """Levels that have no place of their own in the images."""
    numbering = result.numbering
    return [] if numbering is None else [level for level in Level if numbering.missing[level] > 1 - SEEN]


def percent(probability: float) -> str:
    """A probability as a person reads it; only what is certain is 0% or 100%."""
    if 0 < probability < 0.01:
        return "<1%"
    if 0.99 < probability < 1:
        return ">99%"
    return f"{probability:.0%}"
