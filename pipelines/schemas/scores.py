"""Scores: report.json of `lumbar evaluate` and `lumbar classify evaluate`, and reports/scores.json of `lumbar demo`."""

from typing import Annotated, Literal

from pydantic import Field

from pipelines.schemas.base import Count, Part, Share, TrainingCurve, of_schema
from shared.scores import Comparison, Line

Family = Literal["canal", "foraminal", "subarticular"]
OfGrades = Annotated[list[Share], Field(min_length=3, max_length=3)]


class RowMeasures(Part):
    """Agreement of graded rows; null where a measure is not defined, and only `n` where there is no row."""

    n: Count
    prevalence: OfGrades | None = None
    """Share of each true grade."""
    weighted_log_loss: float | None = None
    auc_severe: Share | None = None
    ap_severe: Share | None = None
    kappa_quadratic: float | None = None
    ece: Share | None = None
    """Expected calibration error of the probabilities, mean over the grades."""
    ece_if_calibrated: Share | None = None
    """What chance alone leaves of it on as many rows."""
    confusion: list[list[Count]] | None = None
    """Rows by true grade, columns by predicted grade."""


class LevelMeasures(RowMeasures):
    """The same of one condition and level."""

    condition: Family
    level: str


class Bin(Part):
    """One point of a reliability curve."""

    predicted: Share
    observed: Share
    n: Count


class Confidence(Part):
    """Accuracy of the most confident share of the rows."""

    coverage: Share
    n: Count
    least_confidence: Share
    right: Share
    severe: Count
    """Severe rows among these."""
    severe_as_normal: Share | None
    """Share of the severe rows that are called Normal/Mild; null without any."""


class ConditionMeasures(RowMeasures):
    """The same of one condition, with its reliability curves by grade."""

    reliability: dict[str, list[Bin]]
    by_confidence: list[Confidence]


class Agreement(Part):
    """Agreement of one submission with the true grades."""

    conditions: dict[Family, ConditionMeasures]
    levels: list[LevelMeasures]


class Scores(Part):
    """reports/scores.json of `lumbar demo`: submissions beside the baselines."""

    schema_: Literal["scores-1"] = of_schema("scores-1")
    studies: Count
    graded_rows: Count
    reference: str
    lines: list[Line]
    notes: list[str] = Field(default_factory=list)


class EvaluationReport(Part):
    """report.json of `lumbar evaluate`."""

    schema_: Literal["evaluation-report-1"] = of_schema("evaluation-report-1")
    comparison: Comparison
    detail_of: str
    """The submission that `details` describe."""
    details: Agreement


class Gain(Part):
    """Score of the mean minus that of the blend, paired, with its interval; positive is better."""

    mean: float
    low: float
    high: float


class CombineReport(Part):
    """report.json of `lumbar combine`: out-of-fold scores of the runs, their mean and their blend."""

    schema_: Literal["combine-report-1"] = of_schema("combine-report-1")
    comparison: Comparison
    gain_over_the_mean: Gain


class FoldScore(Part):
    """The score of one fold's held-out studies."""

    fold: Count
    studies: Count
    score: float
    terms: dict[str, float | None]


class Temperature(Part):
    """Divides the logits of a family."""

    temperature: Annotated[float, Field(gt=0)]


class ClassifierReport(Agreement):
    """report.json of `lumbar classify evaluate`: out-of-fold scores of a run."""

    schema_: Literal["classifier-report-1"] = of_schema("classifier-report-1")
    studies: Count
    graded_rows: Count
    prior_rows: Count
    comparison: Comparison
    folds: list[FoldScore]
    fold_spread: float | None
    """Standard deviation between folds; null with one fold."""
    folds_trained: list[Count]
    points: Literal["localized", "annotated"]
    calibration: dict[str, dict[Family, Temperature]]
    """Fold -> family -> temperature."""
    training: list[TrainingCurve]
