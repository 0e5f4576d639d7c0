"""Scans a patient: three series, and the points that readers mark on them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.synthetic.anatomy.patient import Case, draw_case
from pipelines.synthetic.grades import MISSING
from pipelines.synthetic.painting.contrast import Palette, Weighting, draw_palette
from pipelines.synthetic.scanner.acquire import acquire, draw_artefacts
from pipelines.synthetic.scanner.render import render
from pipelines.synthetic.scanner.series import Point, Scan, StoredSeries, StoredSlice
from pipelines.synthetic.scanner.stack import Preset, Stack, axial_stack, sagittal_stack
from shared.geometry import Plane
from shared.labels import FINDINGS, Condition, Finding, Level, View

_STIR_SHARE: Final = 0.12
_FEET_FIRST_SHARE: Final = 0.113
_LEFT_FIRST_SHARE: Final = 0.36
_RESCALE_SHARE: Final = 0.18
_COARSER_T1_SHARE: Final = 0.4
# Readers do not all mark the very same height: left and right points lie on different slices in 38% of pairs.
_READER_MM: Final = {Condition.CANAL: 0.8, Condition.FORAMINAL: 1.0, Condition.SUBARTICULAR: 1.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """What a study starts from."""

    study_id: str
    seed: np.random.SeedSequence
    latent: NDArray[np.float64]  # [25]
    grade: NDArray[np.int64]  # [25]
    degeneration: float
    preset: Preset


def scan_study(plan: StudyPlan, rng: np.random.Generator) -> Scan:
    """Draws the patient and scans it: sagittal T1 and T2 (or STIR) on the same planes, then axial T2."""
    case = draw_case(plan.latent, plan.degeneration, rng)
    sagittal, axial = sagittal_stack(case.spine, rng, plan.preset), axial_stack(case.spine, rng, plan.preset)
    fluid = Weighting.STIR if rng.random() < _STIR_SHARE else Weighting.T2
    palette = draw_palette(rng, (Weighting.T1, fluid), case.patient.age)
    axial_palette = draw_palette(rng, (Weighting.T2,), case.patient.age)
    series_ids = _series_ids(rng)
    stored = []
    for stack, colours, views in (
        (sagittal, palette, (View.SAGITTAL_T1, View.SAGITTAL_T2)),
        (axial, axial_palette, (View.AXIAL_T2,)),
    ):
        for view, pixels in zip(views, scan_stack(case, stack, colours, rng), strict=True):
            coarse = view is View.SAGITTAL_T1 and rng.random() < _COARSER_T1_SHARE
            seen, pixels = _coarser(stack, pixels, float(rng.uniform(0.75, 0.95))) if coarse else (stack, pixels)
            stored.append(_store(pixels, seen, view, plan.study_id, series_ids[view], rng))
    points = [p for f in FINDINGS if plan.grade[f.index] != MISSING and (p := mark(f, case, stored, rng)) is not None]
    summary = {
        "study_id": plan.study_id,
        "lumbar_type_vertebrae": case.spine.shape.lumbar_count,
        "age_index": round(case.patient.age, 4),
        "scale": round(case.spine.shape.scale, 4),
        "scoliosis_mm": round(case.spine.shape.scoliosis_mm, 2),
        "slip_mm": [round(v, 2) for v in case.spine.shape.slip_mm],
        "fluid_weighting": fluid.name,
        "sagittal_slices": len(sagittal.planes),
        "axial_slices": len(axial.planes),
    }
    return Scan(
        study_id=plan.study_id,
        case=case,
        series=tuple(stored),
        points=tuple(points),
        grade=plan.grade.copy(),
        summary=summary,
    )


def _series_ids(rng: np.random.Generator) -> dict[View, str]:
    """Distinct numeric series ids."""
    numbers = rng.choice(2**32 - 10**6, size=len(View), replace=False) + 10**6
    return {view: str(n) for view, n in zip(View, numbers, strict=True)}


def scan_stack(case: Case, stack: Stack, palette: Palette, rng: np.random.Generator) -> list[NDArray[np.uint16]]:
    """Stored images of a stack: one array (slices, rows, columns) per channel of the palette."""
    signal = render(stack, case, palette, rng)
    back_mm = float(case.spine.to_patient(case.spine.segments.level_s(Level.L3_L4), 0, 60)[1])
    return [acquire(channel, stack, draw_artefacts(rng), back_mm, rng) for channel in signal]


def _coarser(stack: Stack, pixels: NDArray[np.uint16], factor: float) -> tuple[Stack, NDArray[np.uint16]]:
    """The same field of view with fewer and larger pixels: T1 often has another matrix than T2."""
    rows, columns = (round(n * factor) for n in stack.shape)
    spacing = np.asarray(stack.planes[0].spacing_mm) * np.asarray(stack.shape) / (rows, columns)

    def plane(old: Plane) -> Plane:
        # The corner of the picture stays; the centre of its first pixel moves.
        first = [(spacing[1] / old.spacing_mm[1] - 1) / 2, (spacing[0] / old.spacing_mm[0] - 1) / 2]
        return Plane.from_arrays(
            origin_mm=old.to_patient(first), row_dir=old.row_dir, col_dir=old.col_dir, spacing_mm=spacing
        )

    images = [cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA) for image in pixels]
    return replace(stack, planes=tuple(plane(p) for p in stack.planes), shape=(rows, columns)), np.stack(images)


def _store(
    pixels: NDArray[np.uint16], stack: Stack, view: View, study_id: str, series_id: str, rng: np.random.Generator
) -> StoredSeries:
    """Numbers the slices of a stack, in either order."""
    flipped = rng.random() < (_LEFT_FIRST_SHARE if view.is_sagittal else _FEET_FIRST_SHARE)
    first = 1 if rng.random() < 0.9 else int(rng.integers(2, 60))
    count = len(stack.planes)
    slices = [
        StoredSlice(instance_number=first + (count - 1 - k if flipped else k), plane=plane, pixels=image)
        for k, (plane, image) in enumerate(zip(stack.planes, pixels, strict=True))
    ]
    bright = float(np.percentile(pixels, 99))
    header = {"RescaleIntercept": "0", "RescaleSlope": "1"} if rng.random() < _RESCALE_SHARE else {}
    return StoredSeries(
        study_id=study_id,
        series_id=series_id,
        view=view,
        slices=tuple(sorted(slices, key=lambda s: s.instance_number)),
        thickness_mm=stack.thickness_mm,
        gap_mm=stack.gap_mm,
        window=(round(bright / 2), round(bright)),
        header=header,
    )


def mark(finding: Finding, case: Case, series: Sequence[StoredSeries], rng: np.random.Generator) -> Point | None:
    """Marks a finding on the nearest slice of its view; None where it lies outside the picture."""
    target = next(s for s in series if s.view is finding.view)
    point = case.point_mm(finding, shift_mm=float(rng.normal(0, _READER_MM[finding.condition])))
    nearest = min(target.slices, key=lambda s: abs(float(s.plane.distance_mm(point[None])[0])))
    x, y = nearest.plane.to_pixel(point)
    rows, columns = nearest.pixels.shape
    if not (0 <= x < columns and 0 <= y < rows):
        return None
    return Point(
        series_id=target.series_id,
        instance_number=nearest.instance_number,
        finding=finding,
        x_px=float(x),
        y_px=float(y),
    )
