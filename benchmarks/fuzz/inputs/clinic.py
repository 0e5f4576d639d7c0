"""Studies whose damaged headers go into DICOM objects, and damaged reports that are read back."""

import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.fuzz.inputs.dicom import saved, slice_dataset
from benchmarks.fuzz.inputs.sound import Sound
from pipelines.clinic.export import REPORT_FILE, DicomExport
from pipelines.clinic.maker import Maker
from pipelines.clinic.reading import read_report
from pipelines.result import StudyResult
from shared.data.source import open_source
from shared.labels import FINDINGS
from shared.probabilities.reasons import PriorReason
from shared.runtime.errors import InputError
from shared.study import LoadedStudy

_FILES: Final = 6
_IDENTITY: Final[dict[str, Any]] = {
    "PatientName": "Doe^Jane", "PatientBirthDate": "19510304", "PatientSex": "F", "PatientAge": "070Y",
    "StudyDate": "20260503", "StudyTime": "101112", "AccessionNumber": "A-1", "StudyID": "S-1",
    "ReferringPhysicianName": "Doe^Joe", "StudyDescription": "MR L-SPINE",
}  # fmt: skip
_EXPORT: Final = DicomExport(maker=Maker(version="0", models=(("localizer", "0" * 64),), trained=datetime(2026, 1, 1)))


def sound_objects() -> Iterator[Sound]:
    """A study with a patient, and the report of it."""
    files = {f"{k}.dcm": saved(slice_dataset(k, **_IDENTITY)) for k in range(1, _FILES + 1)}
    yield Sound(kind="dicom", name="patient and study", files=files, targets=dict.fromkeys(files, "dicom"), read=_made)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        [study] = _studies(Path(folder))
        report = _report(study)
    yield Sound(
        kind="dicom", name="structured report", files={REPORT_FILE: report}, targets={REPORT_FILE: "dicom"},
        read=_read,
    )  # fmt: skip


def _studies(folder: Path) -> list[LoadedStudy]:
    source = open_source(folder)
    return [source.load(study_id) for study_id in source.study_ids]


def _report(loaded: LoadedStudy) -> bytes:
    prior = np.tile([0.7, 0.2, 0.1], (len(FINDINGS), 1))
    result = StudyResult(
        study=loaded.study, submission=prior, reasons=dict.fromkeys(FINDINGS, PriorReason.NOT_TRAINED),
        localizations={}, detections=(), problems=(),
    )  # fmt: skip
    return _EXPORT.contents(result, picture=False)[0][REPORT_FILE]


def _made(folder: Path) -> list[str]:
    """Makes the report of each study, which must be readable again."""
    said = []
    for loaded in _studies(folder):
        said += list(loaded.problems)
        try:
            content = _report(loaded)
        except InputError as error:
            said.append(str(error))
            continue
        (folder / REPORT_FILE).write_bytes(content)
        read_report(folder / REPORT_FILE)
    return said


def _read(folder: Path) -> list[str]:
    read_report(folder / REPORT_FILE)
    return []
