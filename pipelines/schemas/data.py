"""What data sets hold: `lumbar audit`, `lumbar series --json`, truth/manifest.json of `lumbar synth`, `lumbar info`."""

from typing import Any, Literal

from pydantic import Field

from pipelines.schemas.base import Count, FindingName, Part, Share, of_schema
from shared.dicom.discover import FileCounts


class About(Part):
    """What was audited, and how."""

    version: str
    part: Literal["train", "test"] | None
    images: bool
    pixels: Literal["none", "sample", "all"]
    scope: str


class CodeCounts(Part):
    """How often a code occurs."""

    severity: Literal["error", "warning", "note"]
    findings: Count
    studies: Count


class Counts(Part):
    """What there is."""

    studies: dict[str, Count]
    """Part -> studies; `folder` for DICOM files without tables."""
    series: dict[str, Count]
    series_read: Count
    files: Count
    files_read: Count
    points: Count
    graded_studies: Count


class FindingGrades(Part):
    """Grades of one finding."""

    graded: Count
    missing: Count
    share: list[Share | None]
    challenge_share: list[Share]


class GradeStatistics(Part):
    """Grades of all findings."""

    findings: dict[FindingName, FindingGrades]
    studies_with_missing: Count
    missing: Count
    any_severe_canal: Share | None
    no_severe: Share | None


class CoOccurrence(Part):
    """Which grades go together."""

    left_equals_right: dict[str, Share | None]
    canal_and_worse_subarticular: dict[str, float | None]
    canal_neighbours: dict[str, float | None]
    spearman: list[list[float | None]]
    subarticular_sides_on_different_slices: Share | None


class Spread(Part):
    """Percentiles of a measure."""

    min: float
    p5: float
    median: float
    p95: float
    max: float


class ImageStatistics(Part):
    """Pictures of one view."""

    series: Count
    sizes: dict[str, Count]
    spacing_mm: Spread | None
    field_height_mm: Spread | None
    field_width_mm: Spread | None
    slices: Spread | None
    gap_mm: Spread | None
    stacks: dict[str, Count]


class PointStatistics(Part):
    """Points of one level, as shares of width and height."""

    n: Count
    median: list[float] | None
    challenge_median: list[float]


class Exploration(Part):
    """All statistics of a data set."""

    counts: Counts
    series_per_study: dict[str, dict[str, Count]]
    grades: GradeStatistics
    co_occurrence: CoOccurrence
    images: dict[str, ImageStatistics]
    headers: dict[str, dict[str, Count]]
    order: dict[str, dict[str, Count]]
    points: dict[str, dict[str, PointStatistics]]


class AuditReport(Part):
    """report.json of `lumbar audit`. findings.csv lists the issues one by one."""

    schema_: Literal["audit-report-1"] = of_schema("audit-report-1")
    about: About
    findings: dict[Literal["error", "warning", "note"], Count]
    codes: dict[str, CodeCounts]
    """Code -> how often it occurs; docs/audit.md explains the codes."""
    exploration: Exploration


class ListedSeries(Part):
    """A series, and whether it would be used."""

    series_id: str
    view: Literal["sagittal_t1", "sagittal_t2", "axial_t2"] | None
    slices: Count
    used: bool
    rank: int | None = None
    """Place among the candidates of its view; null outside folders of DICOM files, or for a series of no view."""
    score: float | None = None
    reasons: list[str] = Field(default_factory=list)
    remarks: list[str] = Field(default_factory=list)


class ListedStudySeries(Part):
    """The series of one study."""

    study_id: str
    series: list[ListedSeries]
    problems: list[str]


class SeriesTable(Part):
    """What `lumbar series --json` prints."""

    schema_: Literal["series-1"] = of_schema("series-1")
    studies: list[ListedStudySeries]
    files: FileCounts | None = None


class Trap(Part):
    """A fault that was planted."""

    study_id: str
    trap: str
    detail: str


class Manifest(Part):
    """truth/manifest.json of `lumbar synth`."""

    schema_: Literal["synth-manifest-1"] = of_schema("synth-manifest-1")
    version: str
    """Of the generator: equal versions and options give equal bytes."""
    seed: int
    preset: Literal["demo", "full"]
    studies: Count
    test_studies: Count
    parameters: dict[str, Any]
    """Of the generator."""
    traps: list[Trap]
    summaries: list[dict[str, Any]]
    """Anatomy and scan of each study."""


class Info(Part):
    """What `lumbar info --json` prints."""

    schema_: Literal["info-1"] = of_schema("info-1")
    version: str
    git_commit: str | None
    python: str
    platform: str
    cpus: int | None
    gpus: list[str]
    packages: dict[str, str | None]
    unmet: list[str]
    """Requirements of the package that this environment does not meet."""
    views: list[str]
    conditions: list[str]
    levels: list[str]
    severities: dict[str, float]
    """Grade -> its weight in the metric."""
    findings: list[FindingName]
