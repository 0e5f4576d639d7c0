"""OUT/dicom/<study>/: the DICOM objects of a result, ready to be sent to the PACS that the study came from."""

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
from shared.runtime.errors import InputError
from shared.runtime.files import inside, written_beside

FOLDER: Final = "dicom"
REPORT_FILE: Final = "report.dcm"
PICTURE_FILE: Final = "picture.dcm"


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomExport:
    """Writes results as DICOM objects; `maker` is what made the results."""

    maker: Maker

    @classmethod
    def of_runs(
        cls, localizers: Sequence[Path], classifiers: Sequence[Path], options: Sequence[str] = ()
    ) -> "DicomExport":
        """The export of what some runs answer; see `Maker.of_runs`."""
        return cls(maker=Maker.of_runs(localizers, classifiers, options))

    def write(self, result: StudyResult, out: Path) -> StudyResult:
        """Writes the objects of a result below an output folder.

        A study whose files do not say whose they are costs its objects, never the command.

        Returns:
          The result, with a problem more for whatever hindered that.
        """
        folder = inside(out / FOLDER, result.study_id)
        try:
            origin = origin_of(result.study)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # highdicom's quote the patient's name
                report = measurement_report(result, origin, self.maker)
                picture = secondary_capture(result, origin, self.maker)
        except InputError as error:
            return replace(result, problems=(*result.problems, str(error)))
        except (ValueError, TypeError, AttributeError, KeyError) as error:  # a value that no rule of ours foresaw
            problem = f"study {result.study_id}: its headers make no valid DICOM object ({type(error).__name__})"
            return replace(result, problems=(*result.problems, problem))
        _save(report, folder / REPORT_FILE)
        _save(picture, folder / PICTURE_FILE)
        return replace(result, problems=(*result.problems, *origin.problems))


def _save(dataset: pydicom.Dataset, path: Path) -> None:
    with written_beside(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
