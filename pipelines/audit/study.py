"""The audit of one study: its files, series and points, and the facts that the exploration counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from pipelines.audit.files import (
    SeriesRead,
    StudyRead,
    absent_tags,
    check_encoding,
    read_challenge_study,
    read_known_study,
)
from pipelines.audit.findings import Code, Issue
from pipelines.audit.pixels import Pixels, check_pixels
from pipelines.audit.points import Placed, check_points, check_points_without_images, place_points
from pipelines.audit.stacks import check_anatomy, check_stacks, gaps_mm, instance_order, levels_by_series
from pipelines.audit.tables import check_views
from shared.data.challenge import Point
from shared.geometry import FloatArray
from shared.labels import Condition, Finding, Level, Side, View
from shared.study import Series, Study

# Several axial series cover parts of the spine when together they reach this much further than the longest of them.
_FURTHER: Final = 1.15
# A tag that this share of all series lacks is the data set's habit, not a series' fault.
NEARLY_ALL: Final = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a worker needs to audit one study.

    Attributes:
      listed: (series id, view) of the tables; for a study of a plain folder `discovered` instead.
      images: False to look at the tables alone.
    """

    root: Path
    part: str
    study_id: str
    listed: tuple[tuple[str, View], ...] = ()
    discovered: Study | None = None
    points: tuple[Point, ...] = ()
    images: bool = True
    pixels: Pixels = Pixels.SAMPLE


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFacts:
    """One series in numbers.

    Attributes:
      field_mm: height and width of the middle slice's picture.
      gap_mm: median distance of neighbouring slices; None for a single slice.
      agreement: of instance numbers with positions, see `stacks.Order`.
      encodings: (transfer syntax, photometric interpretation, bits stored, signed) -> files.
    """

    part: str
    study_id: str
    series_id: str
    view: View
    files: int
    readable: int
    shape: tuple[int, int]
    spacing_mm: tuple[float, float]
    field_mm: tuple[float, float]
    gap_mm: float | None
    stacks: int
    first_number: int
    agreement: float
    encodings: tuple[tuple[str, str, int | None, bool], ...]
    manufacturer: str
    field_strength_t: float | None
    absent: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PointFacts:
    """One point that lies on its image; x and y as shares of the image's width and height."""

    finding: Finding
    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResult:
    """What one study adds to the audit.

    Attributes:
      unshared_pairs: left and right subarticular points of a level on different slices, and pairs in all.
    """

    study_id: str
    issues: tuple[Issue, ...]
    series: tuple[SeriesFacts, ...] = ()
    points: tuple[PointFacts, ...] = ()
    unshared_pairs: tuple[int, int] = (0, 0)


def audit_study(job: Job) -> StudyResult:
    """Reads and checks one study. Never raises for what its files hold."""
    pairs = _unshared_pairs(job.points)
    if not job.images:
        issues = check_points_without_images(job.part, job.points, dict(job.listed)) if job.listed else []
        return StudyResult(study_id=job.study_id, issues=tuple(issues), unshared_pairs=pairs)
    if job.discovered is not None:
        read = read_known_study(job.root, job.discovered)
        found = [*read.issues, *_views_of(read)]
    else:
        read = read_challenge_study(job.root, job.part, job.study_id, job.listed)
        found = list(read.issues)
    unread = {i.series_id for i in read.issues if i.code in (Code.FILE_UNREADABLE, Code.NO_PLANE)}
    # Where the whole study has no folder, that is the one thing to say.
    missing = any(i.code is Code.IMAGES_MISSING for i in read.issues)
    placement = place_points(job.part, read.study, () if missing else job.points, unread)
    by_series = _by_series(placement.placed)
    found += check_encoding(read)
    found += check_stacks(read)
    found += check_anatomy(read, by_series)
    found += _levels_split(read, placement.placed)
    found += placement.issues
    found += check_points(job.part, job.study_id, placement.placed)
    found += check_pixels(job.root, read, job.pixels)
    return StudyResult(
        study_id=job.study_id,
        issues=tuple(dict.fromkeys(found)),
        series=tuple(_facts(read, item) for item in read.series),
        points=tuple(PointFacts(finding=p.finding, x=p.relative[0], y=p.relative[1]) for p in placement.placed),
        unshared_pairs=pairs,
    )


def _views_of(read: StudyRead) -> list[Issue]:
    """Of a plain folder, whose series no table lists."""
    counts = {view: len(read.study.of_view(view)) for view in View}
    return check_views(read.part, read.study_id, counts)


def _by_series(placed: Sequence[Placed]) -> dict[str, FloatArray]:
    groups: dict[str, list[FloatArray]] = {}
    for p in placed:
        groups.setdefault(p.point.series_id, []).append(p.mm)
    return {series_id: np.stack(points) for series_id, points in groups.items()}


def _unshared_pairs(points: Sequence[Point]) -> tuple[int, int]:
    """Pairs of subarticular points on different slices of one series, and all pairs on one series."""
    slices: dict[Level, dict[Side | None, tuple[str, int]]] = {}
    for p in points:
        if p.finding.condition is Condition.SUBARTICULAR:
            slices.setdefault(p.finding.level, {})[p.finding.side] = (p.series_id, p.instance_number)
    pairs = [(of[Side.LEFT], of[Side.RIGHT]) for of in slices.values() if len(of) == 2]
    same_series = [(a, b) for a, b in pairs if a[0] == b[0]]
    return sum(a[1] != b[1] for a, b in same_series), len(same_series)


def _levels_split(read: StudyRead, placed: Sequence[Placed]) -> list[Issue]:
    """Several axial series none of which holds all levels: by their points, or by how far they reach."""
    axial = read.study.of_view(View.AXIAL_T2)
    if len(axial) < 2:
        return []
    levels: dict[str, set[Level]] = {s.series_id: set() for s in axial}
    for p in placed:
        if p.finding.condition is Condition.SUBARTICULAR and p.point.series_id in levels:
            levels[p.point.series_id].add(p.finding.level)
    union = set().union(*levels.values())
    if union:
        if any(found == union for found in levels.values()):
            return []
        reason = f"subarticular points by series: {levels_by_series(levels)}"
    else:
        ends = [_reach(s) for s in axial]
        whole, longest = max(e[1] for e in ends) - min(e[0] for e in ends), max(e[1] - e[0] for e in ends)
        if whole <= _FURTHER * longest:
            return []
        reason = (
            f"{len(axial)} axial series cover {whole:.0f} mm of the spine together, none more than {longest:.0f} mm"
        )
    return [Issue(code=Code.LEVELS_SPLIT, part=read.part, study_id=read.study_id, reason=reason)]


def _reach(series: Series) -> tuple[float, float]:
    """Lowest and highest z of the slices' middles."""
    z = [float(item.plane.center_mm(item.shape)[2]) for item in series.slices]
    return min(z), max(z)


def _facts(read: StudyRead, item: SeriesRead) -> SeriesFacts:
    series = item.series
    middle = series.slices[len(series.slices) // 2]
    gaps = gaps_mm(series)
    encodings = [f.encoding for f in item.files]
    rows, columns = middle.shape
    dy, dx = middle.plane.spacing_mm
    return SeriesFacts(
        part=read.part,
        study_id=read.study_id,
        series_id=series.series_id,
        view=series.view,
        files=item.files_found,
        readable=len(item.files),
        shape=middle.shape,
        spacing_mm=middle.plane.spacing_mm,
        field_mm=(rows * dy, columns * dx),
        gap_mm=float(np.median(gaps)) if len(gaps) else None,
        stacks=len(series.stacks),
        first_number=min(f.slice.instance_number for f in item.files),
        agreement=instance_order(series).agreement if item.numbered else 0.0,
        encodings=tuple((e.syntax, e.photometric, e.bits_stored, e.signed) for e in encodings),
        manufacturer=encodings[0].manufacturer,
        field_strength_t=encodings[0].field_strength_t,
        absent=absent_tags(item),
    )


def check_absent_tags(series: Sequence[SeriesFacts]) -> list[Issue]:
    """Series that lack tags which most others have; tags that nearly all lack are one issue of the whole data set."""
    lacking: dict[str, int] = {}
    for item in series:
        for tag in item.absent:
            lacking[tag] = lacking.get(tag, 0) + 1
    common = {tag for tag, count in lacking.items() if len(series) > 1 and count >= NEARLY_ALL * len(series)}
    issues = [
        Issue(code=Code.TAGS_MISSING, reason=f"{tag} is absent in {lacking[tag]} of {len(series)} series")
        for tag in sorted(common)
    ]
    for item in series:
        own = [tag for tag in item.absent if tag not in common]
        if own:
            issues.append(
                Issue(code=Code.TAGS_MISSING, part=item.part, study_id=item.study_id, series_id=item.series_id,
                      reason=f"lacks {', '.join(own)}")
            )  # fmt: skip
    return issues
