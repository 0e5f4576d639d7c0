"""The page of one study: 25 grades in a table, the findings to look at first, and the pictures behind them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Final

from pipelines.pages.listing import listing_of, not_read, readable
from pipelines.pages.panels import Panel
from pipelines.pages.readings import Reading, missing_levels, percent, readings_of, worth_a_look
from pipelines.pages.scene import Scene
from shared.figures.web import render, shortened
from shared.labels import Condition, Level, Severity, Side
from shared.probabilities.reasons import PriorReason
from shared.runtime.problems import counted

if TYPE_CHECKING:
    from pipelines.result import StudyResult

PACKAGE: Final = "pipelines.pages"
# As a slice is drawn: the patient's right is on the left.
COLUMNS: Final = tuple(
    (condition, side)
    for condition in Condition
    for side in ((None,) if condition is Condition.CANAL else (Side.RIGHT, Side.LEFT))
)
_FIRST: Final = 12


def study_page(result: "StudyResult", *, index: str = "") -> str:
    """The HTML page of a study, which loads nothing.

    Args:
      index: address of the list of all studies, if there is one.
    """
    readings = readings_of(result)
    scene, first = Scene.of(result, readings), worth_a_look(readings)
    by_place = {(r.finding.condition, r.finding.side, r.finding.level): r for r in readings}
    return render(
        "study.html.j2", package=PACKAGE, style=asset("pages.css"), script=asset("study.js"),
        title=f"Study {shortened(result.study_id)}", study_id=result.study_id, index=index,
        summary=summary_of(result, readings), failure=result.failure, readable=readable,
        numbering=result.numbering, missing=missing_levels(result),
        levels=list(Level), conditions=list(Condition), columns=COLUMNS, by_place=by_place,
        unread=sum(r.grade is None for r in readings),
        first=first[:_FIRST], more=len(first) - _FIRST, spine=scene.spine(),
        close=[_close(level, readings, scene) for level in Level], viewers=scene.viewers(),
        pictures=[p for s in scene.series for p in s.pictures if p.jpeg],
        not_read=not_read(result.reasons), listing=listing_of(result), percent=percent, counted=counted,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """One level in detail.

    Attributes:
      graded: its findings that were graded, in the order of the table.
      unread: why findings were not read -> the parts that they concern.
    """

    level: Level
    panels: tuple[Panel, ...]
    graded: tuple[Reading, ...]
    unread: Mapping[PriorReason, tuple[str, ...]]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that the list of what could not be seen does not say."""
        return not self.panels and not self.graded


def _close(level: Level, readings: Sequence[Reading], scene: Scene) -> Close:
    here = sorted(
        (r for r in readings if r.finding.level is level),
        key=lambda r: COLUMNS.index((r.finding.condition, r.finding.side)),
    )
    unread: dict[PriorReason, tuple[str, ...]] = {}
    for reading in here:
        if reading.reason is not None:
            unread[reading.reason] = (*unread.get(reading.reason, ()), reading.part)
    graded = tuple(r for r in here if r.grade is not None)
    return Close(level=level, panels=tuple(scene.of_level(level)), graded=graded, unread=unread)


def summary_of(result: "StudyResult", readings: Sequence[Reading]) -> list[str]:
    """What matters most, one sentence each; the first is about the grades."""
    read = [r for r in readings if r.grade is not None]
    if not read:
        return [
            "Nothing was graded: all 25 findings have only the training prior, which says nothing about this patient."
        ]
    counts = {s: sum(r.grade is s for r in read) for s in Severity}
    severe, moderate = (
        f"{counts[s] or 'none'} {'is' if counts[s] < 2 else 'are'}" for s in (Severity.SEVERE, Severity.MODERATE)
    )
    lines = [f"Of {counted(len(read), 'graded finding')}, {severe} severe and {moderate} moderate."]
    doubtful = sum(bool(r.doubts) for r in read)
    if doubtful:
        lines.append(f"{counted(doubtful, 'grade')} {'is' if doubtful == 1 else 'are'} doubtful.")
    if len(read) < len(readings):
        lines.append(f"{len(readings) - len(read)} of {len(readings)} findings were not read.")
    if result.numbering is not None and not result.numbering.certain:
        lines.append("The numbering of the levels is uncertain: count the vertebrae.")
    return lines


def asset(name: str) -> str:
    """The text of a file of this package."""
    return resources.files(PACKAGE).joinpath(name).read_text(encoding="utf-8")
