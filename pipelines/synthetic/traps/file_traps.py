"""Traps in pictures and headers: order and numbering, series, stacks, encodings."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import ExplicitVRBigEndian, JPEG2000Lossless, JPEGLSLossless

from pipelines.synthetic.painting.contrast import Weighting, draw_palette
from pipelines.synthetic.scanner.scan import scan_stack
from pipelines.synthetic.scanner.series import Point, Scan, StoredSeries, StoredSlice
from pipelines.synthetic.scanner.stack import Stack
from pipelines.synthetic.traps.cervical import cervical_series
from pipelines.synthetic.traps.edits import (
    Planted,
    Trap,
    any_series,
    move_points,
    new_id,
    renumber,
    series_of,
    swap,
    without,
)
from shared.geometry import Plane
from shared.labels import Level, View


def reversed_axial(scan: Scan, rng: np.random.Generator) -> Planted:
    """Axial instances from feet to head."""
    axial = series_of(scan, View.AXIAL_T2)
    if axial is None or _z(axial.slices[0]) < _z(axial.slices[-1]):
        return None
    total = axial.slices[0].instance_number + axial.slices[-1].instance_number
    return renumber(scan, axial, lambda n: total - n), f"series {axial.series_id} runs from feet to head"


def _z(item: StoredSlice) -> float:
    return float(item.plane.center_mm(item.pixels.shape)[2])


def huge_instance_numbers(scan: Scan, rng: np.random.Generator) -> Planted:
    """Instance numbers in the thousands."""
    series, start = any_series(scan, rng), int(rng.integers(1000, 5000))
    return renumber(scan, series, lambda n: n + start), f"series {series.series_id} starts beyond instance {start}"


def split_axial(scan: Scan, rng: np.random.Generator) -> Planted:
    """Two axial series, each with part of the levels."""
    axial = series_of(scan, View.AXIAL_T2)
    if axial is None or len(axial.slices) < 4:
        return None
    cut = len(axial.slices) // 2 + int(rng.integers(-1, 2))
    second = replace(axial, series_id=new_id(scan, rng), slices=axial.slices[cut:])
    moved = {s.instance_number for s in second.slices}

    def change(point: Point) -> Point:
        return replace(point, series_id=second.series_id) if point.instance_number in moved else point

    scan = move_points(scan, axial.series_id, change)
    changed = swap(scan, axial, replace(axial, slices=axial.slices[:cut]), second)
    return changed, f"series {axial.series_id} and {second.series_id} each hold part of the levels"


def mixed_stacks(scan: Scan, rng: np.random.Generator) -> Planted:
    """One axial series with slices of two sizes and stacks of differing tilt."""
    axial = series_of(scan, View.AXIAL_T2)
    if axial is None or min(axial.slices[0].pixels.shape) < 64:
        return None
    margin, half = 12, len(axial.slices) // 2
    slices = tuple(_cropped(s, margin) if k >= half else s for k, s in enumerate(axial.slices))
    small = {s.instance_number for s in slices[half:]}
    extra = _tilted(scan, axial, rng)

    def change(point: Point) -> Point:
        if point.instance_number not in small:
            return point
        return replace(point, x_px=point.x_px - margin, y_px=point.y_px - margin)

    changed = swap(scan, axial, replace(axial, slices=(*slices, *extra)))
    numbers = f"{extra[0].instance_number} to {extra[-1].instance_number}"
    detail = f"series {axial.series_id} holds two sizes and a further tilt, instances {numbers}"
    return move_points(changed, axial.series_id, change), detail


def _tilted(scan: Scan, axial: StoredSeries, rng: np.random.Generator) -> tuple[StoredSlice, ...]:
    """Three further slices through the last disc, tilted by 20 degrees beyond every other slice of the series."""
    spine = scan.case.spine
    s = spine.segments.level_s(Level.L5_S1)
    tilt = min(np.arctan2(-p.plane.col_dir[2], p.plane.col_dir[1]) for p in axial.slices) - np.radians(20)
    (rows, columns), spacing = axial.slices[0].pixels.shape, axial.slices[0].plane.spacing_mm
    col_dir = np.array([0, np.cos(tilt), -np.sin(tilt)])
    half = np.array([columns / 2 * spacing[1], 0, 0]) + col_dir * rows / 2 * spacing[0]
    corner = spine.to_patient(s, 0.0, 0.0) - half
    up = np.array([0, np.sin(tilt), np.cos(tilt)])
    planes = tuple(
        Plane.from_arrays(origin_mm=corner + up * gap, row_dir=(1, 0, 0), col_dir=col_dir, spacing_mm=spacing)
        for gap in (4.4, 0.0, -4.4)
    )
    stack = Stack(view=View.AXIAL_T2, planes=planes, shape=(rows, columns), thickness_mm=4.0, gap_mm=4.4)
    palette = draw_palette(rng, (Weighting.T2,), scan.case.patient.age)
    pixels = scan_stack(scan.case, stack, palette, rng)[0]
    last = max(s.instance_number for s in axial.slices)
    return tuple(
        StoredSlice(instance_number=last + 1 + k, plane=plane, pixels=image)
        for k, (plane, image) in enumerate(zip(planes, pixels, strict=True))
    )


def _cropped(item: StoredSlice, margin: int) -> StoredSlice:
    plane = item.plane
    moved = Plane.from_arrays(
        origin_mm=plane.to_patient([margin, margin]),
        row_dir=plane.row_dir,
        col_dir=plane.col_dir,
        spacing_mm=plane.spacing_mm,
    )
    pixels = np.ascontiguousarray(item.pixels[margin:-margin, margin:-margin])
    return replace(item, plane=moved, pixels=pixels)


def duplicate_positions(scan: Scan, rng: np.random.Generator) -> Planted:
    """One slice position twice in a series."""
    series = any_series(scan, rng)
    item = series.slices[int(rng.integers(len(series.slices)))]
    copy = replace(item, instance_number=series.slices[-1].instance_number + 1)
    detail = f"series {series.series_id}: instances {item.instance_number} and {copy.instance_number} share a position"
    return swap(scan, series, replace(series, slices=(*series.slices, copy))), detail


def two_t1(scan: Scan, rng: np.random.Generator) -> Planted:
    """A repeated sagittal T1."""
    series = series_of(scan, View.SAGITTAL_T1)
    if series is None:
        return None
    again = replace(series, series_id=new_id(scan, rng))
    return swap(scan, series, series, again), f"series {again.series_id} repeats the T1 series {series.series_id}"


def cervical_extra(scan: Scan, rng: np.random.Generator) -> Planted:
    """A sagittal T2 series of the neck, described like the lumbar one."""
    extra = cervical_series(scan.study_id, new_id(scan, rng), rng)
    return replace(scan, series=(*scan.series, extra)), f"series {extra.series_id} shows the cervical spine"


def flipped_axial(scan: Scan, rng: np.random.Generator) -> Planted:
    """Axial pixels mirrored left to right, against the header; the points follow the picture."""
    axial = series_of(scan, View.AXIAL_T2)
    if axial is None:
        return None
    slices = tuple(replace(s, pixels=np.ascontiguousarray(s.pixels[:, ::-1])) for s in axial.slices)
    last = axial.slices[0].pixels.shape[1] - 1
    changed = swap(scan, axial, replace(axial, slices=slices))
    moved = move_points(changed, axial.series_id, lambda p: replace(p, x_px=last - p.x_px))
    return moved, f"pixels of series {axial.series_id} are mirrored"


def damaged_file(scan: Scan, rng: np.random.Generator) -> Planted:
    """A file cut off in the middle."""
    series = any_series(scan, rng)
    number = series.slices[0].instance_number
    detail = f"series {series.series_id}: instance {number} is cut off"
    return swap(scan, series, replace(series, damaged=frozenset({number}))), detail


def _encoded(
    what: str,
    *,
    pixels: Callable[[NDArray[Any]], NDArray[Any]] = np.asarray,
    header: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Trap:
    """A trap that stores a random series otherwise: changed values, header elements or transfer syntax."""

    def trap(scan: Scan, rng: np.random.Generator) -> Planted:
        series = any_series(scan, rng)
        slices = tuple(replace(s, pixels=np.ascontiguousarray(pixels(s.pixels))) for s in series.slices)
        other = replace(series, slices=slices, header={**series.header, **(header or {})}, **changes)
        return swap(scan, series, other), f"series {series.series_id} {what}"

    return trap


def _missing(view: View) -> Trap:
    return lambda scan, rng: without(scan, view)


_SIGNED: Final = {"BitsStored": 16, "HighBit": 15, "RescaleIntercept": "600", "RescaleSlope": "1"}
_WINDOWS: Final = {"WindowCenter": ["300", "500"], "WindowWidth": ["600", "1000"]}
_LOST_TAGS: Final = (
    *("WindowCenter", "WindowWidth", "SliceThickness"),
    *("SpacingBetweenSlices", "PatientPosition", "SeriesDescription"),
)
FILE_TRAPS: Final[Mapping[str, Trap]] = {
    "reversed_axial": reversed_axial,
    "huge_instance_numbers": huge_instance_numbers,
    "split_axial": split_axial,
    "mixed_stacks": mixed_stacks,
    "duplicate_positions": duplicate_positions,
    "missing_t1": _missing(View.SAGITTAL_T1),
    "missing_t2": _missing(View.SAGITTAL_T2),
    "missing_axial": _missing(View.AXIAL_T2),
    "two_t1": two_t1,
    "cervical_extra": cervical_extra,
    "flipped_axial": flipped_axial,
    "monochrome1": _encoded(
        "is MONOCHROME1", pixels=lambda p: np.uint16(4095) - p, header={"PhotometricInterpretation": "MONOCHROME1"}
    ),
    "signed_pixels": _encoded("has signed pixels", pixels=lambda p: p.astype(np.int16) - np.int16(600), header=_SIGNED),
    "rescaled": _encoded("is rescaled by 2.5 and -120", header={"RescaleIntercept": "-120", "RescaleSlope": "2.5"}),
    "jpeg_2000": _encoded("is JPEG 2000", syntax=JPEG2000Lossless),
    "jpeg_ls": _encoded("is JPEG-LS", syntax=JPEGLSLossless),
    "big_endian": _encoded("is big-endian", syntax=ExplicitVRBigEndian),
    "multi_window": _encoded("has two windows", header=_WINDOWS),
    "missing_tags": _encoded(f"lacks {', '.join(_LOST_TAGS)}", header=dict.fromkeys(_LOST_TAGS)),
    "damaged_file": damaged_file,
}
