"""Headers of any DICOM files -> studies of series, when the identifiers cannot be trusted blindly.

A StudyInstanceUID may cover two patients; a series may carry a UID per slice, be split into blocks, or hold several
echoes or a stray slice. What the headers say of patient, frame of reference, position and acquisition decides; every
decision that a reader would want to know of is told.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from shared.dicom.header import Header
from shared.dicom.views import MIN_SLICES, SeriesFacts
from shared.geometry import dominant_axis

# A slice belongs to a series when its normal is nearer than this to the axis that most of its slices face. The blocks
# of an axial series follow the discs, and the last one may be steeper than 45 degrees.
_STEEPEST_DEG: Final = 65.0
# Echo times nearer than this are one echo.
_SAME_ECHO_MS: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderGroup:
    """Headers that make up one series.

    Attributes:
      remarks: what was put together, split or left out, in words.
    """

    series_id: str
    headers: tuple[Header, ...]
    remarks: tuple[str, ...] = ()

    @property
    def facts(self) -> SeriesFacts:
        axis = Counter(dominant_axis(h.plane) for h in self.headers).most_common(1)[0][0]
        field_mm = max(max(n * s for n, s in zip(h.shape, h.plane.spacing_mm, strict=True)) for h in self.headers)
        return SeriesFacts(acquisitions=[h.acquisition for h in self.headers], axis=axis, field_mm=field_mm)


def group_by_study(root: Path, headers: Iterable[Header]) -> dict[str, tuple[list[Header], tuple[str, ...]]]:
    """Study id -> its headers, and remarks on the grouping.

    Files without a StudyInstanceUID belong to the study of their folder's parent. Patients are told apart by a digest
    of PatientID, which is never kept.
    """
    by_uid: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        by_uid[header.study_uid or _name(root, header.path.parent.parent)].append(header)
    studies: dict[str, tuple[list[Header], tuple[str, ...]]] = {}
    for uid, of_uid in sorted(by_uid.items()):
        patients = _patients(of_uid)
        for n, (_, own) in enumerate(sorted(patients.items()), start=1):
            if len(patients) == 1:
                studies[uid] = own, ()
            else:
                remark = f"its StudyInstanceUID covers {len(patients)} patients; this is number {n}"
                studies[f"{uid}-{n}"] = own, (remark,)
    return studies


def _patients(headers: Sequence[Header]) -> dict[str, list[Header]]:
    """Headers by patient; all of them together unless PatientID and frame of reference both differ."""
    by_patient: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        by_patient[header.patient].append(header)
    frames = [{h.frame_of_reference for h in own} for own in by_patient.values()]
    apart = all(a.isdisjoint(b) for i, a in enumerate(frames) for b in frames[:i])
    return dict(by_patient) if len(by_patient) > 1 and "" not in by_patient and apart else {"": list(headers)}


def group_by_series(root: Path, headers: Sequence[Header]) -> list[HeaderGroup]:
    """The series of one study."""
    by_uid: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        by_uid[header.series_uid or _name(root, header.path.parent)].append(header)
    whole = {uid: own for uid, own in by_uid.items() if len(own) >= MIN_SLICES}
    groups = [HeaderGroup(series_id=uid, headers=tuple(own)) for uid, own in whole.items()]
    groups += _joined({uid: own for uid, own in by_uid.items() if uid not in whole})
    parts = [part for group in groups for echo in _split_by_echo(group) for part in _without_strays(echo)]
    return sorted(parts, key=lambda g: g.series_id)


def _joined(short: Mapping[str, list[Header]]) -> list[HeaderGroup]:
    """Short series, those of one acquisition put together: a UID per slice or per block is an exporter's habit."""
    alike: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for uid, own in sorted(short.items()):
        first = own[0]
        tied = (
            first.frame_of_reference, first.description, dominant_axis(first.plane), first.shape,
            tuple(round(v, 3) for v in first.plane.spacing_mm), first.acquisition,
        )  # fmt: skip
        alike[tied].append(uid)
    groups = []
    for uids in alike.values():
        own = [h for uid in uids for h in short[uid]]
        remarks = (f"{len(uids)} short series of one acquisition were put together",) if len(uids) > 1 else ()
        groups.append(HeaderGroup(series_id=uids[0], headers=tuple(own), remarks=remarks))
    return groups


def _split_by_echo(group: HeaderGroup) -> list[HeaderGroup]:
    """One group per echo, where a series holds several whole ones at the same positions."""
    echoes: list[float] = []
    for echo in sorted({h.acquisition.echo_ms for h in group.headers if h.acquisition.echo_ms is not None}):
        if not echoes or echo - echoes[-1] > _SAME_ECHO_MS:
            echoes.append(echo)
    if len(echoes) < 2 or any(h.acquisition.echo_ms is None for h in group.headers):
        return [group]
    by_echo: dict[float, list[Header]] = defaultdict(list)
    for header in group.headers:
        by_echo[min(echoes, key=lambda e: abs(e - (header.acquisition.echo_ms or 0)))].append(header)
    if min(map(len, by_echo.values())) < MIN_SLICES:
        return [group]
    remark = f"it holds {len(echoes)} echoes, which were told apart"
    return [
        HeaderGroup(series_id=f"{group.series_id}.{n}", headers=tuple(own), remarks=(*group.remarks, remark))
        for n, (_, own) in enumerate(sorted(by_echo.items()), start=1)
    ]


def _without_strays(group: HeaderGroup) -> list[HeaderGroup]:
    """The series without slices that face another way than most; all of them when there is no majority."""
    axis = np.eye(3)[group.facts.axis]
    kept = [h for h in group.headers if abs(h.plane.normal @ axis) >= np.cos(np.radians(_STEEPEST_DEG))]
    strays = len(group.headers) - len(kept)
    if not strays or len(kept) < MIN_SLICES or strays > len(kept) // 4:
        return [group]
    names = ", ".join(sorted(h.path.name for h in group.headers if h not in kept)[:3])
    remark = f"{strays} slice(s) that face another way were left out ({names})"
    return [HeaderGroup(series_id=group.series_id, headers=tuple(kept), remarks=(*group.remarks, remark))]


def _name(root: Path, folder: Path) -> str:
    """Stands in for a missing UID: the folder's path below the root, so that two folders never become one."""
    relative = folder.relative_to(root) if folder.is_relative_to(root) else Path()
    return re.sub(r"[^0-9A-Za-z.-]+", "-", relative.as_posix()).strip(".-") or "study"
