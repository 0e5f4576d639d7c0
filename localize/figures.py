"""Figures of the localizer's report: error distributions, confusion, reliability, example studies and worst cases."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from localize.measures import FindingError
from shared.detections import Detection, Localization
from shared.dicom.pixels import slice_pixels
from shared.geometry import FloatArray
from shared.labels import Finding, Level, View
from shared.runtime.errors import InputError
from shared.study import Series, Slice, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS: Final = ("#e6194b", "#f58231", "#ffe119", "#3cb44b", "#42d4f4")
_SHOWN_SCORE: Final = 0.2
_MOST_BOXES: Final = 10
# Half the side of a worst case's crop: enough to count the discs around it.
_CROP_MM: Final = 55.0
_CASES_PER_ROW: Final = 3

Localized = Mapping[Finding, Localization]


def _axes(rows: int, columns: int, size: tuple[float, float]) -> "tuple[Figure, np.ndarray]":
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    return figure, axes


def distributions(errors: Sequence[FindingError]) -> "Figure":
    """Histograms of in-plane and slice errors by view."""
    figure, axes = _axes(2, 3, (11, 5))
    for column, view in enumerate(View):
        of_view = [e for e in errors if e.finding.view is view]
        in_plane = np.clip([e.in_plane_mm for e in of_view if e.in_plane_mm is not None], 0, 15)
        slices = np.clip([e.slices for e in of_view if e.slices is not None], -5, 5)
        axes[0, column].hist(in_plane, bins=np.arange(0, 15.5, 0.5))
        axes[0, column].set(title=view.value, xlabel="in-plane error, mm", ylabel="findings")
        axes[1, column].hist(slices, bins=np.arange(-5.5, 6.5), rwidth=0.9)
        axes[1, column].set(xlabel="slice error", ylabel="findings")
    return figure


def confusion(counts_by_view: Mapping[str, Sequence[Sequence[int]]]) -> "Figure":
    """Wanted against nearest level, one matrix a view."""
    figure, axes = _axes(1, len(counts_by_view), (3.7 * len(counts_by_view), 3.6))
    names = [level.display for level in Level]
    for ax, (slug, table) in zip(axes[0], counts_by_view.items(), strict=True):
        counts = np.asarray(table)
        ax.imshow(np.log1p(counts), cmap="Blues")
        ax.set(
            xticks=range(5), yticks=range(5), xticklabels=names, yticklabels=names, xlabel="nearest",
            title=View.from_slug(slug).value,
        )  # fmt: skip
        if ax is axes[0, 0]:
            ax.set_ylabel("wanted")
        dark = np.log1p(counts) > np.log1p(counts.max()) * 0.6
        for (row, column), value in np.ndenumerate(counts):
            color = "white" if dark[row, column] else "black"
            ax.text(column, row, str(value), ha="center", va="center", color=color)
    return figure


def reliability_curves(measured: Mapping[str, Any]) -> "Figure":
    """Share right against mean score, before and after calibration; the dots' area is the count."""
    figure, axes = _axes(1, 2, (9, 4.2))
    values = [
        r[key] for stage in ("raw", "calibrated") for r in measured[stage]["bins"] for key in ("mean_score", "right")
    ]
    low = max(0.0, 0.9 * min(values, default=0.0) - 0.05)
    for ax, (name, key) in zip(axes[0], (("before", "raw"), ("after", "calibrated")), strict=True):
        rows, ece = measured[key]["bins"], measured[key]["ece"]
        counts = np.array([r["count"] for r in rows], float)
        x, y = [r["mean_score"] for r in rows], [r["right"] for r in rows]
        ax.plot([low, 1], [low, 1], color="grey", linewidth=1)
        ax.plot(x, y, linewidth=1)
        ax.scatter(x, y, s=15 + 200 * counts / max(counts.sum(), 1.0))
        title = f"{name} calibration" + ("" if ece is None else f", ECE {ece:.3f}")
        ax.set(title=title, xlabel="mean score", ylabel="share right", xlim=(low, 1.03), ylim=(low, 1.03))
        for row, left, top in zip(rows, x, y, strict=True):
            at = (-6, -16) if top > (1 + low) / 2 else (5, 6)
            ax.annotate(f"{row['count']}", (left, top), textcoords="offset points", xytext=at, fontsize=7)
    return figure


def _draw_point(axes: "Axes", point_px: tuple[float, float], level: Level, marker: str) -> None:
    face = "none" if marker == "o" else COLORS[level]
    axes.scatter(*point_px, marker=marker, s=45, facecolors=face, edgecolors=None if marker == "x" else COLORS[level])


def _show(axes: "Axes", item: Slice) -> None:
    """The slice, or a note in its place where it cannot be decoded: a bad file must not cost the report."""
    (rows, columns), (dy, dx) = item.shape, item.plane.spacing_mm
    try:
        axes.imshow(slice_pixels(item), cmap="gray", aspect=dy / dx)
    except InputError:
        axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), aspect=dy / dx)
        axes.text(0.5, 0.5, "cannot be decoded", transform=axes.transAxes, ha="center", va="center")


def study_figure(study: Study, truth: Localized, localized: Localized, detections: Sequence[Detection]) -> "Figure":
    """One slice a view, the one with most true points: boxes with scores, true and localized points."""
    figure, axes = _axes(1, 3, (12, 4.4))
    for ax, view in zip(axes[0], View, strict=True):
        ax.axis("off")
        on_view = [loc for f, loc in truth.items() if f.view is view]
        if not on_view:
            ax.set_title(f"{view.value}: no true point")
            continue
        places = [(loc.series_id, loc.instance_number) for loc in on_view]
        series_id, number = max(sorted(set(places)), key=places.count)
        _, item = _slice_of(study, series_id, number)
        if item is None:
            continue
        _show(ax, item)
        ax.set_title(f"{view.value}, instance {number}")
        _draw_boxes(ax, [d for d in detections if (d.series_id, d.instance_number) == (series_id, number)])
        for marker, points in (("o", truth), ("x", localized)):
            for finding, loc in points.items():
                if (loc.series_id, loc.instance_number) == (series_id, number):
                    _draw_point(ax, (loc.x_px, loc.y_px), finding.level, marker)
    return figure


def _draw_boxes(axes: "Axes", detections: Sequence[Detection]) -> None:
    from matplotlib.patches import Rectangle

    for detection in sorted(detections, key=lambda d: d.score)[-_MOST_BOXES:]:
        left, top, right, bottom = detection.box_xyxy_px
        if detection.score >= _SHOWN_SCORE:
            color = COLORS[detection.level]
            axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=color))
            axes.text(left, top, f"{detection.level.display} {detection.score:.2f}", color=color, fontsize=6)


def _slice_of(study: Study, series_id: str, number: int) -> tuple[Series | None, Slice | None]:
    series = study.get(series_id)
    return series, None if series is None else series.by_instance(number)


WorstCase = tuple[Study, FindingError, Localization, Localization]  # the true, then the localized point


def worst_figure(cases: Sequence[WorstCase]) -> "Figure":
    """Two crops a case: the true slice with both points, and the slice that was chosen."""
    rows = -(-len(cases) // _CASES_PER_ROW)
    figure, axes = _axes(rows, 2 * _CASES_PER_ROW, (13, 2.75 * rows))
    for ax in axes.ravel():
        ax.axis("off")
    pairs = axes.reshape(-1, 2)
    for (left, right), case in zip(pairs, cases, strict=False):
        _draw_case(left, right, case)
    return figure


def _draw_case(left: "Axes", right: "Axes", case: WorstCase) -> None:
    study, error, true, got = case
    points = np.array([true.point_mm, got.point_mm])
    finding = error.finding
    side = "" if finding.side is None else f"{finding.side.value} "
    what = f"{finding.condition.short}, {side}{finding.level.display}"
    left.set_title(f"{study.study_id}\n{what}\ntrue slice {true.instance_number}", fontsize=7)
    right.set_title(
        f"{error.distance_mm:.1f} mm off, {error.slices:+d} slices\n{got.source.value}, score {got.score:.2f}\n"
        f"found slice {got.instance_number}",
        fontsize=7,
    )
    for ax, place in ((left, true), (right, got)):
        _, item = _slice_of(study, place.series_id, place.instance_number)
        if item is not None:
            _show(ax, item)
            _crop(ax, item, points)
            true_px, got_px = item.plane.to_pixel(points)
            ax.plot(*np.transpose([true_px, got_px]), color="white", linewidth=0.8, linestyle=":")
            _draw_point(ax, tuple(true_px), finding.level, "o")
            _draw_point(ax, tuple(got_px), finding.level, "x")


def _crop(axes: "Axes", item: Slice, points_mm: FloatArray) -> None:
    """A square around both points, larger where they are far apart."""
    (x, y), (dy, dx) = item.plane.to_pixel(points_mm).mean(0), item.plane.spacing_mm
    half_mm = max(_CROP_MM, 0.7 * float(np.linalg.norm(points_mm[1] - points_mm[0])))
    axes.set(xlim=(x - half_mm / dx, x + half_mm / dx), ylim=(y + half_mm / dy, y - half_mm / dy))
