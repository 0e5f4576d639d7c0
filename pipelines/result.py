"""What both stages say about one study: the probabilities of its 25 findings, and the evidence for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shared.detections import Detection, Localization
from shared.dicom.pixels import slice_pixels
from shared.figures.marks import Marks
from shared.figures.page import figure_of
from shared.figures.result_sheet import graded_sheet
from shared.figures.sheet import draw_sheet
from shared.labels import FINDINGS, Finding, Severity
from shared.mirror.correct import with_turned
from shared.numbering import Numbering
from shared.probabilities.files import PROBABILITY_COLUMNS
from shared.probabilities.reasons import PriorReason, PriorReasons, ProbabilitySource, error_behind, is_from_model
from shared.probabilities.table import unweighted
from shared.runtime.files import write_text
from shared.runtime.problems import Failure, Stage, stopped, unreadable
from shared.study import ListedSeries, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResult:
    """The result for one study: probabilities, and the evidence for them.

    Raises `ValueError` where the model answers a finding without a localization.

    Attributes:
      study: the study as its headers describe it.
      submission: what submission.csv holds of each finding's three grades, with the metric's weights, in the order of
        `FINDINGS`. For people there is `probabilities`. # [25, 3]
      reasons: the findings that the training prior answers, each with the reason; the model answers all others.
      localizations: the point at which each finding was graded.
      detections: the boxes that the points were decoded from.
      problems: what could not be read or graded, one message each.
      numbering: how certain the numbering of the levels is; None where nothing was localized.
      turned: ids of axial series that are mirrored against their headers and were read as their pictures show them.
      listed: every series that lay among the study's files, used or not; empty where tables say which there are.
    """

    study: Study
    submission: NDArray[np.float64]
    reasons: PriorReasons
    localizations: Mapping[Finding, Localization]
    detections: tuple[Detection, ...]
    problems: tuple[str, ...]
    numbering: Numbering | None = None
    turned: tuple[str, ...] = ()
    listed: tuple[ListedSeries, ...] = ()

    def __post_init__(self) -> None:
        unexplained = [f.column for f in FINDINGS if f not in self.reasons and f not in self.localizations]
        if unexplained:
            raise ValueError(f"study {self.study_id}: {unexplained[0]} has neither a point nor a reason for the prior")

    @property
    def study_id(self) -> str:
        return self.study.study_id

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Calibrated probabilities of each finding's three grades, without the metric's weights. [25, 3]"""
        return unweighted(self.submission)

    @property
    def from_model(self) -> NDArray[np.bool_]:
        """False where the training prior stands in for the model. [25]"""
        return is_from_model(self.reasons)

    @property
    def failure(self) -> Failure | None:
        """Why the model answers nothing of the study, where an error is the reason.

        What a stage says when it stops is the last problem of a result as `pipelines.grader` makes it.
        """
        error = error_behind(self.reasons)
        if error is not PriorReason.STAGE_FAILED:
            return None if error is None else unreadable(self.study_id)
        # The points are there where the second stage is the one that stopped.
        stage = Stage.CLASSIFY if self.localizations else Stage.LOCALIZE
        return stopped(self.study_id, stage, self.problems[-1] if self.problems else "it stopped with an error")

    def table(self) -> pd.DataFrame:
        """One row per finding: condition, side, level, probabilities, source, reason, and the place of its point."""
        rows, probabilities = [], self.probabilities
        for finding in FINDINGS:
            place = self.localizations.get(finding)
            rows.append(
                {
                    "finding": finding.column,
                    "condition": finding.condition.value,
                    "side": None if finding.side is None else finding.side.value,
                    "level": finding.level.display,
                    **dict(zip(PROBABILITY_COLUMNS, map(float, probabilities[finding.index]), strict=True)),
                    "source": self._source(finding).value,
                    "reason": self._reason(finding),
                    "series_id": None if place is None else place.series_id,
                    "instance_number": None if place is None else place.instance_number,
                    "x_px": None if place is None else place.x_px,
                    "y_px": None if place is None else place.y_px,
                }
            )
        return pd.DataFrame(rows).astype({"instance_number": "Int64"})

    def marks(self, grades: NDArray[np.int8] | None = None) -> Marks:
        """What a picture shows of the findings: their points and probabilities, and true grades where given. [25]"""
        points = tuple(self.localizations.values())
        return Marks(localizations=points, probabilities=self.probabilities, grades=grades)

    def picture(self, grades: NDArray[np.int8] | None = None) -> NDArray[np.uint8]:
        """The graded slices with every finding marked, as RGB [height, width, 3].

        Slices are upright; axial series that are mirrored against their headers are drawn as the patient is. A slice
        that cannot be decoded becomes a tile that says so.

        Args:
          grades: [25] true severity of each finding, -1 where unknown; written in brackets behind the predicted one.
        """
        return draw_sheet(graded_sheet(with_turned(self.study, self.turned), self.marks(grades)), slice_pixels)[0]

    def figure(self, grades: NDArray[np.int8] | None = None) -> "Figure":
        """The same picture as a matplotlib figure, to show in a notebook or save."""
        return figure_of(self.picture(grades))

    def page(self) -> str:
        """The HTML page of the study: grades, pictures, every slice with its marks, and what could not be read.

        It is one file that loads nothing. Slices that cannot be decoded are left black.
        """
        from pipelines.pages.study_page import study_page

        return study_page(self)

    def save_page(self, path: str | Path) -> None:
        """Writes the page to an .html file."""
        write_text(Path(path), self.page())

    def to_json(self) -> dict[str, Any]:
        """The content of studies/<id>.json: every finding with its probabilities and place, and all problems.

        `probabilities` are what is believed of the grades; `submission` is the same row with the metric's weights.
        """
        return {
            "schema": "study-1",
            "study_id": self.study_id,
            "numbering": None if self.numbering is None else self.numbering.to_json(),
            "findings": [self._finding_to_json(finding) for finding in FINDINGS],
            "problems": list(self.problems),
        }

    def _source(self, finding: Finding) -> ProbabilitySource:
        return ProbabilitySource.PRIOR if finding in self.reasons else ProbabilitySource.MODEL

    def _reason(self, finding: Finding) -> str | None:
        return self.reasons[finding].value if finding in self.reasons else None

    def _finding_to_json(self, finding: Finding) -> dict[str, Any]:
        place = self.localizations.get(finding)
        return {
            "finding": finding.column,
            "probabilities": _by_grade(self.probabilities[finding.index]),
            "submission": _by_grade(self.submission[finding.index]),
            "source": self._source(finding).value,
            "reason": self._reason(finding),
            "localization": None
            if place is None
            else {
                "series_id": place.series_id,
                "instance_number": place.instance_number,
                "x_px": place.x_px,
                "y_px": place.y_px,
                "point_mm": list(place.point_mm),
                "source": place.source.value,
                "score": place.score,
            },
        }


def _by_grade(row: NDArray[np.float64]) -> dict[str, float]:
    return {s.column: float(row[s]) for s in Severity}
