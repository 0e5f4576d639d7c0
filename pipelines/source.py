"""Where studies come from: a part of a challenge directory, or any folder of DICOM files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shared.challenge import Challenge, LoadedStudy, Part
from shared.discover import discover_studies
from shared.errors import InputError
from shared.manifest import data_fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySource:
    """Studies to predict.

    Attributes:
      fingerprint: of a challenge part's tables; a run's own training data has the same.
      load: reads the headers of one study.
      row_ids: the sample submission's order, if any.
    """

    kind: Literal["challenge", "folder"]
    fingerprint: str | None = None
    study_ids: tuple[str, ...]
    load: Callable[[str], LoadedStudy]
    row_ids: tuple[str, ...] | None = None


def open_source(path: Path, part: Part | None = None) -> StudySource:
    """Opens a challenge directory (the test part where there is one, unless `part` says otherwise) or a DICOM folder.

    Raises:
      InputError: when the folder is missing, of a broken layout, or holds no study.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; expected a challenge directory or a folder of DICOM files")
    parts: list[Part] = [p for p in ("test", "train") if (path / f"{p}_series_descriptions.csv").is_file()]
    if part is None and not parts:
        if (path / "train_images").is_dir() or (path / "test_images").is_dir():
            raise InputError(
                f"{path}: has images but no *_series_descriptions.csv; restore it from the challenge's archive"
            )
        return _folder_source(path)
    data = Challenge.open(path, part or parts[0])
    if data.study_ids and not any((data.images / study_id).is_dir() for study_id in data.study_ids):
        raise InputError(f"{data.images}: none of the {len(data.study_ids)} studies has a folder here")
    return StudySource(
        kind="challenge",
        fingerprint=data_fingerprint(data),
        study_ids=data.study_ids,
        load=data.load_study,
        row_ids=data.submission_row_ids,
    )


def _folder_source(path: Path) -> StudySource:
    studies = {loaded.study.study_id: loaded for loaded in discover_studies(path)}
    return StudySource(kind="folder", study_ids=tuple(studies), load=studies.__getitem__)
