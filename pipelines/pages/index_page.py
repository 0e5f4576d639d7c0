"""The list of all studies of a prediction: worst grade, doubts and missing parts of each, to sort and filter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from pipelines.pages.listing import listing_of, not_read, readable
from pipelines.pages.readings import Reading, percent, readings_of, worth_a_look
from pipelines.pages.study_page import COLUMNS, PACKAGE, asset
from shared.figures.web import render, shortened
from shared.labels import Severity
from shared.runtime.problems import counted

if TYPE_CHECKING:
    from pipelines.result import StudyResult

_NAMED: Final = 2  # of the worst findings of a study
_SQUARE: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRow:
    """One study of the list.

    Attributes:
      address: of its page, from the list.
      failed: whether nothing could be done for it because of an error, the first of its notes.
      worst: its worst grade; None where nothing was read.
      rank: grows with how bad its findings are; -1 where nothing was read.
      named: its worst findings in words.
      counts: findings that were read, by grade.
      doubtful: number of doubtful grades.
      unread: number of findings that were not read.
      as_named: probability that the levels are named correctly; None where nothing was localized.
      certain: whether that is enough.
      notes: what was not read and why, then what else went wrong.
      squares: CSS class -> path of the squares that have it in a picture of the 25 findings.
    """

    study_id: str
    short_id: str
    address: str
    failed: bool
    worst: Severity | None
    rank: float
    named: str
    counts: Mapping[Severity, int]
    doubtful: int
    unread: int
    as_named: float | None
    certain: bool
    notes: tuple[str, ...]
    squares: Mapping[str, str]

    @classmethod
    def of(cls, result: "StudyResult", address: str) -> Self:
        """The row of a result, whose page has this address."""
        readings = readings_of(result)
        counts = {s: sum(r.grade is s for r in readings) for s in Severity}
        worst = max((s for s in Severity if counts[s]), default=None)
        surest = [r.probabilities[worst] for r in readings if r.grade is worst] if worst is not None else []
        bad = [r for r in worth_a_look(readings) if r.grade is worst and worst]
        named = [f"{r.name} {percent(r.probability)}" for r in bad[:_NAMED]]
        more = [f"{len(bad) - _NAMED} more"] if len(bad) > _NAMED else []
        listing = listing_of(result)
        of_series = (f"{line.name}: {text}" for line in listing.lines for text in line.problems)
        numbering, failure = result.numbering, result.failure
        return cls(
            study_id=result.study_id, short_id=shortened(result.study_id), address=address,
            failed=failure is not None, worst=worst,
            rank=-1.0 if worst is None else worst + max(surest) / 2,
            named="; ".join(named + more), counts=counts, doubtful=sum(bool(r.doubts) for r in readings),
            unread=sum(r.grade is None for r in readings),
            as_named=None if numbering is None else numbering.as_named,
            certain=numbering is None or numbering.certain,
            notes=(*([] if failure is None else [readable(failure.message)]), *not_read(result.reasons),
                   *listing.problems, *of_series),
            squares=_squares(readings),
        )  # fmt: skip


def _squares(readings: Sequence[Reading]) -> dict[str, str]:
    """The 25 findings as squares in the order of the table on the study's page."""
    paths: dict[str, str] = {}
    for reading in readings:
        x = COLUMNS.index((reading.finding.condition, reading.finding.side)) * (_SQUARE + 1)
        y = reading.finding.level * (_SQUARE + 1)
        kind = "prior" if reading.grade is None else reading.grade.column
        paths[kind] = paths.get(kind, "") + f"M{x} {y}h{_SQUARE}v{_SQUARE}h-{_SQUARE}z"
    return paths


def index_page(rows: Sequence[StudyRow]) -> str:
    """The HTML page of a prediction, worst studies first; it loads nothing."""
    ordered = sorted(rows, key=lambda row: (-row.rank, row.study_id))
    return render(
        "index.html.j2", package=PACKAGE, style=asset("pages.css"), script=asset("index.js"), title="Prediction",
        rows=ordered, summary=_summary(rows), percent=percent, grades=list(Severity),
    )  # fmt: skip


def _summary(rows: Sequence[StudyRow]) -> list[str]:
    """What the studies have in common, one sentence each."""
    severe = sum(row.worst is Severity.SEVERE for row in rows)
    moderate = sum(row.worst is Severity.MODERATE for row in rows)
    lines = [
        f"{counted(len(rows), 'study')}: {severe or 'none'} with a severe finding, "
        f"{moderate or 'none'} with a moderate one at worst."
    ]
    failed, nothing = sum(row.failed for row in rows), sum(row.worst is None for row in rows)
    if failed:
        lines.append(f"{counted(failed, 'study')} failed, see failures.csv.")
    if nothing > failed:
        lines.append(f"In {counted(nothing - failed, 'study')} nothing was read, without an error.")
    parts = sum(row.unread > 0 for row in rows) - nothing
    if parts:
        lines.append(f"In {counted(parts, 'study')} some findings were not read.")
    uncertain = sum(not row.certain for row in rows)
    if uncertain:
        lines.append(f"The numbering of the levels is uncertain in {counted(uncertain, 'study')}.")
    return lines
