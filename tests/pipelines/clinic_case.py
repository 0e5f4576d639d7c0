"""A study with a patient and proper UIDs, run folders, and stand-ins that grade it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.grader import Grader
from pipelines.result import StudyResult
from shared.data.source import open_source
from tests.dicom_files import AXIAL, write_dicom
from tests.pipelines.stand_ins import CanalLocalizer, ConstantClassifier, grader_of

ROOT = "1.2.826.0.1.3680043.8.498"
STUDY_UID = f"{ROOT}.1"
# Whatever identifies the patient and the examination. None of it may stand anywhere but in DICOM objects.
IDENTITY = {
    "PatientName": "Quisquilia^Ottilie", "PatientID": "QX-77120", "PatientBirthDate": "19510304", "PatientSex": "F",
    "StudyDate": "20260503", "StudyTime": "101112", "AccessionNumber": "ACC-90210", "StudyID": "S-4711",
    "ReferringPhysicianName": "Zuweiser^Ingo", "StudyDescription": "MRT der LWS",
}  # fmt: skip


def write_study(root: Path, *, number: int = 1, files: int = 5, **tags: Any) -> Path:
    """A sagittal T2 and an axial T2 series of one study; `tags` are of every file."""
    uid = f"{ROOT}.{number}"
    base: dict[str, Any] = IDENTITY | {
        "StudyInstanceUID": uid, "Modality": "MR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4",
        "FrameOfReferenceUID": f"{uid}.9", "EchoTime": 100, "RepetitionTime": 3000, "BodyPartExamined": "LSPINE",
    } | tags  # fmt: skip
    pixels = np.random.default_rng(number).integers(0, 900, (24, 24)).astype(np.uint16)
    for series, (name, step) in enumerate((("SAG T2", [4, 0, 0]), ("AX T2", [0, 0, 4])), start=1):
        for k in range(1, files + 1):
            given: dict[str, Any] = {
                "SOPInstanceUID": f"{uid}.{series}.{k}", "SeriesInstanceUID": f"{uid}.{series}", "InstanceNumber": k,
                "SeriesDescription": name, "ImagePositionPatient": [v * k for v in step],
                "PixelSpacing": [8, 8], **({"ImageOrientationPatient": AXIAL} if series == 2 else {}),
            }  # fmt: skip
            path = root / f"{number}-{series}-{k}.dcm"
            write_dicom(path, pixels, **(given | base))
    return root


def result_of(folder: Path) -> StudyResult:
    """The only study of a folder, graded by stand-ins: the canal by the model, everything else by the prior."""
    source = open_source(folder)
    return stand_in().predict(source.load(source.study_ids[0]))


def stand_in() -> Grader:
    return grader_of(CanalLocalizer(unmirror=False), ConstantClassifier())


def write_runs(root: Path, started: str = "2026-01-02T03:04:05Z") -> tuple[Path, Path]:
    """Run folders that say of what they were made, and hold no models."""
    for kind, folds in (("localize", {"0": {"models": {}}}), ("classify", [0])):
        run = root / kind
        (run / "fold0").mkdir(parents=True, exist_ok=True)
        (run / "fold0" / "model.json").write_text(kind)
        (run / "run.json").write_text(
            json.dumps({"kind": kind, "started": started, "data_fingerprint": "f", "folds": folds})
        )
    return root / "localize", root / "classify"
