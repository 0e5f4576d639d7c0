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

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from localize.localizer import run_or_shipped
from pipelines.ensembles.members import Members
from pipelines.evaluate import EvaluateOptions, score_files
from pipelines.grader import Grader
from pipelines.result import StudyResult
from shared.runtime.hardware.cores import let_threads_sleep
from shared.scores import Comparison

__all__ = ["Comparison", "Grader", "StudyResult", "load", "score"]


Run = str | Path


class Several(TypedDict, total=False):
    """Options of `load` for several runs of a stage.

    Attributes:
      mixed_data: allows runs that were trained on different data.
      weights: weights.json of `lumbar combine` for these classifiers; without it all count alike.
    """

    mixed_data: bool
    weights: Run | None


def load(
    localizer: Run | Sequence[Run | None] | None, classifier: Run | Sequence[Run], *, device: str = "auto",
    tta: bool = False, fast: bool = False, **several: Unpack[Several],
) -> Grader:  # fmt: skip
    """Loads the runs of both stages, all trained folds of each.

    Several runs of a stage answer together: their points are averaged where they agree, and their probabilities always.

    Args:
      localizer: run folder of `lumbar localize train`, or several; None for the detectors that ship with the package.
      classifier: run folder of `lumbar classify train`, or several.
      device: auto, cpu, mps, cuda, cuda:N or N.
      tta: whether to average over shifted, turned and scaled copies of each crop, which is ten times slower.
      fast: whether the one network that `lumbar classify distill` made of each classifier's folds answers in place of
        all of them. It has learned from all studies that the classifier was trained on.
      several: what concerns several runs, as keyword arguments; see `Several`.

    Raises:
      InputError: when a run is missing, unfinished or changed, the device is not there, or the runs do not belong
        together.
    """
    let_threads_sleep()
    weights = several.get("weights")
    given = [localizer] if localizer is None or isinstance(localizer, str | Path) else localizer
    members = Members(
        localizers=tuple(run_or_shipped(None if run is None else Path(run)) for run in given),
        classifiers=tuple(map(Path, [classifier] if isinstance(classifier, str | Path) else classifier)),
        mixed_data=several.get("mixed_data", False), weights=None if weights is None else Path(weights), fast=fast,
    )  # fmt: skip
    return Grader.load(members, device=device, tta=tta)


def score(submission: str | Path, data: str | Path) -> Comparison:
    """Scores a submission.csv beside the baselines, with study-level bootstrap intervals.

    Args:
      submission: CSV file with row_id and three probabilities per row.
      data: folder with the true grades, test.csv or train.csv.

    Raises:
      InputError: for a missing or malformed file, or a submission that lacks a graded study.
    """
    return score_files(Path(submission), Path(data), EvaluateOptions())[0]
