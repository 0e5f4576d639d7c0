"""What is kept of a study's result while a command runs: all of it but the study, in types that JSON has."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from pipelines.result import StudyResult
from shared.detections import Detection, Localization
from shared.labels import FINDINGS, Finding
from shared.numbering import Numbering
from shared.probabilities.reasons import PriorReason
from shared.study import LoadedStudy


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRecord:
    """A `StudyResult` without its study, which is read from its files again where a picture of it is drawn."""

    submission: tuple[tuple[float, float, float], ...]
    reasons: tuple[tuple[Finding, PriorReason], ...]
    localizations: tuple[Localization, ...]
    detections: tuple[Detection, ...]
    problems: tuple[str, ...]
    numbering: Numbering | None
    turned: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.submission) != len(FINDINGS):
            raise ValueError(f"expected {len(FINDINGS)} rows, got {len(self.submission)}")

    @classmethod
    def of(cls, result: StudyResult) -> Self:
        """The record of a result."""
        return cls(
            submission=tuple(tuple(row) for row in result.submission.tolist()),
            reasons=tuple(result.reasons.items()),
            localizations=tuple(result.localizations.values()),
            detections=result.detections,
            problems=result.problems,
            numbering=result.numbering,
            turned=result.turned,
        )

    def result(self, loaded: LoadedStudy) -> StudyResult:
        """The result that this is a record of."""
        return StudyResult(
            study=loaded.study, listed=loaded.listed, submission=np.array(self.submission), reasons=dict(self.reasons),
            localizations={x.finding: x for x in self.localizations}, detections=self.detections,
            problems=self.problems, numbering=self.numbering, turned=self.turned,
        )  # fmt: skip
