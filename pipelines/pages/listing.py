"""The series of a study, used and unused, and what went wrong, in words short enough for a page."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.figures.web import shortened
from shared.labels import FINDINGS, Condition, Finding, Level, View, findings_of
from shared.probabilities.reasons import PriorReason
from shared.runtime.problems import counted
from shared.study import ListedSeries

if TYPE_CHECKING:
    from pipelines.result import StudyResult

_LONG_ID: Final = re.compile(r"[0-9][0-9.]{23,63}")
# How messages name findings and conditions -> how pages do.
_NAMES: Final = {f.column: f"{f.level.display} {f.condition_column.replace('_', ' ')}" for f in FINDINGS} | {
    c.value: c.value.replace("_", " ") for c in Condition
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesLine:
    """One line of the table of series.

    Attributes:
      name: its view, with a number where there are several of it, or what else it is.
      reasons: why it is used or not.
      problems: what is wrong with it.
    """

    series_id: str
    short_id: str
    name: str
    slices: int
    state: str
    graded: int
    reasons: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What was there and what was not.

    Attributes:
      lines: used series first.
      problems: those that do not belong to a series of `lines`.
    """

    lines: tuple[SeriesLine, ...]
    problems: tuple[str, ...]


def listing_of(result: "StudyResult") -> Listing:
    """The series of a study and its problems."""
    listed = result.listed or tuple(
        ListedSeries(series_id=s.series_id, view=s.view, slices=len(s.slices), state="used")
        for s in result.study.series
    )
    listed = tuple(sorted(listed, key=lambda s: (s.state != "used", _order(s.view))))
    names = series_names({s.series_id: s.view for s in listed})
    graded = [p.series_id for f, p in result.localizations.items() if f not in result.reasons]
    own: dict[str, list[str]] = {s.series_id: [] for s in listed}
    reasons = {s.series_id: s.reasons for s in listed}
    others = []
    for problem in result.problems:
        series_id, text = _addressed(problem, result.study_id)
        if series_id not in own:
            others.append(f"{shortened(series_id)}: {text}" if series_id else text)
        elif not any(reason in text for reason in reasons[series_id]):  # they say already why it is not used
            own[series_id].append(text)
    lines = tuple(
        SeriesLine(
            series_id=s.series_id, short_id=shortened(s.series_id), name=names[s.series_id], slices=s.slices,
            state=s.state, graded=graded.count(s.series_id), reasons=tuple(map(readable, s.reasons)),
            problems=tuple(map(readable, own[s.series_id])),
        )
        for s in listed
    )  # fmt: skip
    return Listing(lines=lines, problems=tuple(map(readable, others)))


def series_names(views: Mapping[str, View | None]) -> dict[str, str]:
    """Series id -> its view, numbered where several series show it."""
    names, seen = {}, dict.fromkeys(views.values(), 0)
    for series_id, view in views.items():
        seen[view] += 1
        name = "other" if view is None else view.value
        names[series_id] = f"{name} ({seen[view]})" if view is not None and seen[view] > 1 else name
    return names


def not_read(reasons: Mapping[Finding, PriorReason]) -> list[str]:
    """For each reason, one sentence on the findings that were not read."""
    texts = []
    for reason in PriorReason:
        parts = [_part(c, [f for f in findings_of(c) if reasons.get(f) is reason]) for c in Condition]
        named = "; ".join(part for part in parts if part)
        if named:
            texts.append(f"{named}: {reason.text}.")
    return texts


def _part(condition: Condition, findings: list[Finding]) -> str:
    """For example "Neural foramen L1/L2, L2/L3 (4 findings)"."""
    if not findings:
        return ""
    levels = [level for level in Level if any(f.level is level for f in findings)]
    where = "all levels" if len(levels) == len(Level) else ", ".join(level.display for level in levels)
    return f"{condition.display}, {where} ({counted(len(findings), 'finding')})"


def readable(text: str) -> str:
    """A message with long UIDs shortened and findings named as on the pages."""
    for column, name in _NAMES.items():
        text = text.replace(column, name)
    return _LONG_ID.sub(lambda found: shortened(found[0]), text)


def _addressed(problem: str, study_id: str) -> tuple[str, str]:
    """The series that a problem names, if any, and the problem without the ids in front of it."""
    text = problem.removeprefix(f"study {study_id}").lstrip(": ")
    words = text.split(" ", 2)
    if words[0] == "series" and len(words) == 3:
        return words[1].rstrip(":"), words[2]
    return "", text


def _order(view: View | None) -> int:
    return len(View) if view is None else list(View).index(view)
