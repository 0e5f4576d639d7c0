"""Headers of any DICOM files -> studies.

A StudyInstanceUID may cover two patients, and the slices of one series may lie in several studies. Patients are told
apart by four digits of a digest of PatientID; the PatientID itself is never kept. Every decision that a reader would
want to know of becomes a remark.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path

from shared.dicom.grouping.dealing import complement, folder_name, tie
from shared.dicom.header import Header
from shared.geometry import dominant_axis
from shared.runtime.names import order_of
from shared.runtime.problems import counted


def group_by_study(root: Path, headers: Iterable[Header]) -> dict[str, tuple[list[Header], tuple[str, ...]]]:
    """Study id -> its headers, and remarks on the grouping.

    Files without a StudyInstanceUID belong to the study of their folder's parent.
    """
    by_uid: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        by_uid[header.study_uid or folder_name(root, header.path.parent.parent)].append(header)
    studies: dict[str, tuple[list[Header], tuple[str, ...]]] = {}
    for uids, of_uids in _joined_studies(by_uid):
        once = _without_copies(of_uids)
        remarks: list[str] = []
        if len(uids) > 1:
            remarks.append(f"the slices of one examination lie in {len(uids)} StudyInstanceUIDs, which were joined")
        if len(once) < len(of_uids):
            remarks.append(f"{counted(len(of_uids) - len(once), 'slice')} left out, which repeat others")
        patients = _patients(once)
        for n, (_, own) in enumerate(sorted(patients.items()), start=1):
            if len(patients) == 1:
                studies[uids[0]] = own, tuple(remarks)
            else:
                remark = f"its StudyInstanceUID covers {counted(len(patients), 'patient')}; this is number {n}"
                studies[f"{uids[0]}-{n}"] = own, (remark, *remarks)
    return studies


def _joined_studies(by_uid: Mapping[str, list[Header]]) -> list[tuple[list[str], list[Header]]]:
    """The UIDs and the headers of each study.

    UIDs that share the slices of a series are one study. So are those that hold one plane each, of one patient in one
    frame of reference: an examination has several planes.
    """
    parts: dict[Hashable, dict[str, list[Header]]] = defaultdict(lambda: defaultdict(list))
    for uid, own in by_uid.items():
        for header in own:
            if header.frame_of_reference:  # without it nothing says that positions are comparable
                parts[header.patient, tie(header)][uid].append(header)
    alike = [set(shared) for shared in parts.values() if len(shared) > 1 and complement(list(shared.values()))]
    first = {uid: uid for uid in by_uid}
    for uids in (*alike, *_planes_apart(by_uid)):
        joined = {first[uid] for uid in uids}
        first = {uid: min(joined) if f in joined else f for uid, f in first.items()}
    return [
        (of, [header for uid in of for header in by_uid[uid]])
        for least in sorted(set(first.values()))
        for of in [sorted(uid for uid, f in first.items() if f == least)]
    ]


def _planes_apart(by_uid: Mapping[str, list[Header]]) -> list[set[str]]:
    """Sets of UIDs that hold one plane each, and several together, of one patient in one frame of reference."""
    axes: dict[Hashable, dict[str, int]] = defaultdict(dict)
    for uid, own in by_uid.items():
        facing = {dominant_axis(h.plane) for h in own}
        places = {(h.patient, h.frame_of_reference) for h in own}
        if len(facing) == len(places) == 1 and all(next(iter(places))):
            axes[places.pop()][uid] = facing.pop()
    return [set(of) for of in axes.values() if len(set(of.values())) > 1]


def _without_copies(headers: Sequence[Header]) -> list[Header]:
    """Each image once, where an export holds the same files twice."""
    once: dict[Hashable, Header] = {}
    for header in sorted(headers, key=lambda h: (order_of(h.path), h.frame)):
        # The place in the patient tells frames of one file apart, and images of exporters that repeat a UID.
        image = (header.series_uid, header.sop_uid, header.instance_number, header.plane, header.shape)
        once.setdefault((*image, header.acquisition) if header.sop_uid else (header.path, header.frame), header)
    return list(once.values())


def _patients(headers: Sequence[Header]) -> dict[str, list[Header]]:
    """Headers by patient; all of them together unless PatientID differs and no frame of reference is shared."""
    by_patient: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        by_patient[header.patient].append(header)
    frames = [{h.frame_of_reference for h in own} - {None} for own in by_patient.values()]
    apart = all(a.isdisjoint(b) for i, a in enumerate(frames) for b in frames[:i])
    return dict(by_patient) if len(by_patient) > 1 and "" not in by_patient and apart else {"": list(headers)}
