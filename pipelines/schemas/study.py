"""What is said of a study: studies/<id>.json of `lumbar predict`."""

from typing import Annotated, Literal

from pydantic import Field

from pipelines.schemas.base import FindingName, Part, Share, of_schema
from shared.detections import Source
from shared.labels import FINDINGS
from shared.probabilities.reasons import PriorReason, ProbabilitySource


class Grades(Part):
    """One number per grade; the three sum to 1."""

    normal_mild: Share
    moderate: Share
    severe: Share


class Place(Part):
    """Where a finding was graded."""

    series_id: str
    instance_number: int
    x_px: float
    """Column in the picture as it is stored, from 0 at the centre of the leftmost pixel."""
    y_px: float
    """Row in the picture as it is stored, from 0 at the centre of the topmost pixel."""
    point_mm: tuple[float, float, float]
    """DICOM patient coordinates: +x to the patient's left, +y to posterior, +z to the head."""
    source: Source
    score: Share
    """Probability that the point lies within 8 mm of the true one and on the right level."""


class Answer(Part):
    """What is said of one finding."""

    finding: FindingName
    probabilities: Grades
    """What is believed of the grades, calibrated, without the metric's weights."""
    submission: Grades
    """The row of submission.csv before it is rounded: the probabilities times the metric's weights, renormalised."""
    source: ProbabilitySource
    """`model` where a crop was graded, `prior` where the training prior stands in."""
    reason: PriorReason | None
    """Why the prior stands in; null for rows of the model."""
    localization: Place | None


class LevelNumbering(Part):
    """Belief in the names of the levels."""

    as_named: Share
    one_higher: Share
    """Every level is really the next disc towards the head."""
    one_lower: Share
    """Every level is really the next disc towards the feet."""
    disc_above: Share
    disc_below: Share
    certain: bool
    """Whether `as_named` is at least .95."""
    missing: dict[str, Share]
    """Level -> probability that it is not visible."""


class StudyFile(Part):
    """The answer for one study, with its evidence."""

    schema_: Literal["study-1"] = of_schema("study-1")
    study_id: str
    numbering: LevelNumbering | None
    """Null where nothing was localized."""
    findings: Annotated[list[Answer], Field(min_length=len(FINDINGS), max_length=len(FINDINGS))]
    problems: list[str]
    """What could not be read or graded, one message each."""
