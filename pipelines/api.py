"""The Python API: load both stages once, then grade studies.

from pipelines.api import load

grader = load("runs/localizer", "runs/classifier")
result = grader.predict("scans/patient_1")       # a folder with the DICOM files of one study
print(result.table())                            # a DataFrame: probabilities, source and place of each finding
result.figure().savefig("patient_1.png")
print(score("prediction/submission.csv", "DATA").line("submission").score)
"""

from pathlib import Path

from pipelines.grader import Grader, StudyResult

__all__ = ["Grader", "StudyResult", "load"]


def load(localizer: str | Path, classifier: str | Path, *, device: str = "auto", tta: bool = False) -> Grader:
    """Loads the runs of both stages, all trained folds of each.

    Args:
      localizer: run folder of `lumbar localize train`.
      classifier: run folder of `lumbar classify train`.
      device: auto, cpu, mps, cuda, cuda:N or N.
      tta: whether to average over shifted, turned and scaled copies of each crop, ten times slower.

    Raises:
      shared.runtime.errors.InputError: when a run is missing, unfinished or changed, the device is not there, or the
        two runs do not belong together.
    """
    return Grader.load(Path(localizer), Path(classifier), device=device, tta=tta)
