"""Stacks of slice planes: where the three series of a study lie in the patient, and at which resolution."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.synthetic.anatomy.spine import FIRST_DISC, Spine
from shared.geometry import Plane
from shared.labels import Level, View

Preset = Literal["demo", "full"]

# Axial series made of blocks along the discs; the others are one parallel stack.
_BLOCK_SHARE: Final = 0.7
# Least distance of the first and last disc's centre from the edges of a sagittal picture.
_MARGIN_MM: Final = 12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """Ranges a preset draws from: matrix, slices, field of view."""

    sagittal_px: tuple[int, int]
    sagittal_slices: tuple[int, int]
    axial_px: tuple[int, int]
    axial_per_disc: tuple[int, int]


RESOLUTIONS: Final = {
    "demo": Resolution(sagittal_px=(192, 224), sagittal_slices=(13, 13), axial_px=(176, 208), axial_per_disc=(3, 4)),
    "full": Resolution(sagittal_px=(320, 448), sagittal_slices=(15, 19), axial_px=(256, 352), axial_per_disc=(5, 6)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Planes of one series in anatomical order, all of one matrix."""

    view: View
    planes: tuple[Plane, ...]
    shape: tuple[int, int]
    thickness_mm: float
    gap_mm: float


def _jitter(rng: np.random.Generator, low: int, high: int, step: int = 16) -> int:
    return int(rng.integers(low // step, high // step + 1)) * step


def _disc_center(spine: Spine, level: Level) -> NDArray[np.float64]:  # [3]
    """Centre of a disc in patient mm (LPS), half its depth in front of the spine's curve."""
    return spine.to_patient(spine.segments.level_s(level), 0, -float(spine.segments.depth[FIRST_DISC + level]) / 2)


def sagittal_stack(spine: Spine, rng: np.random.Generator, preset: Preset) -> Stack:
    """Right to left, around the lumbar midline; the field reaches from T9 to T12 down to the sacrum."""
    resolution = RESOLUTIONS[preset]
    rows = _jitter(rng, *resolution.sagittal_px)
    columns = rows if rng.random() < 0.8 else rows - 16 * int(rng.integers(1, 3))
    height_mm = float(np.clip(rng.normal(290, 30), 220, 380)) * (0.6 + 0.4 * spine.shape.scale)
    spacing = height_mm / rows
    count = int(rng.integers(resolution.sagittal_slices[0], resolution.sagittal_slices[1] + 1))
    gap = float(np.clip(rng.normal(4.4, 0.3), 3.8, 5.2))
    top, bottom = (spine.to_patient(spine.segments.level_s(level), 0, 0) for level in (Level.L1_L2, Level.L5_S1))
    middle = (top + bottom) / 2
    # Together with the spine's shape this puts the points where the challenge's have their medians: for the canal x at
    # .57 .55 .53 .54 .57 of the width and y at .30 .42 .54 .65 .74 of the height.
    left_edge = middle[1] - rng.normal(0.535, 0.05) * columns * spacing
    first, last = (_disc_center(spine, level)[2] for level in (Level.L1_L2, Level.L5_S1))
    # Technicians place the field loosely, but all five discs are on the picture.
    upper_edge = float(
        np.clip(middle[2] + rng.normal(0.52, 0.08) * height_mm, first + _MARGIN_MM, last - _MARGIN_MM + height_mm)
    )
    turn = np.radians(rng.normal(0, 1.2))
    row_dir = np.array([np.sin(turn), np.cos(turn), 0.0])
    normal = np.cross(row_dir, (0, 0, -1))
    corner = np.array([middle[0] + rng.normal(0, 1.5), left_edge, upper_edge])
    corner[0] += np.tan(turn) * (left_edge - middle[1])
    along = normal if normal[0] > 0 else -normal
    planes = tuple(
        Plane.from_arrays(
            origin_mm=corner + along * gap * (k - (count - 1) / 2),
            row_dir=row_dir,
            col_dir=(0, 0, -1),
            spacing_mm=(spacing, spacing),
        )
        for k in range(count)
    )
    return Stack(view=View.SAGITTAL_T2, planes=planes, shape=(rows, columns), thickness_mm=0.88 * gap, gap_mm=gap)


def axial_stack(spine: Spine, rng: np.random.Generator, preset: Preset) -> Stack:
    """Head to foot: a block tilted along each disc, or one parallel stack through all of them."""
    resolution = RESOLUTIONS[preset]
    rows = _jitter(rng, *resolution.axial_px)
    columns = rows if rng.random() < 0.85 else rows + 16
    spacing = float(np.clip(rng.normal(176, 16), 150, 220)) / rows
    gap = float(np.clip(rng.normal(4.4, 0.3), 3.8, 5.2))
    offset_x, offset_y = rng.normal(0.503, 0.02), rng.normal(0.50, 0.03)

    def plane(center: NDArray[np.float64], tilt: float) -> Plane:
        col_dir = np.array([0, np.cos(tilt), -np.sin(tilt)])
        origin = center - np.array([1.0, 0, 0]) * offset_x * columns * spacing - col_dir * offset_y * rows * spacing
        return Plane.from_arrays(origin_mm=origin, row_dir=(1, 0, 0), col_dir=col_dir, spacing_mm=(spacing, spacing))

    if rng.random() < _BLOCK_SHARE:
        centers = _disc_blocks(spine, resolution, gap, rng)
    else:
        # The demo thins a parallel stack out to keep its slice count.
        centers, gap = _parallel_stack(spine, gap, None if preset == "full" else 26, rng)
    planes = tuple(plane(center, tilt) for center, tilt in centers)
    return Stack(view=View.AXIAL_T2, planes=planes, shape=(rows, columns), thickness_mm=min(4.0, 0.9 * gap), gap_mm=gap)


def _disc_blocks(
    spine: Spine, resolution: Resolution, gap: float, rng: np.random.Generator
) -> list[tuple[NDArray[np.float64], float]]:
    """Centre and tilt of each slice of blocks that lie along the discs."""
    centers = []
    for level in Level:
        s = spine.segments.level_s(level)
        count = int(rng.integers(resolution.axial_per_disc[0], resolution.axial_per_disc[1] + 1))
        tilt = spine.heading_rad(s) + float(np.radians(rng.normal(0, 2.5)))
        up = np.array([0, np.sin(tilt), np.cos(tilt)])
        center = spine.to_patient(s, 0, 2.0) + up * rng.normal(0, 0.8)
        centers += [(center + up * gap * ((count - 1) / 2 - k), tilt) for k in range(count)]
    return centers


def _parallel_stack(
    spine: Spine, gap: float, most: int | None, rng: np.random.Generator
) -> tuple[list[tuple[NDArray[np.float64], float]], float]:
    """Centre and tilt of each slice of one stack from above L1/L2 to below L5/S1, and its gap."""
    ends = [spine.to_patient(spine.segments.level_s(level), 0, 2.0) for level in (Level.L1_L2, Level.L5_S1)]
    tilt = float(np.radians(rng.normal(-2, 4)))
    up = np.array([0, np.sin(tilt), np.cos(tilt)])
    length = float((ends[0] - ends[1]) @ up) + 22
    if most is not None:
        gap = max(gap, length / most)
    middle = (ends[0] + ends[1]) / 2
    return [(middle + up * (length / 2 - gap * k), tilt) for k in range(int(length / gap) + 1)], gap
