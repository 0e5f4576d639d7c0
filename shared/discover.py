"""Any folder of DICOM files -> studies: grouped by what the headers say, views from orientation and contrast.

Folder and file names mean nothing here; junk files are passed over, unreadable DICOM is reported.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from shared.challenge import LoadedStudy
from shared.dicom import Header, HeaderReading, is_dicom, read_headers
from shared.errors import InputError
from shared.geometry import dominant_axis
from shared.labels import View
from shared.study import REPEATED_NUMBERS, Series, Study, number_uniquely, order_slices

# A localizer has a handful of slices; the shortest diagnostic series of the challenge has five.
MIN_SLICES: Final = 5
NOT_USED: Final = "is not used"
# Echo times in ms that separate T1 (short) from T2 (long) spin-echo images; proton density lies between.
T1_MAX_ECHO_MS: Final = 40.0
T2_MIN_ECHO_MS: Final = 60.0

_WORDS = re.compile(r"[a-z]+[0-9]*|[0-9]+")
_NOT_DIAGNOSTIC: Final = frozenset(
    {"loc", "localizer", "localiser", "scout", "survey", "dwi", "adc", "trace", "mip", "mpr"}
)
_SAGITTAL_AXIS, _CORONAL_AXIS, _AXIAL_AXIS = 0, 1, 2


def discover_studies(folder: Path) -> list[LoadedStudy]:
    """Finds every study below a folder.

    Raises:
      InputError: when the folder is missing or holds no readable DICOM image at all.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a challenge directory or a folder of DICOM files")
    return group_studies(folder, read_headers(dicom_files(folder)))


def dicom_files(folder: Path) -> list[Path]:
    """Every DICOM file below a folder, sorted; links are not followed."""
    return [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink() and is_dicom(p)]


def group_studies(folder: Path, readings: Sequence[HeaderReading]) -> list[LoadedStudy]:
    """The studies that the files below `folder` make up.

    Raises:
      InputError: when not one of them could be read.
    """
    headers = [header for _, header in readings if isinstance(header, Header)]
    problems = [(path, str(header)) for path, header in readings if isinstance(header, InputError)]
    if not headers:
        raise InputError(
            f"{folder}: no readable DICOM image below it ({len(problems)} unreadable)"
            + (f"; first: {problems[0]}" if problems else "; expected .dcm files or a challenge directory")
        )
    studies: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        studies[header.study_uid or _name(folder, header.path.parent.parent)].append(header)
    unread = _by_nearest_study(studies, problems)
    loaded = []
    for study_id, of_study in sorted(studies.items()):
        series, remarks = _series_of(folder, study_id, of_study)
        remarks += unread[study_id]
        loaded.append(LoadedStudy(study=Study(study_id=study_id, series=tuple(series)), problems=tuple(remarks)))
    return loaded


def _name(root: Path, folder: Path) -> str:
    """Stands in for a missing UID: the folder's path below the root, so that two folders never become one."""
    relative = folder.relative_to(root) if folder.is_relative_to(root) else Path()
    return re.sub(r"[^0-9A-Za-z.-]+", "-", relative.as_posix()).strip(".-") or "study"


def _by_nearest_study(
    studies: Mapping[str, Sequence[Header]], problems: Sequence[tuple[Path, str]]
) -> dict[str, list[str]]:
    """Each unreadable file's message, under the study that lies nearest to it in the tree."""
    folders = sorted((header.path.parent, study_id) for study_id, of in studies.items() for header in of)
    result: dict[str, list[str]] = {study_id: [] for study_id in studies}
    for path, text in problems:
        parts = path.parent.parts
        nearness = [(-_common(parts, folder.parts), study_id) for folder, study_id in folders]
        result[min(nearness)[1]].append(text)
    return result


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """How many leading parts two paths share."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def classify_view(headers: Sequence[Header]) -> View | str:
    """The view of a series from orientation, then description, then echo time; else the reason why it has none."""
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


def _series_of(root: Path, study_id: str, headers: Sequence[Header]) -> tuple[list[Series], list[str]]:
    groups: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        groups[header.series_uid or _name(root, header.path.parent)].append(header)
    series, remarks = [], []
    for series_id, of_series in sorted(groups.items()):
        view = classify_view(of_series)
        if isinstance(view, View):
            ordered = order_slices((h.to_slice() for h in of_series), view)
            numbered = number_uniquely(ordered)
            if numbered is not ordered:
                remarks.append(f"study {study_id} series {series_id}: {REPEATED_NUMBERS}")
            series.append(Series(series_id=series_id, view=view, slices=numbered))
        else:
            remarks.append(f"study {study_id} series {series_id} {NOT_USED}: {view}")
    return series, remarks
