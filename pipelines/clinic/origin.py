"""What the DICOM objects of a result take over from the study's files: patient, study, and the images they refer to.

This is the one place of the project that carries a patient's identity. It goes from the study's files into objects that
return to the same patient's study, and nowhere else: not into messages, other files, or pictures.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pydicom
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR
from pydicom.multival import MultiValue
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
    SecondaryCaptureImageStorage,
)
from pydicom.valuerep import DSfloat

from shared.dicom.parsing import file_dataset
from shared.dicom.tags import DicomFaultError, tag_value
from shared.labels import View
from shared.runtime.errors import InputError
from shared.runtime.problems import counted
from shared.study import Slice, Study

# Patient, General Study and Patient Study modules (PS3.3 C.7.1.1, C.7.2.1 and C.7.2.2). What is not here is left out.
_REQUIRED: Final = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName",
    "StudyID", "AccessionNumber",
)  # fmt: skip
_OPTIONAL: Final = (
    "IssuerOfPatientID", "PatientBirthTime", "OtherPatientIDs", "OtherPatientNames", "EthnicGroup", "PatientComments",
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    "OtherPatientIDsSequence", "IssuerOfPatientIDQualifiersSequence", "StudyDescription", "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy", "IssuerOfAccessionNumberSequence", "ReferencedStudySequence",
    "ProcedureCodeSequence", "PatientAge", "PatientSize", "PatientWeight", "PatientSexNeutered",
    "AdmittingDiagnosesDescription", "Occupation", "AdditionalPatientHistory", "AdmissionID",
)  # fmt: skip
_OF_IMAGE: Final = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "NumberOfFrames",
    "PatientID", "PatientName",
)  # fmt: skip
# Images whose modules highdicom knows; whatever else a study holds is not graded.
_CLASSES: Final = frozenset({
    MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage, CTImageStorage,
    SecondaryCaptureImageStorage,
})  # fmt: skip
_UID: Final = re.compile(r"(?=.{3,64}\Z)(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
# What a value must look like to be legal (PS3.5 6.2), for the representations whose values an exporter gets wrong.
_LEGAL: Final[Mapping[str, re.Pattern[str]]] = {
    "TM": re.compile(r"([01][0-9]|2[0-3])([0-5][0-9]([0-5][0-9](\.[0-9]{1,6})?)?)?"),
    "CS": re.compile(r"[A-Z0-9_ ]{1,16}"),
    "AS": re.compile(r"[0-9]{3}[DWMY]"),
    "SH": re.compile(r"[^\\\x00-\x1f]{1,16}"),
    "LO": re.compile(r"[^\\\x00-\x1f]{1,64}"),
}
_ROOTS: Final = "012"
# What stands for bytes that are no text in the character set that the file names.
_UNDECODED: Final = "\ufffd"
_SEXES: Final = ("M", "F", "O")
_CHARACTER_SET: Final = "SpecificCharacterSet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One slice of the study, as other objects refer to it.

    Attributes:
      frame: number of the slice's frame, from 1; None in a file of one frame.
      frame_of_reference: UID of the space of its coordinates; None where the file names none.
      view: what its series was read as, which the user may have chosen.
    """

    sop_class: str
    sop_uid: str
    series_uid: str
    frame: int | None
    frame_of_reference: str | None
    view: View


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the objects of a study belong.

    Attributes:
      study_uid: its StudyInstanceUID.
      about: the attributes of patient and study, with every one that the objects must have; some are empty.
      images: series id and instance number, as a `shared.detections.Localization` names a slice -> the slice.
      problems: what could not be taken over as it is, without the values.
    """

    study_uid: str
    about: pydicom.Dataset
    images: Mapping[tuple[str, int], Image]
    problems: tuple[str, ...]

    @property
    def performed(self) -> datetime | None:
        """When the study was performed; None where its files do not say."""
        date, time = (str(self.about.get(name) or "") for name in ("StudyDate", "StudyTime"))
        if not date:
            return None
        return datetime.strptime(date + time[:6].ljust(6, "0"), "%Y%m%d%H%M%S")


def origin_of(study: Study) -> Origin:
    """Reads the headers of a study's slices again, for what no result keeps.

    Raises:
      InputError: when a file cannot be read, the files name several studies or patients or no study at all, or none of
        them can be referred to.
    """
    places = [(series.series_id, item) for series in study.series for item in series.slices]
    views = {series.series_id: series.view for series in study.series}
    headers = {item.path: _header(item.path) for _, item in places}
    name = f"study {study.study_id}"
    if not places:
        raise InputError(f"{name}: no slice of it can be read, so no DICOM object is written for it")
    study_uid = _one_study(name, headers)
    images = {(s, item.instance_number): _image(headers[item.path], item, views[s]) for s, item in places}
    files = Counter(header["SOPInstanceUID"] for header in headers.values())
    known = {place: image for place, image in images.items() if image is not None and files[image.sop_uid] == 1}
    if not known:
        raise InputError(f"{name}: no file has a valid SOPClassUID, SOPInstanceUID and SeriesInstanceUID, so a DICOM "
                         "object cannot refer to it; export the study again")  # fmt: skip
    about, faults = _about(name, places[0][1].path)
    problems = [f"{name}: {tag} of its files is not valid and is left empty in the DICOM objects" for tag in faults]
    lost, placeless = len(images) - len(known), [i for i in known.values() if i.frame_of_reference is None]
    if lost:
        slices = counted(len(images), "slice")
        problems.append(f"{name}: {lost} of {slices} without UIDs of their own; no DICOM object names them")
    if placeless:
        problems.append(
            f"{name}: {counted(len(placeless), 'slice')} without a FrameOfReferenceUID; the DICOM report gives no "
            "points there"
        )
    if study_uid[0] not in _ROOTS or study_uid[1] != ".":
        problems.append(
            f"{name}: its StudyInstanceUID does not begin with 0, 1 or 2, as every UID must; the DICOM objects keep "
            "it, and a strict archive may refuse them"
        )
    return Origin(study_uid=study_uid, about=about, images=known, problems=tuple(problems))


def _header(path: Path) -> dict[str, str]:
    """What `_image` and `_one_study` need of a file; empty texts where it does not say."""
    dataset = file_dataset(path, stop_before_pixels=True, tags=_OF_IMAGE)
    values = {}
    for keyword in _OF_IMAGE:
        try:
            values[keyword] = str(tag_value(dataset, keyword) or "").strip()
        except DicomFaultError:
            values[keyword] = ""
    # The challenge's files name their class only here.
    values["SOPClassUID"] = values["SOPClassUID"] or str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    return values


def _one_study(name: str, headers: Mapping[Path, Mapping[str, str]]) -> str:
    """The StudyInstanceUID of all files. A result in the wrong patient's study would be worse than none."""
    # Names are spelt in several ways, so they count only where no number says who the patient is.
    who = "PatientID" if any(header["PatientID"] for header in headers.values()) else "PatientName"
    for keyword, what in (("StudyInstanceUID", "studies"), (who, "patients")):
        found = len({header[keyword] for header in headers.values()})
        if found > 1:
            raise InputError(
                f"{name}: its files name {found} {what} ({keyword} differs), so no DICOM object is written for it; "
                "give the files of each in a folder of their own"
            )
    uid = next(iter(headers.values()))["StudyInstanceUID"]
    if not _UID.fullmatch(uid):
        raise InputError(
            f"{name}: its files have no valid StudyInstanceUID, so a DICOM object has no study to belong to; export "
            "them again"
        )
    return uid


def _image(header: Mapping[str, str], item: Slice, view: View) -> Image | None:
    """How to refer to a slice; None where its file cannot be named."""
    uids = header["SOPInstanceUID"], header["SeriesInstanceUID"]
    if header["SOPClassUID"] not in _CLASSES or not all(map(_UID.fullmatch, uids)):
        return None
    frames, space = header["NumberOfFrames"], header["FrameOfReferenceUID"]
    return Image(
        sop_class=header["SOPClassUID"], sop_uid=uids[0], series_uid=uids[1],
        frame=None if frames in ("", "0", "1") else item.frame + 1,
        frame_of_reference=space if _UID.fullmatch(space) else None, view=view,
    )  # fmt: skip


def _about(name: str, path: Path) -> tuple[pydicom.Dataset, list[str]]:
    """The attributes of patient and study, and the keywords of those that had to be emptied.

    Raises:
      InputError: when texts cannot be decoded, because nobody then knows the patient's name.
    """
    tags = (_CHARACTER_SET, *_REQUIRED, *_OPTIONAL)
    source = file_dataset(path, stop_before_pixels=True, tags=tags)
    about, faults = pydicom.Dataset(), []
    for keyword in (*_REQUIRED, *_OPTIONAL):
        try:
            value = tag_value(source, keyword)
        except DicomFaultError:
            value = None
            faults.append(keyword)
        if not _is_legal(keyword, value):
            value = None
            faults.append(keyword)
        if value is not None or keyword in _REQUIRED:
            setattr(about, keyword, DSfloat(value, auto_format=True) if isinstance(value, float) else value)
    words = _character_set(source)
    if words is None:
        raise InputError(
            f"{name}: SpecificCharacterSet of its files is not one of DICOM, so the patient's name cannot be carried "
            "over and no DICOM object is written; export the study again"
        )
    if words:
        about.SpecificCharacterSet = words
    return about, faults


def _is_legal(keyword: str, value: Any) -> bool:
    if value is None or value == "":
        return True
    several = isinstance(value, list | MultiValue)
    if (several and keyword in _REQUIRED) or _UNDECODED in str(value):
        return False
    if keyword == "PatientSex":
        return str(value).strip() in _SEXES
    if dictionary_VR(keyword) == "DA":
        return _is_date(str(value).strip())
    rule = _LEGAL.get(dictionary_VR(keyword))
    values = value if several else [value]
    return rule is None or all(rule.fullmatch(str(v).strip()) for v in values)


def _is_date(text: str) -> bool:
    try:
        return len(text) == 8 and text.isdigit() and datetime.strptime(text, "%Y%m%d").year > 0
    except ValueError:
        return False


def _character_set(source: pydicom.Dataset) -> list[str] | None:
    """The terms of SpecificCharacterSet; none where the file has none, None where one is unknown."""
    try:
        value = tag_value(source, _CHARACTER_SET)
    except DicomFaultError:
        return None
    terms = [value] if isinstance(value, str) else list(value or ())
    return terms if all(term in python_encoding for term in terms) else None
