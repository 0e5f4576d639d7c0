"""Any folder of DICOM files -> studies, grouped by their headers, with views from orientation and contrast.

Folder and file names do not matter. Files that are not DICOM are skipped; unreadable DICOM files are reported.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.dicom.reader import Header, HeaderReading, is_dicom, read_headers
from shared.geometry import dominant_axis
from shared.labels import View
from shared.runtime.errors import InputError
from shared.study import REPEATED_NUMBERS, LoadedStudy, Series, Study, number_uniquely, order_slices

# A localizer has a handful of slices; the shortest diagnostic series of the challenge has five.
MIN_SLICES: Final = 5
# Echo times in ms that separate T1 (short) from T2 (long) spin-echo images; proton density lies between.
T1_MAX_ECHO_MS: Final = 40.0
T2_MIN_ECHO_MS: Final = 60.0

_WORDS = re.compile(r"[a-z]+[0-9]*|[0-9]+")
_NOT_DIAGNOSTIC: Final = frozenset(
    {"loc", "localizer", "localiser", "scout", "survey", "dwi", "adc", "trace", "mip", "mpr"}
)
_SAGITTAL_AXIS, _CORONAL_AXIS, _AXIAL_AXIS = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundStudy:
    """A study of a plain folder, and what was left out of it.

    Attributes:
      renumbered: ids of series whose instance numbers repeat.
      unused: series id -> why it has no view.
      unread: files that could not be read, and whose nearest study in the folder tree is this one.
    """

    study: Study
    renumbered: frozenset[str]
    unused: Mapping[str, str]
    unread: tuple[tuple[Path, InputError], ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """All of this as messages."""
        texts = dict.fromkeys(self.renumbered, f": {REPEATED_NUMBERS}")
        texts |= {series_id: f" is not used: {reason}" for series_id, reason in self.unused.items()}
        remarks = [f"study {self.study.study_id} series {series_id}{text}" for series_id, text in sorted(texts.items())]
        return (*remarks, *(str(error) for _, error in self.unread))

    @property
    def loaded(self) -> LoadedStudy:
        return LoadedStudy(study=self.study, problems=self.problems)


def discover_studies(folder: Path) -> list[FoundStudy]:
    """Finds every study below a folder.

    Raises:
      InputError: when the folder is missing or holds no readable DICOM image.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a challenge directory or a folder of DICOM files")
    return group_studies(folder, read_headers(dicom_files(folder)))


def dicom_files(folder: Path) -> list[Path]:
    """Every DICOM file below a folder, sorted; does not follow links."""
    return [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink() and is_dicom(p)]


def group_studies(folder: Path, readings: Sequence[HeaderReading]) -> list[FoundStudy]:
    """Groups the files below `folder` into studies.

    Raises:
      InputError: when none of them could be read.
    """
    headers = [header for _, header in readings if isinstance(header, Header)]
    problems = [(path, header) for path, header in readings if isinstance(header, InputError)]
    if not headers:
        raise InputError(
            f"{folder}: no readable DICOM image below it ({len(problems)} unreadable)"
            + (f"; first: {problems[0][1]}" if problems else "; expected .dcm files or a challenge directory")
        )
    studies: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        studies[header.study_uid or _name(folder, header.path.parent.parent)].append(header)
    unread = _by_nearest_study(studies, problems)
    return [
        _found(folder, study_id, of_study, tuple(unread[study_id])) for study_id, of_study in sorted(studies.items())
    ]


def _name(root: Path, folder: Path) -> str:
    """A stand-in for a missing UID: the folder's path below the root, so that two folders never become one."""
    relative = folder.relative_to(root) if folder.is_relative_to(root) else Path()
    return re.sub(r"[^0-9A-Za-z.-]+", "-", relative.as_posix()).strip(".-") or "study"


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
    """How many leading parts two paths share."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def classify_view(headers: Sequence[Header]) -> View | str:
    """The view of a series by orientation, then description, then echo time; or the reason why it has none."""
    axes = {dominant_axis(h.plane) for h in headers}
    words = set(_WORDS.findall(headers[0].description.lower()))
    if len(axes) > 1:
        return "its slices lie in several planes (a localizer)"
    if words & _NOT_DIAGNOSTIC:
        return f"its description names {sorted(words & _NOT_DIAGNOSTIC)[0]!r}"
    if len(headers) < MIN_SLICES:
        return f"it has {len(headers)} slices; expected at least {MIN_SLICES}"
    axis = axes.pop()
    if axis == _CORONAL_AXIS:
        return "it is coronal"
    weighting = _weighting(headers[0], words)
    if axis == _SAGITTAL_AXIS and weighting == "t1":
        return View.SAGITTAL_T1
    if axis == _SAGITTAL_AXIS and weighting == "t2":
        return View.SAGITTAL_T2
    if axis == _AXIAL_AXIS and weighting == "t2":
        return View.AXIAL_T2
    plane = "axial" if axis == _AXIAL_AXIS else "sagittal"
    return (
        f"it is {plane} and {weighting or 'of unknown contrast (no T1, T2 or STIR in the description, no echo time)'}"
    )


def _weighting(header: Header, words: set[str]) -> str | None:
    if "stir" in words or "tirm" in words or "t2" in words or "t2w" in words:
        return "t2"
    if "t1" in words or "t1w" in words:
        return "t1"
    if "pd" in words or "pdw" in words:
        return "proton density"
    if header.inversion_time_ms is not None and 80 <= header.inversion_time_ms <= 300:
        return "t2"  # a short inversion time nulls fat: STIR
    if header.echo_time_ms is None:
        return None
    if header.echo_time_ms <= T1_MAX_ECHO_MS:
        return "t1"
    return "t2" if header.echo_time_ms >= T2_MIN_ECHO_MS else "proton density"


def _found(
    root: Path, study_id: str, headers: Sequence[Header], unread: tuple[tuple[Path, InputError], ...]
) -> FoundStudy:
    groups: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        groups[header.series_uid or _name(root, header.path.parent)].append(header)
    series: list[Series] = []
    renumbered: set[str] = set()
    unused: dict[str, str] = {}
    for series_id, of_series in sorted(groups.items()):
        view = classify_view(of_series)
        if isinstance(view, View):
            ordered = order_slices((h.to_slice() for h in of_series), view)
            numbered = number_uniquely(ordered)
            if numbered is not ordered:
                renumbered.add(series_id)
            series.append(Series(series_id=series_id, view=view, slices=numbered))
        else:
            unused[series_id] = view
    study = Study(study_id=study_id, series=tuple(series))
    return FoundStudy(study=study, renumbered=frozenset(renumbered), unused=unused, unread=unread)
