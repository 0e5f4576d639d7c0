"""Measures of points: report.json of `lumbar localize evaluate` and metrics.json of each trained fold."""

from typing import Annotated, Literal

from pydantic import Field

from pipelines.schemas.base import Count, Part, Share, TrainingCurve, of_schema
from pipelines.schemas.study import LevelNumbering
from shared.metric import Interval

Confusion = list[list[Count]]
Millimetres = Annotated[float, Field(ge=0)]


class PointMeasures(Part):
    """Coverage and errors of points; null where there is nothing to compute from."""

    expected: Count
    found: Count
    within_5_mm: Share | None
    within_8_mm: Share | None
    within_10_mm: Share | None
    in_plane_median_mm: Millimetres | None
    in_plane_p95_mm: Millimetres | None
    slice_exact: Share | None
    slice_exact_or_next: Share | None
    level_off_by_one: Share | None
    level_off_by_more: Share | None
    wrong_side: Count


class GroupMeasures(PointMeasures):
    """The measures of some of the studies."""

    studies: Count


class ScoreBin(Part):
    """Scores of one range."""

    score_from: Share
    score_to: Share
    count: Count
    mean_score: Share
    right: Share


class Reliability(Part):
    """How well scores agree with the share that is right."""

    ece: Share | None
    brier: Share | None
    bins: list[ScoreBin]


class Reliabilities(Part):
    """The same before and after calibration."""

    target: str
    calibration: str
    raw: Reliability
    calibrated: Reliability


class LevelPrecision(Part):
    """mAP of a detector for one level."""

    map50: Share | None
    map50_95: Share | None


class Precision(LevelPrecision):
    """mAP of a detector."""

    levels: dict[str, LevelPrecision]


class Measures(Part):
    """All measures of points."""

    distance: str
    studies: Count
    overall: PointMeasures
    by_view: dict[str, PointMeasures]
    by_level: dict[str, PointMeasures]
    by_condition_and_level: dict[str, dict[str, PointMeasures]]
    level_confusion: Confusion
    """Rows by expected level, columns by the level whose true point is nearest."""
    level_confusion_by_view: dict[str, Confusion]
    by_source: dict[str, PointMeasures]
    reliability: Reliabilities


class Certainty(Part):
    """Studies of one kind, and how many of them have all levels right."""

    studies: Count
    all_levels_right: Count


class ListedStudy(LevelNumbering):
    """A study whose numbering is uncertain or wrong."""

    study_id: str
    true_levels: Literal["as named", "one higher", "one lower"]


class NumberingMeasures(Part):
    """Studies whose numbering is uncertain beside those whose numbering is wrong."""

    certain_from: Share
    by_certainty: dict[str, Certainty]
    studies: Count
    uncertain: Count
    shifted: Count
    shifted_and_uncertain: Count
    listed: list[ListedStudy]


class StudyCounts(Part):
    """Studies as wholes; a study is right when each of its levels with a true point was found and named rightly."""

    studies: Count
    all_levels_right: Count
    all_levels_right_interval: Interval
    """Of the share, 95%."""
    judged: Count
    """Studies whose numbering is known."""
    sure: Count
    sure_and_right: Count
    within_8_mm_interval: Interval | None
    """Of the share of points, 95%, resampled over studies; null without studies."""


class FoldMetrics(Measures):
    """metrics.json of a trained fold."""

    schema_: Literal["localizer-metrics-1"] = of_schema("localizer-metrics-1")
    map: dict[str, Precision]
    """View -> mAP of its detector."""
    problems: list[str]


class LocalizerReport(Measures):
    """report.json of `lumbar localize evaluate`."""

    schema_: Literal["localizer-report-1"] = of_schema("localizer-report-1")
    map: dict[str, dict[str, Precision]]
    """Fold -> view -> mAP of its detector."""
    by_missing_series: dict[str, GroupMeasures]
    by_trap: dict[str, GroupMeasures] | None = None
    """Planted fault -> the studies that carry it; only with a manifest."""
    numbering: NumberingMeasures
    by_study: StudyCounts
    training: list[TrainingCurve]
    """Empty for a run of an earlier version, which recorded none."""
