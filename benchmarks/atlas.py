"""Pictures of the synthetic studies for docs/synthetic.md: the views of one study, and every condition at every grade.

    make pictures                                   # into docs/images
    python -m benchmarks.atlas FOLDER [--studies N] [--preset full|demo] [--seed N]

The same arguments write the same bytes. Only the generator's files are used, so the pictures follow it when it changes.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classify.crops import CropSpec, canonical_axes, resample
from pipelines.synthetic import Preset, SynthOptions, generate
from pipelines.synthetic.grades import THRESHOLDS
from shared.annotations import annotated_localizations
from shared.data.challenge import Challenge
from shared.detections import Localization
from shared.dicom.pixels import slice_pixels
from shared.figures.grid import Cell, Grid, Row, draw_grid, padded
from shared.figures.marks import SEVERITY_COLORS, LegendEntry, Marks, point_marks
from shared.figures.page import png_bytes
from shared.figures.sheet import Section, Sheet, Tile, draw_sheet
from shared.figures.tiles import Window, image_left
from shared.labels import Condition, Finding, Level, Severity, Side, View
from shared.runtime.documents import read_json
from shared.runtime.errors import InputError, exit_code
from shared.runtime.files import written_beside
from shared.runtime.tables import read_csv
from shared.study import Series, Slice, Study

MAX_BYTES: Final = 400_000
_VIEW_MM: Final = 200.0
_CROP_MM: Final = {Condition.CANAL: 60.0, Condition.FORAMINAL: 56.0, Condition.SUBARTICULAR: 60.0}
_CROP_PX: Final = {Condition.CANAL: 140, Condition.FORAMINAL: 190, Condition.SUBARTICULAR: 190}
_PATIENTS: Final = {Condition.CANAL: 5, Condition.FORAMINAL: 6, Condition.SUBARTICULAR: 6}
# Grey steps tried until a picture is small enough; the noise of a scan does not compress.
_STEPS: Final = (1, 2, 4, 6, 8, 12, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class AtlasOptions:
    """Which studies are drawn from; severe grades are rare, so a few dozen are needed to fill every row."""

    studies: int = 48
    preset: Preset = "full"
    seed: int = 11
    workers: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Example:
    """A finding whose recorded grade is also the grade of its latent stenosis."""

    study_id: str
    finding: Finding
    latent: float


def write_atlas(folder: Path, options: AtlasOptions) -> list[Path]:
    """Writes synthetic_views.png and synthetic_{canal,foraminal,subarticular}.png; returns their paths.

    Raises:
      InputError: when no study has all views, or a picture cannot be made small enough to be committed.
    """
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        made = SynthOptions(studies=options.studies, test_studies=0, preset=options.preset, seed=options.seed)
        generate(root, made, workers=options.workers)
        library = _Library(root)
        paths = [_save(library.views(), folder / "synthetic_views.png")]
        paths += [_save(library.grades(c), folder / f"synthetic_{c.short}.png") for c in Condition]
    return paths


class _Library:
    """Generated studies with their truth; headers of each study are read once."""

    def __init__(self, root: Path) -> None:
        self._data = Challenge.open(root / "data")
        self._latent = _read_latents(root / "truth" / "latents.csv")
        summaries = read_json(root / "truth" / "manifest.json")["summaries"]
        self._stir = {s["study_id"] for s in summaries if s["fluid_weighting"] == "STIR"}
        self._studies: dict[str, tuple[Study, dict[Finding, Localization]]] = {}

    def _study(self, study_id: str) -> tuple[Study, dict[Finding, Localization]]:
        if study_id not in self._studies:
            study = self._data.load_study(study_id).study
            points = annotated_localizations(study, self._data.points.get(study_id, ()))
            self._studies[study_id] = study, points
        return self._studies[study_id]

    def views(self) -> NDArray[np.uint8]:
        """The three views of the T2 study with the straightest spine, its points in the colours of their grades."""
        study_id = self._straightest()
        study, points = self._study(study_id)
        marks = Marks(points=self._data.points[study_id], grades=self._data.grades_of([study_id])[0])
        chosen = [
            _busiest(study, points, Condition.CANAL, None),
            _busiest(study, points, Condition.FORAMINAL, Side.RIGHT),
            _busiest(study, points, Condition.SUBARTICULAR, Side.LEFT, Level.L4_L5),
        ]
        size = 480
        middle_mm = np.mean([p.point_mm for p in points.values() if p.finding.level is Level.L3_L4], axis=0)
        tiles = []
        for series, item in chosen:
            x, y = (float(v) for v in item.plane.to_pixel(middle_mm))
            if not series.view.is_sagittal:
                x, y = (item.shape[1] - 1) / 2, (item.shape[0] - 1) / 2
            window = Window(center_px=(x, y), size_px=(size, size), px_per_mm=size / _VIEW_MM)
            tile = Tile(
                item=item, window=window, title=series.view.value, note="", side="", edge=image_left(item.plane),
                points=point_marks(series, item, marks),
            )  # fmt: skip
            tiles.append(tile)
        section = Section(
            title="Midline, right foramina, disc L4/L5", detail="one scale; rings: the points a reader marks, coloured "
            "by the recorded grade", tiles=tuple(tiles), columns=len(tiles),
        )  # fmt: skip
        legend = tuple(LegendEntry(kind="ring", color=c, label=s.display) for s, c in SEVERITY_COLORS.items())
        subtitle = "No patient: drawn by pipelines/synthetic."
        return draw_sheet(
            Sheet(title="A synthetic study", subtitle=subtitle, sections=(section,), legend=legend), slice_pixels
        )[0]

    def _straightest(self) -> str:
        spread: dict[str, float] = {}
        for study_id in self._data.study_ids:
            study, points = self._study(study_id)
            canal = [p.point_mm[0] for f, p in points.items() if f.condition is Condition.CANAL]
            complete = {f.condition for f in points} == set(Condition) and len(canal) == len(Level)
            if complete and all(study.of_view(view) for view in View):
                spread[study_id] = float(np.ptp(canal))
        if not spread:
            raise InputError(f"none of {len(self._data.study_ids)} studies has all three views with points; make more")
        return min(spread, key=lambda s: (s in self._stir, spread[s], s))

    def grades(self, condition: Condition) -> NDArray[np.uint8]:
        """Rows are grades, columns patients by rising stenosis; the canal's axial slice stands beside it."""
        width = 2 if condition is Condition.CANAL else 1
        count, size = _PATIENTS[condition], _CROP_PX[condition]
        rows = []
        for grade in Severity:
            cells: list[Cell] = []
            for example in self._examples(condition, grade, count):
                cells += self._cells(example, condition)
            heading = f"{condition.display}: {grade.display}"
            rows.append(Row(heading=heading, cells=padded(cells, width * count), color=SEVERITY_COLORS[grade]))
        grid = Grid(
            columns=("",) * (width * count), rows=tuple(rows), size_px=(size, size),
            px_per_mm=size / _CROP_MM[condition], rule_every=width if width > 1 else 0,
        )  # fmt: skip
        return draw_grid(grid)

    def _examples(self, condition: Condition, grade: Severity, count: int) -> list[_Example]:
        """Findings of different patients, spread over the grade's range of latents."""
        grades = self._data.grades_of(self._data.study_ids)
        candidates = []
        for row, study_id in zip(grades, self._data.study_ids, strict=True):
            for finding in self._study(study_id)[1]:
                latent = self._latent[study_id, finding]
                agreed = int(row[finding.index]) == grade == int(np.digitize(latent, THRESHOLDS))
                if finding.condition is condition and agreed:
                    candidates.append(_Example(study_id=study_id, finding=finding, latent=latent))
        candidates.sort(key=lambda e: (e.latent, e.study_id, e.finding.index))
        chosen: list[_Example] = []
        for share in (np.arange(count) + 0.5) / count:
            free = [e for e in candidates if e.study_id not in {c.study_id for c in chosen}]
            if free:
                wanted = candidates[int(share * len(candidates))].latent
                chosen.append(min(free, key=lambda e: abs(e.latent - wanted)))
        return sorted(chosen, key=lambda e: e.latent)

    def _cells(self, example: _Example, condition: Condition) -> list[Cell]:
        study, points = self._study(example.study_id)
        point = points[example.finding]
        side = "" if example.finding.side is None else f" {example.finding.side.value}"
        text = f"{example.finding.level.display}{side}  {example.latent:.1f}".replace("-", "\N{MINUS SIGN}")
        series = study.get(point.series_id)
        item = None if series is None else series.by_instance(point.instance_number)
        cells = [Cell(picture=None if item is None else _crop(item, point, example.finding), text=text)]
        if condition is Condition.CANAL:
            across = _axial_at(study, point)
            # On an axial plane the crop's axes are those of an axial finding.
            axes = Finding(condition=Condition.SUBARTICULAR, side=Side.LEFT, level=example.finding.level)
            cells.append(Cell(picture=None if across is None else _crop(across, point, axes, condition)))
        return cells


def _read_latents(path: Path) -> dict[tuple[str, Finding], float]:
    table = read_csv(path, {"study_id": "string", "finding": "string", "latent": "float64"})
    return {(s, Finding.from_column(f)): float(v) for s, f, v in table.itertuples(index=False, name=None)}


def _busiest(
    study: Study,
    points: dict[Finding, Localization],
    condition: Condition,
    side: Side | None,
    level: Level | None = None,
) -> tuple[Series, Slice]:
    """The slice that holds the most points of a condition and side."""
    here = [
        (p.series_id, p.instance_number)
        for f, p in sorted(points.items())
        if f.condition is condition and f.side is side and level in (None, f.level)
    ]
    if not here:
        raise InputError(f"study {study.study_id}: no point of {condition.value}; choose another seed")
    series_id, number = max(here, key=here.count)
    series = study.get(series_id)
    item = series.by_instance(number) if series else None
    if series is None or item is None:
        raise InputError(f"study {study.study_id}: no slice {number} of series {series_id}")
    return series, item


def _axial_at(study: Study, point: Localization) -> Slice | None:
    """The axial slice through a point, if one passes within 5 mm."""
    slices = [s for series in study.of_view(View.AXIAL_T2) for s in series.slices]
    nearest = min(slices, key=lambda s: abs(float(s.plane.distance_mm(point.point_mm))), default=None)
    return nearest if nearest and abs(float(nearest.plane.distance_mm(point.point_mm))) <= 5 else None


def _crop(item: Slice, point: Localization, axes: Finding, condition: Condition | None = None) -> NDArray[np.uint8]:
    """Around the true point, right sides mirrored, as the network sees it."""
    condition = condition or axes.condition
    size = _CROP_PX[condition]
    spec = CropSpec(size_px=size, slices=1, mm_per_px=_CROP_MM[condition] / size)
    directions = canonical_axes(item.plane, axes.view, mirrored=axes.side is Side.RIGHT)
    return resample(slice_pixels(item), item.plane, np.asarray(point.point_mm), directions, spec)


def _save(image: NDArray[np.uint8], path: Path) -> Path:
    """Writes a PNG below `MAX_BYTES`, in as many grey steps as that allows."""
    for step in _STEPS:
        coarse = np.clip(image // step * step + step // 2, 0, 255).astype(np.uint8)
        content = png_bytes(coarse, compression=6)
        if len(content) < MAX_BYTES:
            with written_beside(path) as temporary:
                temporary.write_bytes(content)
            return path
    raise InputError(f"{path}: more than {MAX_BYTES} bytes even with {256 // _STEPS[-1]} grey values; draw less in it")


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks.atlas`; returns the exit code."""
    default = AtlasOptions()
    parser = argparse.ArgumentParser(description="Draws the pictures of docs/synthetic.md.")
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="where the PNG files go; existing ones are replaced"
    )
    parser.add_argument("--studies", type=int, default=default.studies, help="studies to make (default %(default)s)")
    parser.add_argument("--preset", choices=("demo", "full"), default=default.preset, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=default.seed, help="default %(default)s")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    a = parser.parse_args(argv)

    def run() -> int:
        options = replace(default, studies=a.studies, preset=a.preset, seed=a.seed, workers=a.workers)
        sys.stdout.write("".join(f"{path}\n" for path in write_atlas(a.folder, options)))
        return 0

    return exit_code(run)


if __name__ == "__main__":
    sys.exit(main())
