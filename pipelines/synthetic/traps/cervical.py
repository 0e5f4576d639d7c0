"""A sagittal T2 series of the neck, the foreign anatomy that some real studies contain."""

from dataclasses import replace

import numpy as np

from pipelines.synthetic.anatomy.patient import Case, draw_case
from pipelines.synthetic.anatomy.profiles import build_profiles
from pipelines.synthetic.anatomy.spine import Spine
from pipelines.synthetic.painting.contrast import Weighting, draw_palette
from pipelines.synthetic.scanner.scan import scan_stack
from pipelines.synthetic.scanner.series import StoredSeries, StoredSlice
from pipelines.synthetic.scanner.stack import Stack
from shared.geometry import Plane
from shared.labels import FINDINGS, Level, View

_PIXELS = 160
_SPACING_MM = 1.25
_SLICES = 9
_GAP_MM = 3.6


def cervical_series(study_id: str, series_id: str, rng: np.random.Generator) -> StoredSeries:
    """Small vertebrae, the cord in the whole canal, no sacrum: a lumbar spine at half size, cut above its end."""
    case = draw_case(np.full(len(FINDINGS), -2.0), -0.5, rng)
    shape = replace(
        case.spine.shape,
        scale=0.56,
        sacral_slope_deg=8.0,
        lordosis_deg=22.0,
        slip_mm=(0.0,) * len(Level),
        scoliosis_mm=0.0,
    )
    spine = Spine(shape)
    patient = replace(case.patient, conus_s=float(spine.s[-1]) + 100.0, canal_size=1.05)
    build = replace(
        case.build, half_width_mm=62.0, front_mm=48.0, back_mm=38.0, back_fat_mm=10.0, sacral_fat_mm=10.0, bowel=0.1
    )
    middle = spine.to_patient(spine.segments.level_s(Level.L1_L2), 0.0, 0.0)
    half = _PIXELS * _SPACING_MM / 2
    planes = tuple(
        Plane.from_arrays(
            origin_mm=middle + np.array([(k - _SLICES // 2) * _GAP_MM, -half, half * 0.9]),
            row_dir=(0, 1, 0),
            col_dir=(0, 0, -1),
            spacing_mm=(_SPACING_MM, _SPACING_MM),
        )
        for k in range(_SLICES)
    )
    stack = Stack(view=View.SAGITTAL_T2, planes=planes, shape=(_PIXELS, _PIXELS), thickness_mm=3.0, gap_mm=_GAP_MM)
    neck = Case(spine=spine, patient=patient, build=build, profiles=build_profiles(spine, patient))
    pixels = scan_stack(neck, stack, draw_palette(rng, (Weighting.T2,), patient.age), rng)[0]
    # The neck lies half a metre above the lumbar field of the same examination.
    lifted = [
        Plane.from_arrays(
            origin_mm=np.asarray(p.origin_mm) + np.array([0, 0, 430.0]),
            row_dir=p.row_dir,
            col_dir=p.col_dir,
            spacing_mm=p.spacing_mm,
        )
        for p in planes
    ]
    bright = float(np.percentile(pixels, 99))
    return StoredSeries(
        study_id=study_id,
        series_id=series_id,
        view=View.SAGITTAL_T2,
        slices=tuple(
            StoredSlice(instance_number=k + 1, plane=plane, pixels=image)
            for k, (plane, image) in enumerate(zip(lifted, pixels, strict=True))
        ),
        thickness_mm=3.0,
        gap_mm=_GAP_MM,
        window=(round(bright / 2), round(bright)),
    )
