"""The Python API: load both stages once, then grade studies and score submissions.

```python
from pipelines.api import load, score

grader = load("runs/localizer", "runs/classifier")  # None in place of the first: the detectors that ship
result = grader.predict("scans/patient_1")    # the DICOM files of one study: folder, zip or tar
print(result.table())                         # a DataFrame: probabilities, source and place of each finding
result.figure().savefig("patient_1.png")
print(score("prediction/submission.csv", "DATA").line("submission").score)
```
"""

from pathlib import Path

from pipelines.evaluate import EvaluateOptions, score_files
from pipelines.grader import Grader
from pipelines.result import StudyResult
from shared.runtime.hardware.cores import let_threads_sleep
from shared.scores import Comparison

__all__ = ["Comparison", "Grader", "StudyResult", "load", "score"]


def load(localizer: str | Path | None, classifier: str | Path, *, device: str = "auto", tta: bool = False) -> Grader:
    """Loads the runs of both stages, all trained folds of each.

    Args:
      localizer: run folder of `lumbar localize train`; None for the detectors that ship with the package.
      classifier: run folder of `lumbar classify train`.
      device: auto, cpu, mps, cuda, cuda:N or N.
      tta: whether to average over shifted, turned and scaled copies of each crop, which is ten times slower.

    Raises:
      InputError: when a run is missing, unfinished or changed, the device is not there, or the two runs do not belong
        together.
    """
    let_threads_sleep()
    return Grader.load(
        None if localizer is None else Path(localizer), Path(classifier), device=device, tta=tta
    )  # fmt: skip


def score(submission: str | Path, data: str | Path) -> Comparison:
    """Scores a submission.csv beside the baselines, with study-level bootstrap intervals.

    Args:
      submission: CSV file with row_id and three probabilities per row.
      data: folder with the true grades, test.csv or train.csv.

    Raises:
      InputError: for a missing or malformed file, or a submission that lacks a graded study.
    """
    return score_files(Path(submission), Path(data), EvaluateOptions())[0]
