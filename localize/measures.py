"""Measures of how far localizations are from true points, as JSON-ready dictionaries.

Errors are in patient mm. The distance is 3-D, so a point on the next slice is at least a slice gap away. The in-plane
error is measured in the plane of the annotated slice, the slice error in slices of the annotated series.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field

from localize.calibrate import cross_fitted, reliability
from shared.annotations import annotated_localizations
from shared.data.challenge import Challenge
from shared.detections import Localization, Localizations, Source
from shared.geometry import FloatArray
from shared.jitter import Jitter
from shared.labels import Condition, Finding, Level, View
from shared.metric import interval
from shared.numbering import CERTAIN, Numbering
from shared.runtime.documents import Document, OpenDocument, read_document
from shared.runtime.run_folder import RunScore
from shared.study import Series, Study

RADII_MM: Final = (5.0, 8.0, 10.0)
RIGHT_MM: Final = 8.0
_AGAIN: Final = "restore the file or train the fold again"
REFITTED: Final = "refitted without each study; the written scores were calibrated on these same studies"
# Beyond this a localization is lost rather than inexact, and tells nothing about the usual error.
_LOST_MM: Final = 20.0
_RESAMPLES: Final = 2000


class _LevelPrecision(Document):
    map50: Annotated[float, Field(ge=0, le=1)] | None
    map50_95: Annotated[float, Field(ge=0, le=1)] | None


class _Precision(_LevelPrecision):
    """The mAP of one detector, as `localize.detector.yolo.measure_map` gives it."""

    levels: dict[str, _LevelPrecision]


class _Metrics(OpenDocument):
    map: dict[str, _Precision]


def read_map(path: Path) -> dict[str, Any]:
    """Reads the mAP of one detector; raises `InputError` for a file that holds none."""
    return read_document(path, _Precision, advice=_AGAIN).model_dump()


def read_maps(path: Path) -> dict[str, Any]:
    """Reads the mAP of a fold's detectors by view from its metrics.json; raises `InputError` where there is none."""
    return {slug: found.model_dump() for slug, found in read_document(path, _Metrics, advice=_AGAIN).map.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingError:
    """The error of one expected finding: one with a true point on a series that is there.

    Attributes:
      distance_mm: 3-D distance; None, like all that follows, when the finding was not localized.
      in_plane_mm: distance in the true slice's plane.
      slices: localized minus true position in the true series, in its order.
      nearest_level: level whose true point of the same condition and side is nearest.
      wrong_side: whether the other side's true point of the same level is closer.
      score, raw_score: after and before calibration.
    """

    study_id: str
    finding: Finding
    distance_mm: float | None = None
    in_plane_mm: float | None = None
    slices: int | None = None
    nearest_level: Level | None = None
    wrong_side: bool = False
    source: Source | None = None
    score: float | None = None
    raw_score: float | None = None

    @property
    def found(self) -> bool:
        """Whether the finding was localized."""
        return self.distance_mm is not None

    @property
    def right(self) -> bool:
        """Whether it is within 8 mm and nearest to the expected level; a score is the probability of this."""
        return (
            self.distance_mm is not None and self.distance_mm <= RIGHT_MM and self.nearest_level is self.finding.level
        )


def run_score(errors: Sequence[FindingError]) -> RunScore | None:
    """What a training records of its out-of-fold points: the share of findings that is right; None without any."""
    studies = sorted({error.study_id for error in errors})
    if not studies:
        return None
    place = np.searchsorted(studies, [error.study_id for error in errors])
    right = np.bincount(place, [error.right for error in errors], minlength=len(studies))
    expected = np.bincount(place, minlength=len(studies))
    draws = np.random.default_rng(0).multinomial(len(studies), np.full(len(studies), 1 / len(studies)), size=_RESAMPLES)
    bounds = interval((draws @ right) / (draws @ expected))
    return RunScore(
        of=f"share of points within {RIGHT_MM:g} mm and on the right level, out of fold", lower_is_better=False,
        value=float(right.sum() / expected.sum()), low=bounds.low, high=bounds.high, studies=len(studies),
    )  # fmt: skip


def study_errors(
    study: Study, truth: Mapping[Finding, Localization], localized: Mapping[Finding, Localization]
) -> list[FindingError]:
    """Errors of every expected finding of one study."""
    return [
        _error(study, finding, truth, localized[finding])
        if finding in localized
        else FindingError(study_id=study.study_id, finding=finding)
        for finding in sorted(truth, key=lambda f: f.index)
    ]


def _error(study: Study, finding: Finding, truth: Mapping[Finding, Localization], got: Localization) -> FindingError:
    true = truth[finding]
    series = study.get(true.series_id)
    item = series.by_instance(true.instance_number) if series else None
    if series is None or item is None:
        raise ValueError(f"study {study.study_id}: the true point of {finding.column} is on no slice")
    point, true_point = np.array(got.point_mm), np.array(true.point_mm)
    off_px = item.plane.to_pixel(point) - [true.x_px, true.y_px]
    off_mm = off_px * np.array(item.plane.spacing_mm)[::-1]
    alike = {f: loc for f, loc in truth.items() if (f.condition, f.side) == (finding.condition, finding.side)}
    peers = {f.level: np.array(loc.point_mm) for f, loc in alike.items()}
    other = None
    if finding.side is not None:
        other = truth.get(Finding(condition=finding.condition, side=finding.side.opposite, level=finding.level))
    distance = float(np.linalg.norm(point - true_point))
    return FindingError(
        study_id=study.study_id, finding=finding, distance_mm=distance, in_plane_mm=float(np.hypot(*off_mm)),
        slices=_slice_error(series.slices.index(item), series, got),
        nearest_level=min(peers, key=lambda level: float(np.linalg.norm(peers[level] - point))),
        wrong_side=other is not None and float(np.linalg.norm(np.array(other.point_mm) - point)) < distance,
        source=got.source, score=got.score, raw_score=got.score if got.raw_score is None else got.raw_score,
    )  # fmt: skip


def _slice_error(true_index: int, series: Series, got: Localization) -> int:
    """By slice in the same series, otherwise by the plane nearest to the localized point."""
    if got.series_id == series.series_id:
        item = series.by_instance(got.instance_number)
        if item is not None:
            return series.slices.index(item) - true_index
    distances = [abs(float(s.plane.distance_mm(np.array(got.point_mm)))) for s in series.slices]
    return int(np.argmin(distances)) - true_index


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorCollection:
    """Errors of many studies, and the views of which each study has a series."""

    errors: list[FindingError]
    views: dict[str, frozenset[View]]


def collect(data: Challenge, localizations: Localizations) -> ErrorCollection:
    """Compares all studies of `data` that have points; a finding without a localization counts as not found."""
    errors: list[FindingError] = []
    views = {}
    for study_id in sorted(data.points):
        study = data.load_study(study_id).study
        views[study_id] = frozenset(series.view for series in study.series)
        truth = annotated_localizations(study, data.points[study_id])
        errors.extend(study_errors(study, truth, localizations.get(study_id, {})))
    return ErrorCollection(errors=errors, views=views)


def evaluate(errors: Sequence[FindingError], *, own_calibration: bool = False) -> dict[str, Any]:
    """Computes all measures, overall and by view, level, condition and source.

    Args:
      own_calibration: whether the scores were calibrated on these same studies. Their reliability after calibration is
        then that of calibrations refitted without each study.
    """
    of_view = {view: [e for e in errors if e.finding.view is view] for view in View}

    def by_level(members: Sequence[FindingError]) -> dict[str, Any]:
        return {level.slug: measures_of([e for e in members if e.finding.level is level]) for level in Level}

    found = [e for e in errors if e.score is not None and e.raw_score is not None]
    right, raw = [e.right for e in found], [e.raw_score for e in found if e.raw_score is not None]
    scores = [e.score for e in found if e.score is not None]
    if own_calibration:
        scores = cross_fitted(raw, right, [e.study_id for e in found]).tolist()
    return {
        "distance": "3-D, in patient mm",
        "studies": len({e.study_id for e in errors}),
        "overall": measures_of(errors),
        "by_view": {view.slug: measures_of(members) for view, members in of_view.items()},
        "by_level": by_level(errors),
        "by_condition_and_level": {c.short: by_level(of_view[c.view]) for c in Condition},
        "level_confusion": level_confusion(errors).tolist(),
        "level_confusion_by_view": {v.slug: level_confusion(members).tolist() for v, members in of_view.items()},
        "by_source": {
            s.value: measures_of([e for e in errors if e.source is s]) for s in Source if s is not Source.ANNOTATED
        },
        "reliability": {
            "target": "within 8 mm and nearest to the right level",
            "calibration": REFITTED if own_calibration else "fitted on other studies",
            "raw": reliability(raw, right),
            "calibrated": reliability(scores, right),
        },
    }


def by_study_group(errors: Sequence[FindingError], groups: Mapping[str, Collection[str]]) -> dict[str, dict[str, Any]]:
    """Computes the measures of each named group of studies."""
    return {
        name: {"studies": len(members), **measures_of([e for e in errors if e.study_id in members])}
        for name, members in groups.items()
    }


def missing_series_groups(views: Mapping[str, frozenset[View]]) -> dict[str, set[str]]:
    """Groups studies by the view that they lack; `none` are the complete ones.

    A finding without its series has no true point, so the measures of a group are about the remaining series.
    """
    groups = {view.slug: {s for s, there in views.items() if view not in there} for view in View}
    complete = {s for s, there in views.items() if len(there) == len(View)}
    return {"none": complete, **{name: members for name, members in groups.items() if members}}


def trap_groups(studies: Collection[str], traps: Mapping[str, Collection[str]]) -> dict[str, set[str]]:
    """Groups the given studies by trap, those without one first; a trap that none of them carries is left out."""
    clean = set(studies) - {s for members in traps.values() for s in members}
    groups = {"none": clean, **{name: set(studies) & set(traps[name]) for name in sorted(traps)}}
    return {name: members for name, members in groups.items() if members or name == "none"}


def shifted_studies(errors: Sequence[FindingError]) -> dict[str, int]:
    """Finds the studies in which more than half of the localized points are one level off in the same direction.

    Returns:
      Study -> -1 when the true levels are one disc higher than the points, +1 when they are one disc lower.
    """
    steps: dict[str, list[int]] = {}
    for e in errors:
        if e.nearest_level is not None:
            # The localized point of `finding.level` is nearest to the true point of `nearest_level`.
            steps.setdefault(e.study_id, []).append(e.finding.level - e.nearest_level)
    return {
        study_id: sign
        for study_id, found in steps.items()
        for sign in (-1, 1)
        if sum(step == sign for step in found) > len(found) / 2
    }


_SHIFT_NAMES: Final = {0: "as named", -1: "one higher", 1: "one lower"}


def numbering_measures(errors: Sequence[FindingError], numbering: Mapping[str, Numbering]) -> dict[str, Any]:
    """Compares the studies whose numbering is uncertain with those whose numbering is wrong."""
    shifted = shifted_studies(errors)
    known = {e.study_id for e in errors} & set(numbering)
    uncertain = {s for s in known if not numbering[s].certain}
    listed = sorted(uncertain | (set(shifted) & known), key=lambda s: (numbering[s].as_named, s))
    wrong = {e.study_id for e in errors if e.nearest_level not in (None, e.finding.level)}
    return {
        "certain_from": CERTAIN,
        "by_certainty": {
            name: {"studies": len(members), "all_levels_right": len(members - wrong)}
            for name, members in (("certain", known - uncertain), ("uncertain", uncertain))
        },
        "studies": len(known),
        "uncertain": len(uncertain),
        "shifted": len(set(shifted) & known),
        "shifted_and_uncertain": len(set(shifted) & uncertain),
        "listed": [
            {"study_id": s, "true_levels": _SHIFT_NAMES[shifted.get(s, 0)], **numbering[s].to_json()} for s in listed
        ],
    }


def measures_of(errors: Sequence[FindingError]) -> dict[str, Any]:
    """Computes coverage, distances and mistaken levels and sides; None where there is nothing to compute from."""
    found = [e for e in errors if e.found]
    distance = np.array([e.distance_mm for e in found], np.float64)
    in_plane = np.array([e.in_plane_mm for e in found], np.float64)
    slices = np.array([e.slices for e in found], np.int64)
    steps = np.array([abs(e.nearest_level - e.finding.level) for e in found if e.nearest_level is not None], np.int64)
    expected = len(errors)

    def share(count: int) -> float | None:
        return count / expected if expected else None

    def quantile(values: FloatArray, q: float) -> float | None:
        return float(np.quantile(values, q)) if len(values) else None

    return {
        "expected": expected,
        "found": len(found),
        **{f"within_{int(r)}_mm": share(int((distance <= r).sum())) for r in RADII_MM},
        "in_plane_median_mm": quantile(in_plane, 0.5),
        "in_plane_p95_mm": quantile(in_plane, 0.95),
        "slice_exact": share(int((slices == 0).sum())),
        "slice_exact_or_next": share(int((np.abs(slices) <= 1).sum())),
        "level_off_by_one": share(int((steps == 1).sum())),
        "level_off_by_more": share(int((steps >= 2).sum())),
        "wrong_side": sum(e.wrong_side for e in found),
    }


def level_confusion(errors: Iterable[FindingError]) -> np.ndarray:  # [5, 5]
    """Counts findings by expected level (row) and the level whose true point is nearest (column)."""
    counts = np.zeros((len(Level), len(Level)), np.int64)
    for error in errors:
        if error.nearest_level is not None:
            counts[error.finding.level, error.nearest_level] += 1
    return counts


def measure_jitter(errors: Sequence[FindingError]) -> dict[Condition, Jitter]:
    """Measures the usual error of each condition, which stage 2 trains on; lost points are left out."""
    result = {}
    for condition in Condition:
        of_condition = [e for e in errors if e.finding.condition is condition]
        usual = [e for e in of_condition if e.distance_mm is not None and e.distance_mm <= _LOST_MM]
        if not usual:
            continue
        median = float(np.median([e.in_plane_mm for e in usual if e.in_plane_mm is not None]))
        offsets, counts = np.unique([e.slices for e in usual if e.slices is not None], return_counts=True)
        # The median distance of a two-dimensional normal error is 1.1774 standard deviations.
        result[condition] = Jitter(
            in_plane_sd_mm=median / 1.1774,
            slice_offsets={int(o): int(c) / int(counts.sum()) for o, c in zip(offsets, counts, strict=True)},
        )
    return result
