"""The audit's page: issues first, then what the data set holds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pipelines.audit import figures
from pipelines.audit.explore import (
    CHALLENGE,
    CHALLENGE_AXIAL_SERIES,
    CHALLENGE_COUNTS,
    CHALLENGE_SERIES,
    study_count,
)
from pipelines.audit.issues import LEGEND, Category, Code, Issue, count_categories
from shared.figures.report import Report, Tone
from shared.labels import FINDINGS, Condition, Level, View
from shared.runtime.problems import counted

Json = Mapping[str, Any]

MAX_LISTED: Final = 200
_FIRST: Final = 3  # codes that the verdict explains


def write_page(out: Path, issues: Sequence[Issue], facts: dict[str, Any], about: dict[str, Any]) -> Path:
    """Writes report.html and report.json from sorted issues; `about` says what was audited and how."""
    counts = count_categories(issues)
    report = Report(
        "Data audit",
        f"{counted(study_count(facts), 'study')}: "
        + ", ".join(counted(counts[g], g.value) for g in Category)
        + f". {about['scope']}",
        data={
            "schema": "audit-report-1",
            "about": about,
            "findings": {g.value: counts[g] for g in Category},
            "codes": _codes(issues),
            "exploration": _without_values(facts),
        },
    )
    report.verdict(*verdict(issues, study_count(facts)))
    _issues(report, issues)
    _counts(report, facts)
    if any(of["graded"] for of in facts["grades"]["findings"].values()):
        _grades(report, facts)
        _co_occurrence(report, facts["co_occurrence"])
    if facts["counts"]["series_read"]:
        _images(report, facts)
        _headers(report, facts["headers"])
        _order(report, facts["order"])
    if any(level["n"] for of in facts["points"].values() for level in of.values()):
        _points(report, facts["points"])
    return report.save(out)


def verdict(issues: Sequence[Issue], studies: int) -> tuple[list[str], Tone]:
    """Whether the data can be used as they are, and what to look at first."""
    of = {g: [i for i in issues if i.code.category is g] for g in Category}
    errors, warnings = of[Category.ERROR], of[Category.WARNING]
    whole = counted(studies, "study")
    if errors:
        lines = [f"{counted(len(errors), 'error')} {_where(errors, whole)}: correct or leave out what they name."]
    else:
        lines = [f"No errors in {whole}: nothing is known to be wrong or unusable."]
    if warnings:
        lines.append(
            f"{counted(len(warnings), 'warning')} {_where(warnings, whole)}: suspicious or incomplete, look at them."
        )
    first = Counter(i.code for i in errors) or Counter(i.code for i in warnings)
    for code, count in sorted(first.items(), key=lambda item: (-item[1], item[0].slug))[:_FIRST]:
        lines.append(f"{code.slug} ({count:,}): {code.meaning} {code.advice}")
    return lines, "poor" if errors else "open" if warnings else "good"


def _where(issues: Sequence[Issue], whole: str) -> str:
    studies = len({i.study_id for i in issues if i.study_id})
    return f"in {studies:,} of {whole}" if studies else "in the tables"


def _codes(issues: Sequence[Issue]) -> dict[str, Any]:
    counts = Counter(issue.code for issue in issues)
    studies = {code: len({i.study_id for i in issues if i.code is code and i.study_id}) for code in counts}
    return {
        code.slug: {"severity": code.category.value, "findings": counts[code], "studies": studies[code]}
        for code in Code
        if code in counts
    }


def _without_values(facts: Json) -> dict[str, Any]:
    """The statistics without the individual values that only the figures need."""
    images = {view: {k: v for k, v in of.items() if k != "values"} for view, of in facts["images"].items()}
    points = {
        key: {level: {k: v for k, v in of.items() if k not in ("x", "y")} for level, of in levels.items()}
        for key, levels in facts["points"].items()
    }
    return {**facts, "images": images, "points": points}


def _issues(report: Report, issues: Sequence[Issue]) -> None:
    report.heading("Issues")
    report.text(f"{LEGEND} findings.csv lists every issue with its file and what to do.")
    counts = _codes(issues)
    rows = [
        [code.category.value, code.slug, counts[code.slug]["findings"], counts[code.slug]["studies"], code.meaning,
         code.advice]
        for category in Category
        for code in Code
        if code.category is category and code.slug in counts
    ]  # fmt: skip
    if not rows:
        report.text("No issues.")
        return
    report.table(["category", "code", "issues", "studies", "meaning", "what to do"], rows)
    serious = [i for i in issues if i.code.category is not Category.NOTE]
    if not serious:
        return
    more = len(serious) - MAX_LISTED
    report.table(
        ["category", "code", "study", "series", "instance", "reason"],
        [
            [i.code.category.value, i.code.slug, i.study_id or None, i.series_id or None,
             None if i.instance_number is None else str(i.instance_number), i.reason]
            for i in serious[:MAX_LISTED]
        ],
        "Errors and warnings" + (f", the first {MAX_LISTED} of {len(serious):,}" if more > 0 else ""),
    )  # fmt: skip


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}%"


def _counts(report: Report, facts: Json) -> None:
    report.heading("What is there")
    counts = facts["counts"]
    rows: list[list[object]] = [[f"studies, {part}", n, None] for part, n in counts["studies"].items()]
    rows += [[f"series, {view.value}", counts["series"][view.slug], known]
             for view, known in zip(View, CHALLENGE_SERIES, strict=True)]  # fmt: skip
    rows[0][2] = CHALLENGE_COUNTS["studies"] if "train" in counts["studies"] else None
    rows += [["files found", counts["files"], CHALLENGE_COUNTS["files"]], ["files read", counts["files_read"], None]]
    rows += [["points", counts["points"], CHALLENGE_COUNTS["points"]]]
    report.table(["", "here", "challenge, training part"], rows)
    per_study = facts["series_per_study"]
    most = sorted({int(n) for view in View for n in per_study[view.slug]})
    report.table(
        ["series per study", *(view.value for view in View), "challenge, Axial T2"],
        [[str(n), *(per_study[v.slug].get(str(n), 0) for v in View), CHALLENGE_AXIAL_SERIES.get(n)] for n in most],
        "Number of studies by their number of series.",
    )


def _grades(report: Report, facts: Json) -> None:
    report.heading("Grades")
    grades = facts["grades"]
    report.figure(
        figures.prevalence_figure(grades["findings"]),
        "Share of moderate and severe grades. Black lines: the challenge's training part.",
    )
    rows, missing = [], []
    for condition, side in figures.COLUMNS:
        found = [grades["findings"][f.column] for f in FINDINGS if (f.condition, f.side) == (condition, side)]
        title = figures.column_title(condition, side)
        rows.append([title, *(f"{_shares(of['share'])} ({_shares(of['challenge_share'])})" for of in found)])
        missing.append([title, *(of["missing"] for of in found)])
    report.table(
        ["Moderate / Severe in %", *figures.LEVEL_NAMES],
        rows,
        "Of the graded findings. In brackets: the challenge's training part.",
    )
    report.table(["missing grades", *figures.LEVEL_NAMES], missing)
    report.text(
        f"{grades['missing']:,} grades are missing in {grades['studies_with_missing']:,} studies "
        f"(challenge: {CHALLENGE['missing_grades']} in 185). Any severe canal: "
        f"{_percent(grades['any_severe_canal'])} of studies (challenge: {CHALLENGE['any_severe_canal']}); "
        f"no severe grade at all: {_percent(grades['no_severe'])} ({CHALLENGE['no_severe']})."
    )


def _shares(shares: Sequence[float | None]) -> str:
    """Moderate and severe in percent."""
    return " / ".join("–" if p is None else f"{100 * p:.1f}" for p in shares[1:])


def _co_occurrence(report: Report, co: Json) -> None:
    report.heading("Co-occurrence")
    rows: list[list[object]] = [
        [f"left equals right, {c.short}", _percent(co["left_equals_right"][c.short]), CHALLENGE[c.short]]
        for c in (Condition.FORAMINAL, Condition.SUBARTICULAR)
    ]
    for level in Level:
        known = "0.24" if level is Level.L5_S1 else "0.51 to 0.58"
        value = co["canal_and_worse_subarticular"][level.slug]
        rows.append([f"Spearman, canal and worse subarticular, {level.display}", value, known])
    for pair, value in co["canal_neighbours"].items():
        upper, lower = (name.upper().replace("_", "/") for name in pair.split("-"))
        rows.append([f"Spearman, canal {upper} and {lower}", value, "0.18 to 0.45"])
    unshared = _percent(co["subarticular_sides_on_different_slices"])
    rows.append(["left and right subarticular points on different slices", unshared, CHALLENGE["unshared"]])
    report.table(["", "here", "challenge, training part"], rows)
    report.figure(
        figures.correlation_figure(co["spearman"]),
        "Spearman's rank correlation of the grades of every two findings, over the studies in which both are graded. "
        "Grey: too few grades, or all are equal.",
    )


def _images(report: Report, facts: Json) -> None:
    report.heading("Images")
    report.figure(
        figures.image_figure(facts["images"]),
        "Series by number of slices, distance of slices, pixel size and height of the image.",
    )
    rows = []
    for view in View:
        of = facts["images"][view.slug]
        for key, name in figures.IMAGE_MEASURES.items():
            if of[key] is not None:
                whole = key == "slices" or key.startswith("field")
                values = [of[key][k] for k in ("min", "p5", "median", "p95", "max")]
                rows.append([view.value, name, *(round(v) if whole else f"{v:.2f}" for v in values)])
    report.table(["view", "", "min", "5%", "median", "95%", "max"], rows)
    report.table(
        ["view", "rows x columns (series)"],
        [
            [view.value, ", ".join(f"{size} ({n})" for size, n in facts["images"][view.slug]["sizes"].items())]
            for view in View
            if facts["images"][view.slug]["series"]
        ],
        "The most frequent image sizes.",
    )


def _headers(report: Report, headers: Json) -> None:
    report.heading("Headers")
    names = {
        "transfer_syntax": ("transfer syntax", "files"),
        "photometric_interpretation": ("photometric interpretation", "files"),
        "bits_stored": ("bits stored", "files"),
        "manufacturer": ("manufacturer", "series"),
        "field_strength_t": ("field strength (T)", "series"),
        "absent_tags": ("absent tag", "series"),
    }
    report.table(
        ["", "values"],
        [
            [name, ", ".join(f"{value} ({count:,} {unit})" for value, count in headers[key].items())]
            for key, (name, unit) in names.items()
            if headers[key]
        ],
    )


def _order(report: Report, order: Json) -> None:
    report.heading("Instance order")
    report.figure(
        figures.order_figure(order),
        "How instance numbers run. Sagittal series run either way, most axial ones from head to foot: order slices by "
        "position.",
    )
    known = {"along": CHALLENGE["order_along"], "against": CHALLENGE["order_against"]}
    report.table(
        ["instance numbers run", *(view.value for view in View), "challenge, training part"],
        [[name, *(order[v.slug][kind] for v in View), known.get(kind)] for kind, name in figures.ORDERS.items()],
    )


def _points(report: Report, points: Json) -> None:
    report.heading("Points")
    report.figure(
        figures.points_figure(points),
        "Points in shares of the upright image's width and height, y downwards. Crosses: the challenge's medians.",
    )
    report.figure(figures.density_figure(points), "The same points as density.")
    rows = []
    for condition, side in figures.COLUMNS:
        for axis, name in enumerate("xy"):
            cells: list[object] = [f"{figures.column_title(condition, side)}, {name}"]
            for level in Level:
                of = points[figures.point_key(condition, side)][level.slug]
                here = "–" if of["median"] is None else f"{of['median'][axis]:.2f}"
                cells.append(f"{here} ({of['challenge_median'][axis]:.2f})")
            rows.append(cells)
    report.table(["median of", *figures.LEVEL_NAMES], rows, "In brackets: the challenge's training part.")
