"""OUT/dicom/<study>/: the DICOM objects of a result, ready to be sent to the PACS that the study came from."""

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pydicom

from pipelines.clinic.maker import Maker
from pipelines.clinic.origin import origin_of
from pipelines.clinic.picture import secondary_capture
from pipelines.clinic.report import measurement_report
from pipelines.result import StudyResult
from shared.dicom.parsing import foreign
from shared.runtime.errors import InputError
from shared.runtime.files import inside, remove, written_beside

FOLDER: Final = "dicom"
REPORT_FILE: Final = "report.dcm"
PICTURE_FILE: Final = "picture.dcm"


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomExport:
    """Writes results as DICOM objects; `maker` is what made the results."""

    maker: Maker

    @classmethod
    def of_runs(
        cls, localizers: Sequence[Path], classifiers: Sequence[Path], options: Sequence[str] = (), *, fast: bool = False
    ) -> "DicomExport":
        """The export of what some runs answer; see `Maker.of_runs`."""
        return cls(maker=Maker.of_runs(localizers, classifiers, options, fast=fast))

    def write(self, result: StudyResult, out: Path) -> StudyResult:
        """Writes the objects of a result below an output folder.

        A study whose files do not say whose they are costs its objects, never the command.

        Returns:
          The result, with a problem more for whatever hindered that. It comes before the others, because the last
          one says why a study has failed (`StudyResult.failure`).
        """
        folder = inside(out / FOLDER, result.study_id)
        for name in (REPORT_FILE, PICTURE_FILE):  # a study that is predicted anew may have none now
            remove(folder / name)
        contents: dict[str, bytes] = {}
        try:
            contents, problems = self.contents(result)
        except InputError as error:
            problems = (str(error),)
        for name, content in contents.items():
            with written_beside(folder / name) as temporary:
                temporary.write_bytes(content)
        return replace(result, problems=(*problems, *result.problems))

    def contents(self, result: StudyResult, *, picture: bool = True) -> tuple[dict[str, bytes], tuple[str, ...]]:
        """The files of a result by their names, and what of its study could not be taken over as it is.

        Raises:
          InputError: as `origin_of`, and when the study's headers hold a value that no object can.
        """
        origin = origin_of(result.study)
        with (
            foreign(f"study {result.study_id}", "its headers make no valid DICOM object"),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # those of highdicom and pydicom quote the patient's name
            made: dict[str, pydicom.Dataset] = {REPORT_FILE: measurement_report(result, origin, self.maker)}
            if picture:
                made[PICTURE_FILE] = secondary_capture(result, origin, self.maker)
            return {name: _encoded(dataset) for name, dataset in made.items()}, origin.problems


def _encoded(dataset: pydicom.Dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()
