"""What a data set holds, in numbers: plain JSON, which `figures` draws and `page` lays out."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.audit.study import PointFacts, SeriesFacts, StudyAudit
from pipelines.audit.tables import Tables
from pipelines.synthetic.grades import prevalence
from shared.data.challenge import MISSING
from shared.labels import FINDINGS, Condition, Finding, Level, Severity, Side, View

Json = dict[str, Any]

# With fewer pairs a correlation is not worth printing.
MIN_PAIRS: Final = 10
_TOP: Final = 12
# The challenge's 1,975 training studies, for comparison.
CHALLENGE_COUNTS: Final = {"studies": 1975, "files": 147_218, "points": 48_692}
# Sagittal T1, sagittal T2, axial T2.
CHALLENGE_SERIES: Final = (1980, 1974, 2340)
CHALLENGE: Final[Mapping[str, str]] = {
    "missing_grades": "572",
    "any_severe_canal": "18.5%",
    "no_severe": "50.4%",
    "foraminal": "76%",
    "subarticular": "74%",
    "unshared": "38%",
    "order_along": "64% of sagittal, 79.5% of axial",
    "order_against": "36% of sagittal, 11.3% of axial",
}
CHALLENGE_AXIAL_SERIES: Final = {1: 1640, 2: 306, 3: 28, 4: 1}
CHALLENGE_POINTS: Final[Mapping[tuple[Condition, Side | None], tuple[tuple[float, ...], tuple[float, ...]]]] = {
    (Condition.CANAL, None): ((0.57, 0.55, 0.53, 0.54, 0.57), (0.30, 0.42, 0.54, 0.65, 0.74)),
    (Condition.FORAMINAL, Side.LEFT): ((0.57, 0.54, 0.52, 0.51, 0.52), (0.28, 0.38, 0.50, 0.61, 0.71)),
    (Condition.FORAMINAL, Side.RIGHT): ((0.57, 0.54, 0.52, 0.51, 0.52), (0.28, 0.38, 0.50, 0.61, 0.71)),
    (Condition.SUBARTICULAR, Side.LEFT): ((0.55,) * 5, (0.52,) * 5),
    (Condition.SUBARTICULAR, Side.RIGHT): ((0.46,) * 5, (0.52,) * 5),
}


def explore(tables: Sequence[Tables], results: Sequence[StudyAudit]) -> Json:
    """All statistics; `tables` is empty for a plain folder."""
    series = [s for r in results for s in r.series]
    points = [p for r in results for p in r.points]
    graded = [t.grades for t in tables if t.grades is not None]
    matrix = [row for grades in graded for row in grades.values()]
    grades = np.stack(matrix) if matrix else np.empty((0, len(FINDINGS)), np.int8)
    return {
        "counts": _counts(tables, results, series),
        "series_per_study": _series_per_study(tables, results),
        "grades": _grades(grades),
        "co_occurrence": _co_occurrence(grades, results),
        "images": {view.slug: _images([s for s in series if s.view is view]) for view in View},
        "headers": _headers(series),
        "order": _order(series),
        "points": _points(points),
    }


def study_count(facts: Mapping[str, Any]) -> int:
    """Number of studies in all parts."""
    return sum(facts["counts"]["studies"].values())


def _counts(tables: Sequence[Tables], results: Sequence[StudyAudit], series: Sequence[SeriesFacts]) -> Json:
    listed = [view for t in tables for rows in t.series.values() for _, view in rows]
    views = Counter(listed) if tables else Counter(s.view for s in series)
    return {
        "studies": {t.part: len(t.study_ids) for t in tables} if tables else {"folder": len(results)},
        "series": {view.slug: views[view] for view in View},
        "series_read": len(series),
        "files": sum(s.files for s in series),
        "files_read": sum(s.readable for s in series),
        "points": sum(len(p) for t in tables for p in t.points.values()),
        "graded_studies": sum(len(t.grades) for t in tables if t.grades is not None),
    }


def _series_per_study(tables: Sequence[Tables], results: Sequence[StudyAudit]) -> Json:
    """View -> number of series in a study -> number of studies."""
    if tables:
        studies = [[view for _, view in rows] for t in tables for rows in t.series.values()]
    else:
        studies = [[s.view for s in r.series] for r in results]
    counts = {view: Counter(Counter(views)[view] for views in studies) for view in View}
    return {view.slug: {str(n): counts[view][n] for n in sorted(counts[view])} for view in View}


def _grades(grades: NDArray[np.int8]) -> Json:
    """Per finding: graded, missing, share of each severity. A missing grade never counts as Normal/Mild."""
    table = {}
    for finding in FINDINGS:
        column = grades[:, finding.index]
        known = column[column != MISSING]
        table[finding.column] = {
            "graded": len(known),
            "missing": int((column == MISSING).sum()),
            "share": [float((known == s).mean()) if len(known) else None for s in Severity],
            "challenge_share": [round(p, 4) for p in prevalence(finding)],
        }
    severe = grades == Severity.SEVERE
    canal = [f.index for f in FINDINGS if f.condition is Condition.CANAL]
    any_grade = (grades != MISSING).any(axis=1)
    return {
        "findings": table,
        "studies_with_missing": int((grades == MISSING).any(axis=1).sum()),
        "missing": int((grades == MISSING).sum()),
        "any_severe_canal": _share(severe[:, canal].any(axis=1)[any_grade]),
        "no_severe": _share(~severe.any(axis=1)[any_grade]),
    }


def _share(values: NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None


def _co_occurrence(grades: NDArray[np.int8], results: Sequence[StudyAudit]) -> Json:
    """Left against right, canal against the worse recess, neighbouring levels, and all pairs of findings."""
    known = pd.DataFrame(np.where(grades == MISSING, np.nan, grades), columns=[f.column for f in FINDINGS])

    def column(condition: Condition, side: Side | None, level: Level) -> "pd.Series[float]":
        return known[Finding(condition=condition, side=side, level=level).column]

    equal = {}
    for condition in (Condition.FORAMINAL, Condition.SUBARTICULAR):
        pairs = pd.concat(
            [pd.DataFrame({"l": column(condition, Side.LEFT, v), "r": column(condition, Side.RIGHT, v)}) for v in Level]
        ).dropna()
        equal[condition.short] = float((pairs["l"] == pairs["r"]).mean()) if len(pairs) else None
    canal = {v: column(Condition.CANAL, None, v) for v in Level}
    worse = {
        v: pd.concat([column(Condition.SUBARTICULAR, s, v) for s in (Side.LEFT, Side.RIGHT)], axis=1).max(axis=1)
        for v in Level
    }
    matrix = known.corr(method="spearman", min_periods=MIN_PAIRS)
    unshared, pairs_total = (sum(r.unshared_pairs[k] for r in results) for k in (0, 1))
    return {
        "left_equals_right": equal,
        "canal_and_worse_subarticular": {v.slug: _spearman(canal[v], worse[v]) for v in Level},
        "canal_neighbours": {
            f"{v.slug}-{Level(v + 1).slug}": _spearman(canal[v], canal[Level(v + 1)]) for v in list(Level)[:-1]
        },
        "spearman": [[None if np.isnan(x) else round(float(x), 3) for x in row] for row in matrix.to_numpy()],
        "subarticular_sides_on_different_slices": unshared / pairs_total if pairs_total else None,
    }


def _spearman(a: "pd.Series[float]", b: "pd.Series[float]") -> float | None:
    both = pd.concat([a, b], axis=1).dropna()
    if len(both) < MIN_PAIRS or both.iloc[:, 0].nunique() < 2 or both.iloc[:, 1].nunique() < 2:
        return None
    return float(both.iloc[:, 0].corr(both.iloc[:, 1], method="spearman"))


def _images(series: Sequence[SeriesFacts]) -> Json:
    """Statistics of one view: sizes, pixel spacings, fields of view, slices per series and gaps between them."""
    sizes = Counter(f"{s.shape[0]} x {s.shape[1]}" for s in series)
    return {
        "series": len(series),
        "sizes": _top(sizes),
        "spacing_mm": _spread(s.spacing_mm[0] for s in series),
        "field_height_mm": _spread(s.field_mm[0] for s in series),
        "field_width_mm": _spread(s.field_mm[1] for s in series),
        "slices": _spread(s.readable for s in series),
        "gap_mm": _spread(s.gap_mm for s in series if s.gap_mm is not None),
        "stacks": _top(Counter(str(s.stacks) for s in series)),
        "values": {
            "spacing_mm": [round(s.spacing_mm[0], 4) for s in series],
            "slices": [s.readable for s in series],
            "gap_mm": [round(s.gap_mm, 3) for s in series if s.gap_mm is not None],
            "field_height_mm": [round(s.field_mm[0], 1) for s in series],
        },
    }


def _spread(values: Iterable[float]) -> Json | None:
    found = np.array(list(values), dtype=float)
    if not len(found):
        return None
    low, median, high = np.percentile(found, [5, 50, 95])
    return {
        "min": float(found.min()), "p5": float(low), "median": float(median), "p95": float(high),
        "max": float(found.max()),
    }  # fmt: skip


def _top(counts: Mapping[str, int]) -> Json:
    """The most frequent values, with all rarer ones in one line."""
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    top = dict(ranked[:_TOP])
    rest = sum(count for _, count in ranked[_TOP:])
    return {**top, f"{len(ranked) - _TOP} others": rest} if rest else top


def _headers(series: Sequence[SeriesFacts]) -> Json:
    files = [encoding for s in series for encoding in s.encodings]
    strengths = Counter("not given" if s.field_strength_t is None else f"{s.field_strength_t:.4g}" for s in series)
    return {
        "transfer_syntax": _top(Counter(f[0] for f in files)),
        "photometric_interpretation": _top(Counter(f[1] or "not given" for f in files)),
        "bits_stored": _top(Counter(f"{f[2] or 'not given'}{', signed' if f[3] else ''}" for f in files)),
        "manufacturer": _top(Counter(s.manufacturer or "not given" for s in series)),
        "field_strength_t": _top(strengths),
        "absent_tags": _top(Counter(tag for s in series for tag in s.absent)),
    }


def _order(series: Sequence[SeriesFacts]) -> Json:
    """How instance numbers run in each view: along the anatomical order, against it, or neither."""
    result = {}
    for view in View:
        agreements = [s.agreement for s in series if s.view is view and s.readable > 1]
        result[view.slug] = {
            "along": sum(a > 0.5 for a in agreements),
            "against": sum(a < -0.5 for a in agreements),
            "neither": sum(abs(a) <= 0.5 for a in agreements),
        }
    return result


def _points(points: Sequence[PointFacts]) -> Json:
    """Relative positions by condition and side: medians per level, and the points themselves for the figure."""
    result: Json = {}
    for condition in Condition:
        for side in condition.sides:
            key = condition.short if side is None else f"{side.value} {condition.short}"
            chosen = {v: [p for p in points if p.finding == _finding(condition, side, v)] for v in Level}
            reference = CHALLENGE_POINTS[condition, side]
            result[key] = {
                v.slug: {
                    "n": len(chosen[v]),
                    "x": [round(p.x, 4) for p in chosen[v]],
                    "y": [round(p.y, 4) for p in chosen[v]],
                    "median": [float(np.median([getattr(p, a) for p in chosen[v]])) for a in "xy"]
                    if chosen[v]
                    else None,
                    "challenge_median": [reference[0][v], reference[1][v]],
                }
                for v in Level
            }
    return result


def _finding(condition: Condition, side: Side | None, level: Level) -> Finding:
    return Finding(condition=condition, side=side, level=level)
