"""The audit of one study: its files, series and points, and the facts that the exploration counts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from pipelines.audit.files import SeriesRead, StudyRead, check_encoding, read_challenge_study, read_known_study
from pipelines.audit.issues import Code, Issue
from pipelines.audit.pixels import Pixels, check_pixels
from pipelines.audit.points import PlacedPoint, check_points, check_points_without_images, place_points
from pipelines.audit.stacks import check_anatomy, check_stacks, instance_order, levels_by_series
from pipelines.audit.tables import check_views
from shared.data.challenge import Point
from shared.data.identity import files_key, study_key
from shared.data.unpack import Input
from shared.figures.tiles import field_mm
from shared.geometry import FloatArray
from shared.labels import Condition, Finding, Level, Side, View
from shared.runtime.unfinished import Results, digest_of
from shared.study import LoadedStudy, Series, Study

# Axial series cover different parts of the spine when together they reach this much further than the longest one.
_FURTHER: Final = 1.15
# What this share of series or studies has in common belongs to the data set, not to any of them.
NEARLY_ALL: Final = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a worker needs to audit one study.

    Attributes:
      listed: (series id, view) as in the tables.
      discovered: the study of a plain folder, which has no tables.
      images: False checks the tables alone.
    """

    root: Path
    part: str
    study_id: str
    listed: tuple[tuple[str, View], ...] = ()
    discovered: Study | None = None
    points: tuple[Point, ...] = ()
    images: bool = True
    pixels: Pixels = Pixels.SAMPLE

    @property
    def name(self) -> str:
        """Of what is kept of the study, among those of all parts."""
        return f"{self.part}-{self.study_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFacts:
    """One series in numbers.

    Attributes:
      field_mm: height and width of the middle slice, once it is upright.
      gap_mm: median distance between neighbouring slices; None without neighbours.
      agreement: of instance numbers with positions, see `stacks.Order`.
      encodings: transfer syntax, photometric interpretation, bits stored and signedness of each file.
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
    agreement: float
    encodings: tuple[tuple[str, str, int | None, bool], ...]
    manufacturer: str
    field_strength_t: float | None
    absent: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PointFacts:
    """One point on its image; x and y are shares of the image's width and height."""

    finding: Finding
    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyAudit:
    """What one study adds to the audit.

    Attributes:
      unshared_pairs: how many left-right pairs of subarticular points lie on different slices, and how many there are.
    """

    study_id: str
    issues: tuple[Issue, ...]
    series: tuple[SeriesFacts, ...] = ()
    points: tuple[PointFacts, ...] = ()
    unshared_pairs: tuple[int, int] = (0, 0)


def audit_study(job: Job) -> StudyAudit:
    """Reads and checks one study. Never raises for what its files hold."""
    pairs = _unshared_pairs(job.points)
    if not job.images:
        issues = check_points_without_images(job.points, dict(job.listed)) if job.listed else []
        return StudyAudit(study_id=job.study_id, issues=_located(job, issues), unshared_pairs=pairs)
    if job.discovered is not None:
        read = read_known_study(job.root, job.discovered)
        issues = [*read.issues, *check_views({view: len(read.study.of_view(view)) for view in View})]
    else:
        read = read_challenge_study(job.root, job.part, job.study_id, job.listed)
        issues = list(read.issues)
    unread = {i.series_id for i in read.issues if i.code in (Code.FILE_UNREADABLE, Code.NO_PLANE)}
    # When the whole study has no folder, only that is worth saying.
    missing = any(i.code is Code.IMAGES_MISSING for i in read.issues)
    placement = place_points(read.study, () if missing else job.points, unread)
    issues += check_encoding(read)
    issues += check_stacks(read)
    issues += check_anatomy(read, _by_series(placement.placed))
    issues += _levels_split(read, placement.placed)
    issues += placement.issues
    issues += check_points(placement.placed)
    issues += check_pixels(job.root, read, job.pixels)
    return StudyAudit(
        study_id=job.study_id,
        issues=_located(job, issues),
        series=tuple(_facts(job, item) for item in read.series),
        points=tuple(PointFacts(finding=p.finding, x=p.relative[0], y=p.relative[1]) for p in placement.placed),
        unshared_pairs=pairs,
    )


def unread(job: Job, reason: str) -> StudyAudit:
    """The audit of a study at which every process died; `reason` continues a sentence that begins with the study."""
    issue = Issue(code=Code.FILE_UNREADABLE, reason=f"the study {reason}")
    return StudyAudit(study_id=job.study_id, issues=_located(job, [issue]))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAudit:
    """Does what `audit_study` does, and keeps the result for a resumed call, which takes it while the files are as they
    were. Picklable.

    Attributes:
      given: the input that holds the studies.
    """

    given: Input
    results: Results[StudyAudit]

    def __call__(self, job: Job) -> StudyAudit:
        if not job.images:
            return audit_study(job)  # as fast as reading a kept result
        if job.discovered is not None:
            read = study_key(LoadedStudy(study=job.discovered), self.given)
        else:
            study = job.root / f"{job.part}_images" / job.study_id
            read = files_key(sorted([*study.glob("*"), *study.glob("*/*")]), self.given)
        key = digest_of(read, repr(job.listed), repr(job.points))
        return self.results.fetch(job.name, key, partial(audit_study, job))


def _located(job: Job, issues: Sequence[Issue]) -> tuple[Issue, ...]:
    """The issues with part and study, each one once."""
    return tuple(dict.fromkeys(replace(issue, part=job.part, study_id=job.study_id) for issue in issues))


def _by_series(placed: Sequence[PlacedPoint]) -> dict[str, FloatArray]:
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


def _levels_split(read: StudyRead, placed: Sequence[PlacedPoint]) -> list[Issue]:
    """Several axial series, none of which holds all levels: judged by their points, else by how far they reach."""
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
    return [Issue(code=Code.LEVELS_SPLIT, reason=reason)]


def _reach(series: Series) -> tuple[float, float]:
    """Lowest and highest z of the slices' centres."""
    z = [float(item.plane.center_mm(item.shape)[2]) for item in series.slices]
    return min(z), max(z)


def _facts(job: Job, item: SeriesRead) -> SeriesFacts:
    series = item.series
    middle = series.slices[len(series.slices) // 2]
    encodings = [f.encoding for f in item.files]
    width_mm, height_mm = field_mm(middle)
    return SeriesFacts(
        part=job.part,
        study_id=job.study_id,
        series_id=series.series_id,
        view=series.view,
        files=item.files_found,
        readable=len(item.files),
        shape=middle.shape,
        spacing_mm=middle.plane.spacing_mm,
        field_mm=(height_mm, width_mm),
        gap_mm=series.gap_mm,
        stacks=len(series.stacks),
        agreement=instance_order(series).agreement if item.numbered else 0.0,
        encodings=tuple((e.syntax, e.photometric, e.bits_stored, e.signed) for e in encodings),
        manufacturer=encodings[0].manufacturer,
        field_strength_t=encodings[0].field_strength_t,
        absent=tuple(sorted({tag for encoding in encodings for tag in encoding.absent})),
    )


def check_absent_tags(series: Sequence[SeriesFacts]) -> list[Issue]:
    """Series that lack tags which most others have. A tag that nearly all lack is one issue of the whole data set."""
    lacking = Counter(tag for item in series for tag in item.absent)
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
