"""What the slices of a study say against the tables that list them. Its rows are answered all the same."""

from collections.abc import Mapping
from typing import TypeAlias

from shared.geometry import PLANE_NAMES, Plane, dominant_axis
from shared.runtime.problems import counted
from shared.study import SAME_POSITION_MM, Series, Study, gaps_mm

# SeriesInstanceUID and plane of each slice of a series.
Content: TypeAlias = frozenset[tuple[str | None, Plane]]


def contradictions(study: Study, contents: Mapping[str, Content]) -> list[str]:
    """A message for each series that lies in another plane than its view, has no extent, or may be there twice.

    Args:
      contents: series id -> what its files say of themselves.
    """
    found = []
    for n, series in enumerate(study.series):
        where = f"study {study.study_id} series {series.series_id}"
        found += [f"{where}: {text}" for text in (_other_plane(series), _one_position(series)) if text]
        content = contents[series.series_id]
        if any(uid is None for uid, _ in content):
            continue
        twins = [s.series_id for s in study.series[:n] if contents[s.series_id] == content]
        if twins:
            found.append(f"{where}: has the UID and the planes of series {twins[0]}; does it hold the same slices?")
    return found


def _other_plane(series: Series) -> str:
    wanted = 0 if series.view.is_sagittal else 2
    axes = [dominant_axis(item.plane) for item in series.slices]
    wrong = [axis for axis in axes if axis != wanted]
    if 2 * len(wrong) <= len(axes):
        return ""
    got = PLANE_NAMES[max(set(wrong), key=wrong.count)]
    return (
        f"is listed as {series.view.value}, but {len(wrong)} of its {counted(len(axes), 'slice')} are {got}; "
        f"correct the table"
    )


def _one_position(series: Series) -> str:
    if len(series.slices) < 2 or any((gaps_mm(stack) > SAME_POSITION_MM).any() for stack in series.stacks):
        return ""
    return "" if len(series.stacks) > 1 else f"all its {counted(len(series.slices), 'slice')} lie at one position"
