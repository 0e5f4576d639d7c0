"""`python -m benchmarks.realism`: real slices beside synthetic ones at one scale and windowing, with simple numbers.

Tells whoever works on the generator, or judges its studies, what still differs. The page holds pixels of the real
studies and is for the eyes of those who may see them.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.realism.image_numbers import FREQUENCIES, measure, spectrum, tissue_signals
from benchmarks.realism.views import DETAIL_MM, Place, Subject, detail_window, places, slice_at, whole_window
from pipelines.synthetic import Preset, SynthOptions, generate
from shared.annotations import annotated_localizations
from shared.data.challenge import Challenge, Part
from shared.data.source import open_parts
from shared.detections import Localization, read_localizations
from shared.dicom.intensity import scale_to_8bit
from shared.dicom.pixels import slice_pixels
from shared.dicom.reader import read_raw_pixels
from shared.figures.grid import Cell, Grid, Row, draw_grid
from shared.figures.report import Report
from shared.figures.tiles import field_mm
from shared.geometry import FloatArray
from shared.labels import Condition, Finding, Level, View
from shared.runtime.errors import InputError, exit_code
from shared.runtime.files import prepare_output
from shared.runtime.progress import log, track
from shared.study import Series, Slice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH_PX: Final = 1600
MAX_PATIENTS: Final = 12
# Slices of a series that numbers are taken from: these fractions of the way through it.
_SAMPLED: Final = (0.35, 0.5, 0.65)
_REAL, _SYNTHETIC = "#d1495b", "#2e86ab"


@dataclass(frozen=True, slots=True, kw_only=True)
class RealismOptions:
    """What stands beside the real studies.

    Attributes:
      patients: synthetic patients, and at most so many real studies.
      localizations: points of real studies that have no annotations; without points their levels are unknown.
    """

    patients: int = 3
    preset: Preset = "full"
    seed: int = 0
    part: Part | None = None
    localizations: Path | None = None


def realism(data: Path, out: Path, options: RealismOptions, *, overwrite: bool = False) -> Path:
    """Writes OUT/report.html and report.json; returns the page's path.

    Raises:
      InputError: when `data` holds no readable study, or OUT is not empty.
    """
    if not 1 <= options.patients <= MAX_PATIENTS:
        raise InputError(f"--patients {options.patients}: expected 1 to {MAX_PATIENTS}, which a page has room for")
    real = _real_subjects(data, options)
    if any(_is_raw_lost(item) for s in real for series in s.study.series for item in series.slices):
        log(
            f"{data}: a prepared store holds no values in the scanner's own units and its DICOM files are gone; the "
            "numbers of these studies are left out"
        )
    prepare_output(out, overwrite=overwrite, inputs=[data, options.localizations])
    with tempfile.TemporaryDirectory() as name:
        log(f"making {options.patients} synthetic patients ({options.preset})")
        made = SynthOptions(studies=options.patients, test_studies=0, preset=options.preset, seed=options.seed)
        generate(Path(name), made)
        synthetic = _synthetic_subjects(Path(name) / "data")
        return _write(out, real, synthetic, options)


def _write(out: Path, real: Sequence[Subject], synthetic: Sequence[Subject], options: RealismOptions) -> Path:
    report = Report(
        "Real beside synthetic",
        f"{len(real)} real and {len(synthetic)} synthetic studies (preset {options.preset}, seed {options.seed}). In "
        "each figure all pictures have the same scale and the project's 8-bit windowing. This page holds pixels of "
        "the real studies: it is not for publication.",
        data={"preset": options.preset, "seed": options.seed, "views": {}},
    )
    for view in track(list(View), "views"):
        subjects = [s for s in (*real, *synthetic) if s.study.of_view(view)]
        if not any(s.real for s in subjects):
            report.heading(view.value)
            report.text("No real series of this view.")
            continue
        report.heading(view.value)
        if not view.is_sagittal and any(not s.canal_mm for s in subjects):
            report.text("Studies without points: slices around the middle of the series, their level unknown.")
        read = lru_cache(maxsize=256)(_pixels_or_none)
        report.image(_pictures(view, subjects, read, whole=True), "Whole slices.")
        detail = _pictures(view, subjects, read, whole=False)
        report.image(detail, f"Details of {DETAIL_MM:.0f} mm.")
        _numbers(report, view, subjects)
    return report.save(out)


def _real_subjects(data: Path, options: RealismOptions) -> list[Subject]:
    given = {} if options.localizations is None else read_localizations(options.localizations)
    found: list[Subject] = []
    for source in open_parts(data, options.part):
        tables = {} if source.challenge is None else source.challenge.points
        for study_id in source.study_ids:
            if len(found) == options.patients:
                return found
            loaded = source.load(study_id)
            study = loaded.study
            for problem in loaded.problems:
                log(problem)
            if study.series:
                points = annotated_localizations(study, tables.get(study_id, ())) or given.get(study_id, {})
                found.append(
                    Subject(name=f"real {len(found) + 1}", real=True, study=study, canal_mm=canal_points(points))
                )
    if not found:
        raise InputError(f"{data}: no study with a readable sagittal T1, sagittal T2 or axial T2 series")
    return found


def _synthetic_subjects(data: Path) -> list[Subject]:
    challenge = Challenge.open(data)
    subjects = []
    for number, study_id in enumerate(challenge.study_ids, start=1):
        study = challenge.load_study(study_id).study
        points = annotated_localizations(study, challenge.points.get(study_id, ()))
        subjects.append(Subject(name=f"synthetic {number}", real=False, study=study, canal_mm=canal_points(points)))
    return subjects


def canal_points(points: dict[Finding, Localization]) -> dict[Level, FloatArray]:  # [3]
    """Patient mm of the canal at each level: its own point, else the middle between a level's other points."""
    found = {}
    for level in Level:
        here = [p for f, p in points.items() if f.level is level]
        canal = [p for p in here if p.finding.condition is Condition.CANAL]
        sides = {p.finding.side for p in here if p.finding.condition is Condition.SUBARTICULAR}
        if canal:
            found[level] = np.asarray(canal[0].point_mm)
        elif len(sides) == 2:
            recesses = [p.point_mm for p in here if p.finding.condition is Condition.SUBARTICULAR]
            found[level] = np.asarray(np.mean(recesses, axis=0))
    return found


def _pictures(
    view: View, subjects: Sequence[Subject], read: Callable[[Slice], NDArray[np.uint8] | None], *, whole: bool
) -> NDArray[np.uint8]:
    """Rows are places in the body, columns the studies."""
    width = _WIDTH_PX // len(subjects)
    if whole:
        fields = np.max([field_mm(s) for x in subjects for s in x.series(view).slices], axis=0)
        scale = width / float(fields[0])
        size = (width, round(float(fields[1]) * scale))
    else:
        scale, size = width / DETAIL_MM, (width, width)
    rows = []
    for place in places(view):
        cells = []
        for subject in subjects:
            item = slice_at(subject, view, place)
            pixels = None if item is None else read(item)
            if item is None or pixels is None:
                cells.append(Cell(picture=None))
                continue
            window = whole_window(item, size, scale) if whole else detail_window(subject, view, item, size, scale)
            unknown = place.level is not None and not subject.canal_mm
            text = f"slice {item.instance_number}" + (", level unknown" if unknown else "")
            cells.append(Cell(picture=window.render(pixels, item.plane), text=text))
        rows.append(Row(heading=place.name, cells=tuple(cells)))
    return draw_grid(Grid(columns=tuple(s.name for s in subjects), rows=tuple(rows), size_px=size, px_per_mm=scale))


def _pixels_or_none(item: Slice) -> NDArray[np.uint8] | None:
    try:
        return slice_pixels(item)
    except InputError as error:
        log(str(error))
        return None


def _is_raw_lost(item: Slice) -> bool:
    return item.stored is not None and not item.path.is_file()


def _raw_or_none(item: Slice) -> NDArray[np.float32] | None:
    if _is_raw_lost(item):
        return None  # said once for all
    try:
        return read_raw_pixels(item.path)
    except InputError as error:
        log(str(error))
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """A few slices of one series, raw and in 8 bit."""

    subject: Subject
    series: Series
    raw: tuple[tuple[Slice, NDArray[np.float32]], ...]


def _sample(subject: Subject, view: View) -> _Sample:
    series = subject.series(view)
    items = [series.slices[int(fraction * (len(series.slices) - 1))] for fraction in _SAMPLED]
    raw = [(item, pixels) for item in dict.fromkeys(items) if (pixels := _raw_or_none(item)) is not None]
    return _Sample(subject=subject, series=series, raw=tuple(raw))


def _numbers(report: Report, view: View, subjects: Sequence[Subject]) -> None:
    """Histogram, spectrum and table of one view."""
    samples = [s for s in (_sample(subject, view) for subject in subjects) if s.raw]
    if not samples:
        report.text("No slice of this view could be read for numbers.")
        return
    records = [_record(s, view) for s in samples]
    names = list(records[0])
    report.table(
        ["", *(s.subject.name for s in samples)],
        [[name.replace("_", " "), *(r[name] for r in records)] for name in names],
        "Scanner's own units, middle of each series; background noise is relative to bright signal (99th percentile).",
    )
    report.data["views"][view.slug] = {s.subject.name: r for s, r in zip(samples, records, strict=True)}
    report.figure(
        _curves(samples), "Left: 8-bit intensities. Right: power by spatial frequency. Each line is one study."
    )


def _record(sample: _Sample, view: View) -> dict[str, Any]:
    series, spacing = sample.series, sample.series.slices[0].plane.spacing_mm
    numbers = measure([(pixels, item.plane.spacing_mm) for item, pixels in sample.raw])
    width, height = field_mm(series.slices[0])
    record: dict[str, Any] = {
        "slices": len(series.slices),
        "matrix": "{} x {}".format(*series.slices[0].shape),
        "spacing_mm": f"{spacing[0]:.3g} x {spacing[1]:.3g}",
        "field_mm": f"{width:.0f} x {height:.0f}",
        "gap_mm": series.gap_mm,
        "background_noise_percent": None if numbers.background_noise is None else 100 * numbers.background_noise,
        "grain_grey_values": numbers.grain,
        "tissue_share": numbers.tissue_share,
        "tissue_p90_to_p50": numbers.bright_to_median,
        "tissue_p50_to_p10": numbers.median_to_dark,
        "fine_detail_share": numbers.fine_power,
    }
    if view.is_sagittal:
        item = slice_at(sample.subject, view, Place(name="midline"))
        pixels = None if item is None else _raw_or_none(item)
        canal = sample.subject.canal_mm
        signals = None if item is None or pixels is None else tissue_signals(pixels, item, canal)
        for name in ("csf_to_marrow", "disc_to_marrow"):
            record[name] = None if signals is None else signals[name]
    return record


def _curves(samples: Sequence[_Sample]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6))
    histogram, power = figure.subplots(1, 2)
    edges = np.linspace(0, 256, 65)
    for sample in samples:
        color = _REAL if sample.subject.real else _SYNTHETIC
        style = {"color": color, "lw": 2.2 if sample.subject.real else 1.3, "label": sample.subject.name}
        images = [(scale_to_8bit(pixels), item.plane.spacing_mm) for item, pixels in sample.raw]
        counts = np.sum([np.histogram(image, edges)[0] for image, _ in images], axis=0)
        histogram.plot(edges[:-1] + 2, counts / counts.sum(), **style)
        curve = np.mean([spectrum(image, spacing) for image, spacing in images], axis=0)
        power.plot(FREQUENCIES, np.where(curve > 0, curve, np.nan), **style)
    histogram.set_yscale("log")
    histogram.set_xlabel("grey value")
    histogram.set_ylabel("share of pixels")
    power.set_yscale("log")
    power.set_xlabel("cycles per mm")
    power.set_ylabel("share of power")
    power.legend(fontsize=8, frameon=False)
    for axes in (histogram, power):
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m benchmarks.realism`; returns the exit code."""
    default = RealismOptions()
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.realism",
        description="Writes OUT/report.html and report.json: real slices beside synthetic ones at one scale, with "
        "simple numbers. The page holds pixels of the studies in DATA.",
    )
    p.add_argument("data", type=Path, metavar="DATA", help="real studies: challenge directory or folder of DICOM files")
    p.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    p.add_argument(
        "--patients", type=int, default=default.patients,
        help="synthetic patients, and most real ones; at most 12 (default %(default)s)",
    )  # fmt: skip
    p.add_argument("--preset", choices=("demo", "full"), default=default.preset, help="default %(default)s")
    p.add_argument("--seed", type=int, default=default.seed, help="default %(default)s")
    p.add_argument("--localizations", type=Path, metavar="CSV", help="points that name the levels of plain DICOM")
    p.add_argument("--part", choices=("train", "test"), help="part of a challenge directory (default: both)")
    p.add_argument("--overwrite", action="store_true", help="empty OUT first if it is not empty")
    a = p.parse_args(argv)
    options = RealismOptions(
        patients=a.patients, preset=a.preset, seed=a.seed, part=a.part, localizations=a.localizations
    )

    def run() -> int:
        sys.stdout.write(f"{realism(a.data, a.out, options, overwrite=a.overwrite)}\n")
        return 0

    return exit_code(run)
