"""Any folder of DICOM files -> studies, with the view of each series and the reason for whatever is not used.

Folder and file names do not matter. `scan` looks at the files, `grouping` puts headers together, `views` judges series,
and `choice` chooses among those of one view.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from shared.dicom.choice import Candidate, Choice, candidate, choose
from shared.dicom.grouping.series import HeaderGroup, group_by_series
from shared.dicom.grouping.studies import group_by_study
from shared.dicom.header import DIRECTION_TOLERANCE, Header, NoImageError
from shared.dicom.reader import HeaderReading, read_slice_headers
from shared.dicom.scan import FolderScan, scan_folder
from shared.dicom.views import DOUBTFUL, Verdict, judge, names_other_region
from shared.geometry import ORIENTATION_TOLERANCE, PLANE_NAMES
from shared.labels import View
from shared.runtime.errors import InputError
from shared.runtime.problems import counted
from shared.runtime.progress import log
from shared.study import REPEATED_NUMBERS, ListedSeries, LoadedStudy, Series, Study, number_uniquely, order_slices


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSeries:
    """A series of a plain folder: what it is, and what was put together, split or left out to get it.

    Attributes:
      choice: what became of it among the candidates of its view; None when it has no view.
    """

    series_id: str
    slices: int
    verdict: Verdict
    choice: Choice | None = None
    remarks: tuple[str, ...] = ()

    @property
    def used(self) -> bool:
        """Whether the study holds it."""
        return self.choice is not None and self.choice.used

    @property
    def state(self) -> str:
        """Used, not used, or not needed because others of its view show the same."""
        return "used" if self.used else "not used" if self.choice is None else "not needed"

    @property
    def doubts(self) -> str:
        """What speaks against using it."""
        return "; ".join(self.verdict.doubts)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is what it is, and why it is used or not."""
        chosen = self.choice.reason if self.choice else ""
        return (*self.verdict.reasons, chosen) if chosen else self.verdict.reasons


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundStudy:
    """A study of a plain folder, and what was left out of it.

    Attributes:
      series: every series of the study, used or not.
      renumbered: ids of series whose instance numbers repeat.
      unread: files that could not be read, and whose nearest study in the folder tree is this one.
      remarks: on the study as a whole.
    """

    study: Study
    series: tuple[FoundSeries, ...]
    renumbered: frozenset[str]
    unread: tuple[tuple[Path, InputError], ...]
    remarks: tuple[str, ...] = ()

    @property
    def unused(self) -> Mapping[str, str]:
        """Series id -> why it is not used."""
        return {s.series_id: "; ".join(s.reasons) for s in self.series if not s.used}

    @property
    def problems(self) -> tuple[str, ...]:
        """All of this as messages."""
        name = f"study {self.study.study_id}"
        texts = [f"{name}: {remark}" for remark in self.remarks]
        for series in self.series:
            own = [*series.remarks, *([REPEATED_NUMBERS] if series.series_id in self.renumbered else ())]
            texts += [f"{name} series {series.series_id}: {remark}" for remark in own]
            if series.used and series.verdict.doubt >= DOUBTFUL:
                texts.append(f"{name} series {series.series_id} is used in spite of doubts: {series.doubts}")
            if not series.used:
                texts.append(f"{name} series {series.series_id} is {series.state}: {self.unused[series.series_id]}")
        return (*texts, *map(str, self.unreadable))

    @property
    def unreadable(self) -> tuple[InputError, ...]:
        """The errors of `unread`, except those of objects without pixels, which nobody needs: DICOMDIR, reports."""
        return tuple(error for _, error in self.unread if not isinstance(error, NoImageError))

    @property
    def loaded(self) -> LoadedStudy:
        listed = tuple(
            ListedSeries(
                series_id=s.series_id, view=s.verdict.view, slices=s.slices, state=s.state,
                reasons=(*s.reasons, *s.remarks),
            )
            for s in self.series
        )  # fmt: skip
        return LoadedStudy(study=self.study, problems=self.problems, listed=listed)


# What to do with files that DICOM was converted to.
_CONVERTED: Final = (
    "sizes in mm and positions in the patient are only in DICOM files, so give those that the pictures were made of"
)
_ARCHIVES: Final = "archives inside the input, which are not opened: unpack them first"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCounts:
    """What became of every file below a folder: the first four add up to all there are.

    Attributes:
      archives: how many of those that are not DICOM are archives.
    """

    used: int = 0
    not_needed: int = 0
    unreadable: int = 0
    not_dicom: int = 0
    archives: int = 0

    def __str__(self) -> str:
        return (
            f"{counted(self.used, 'file')} used, {self.not_needed} not needed, {self.unreadable} unreadable, "
            f"{self.not_dicom} not DICOM" + (f" ({self.archives} of them {_ARCHIVES})" if self.archives else "")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """The studies below a folder, and what became of its files."""

    studies: tuple[FoundStudy, ...]
    files: FileCounts = field(default_factory=FileCounts)


# Which series the user wants for which view.
NO_CHOICE: Final[Mapping[str, View]] = {}
_LISTED_SERIES: Final = 30
# Headers of so many files take a second or more.
_MANY_FILES: Final = 1000


def discover_studies(folder: Path, chosen: Mapping[str, View] = NO_CHOICE) -> Discovery:
    """Finds every study below a folder.

    Args:
      chosen: series id -> the view that the user wants it for.

    Raises:
      InputError: when the folder is missing or holds no readable DICOM image, or a chosen series is not there or lies
        in another plane.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a challenge directory or a folder of DICOM files")
    scan = scan_folder(folder)
    if len(scan.dicom) >= _MANY_FILES:
        log(f"reading the headers of {counted(len(scan.dicom), 'file')}")
    readings = [*read_slice_headers(scan.dicom), *scan.closed]
    if scan.archives and not readings:
        raise InputError(f"{folder}: holds no DICOM image, but {scan.archives} {_ARCHIVES}")
    if not readings:
        raise no_dicom(folder, scan)
    studies = group_studies(folder, readings, chosen)
    return Discovery(studies=tuple(studies), files=_count(studies, readings, scan))


def no_dicom(folder: Path, scan: FolderScan) -> InputError:
    """What a folder without any DICOM file holds, and what to give in its place."""
    if not scan.converted:
        return InputError(
            f"{folder}: no readable DICOM image below it; expected DICOM files of any name, or a challenge directory"
        )
    held = " and ".join(counted(count, kind) for kind, count in sorted(scan.converted.items()))
    return InputError(f"{folder}: holds {held}, not DICOM files; {_CONVERTED}")


def _count(studies: Sequence[FoundStudy], readings: Sequence[HeaderReading], scan: FolderScan) -> FileCounts:
    """Counts files, whatever the number of their frames; one with a readable frame is readable."""
    paths = {path for path, _ in readings}
    used = {item.path for found in studies for series in found.study.series for item in series.slices}
    sound = {path for path, h in readings if not isinstance(h, InputError) or isinstance(h, NoImageError)}
    return FileCounts(
        used=len(used), not_needed=len(sound - used), unreadable=len(paths - sound), not_dicom=scan.other,
        archives=scan.archives,
    )  # fmt: skip


def group_studies(
    folder: Path, readings: Sequence[HeaderReading], chosen: Mapping[str, View] = NO_CHOICE
) -> list[FoundStudy]:
    """Groups the files below `folder` into studies.

    Raises:
      InputError: when none of them could be read, or as `discover_studies` does for a chosen series.
    """
    headers = [header for _, header in readings if isinstance(header, Header)]
    problems = [(path, header) for path, header in readings if isinstance(header, InputError)]
    if not headers:
        raise InputError(
            f"{folder}: no readable DICOM image below it"
            + (f" ({len(problems)} unreadable); first: {problems[0][1]}" if problems else "")
        )
    studies = group_by_study(folder, headers)
    unread = _by_nearest_study({s: own for s, (own, _) in studies.items()}, problems)
    groups = {study_id: group_by_series(folder, own) for study_id, (own, _) in studies.items()}
    _check_choice(groups, chosen)
    return [
        _found(groups[study_id], chosen, study_id=study_id, unread=tuple(unread[study_id]), remarks=remarks)
        for study_id, (_, remarks) in studies.items()
    ]


def _check_choice(groups: Mapping[str, Sequence[HeaderGroup]], chosen: Mapping[str, View]) -> None:
    """Raises `InputError` for a chosen series that is not there, or that lies in another plane than its view."""
    for series_id, view in chosen.items():
        holding = [own for own in groups.values() if any(g.series_id == series_id for g in own)]
        listed = [f"{g.series_id} ({PLANE_NAMES[g.facts.axis]}, {counted(len(g.headers), 'slice')})"
                  for own in holding or groups.values() for g in own]  # fmt: skip
        there = "; ".join(listed[:_LISTED_SERIES])
        there += f"; and {len(listed) - _LISTED_SERIES} more" if len(listed) > _LISTED_SERIES else ""
        if not holding:
            raise InputError(f"--series {view.slug}={series_id}: no such series; there are: {there}")
        needed = PLANE_NAMES[0 if view.is_sagittal else 2]
        for found in (PLANE_NAMES[g.facts.axis] for own in holding for g in own if g.series_id == series_id):
            if found != needed:
                raise InputError(
                    f"--series {view.slug}={series_id}: this series is {found}, but the view is {needed}; "
                    f"its study has: {there}"
                )


def _by_nearest_study(
    studies: Mapping[str, Sequence[Header]], problems: Sequence[tuple[Path, InputError]]
) -> dict[str, list[tuple[Path, InputError]]]:
    """Study id -> the unreadable files that lie nearest to the study in the folder tree."""
    folders = {(header.path.parent, study_id) for study_id, of in studies.items() for header in of}
    nearest: dict[Path, str] = {}
    result: dict[str, list[tuple[Path, InputError]]] = {study_id: [] for study_id in studies}
    for path, error in problems:
        near = path.parent
        if near not in nearest:
            nearest[near] = min((-_common(near.parts, folder.parts), study_id) for folder, study_id in folders)[1]
        result[nearest[near]].append((path, error))
    return result


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """The number of leading parts that two paths share."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _found(
    groups: Sequence[HeaderGroup], chosen: Mapping[str, View], *, study_id: str,
    unread: tuple[tuple[Path, InputError], ...], remarks: tuple[str, ...],
) -> FoundStudy:  # fmt: skip
    verdicts = {group.series_id: _verdict(group, chosen) for group in groups}
    series: dict[str, Series] = {}
    candidates: list[Candidate] = []
    renumbered: set[str] = set()
    for group in groups:
        verdict = verdicts[group.series_id]
        if verdict.view is not None:
            ordered = order_slices((h.to_slice() for h in group.headers), verdict.view)
            numbered = number_uniquely(ordered)
            if numbered is not ordered:
                renumbered.add(group.series_id)
            series[group.series_id] = Series(series_id=group.series_id, view=verdict.view, slices=numbered)
            candidates.append(candidate(series[group.series_id], verdict, group.headers))
    choices = choose(candidates, chosen)
    found = tuple(
        FoundSeries(
            series_id=g.series_id, slices=len(g.headers), verdict=verdicts[g.series_id],
            choice=choices.get(g.series_id), remarks=(*g.remarks, *_mended_directions(g), *_overruled(g, chosen)),
        )
        for g in groups
    )  # fmt: skip
    used = {s.series_id for s in found if s.used}
    study = Study(
        study_id=study_id, series=tuple(s for s in series.values() if s.series_id in used),
        other_region=any(names_other_region(g.facts) for g in groups if g.series_id in used),
    )  # fmt: skip
    return FoundStudy(
        study=study,
        series=found,
        renumbered=frozenset(renumbered & used),
        unread=unread,
        remarks=(*remarks, *_frames_apart([g for g in groups if g.series_id in used])),
    )


def _frames_apart(used: Sequence[HeaderGroup]) -> tuple[str, ...]:
    """A remark on series outside the frame of reference that others share; where none share one it says nothing."""
    frames = {g.series_id: g.headers[0].frame_of_reference for g in used if g.headers[0].frame_of_reference}
    shared = Counter(frames.values()).most_common(1)
    if not shared or shared[0][1] < 2 or len(set(frames.values())) == 1:
        return ()
    apart = ", ".join(series_id for series_id, frame in frames.items() if frame != shared[0][0])
    return (f"series {apart} have another frame of reference than the others, so their positions may not agree",)


def _overruled(group: HeaderGroup, chosen: Mapping[str, View]) -> tuple[str, ...]:
    """A remark on a series that the user wants for another view than its header says."""
    view, verdict = chosen.get(group.series_id), judge(group.facts)
    if view is None or view is verdict.view:
        return ()
    return (f"it was chosen for {view.value}, although {'; '.join(verdict.reasons)}",)


def _verdict(group: HeaderGroup, chosen: Mapping[str, View]) -> Verdict:
    verdict = judge(group.facts)
    view = chosen.get(group.series_id)
    return verdict if view is None else replace(verdict, view=view, doubt=0.0)


def _mended_directions(group: HeaderGroup) -> tuple[str, ...]:
    errors = [h.direction_error for h in group.headers if h.direction_error]
    if not errors:
        return ()
    return (
        f"ImageOrientationPatient of {counted(len(errors), 'slice')} is up to {max(errors):.4f} off orthonormal "
        "and was made so "
        f"(exact: {ORIENTATION_TOLERANCE}, accepted: {DIRECTION_TOLERANCE})",
    )
