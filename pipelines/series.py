"""`lumbar series`: which series of each study would be used for which view, which not, and why. Loads no model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shared.data.challenge import Part, listed_parts
from shared.data.source import StudySource, open_parts, open_source
from shared.data.unpack import open_input
from shared.dicom.discover import FoundSeries, FoundStudy
from shared.dicom.scan import files_below
from shared.labels import View
from shared.runtime.errors import InputError, printable
from shared.runtime.names import masked, masked_path

_VIEW_WIDTH, _SLICES_WIDTH = 16, 6


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRequest:
    """What to list.

    Attributes:
      data: DICOM files in any folder or archive, one DICOM file, a challenge directory, or a prepared store.
      part: of a challenge directory; None for all there are.
      chosen: series id -> the view that the user wants it for.
      as_predicted: lists the part that `lumbar predict` takes where `part` is None.
    """

    data: Path
    part: Part | None = None
    chosen: Mapping[str, View] = field(default_factory=dict)
    as_predicted: bool = False


def parse_choices(texts: Sequence[str]) -> dict[str, View]:
    """Series id -> view, of texts VIEW=UID.

    Raises:
      InputError: for another form, an unknown view, or a series that is given two views.
    """
    views: dict[str, View] = {}
    for text in texts:
        slug, equals, series_id = (part.strip() for part in text.partition("="))
        if not equals or not series_id:
            raise InputError(f"--series {text}: expected VIEW=UID, for example axial_t2=1.2.840.113619")
        try:
            view = View.from_slug(slug.lower())
        except InputError as error:
            raise InputError(f"--series {text}: {error}") from error
        if views.setdefault(series_id, view) is not view:
            raise InputError(
                f"--series: series {series_id} is given two views, {views[series_id].slug} and {view.slug}"
            )
    return views


def series_table(request: SeriesRequest, *, as_json: bool = False) -> str:
    """The table, as text or as JSON.

    Raises:
      InputError: for a folder that is missing or holds no readable DICOM image, or a chosen series that is not there.
    """
    if request.as_predicted:
        sources = [open_source(request.data, request.part, request.chosen)]
    else:
        sources = open_parts(request.data, request.part, request.chosen)
    if as_json:
        return json.dumps(_to_json(sources), indent=2)
    return "\n".join(line for source in sources for line in _lines(source))


def names_table(data: Path) -> str:
    """The masked names of files and folders below DATA with their own ones, which may name patients: for the eye only.

    Raises:
      InputError: when there is no such input.
    """
    folder = open_input(data).folder
    numbers = bool(listed_parts(folder))
    closed: list[tuple[Path, InputError]] = []
    found = [*files_below(folder, closed), *(path for path, _ in closed)]
    relative = [path.relative_to(folder) for path in found]
    below = sorted({path for item in relative for path in (item, *item.parents) if path.parts})
    lines = [
        f"{masked_path(path, numbers=numbers)}  {printable(str(path))}"
        for path in below
        if masked(path.name, numbers=numbers) != path.name
    ]
    return "\n".join(lines or [f"{data}: no name of a file is masked"])


def _lines(source: StudySource) -> list[str]:
    if source.found is not None:
        lines = [line for found in source.found for line in _found_lines(found)]
        return lines if source.files is None else [*lines, str(source.files)]
    lines = []
    for loaded in map(source.load, source.study_ids):  # the challenge's tables say the views
        lines.append(f"study {loaded.study.study_id}")
        lines += [_line(s.view.value, len(s.slices), s.series_id, "") for s in loaded.study.series]
        lines += [f"  {problem}" for problem in loaded.problems]
    return lines


def _found_lines(found: FoundStudy) -> list[str]:
    lines = [f"study {found.study.study_id}", *(f"  {remark}" for remark in found.remarks)]
    for series in sorted(found.series, key=_order):
        view = series.verdict.view.value if series.used and series.verdict.view else series.state
        lines.append(_line(view, series.slices, series.series_id, "; ".join(series.reasons)))
        rank = _rank(series, found.series)
        lines += [f"{'':{_VIEW_WIDTH + _SLICES_WIDTH + 3}} {remark}" for remark in (*rank, *series.remarks)]
    return [*lines, *(f"  unreadable: {error}" for _, error in found.unread)]


def _order(series: FoundSeries) -> tuple[bool, str, int, str]:
    """Used series first, then by view and rank."""
    return not series.used, str(series.verdict.view), series.choice.rank if series.choice else 0, series.series_id


def _rank(series: FoundSeries, among: Sequence[FoundSeries]) -> tuple[str, ...]:
    """The place among the candidates of the view, where there are several."""
    view, choice = series.verdict.view, series.choice
    several = sum(s.choice is not None and s.verdict.view is view for s in among) > 1
    if view is None or choice is None or not several:
        return ()
    return (f"rank {choice.rank} for {view.value}, score {choice.score:.2f}",)


def _line(view: str, slices: int, series_id: str, reasons: str) -> str:
    return f"  {view:{_VIEW_WIDTH}} {slices:>{_SLICES_WIDTH}} {series_id}" + (f": {reasons}" if reasons else "")


def _to_json(sources: Sequence[StudySource]) -> dict[str, Any]:
    studies, files = [], None
    for source in sources:
        files = files or source.files
        if source.found is not None:
            studies += [_found_to_json(found) for found in source.found]
        else:
            studies += [_listed_to_json(source, study_id) for study_id in source.study_ids]
    return {"schema": "series-1", "studies": studies} | ({} if files is None else {"files": asdict(files)})


def _found_to_json(found: FoundStudy) -> dict[str, Any]:
    series = [
        {
            "series_id": s.series_id,
            "view": s.verdict.view.slug if s.verdict.view else None,
            "slices": s.slices,
            "used": s.used,
            "rank": s.choice.rank if s.choice else None,
            "score": s.choice.score if s.choice else None,
            "reasons": list(s.reasons),
            "remarks": list(s.remarks),
        }
        for s in found.series
    ]
    return {"study_id": found.study.study_id, "series": series, "problems": list(found.problems)}


def _listed_to_json(source: StudySource, study_id: str) -> dict[str, Any]:
    loaded = source.load(study_id)
    series = [
        {"series_id": s.series_id, "view": s.view.slug, "slices": len(s.slices), "used": True}
        for s in loaded.study.series
    ]
    return {"study_id": study_id, "series": series, "problems": list(loaded.problems)}
