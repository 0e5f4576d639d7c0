"""What the numbers of a localizer come to, for somebody who reads only the first lines of its report."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from localize.measures import RIGHT_MM, FindingError
from shared.figures.report import Tone
from shared.metric import FEW_STUDIES, StudyLosses, bootstrap, interval, share_interval
from shared.numbering import Numbering
from shared.runtime.problems import counted

# From this share of studies and points on, the later stages can rely on the points.
_GOOD: Final = 0.9
_POOR: Final = 0.5


def by_study(errors: Sequence[FindingError], numbering: Mapping[str, Numbering]) -> dict[str, Any]:
    """Counts the studies whose levels are all right, and those of them that are marked as certain.

    A study is right when each of its levels with a true point was found, and every point found is nearest to the true
    point of its own level. Intervals of shares of points resample studies (95%).
    """
    of_study: dict[str, list[FindingError]] = defaultdict(list)
    for error in errors:
        of_study[error.study_id].append(error)
    right = {study_id for study_id, members in of_study.items() if _all_right(members)}
    sure = {s for s in of_study if s in numbering and numbering[s].certain}
    near = np.array([[sum(_near(e) for e in members)] for members in of_study.values()], np.float64)
    expected = np.array([[len(members)] for members in of_study.values()], np.float64)
    resampled = bootstrap(StudyLosses(losses=near, weights=expected)) if of_study else None
    return {
        "studies": len(of_study),
        "all_levels_right": len(right),
        "all_levels_right_interval": asdict(share_interval(len(right), len(of_study))),
        "judged": len(set(of_study) & set(numbering)),
        "sure": len(sure),
        "sure_and_right": len(sure & right),
        "within_8_mm_interval": None if resampled is None else asdict(interval(resampled)),
    }


def _all_right(members: Sequence[FindingError]) -> bool:
    found = {e.finding.level for e in members if e.found}
    return found == {e.finding.level for e in members} and all(
        e.nearest_level is e.finding.level for e in members if e.found
    )


def _near(error: FindingError) -> bool:
    return error.distance_mm is not None and error.distance_mm <= RIGHT_MM


def verdict(measures: Mapping[str, Any]) -> tuple[list[str], Tone]:
    """The first lines of the report, from its measures; `by_study` is among them."""
    studies, overall = measures["by_study"], measures["overall"]
    if not studies["studies"]:
        return ["No study with a true point: there is nothing to measure."], "open"
    right, total = studies["all_levels_right"], studies["studies"]
    near, unsure = overall["within_8_mm"], studies["judged"] - studies["sure"]
    lines = [
        f"All levels are right in {right} of {counted(total, 'study')} ({right / total:.0%}, 95% interval "
        f"{_percents(studies['all_levels_right_interval'])}).",
        f"{near:.1%} of {overall['expected']:,} points lie within 8 mm of the true one in 3-D (95% interval "
        f"{_percents(studies['within_8_mm_interval'], 1)}); {overall['expected'] - overall['found']:,} were not found.",
    ]
    if studies["judged"]:
        lines.append(
            f"The localizer is sure of its numbering in {counted(studies['sure'], 'study')}, and right in "
            f"{studies['sure_and_right']} of them; in {unsure} it asks for the vertebrae to be counted."
        )
    if total < FEW_STUDIES:
        lines.append(f"Only {counted(total, 'study')}: the intervals are wide.")
    worse = min(right / total, near)
    return lines, "good" if worse >= _GOOD else "poor" if worse < _POOR else "open"


def _percents(bounds: Mapping[str, float], digits: int = 0) -> str:
    return f"{bounds['low']:.{digits}%} to {bounds['high']:.{digits}%}"
