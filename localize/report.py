"""`lumbar localize evaluate`: measures a run and writes report.json and report.html with pictures."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from localize.config import LocalizeConfig
from localize.device import resolve_device
from localize.evaluate import FindingError, collect_errors, evaluate, level_confusion
from localize.export import export_view
from localize.predict import KIND, Localizer, chosen_folds, predict_studies, write_predictions
from shared.annotations import annotated_localizations
from shared.challenge import Challenge, Point, read_points
from shared.detections import Detection, Localization, read_detections, read_localizations
from shared.dicom import read_pixels
from shared.errors import InputError
from shared.files import read_json
from shared.labels import Finding, Level, View
from shared.manifest import data_fingerprint, read_run
from shared.progress import log
from shared.report import Report
from shared.splits import read_splits
from shared.study import Slice, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_EXAMPLES = 2
_WORST = 9
_WORST_PER_STUDY = 3
_CROP_MM = 90.0
_COLORS = ("#e6194b", "#f58231", "#ffe119", "#3cb44b", "#42d4f4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a report is made of."""

    data: Challenge
    points: Mapping[str, Sequence[Point]]
    localizations: Mapping[str, Mapping[Finding, Localization]]
    detections: Sequence[Detection]
    maps: Mapping[str, Any]
    how: str


def evaluate_run(
    data_root: Path,
    run: Path,
    out: Path,
    *,
    truth: Path | None = None,
    folds: Sequence[int] | None = None,
    device: str = "auto",
) -> Path:
    """Measures the train part out of fold or, with `truth`, the test part; returns the page's path.

    A study that the train part's folds held out counts whether or not anything was localized in it.

    Raises:
      InputError: when the run is unfinished or belongs to other data, or true points are missing.
    """
    manifest = read_run(run, expected_kind=KIND)
    if truth is None:
        trained = chosen_folds(run, folds)
        maps = {str(k): read_json(run / f"fold{k}" / "metrics.json")["map"] for k in trained}
        data = Challenge.open(data_root)
        if data_fingerprint(data) != manifest["data_fingerprint"]:
            raise InputError(f"{run}: was trained on other data than {data_root}; pass --truth to measure a test part")
        splits = read_splits(run / "splits.json")
        held_out = {s for k in trained for s in splits.held_out(k)}
        localizations = read_localizations(run / "localizations.csv")
        detections = [d for k in trained for d in read_detections(run / f"fold{k}" / "detections.csv")]
        points = {s: p for s, p in data.points.items() if s in held_out}
        how = "Held-out training studies, out of fold"
    else:
        data = Challenge.open(data_root, "test")
        points = dict(read_points(truth / "test_label_coordinates.csv"))
        stray = sorted(set(points) - set(data.study_ids))
        if stray:
            raise InputError(f"{truth}: has points of study {stray[0]}, which is not in the test part of {data_root}")
        localizer = Localizer.load(run, folds=folds, device=device)
        predictions = predict_studies(localizer, data, sorted(points))
        write_predictions(out, predictions)
        localizations, detections = predictions.localizations, list(predictions.detections)
        maps = measure_maps(replace(data, points=points), run, folds=folds, device=device)
        how = "Test studies"
    measured = Measured(
        data=data, points=points, localizations=localizations, detections=detections, maps=maps, how=how
    )
    return write_report(out, measured)


def measure_maps(
    data: Challenge, run: Path, *, folds: Sequence[int] | None = None, device: str = "auto"
) -> dict[str, Any]:
    """mAP of each fold's detectors on the studies of `data` that have true points: fold -> view -> measures.

    A view without any true point is left out.
    """
    from localize.yolo import measure_map

    config = LocalizeConfig.load(run / "config.toml")
    place = resolve_device(device)
    maps: dict[str, Any] = {str(k): {} for k in chosen_folds(run, folds)}
    with tempfile.TemporaryDirectory(prefix="lumbar-map-") as scratch:
        for view in View:
            folder = Path(scratch) / view.slug
            try:
                export_view(data, view, folder, config, train=(), val=sorted(data.points))
            except InputError as error:
                log(f"no mAP for {view.value}: {error}")
                continue
            for fold in maps:
                weights = run / f"fold{fold}" / f"{view.slug}.pt"
                if weights.is_file():
                    maps[fold][view.slug] = measure_map(weights, folder / "data.yaml", config.of_view(view), place)
    return maps


def write_report(folder: Path, measured: Measured) -> Path:
    """Writes report.json and report.html; returns the page's path."""
    errors = collect_errors(measured.data, measured.points, measured.localizations)
    measures = evaluate(errors)
    overall = measures["overall"]
    summary = f"{measured.how}: {overall['expected']} findings with a true point in {measures['studies']} studies."
    if overall["expected"]:
        summary += f" {overall['within_8_mm']:.1%} are localized within 8 mm in 3-D."
    report = Report(title="Localizer", summary=summary, data={**measures, "map": measured.maps})
    _tables(report, measures, measured.maps)
    report.heading("Errors")
    report.figure(
        _distributions(errors), "In-plane error and slice error by view; the last bar holds everything beyond."
    )
    report.figure(_confusion(errors), "Wanted level against the level whose true point is nearest.")
    report.figure(_reliability(measures["reliability"]), "Share within 8 mm against the localizer's own score.")
    report.heading("Examples")
    for study_id in sorted(measured.points)[:_EXAMPLES]:
        report.figure(
            _study_figure(measured, study_id),
            f"Study {study_id}: boxes with their scores, true points (circles) and localized points (crosses).",
        )
    worst = _worst_figure(measured, errors)
    if worst is not None:
        report.heading("Worst cases")
        report.figure(
            worst, "The largest distances: true point (circle) and localized point (cross) on the true slice."
        )
    return report.save(folder)


def _tables(report: Report, measures: Mapping[str, Any], maps: Mapping[str, Any]) -> None:
    columns = {
        "findings": "expected", "within 5 mm": "within_5_mm", "8 mm": "within_8_mm", "10 mm": "within_10_mm",
        "in-plane median, mm": "in_plane_median_mm", "95%": "in_plane_p95_mm", "slice exact": "slice_exact",
        "or next": "slice_exact_or_next", "one level off": "level_off_by_one", "wrong side": "wrong_side",
    }  # fmt: skip
    report.heading("Coverage and errors")
    rows = [("all", measures["overall"]), *((View.from_slug(v).value, m) for v, m in measures["by_view"].items())]
    report.table(["view", *columns], [[name, *(m[c] for c in columns.values())] for name, m in rows])
    levels = [(Level[k.upper()].display, m) for k, m in measures["by_level"].items()]
    report.table(["level", *columns], [[name, *(m[c] for c in columns.values())] for name, m in levels])
    report.heading("Detectors")
    report.table(
        ["fold", "view", "mAP50", "mAP50-95"],
        [[fold, view, m["map50"], m["map50_95"]] for fold, views in maps.items() for view, m in views.items()],
        caption="On the held-out slices that the training would have used; mean over the levels.",
    )


def _axes(rows: int, columns: int, size: tuple[float, float]) -> "tuple[Figure, np.ndarray]":
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    return figure, axes


def _distributions(errors: Sequence[FindingError]) -> "Figure":
    figure, axes = _axes(2, 3, (11, 5))
    for column, view in enumerate(View):
        of_view = [e for e in errors if e.finding.view is view]
        in_plane = np.clip([e.in_plane_mm for e in of_view if e.in_plane_mm is not None], 0, 15)
        slices = np.clip([e.slices for e in of_view if e.slices is not None], -5, 5)
        axes[0, column].hist(in_plane, bins=np.arange(0, 15.5, 0.5))
        axes[0, column].set(title=view.value, xlabel="in-plane error, mm", ylabel="findings")
        axes[1, column].hist(slices, bins=np.arange(-5.5, 6.5))
        axes[1, column].set(xlabel="slice error", ylabel="findings")
    return figure


def _confusion(errors: Sequence[FindingError]) -> "Figure":
    figure, axes = _axes(1, 1, (4.5, 4))
    counts = level_confusion(errors)
    axes[0, 0].imshow(np.log1p(counts), cmap="Blues")
    names = [level.display for level in Level]
    axes[0, 0].set(
        xticks=range(5), yticks=range(5), xticklabels=names, yticklabels=names, xlabel="nearest", ylabel="wanted"
    )
    dark = counts > counts.max() / 3
    for (row, column), value in np.ndenumerate(counts):
        axes[0, 0].text(
            column, row, str(value), ha="center", va="center", color="white" if dark[row, column] else "black"
        )
    return figure


def _reliability(rows: Sequence[Mapping[str, Any]]) -> "Figure":
    figure, axes = _axes(1, 1, (4.5, 4))
    axes[0, 0].plot([0, 1], [0, 1], color="grey", linewidth=1)
    axes[0, 0].plot([r["mean_score"] for r in rows], [r["within_8_mm"] for r in rows], marker="o")
    for row in rows:
        axes[0, 0].annotate(
            str(row["count"]), (row["mean_score"], row["within_8_mm"]), textcoords="offset points", xytext=(4, -10)
        )
    axes[0, 0].set(xlabel="mean score", ylabel="share within 8 mm", xlim=(0, 1.03), ylim=(0, 1.03))
    return figure


def _draw_point(axes: "Axes", point_px: tuple[float, float], level: Level, marker: str) -> None:
    face = "none" if marker == "o" else _COLORS[level]
    axes.scatter(*point_px, marker=marker, s=45, facecolors=face, edgecolors=None if marker == "x" else _COLORS[level])


def _show(axes: "Axes", item: Slice) -> None:
    """The slice, or a note in its place where it cannot be decoded: a bad file must not cost the report."""
    (rows, columns), (dy, dx) = item.shape, item.plane.spacing_mm
    try:
        axes.imshow(read_pixels(item.path), cmap="gray", aspect=dy / dx)
    except InputError:
        axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), aspect=dy / dx)
        axes.text(0.5, 0.5, "cannot be decoded", transform=axes.transAxes, ha="center", va="center")


def _study_figure(measured: Measured, study_id: str) -> "Figure":
    """One slice a view: the one with most true points."""
    from matplotlib.patches import Rectangle

    study = measured.data.load_study(study_id).study
    truth = annotated_localizations(study, measured.points[study_id])
    localized = measured.localizations.get(study_id, {})
    figure, axes = _axes(1, 3, (12, 4.4))
    for ax, view in zip(axes[0], View, strict=True):
        ax.axis("off")
        on_view = [loc for f, loc in truth.items() if f.view is view]
        if not on_view:
            ax.set_title(f"{view.value}: no true point")
            continue
        places = [(loc.series_id, loc.instance_number) for loc in on_view]
        series_id, number = max(sorted(set(places)), key=places.count)
        series = study.get(series_id)
        item = series.by_instance(number) if series else None
        if item is None:
            continue
        _show(ax, item)
        ax.set_title(f"{view.value}, instance {number}")
        here = [
            d
            for d in measured.detections
            if (d.study_id, d.series_id, d.instance_number) == (study_id, series_id, number)
        ]
        for detection in sorted(here, key=lambda d: d.score)[-10:]:
            left, top, right, bottom = detection.box_xyxy_px
            if detection.score >= 0.2:
                color = _COLORS[detection.level]
                ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=color))
                ax.text(left, top, f"{detection.level.display} {detection.score:.2f}", color=color, fontsize=6)
        for marker, points in (("o", truth), ("x", localized)):
            for finding, loc in points.items():
                if (loc.series_id, loc.instance_number) == (series_id, number):
                    _draw_point(ax, (loc.x_px, loc.y_px), finding.level, marker)
    return figure


def _worst_figure(measured: Measured, errors: Sequence[FindingError]) -> "Figure | None":
    far: list[FindingError] = []
    for error in sorted((e for e in errors if e.distance_mm is not None), key=lambda e: -(e.distance_mm or 0.0)):
        # One misread study must not fill the page.
        if len(far) < _WORST and sum(e.study_id == error.study_id for e in far) < _WORST_PER_STUDY:
            far.append(error)
    if not far:
        return None
    figure, axes = _axes(3, 3, (9, 9.6))
    for ax in axes.ravel():
        ax.axis("off")
    for ax, error in zip(axes.ravel(), far, strict=False):
        study = measured.data.load_study(error.study_id).study
        _draw_worst(ax, study, error, measured)
    return figure


def _draw_worst(axes: "Axes", study: Study, error: FindingError, measured: Measured) -> None:
    true = annotated_localizations(study, measured.points[error.study_id])[error.finding]
    series = study.get(true.series_id)
    item = series.by_instance(true.instance_number) if series else None
    if item is None:
        return
    got = measured.localizations[error.study_id][error.finding]
    dy, dx = item.plane.spacing_mm
    _show(axes, item)
    axes.set(
        xlim=(true.x_px - _CROP_MM / dx, true.x_px + _CROP_MM / dx),
        ylim=(true.y_px + _CROP_MM / dy, true.y_px - _CROP_MM / dy),
    )
    _draw_point(axes, (true.x_px, true.y_px), error.finding.level, "o")
    x, y = item.plane.to_pixel(np.array(got.point_mm))
    _draw_point(axes, (float(x), float(y)), error.finding.level, "x")
    axes.set_title(
        f"{error.study_id}\n{error.finding.condition_display} {error.finding.level.display}\n"
        f"{error.distance_mm:.1f} mm, {error.slices:+d} slices, {got.source.value}",
        fontsize=7,
    )  # fmt: skip
