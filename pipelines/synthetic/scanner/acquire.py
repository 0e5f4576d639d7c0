"""Acquisition: slice planes of the three series, rendering, and what a scanner adds to the picture."""

from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pipelines.synthetic.anatomy.bone import Texture
from pipelines.synthetic.anatomy.canvas import SpineGrid, region_of
from pipelines.synthetic.anatomy.contrast import Palette
from pipelines.synthetic.anatomy.paint import near_spine, paint_spine
from pipelines.synthetic.anatomy.profiles import Profiles
from pipelines.synthetic.anatomy.spine import FIRST_DISC, Float32Array, Spine
from pipelines.synthetic.anatomy.surroundings import Surroundings
from shared.geometry import Plane
from shared.labels import Level, View

Preset = Literal["demo", "full"]

# Sub-planes per slice, at these fractions of the slice thickness from its middle.
_SUBPLANES: Final = (-0.25, 0.25)
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


def _disc_center(spine: Spine, level: Level) -> NDArray[np.float64]:
    """Centre of a disc in patient mm (LPS), half its depth in front of the spine's curve. # [3]"""
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


def _textures(stack: Stack, rng: np.random.Generator) -> list[Texture]:
    """Noise of every slice of a stack, alike between neighbours."""
    n, (rows, columns) = len(stack.planes), stack.shape
    pixel = stack.planes[0].spacing_mm[0]
    # Muscle fibres run along the spine, and their bundles from front to back.
    tall, wide = (22.0, 2.6) if stack.view.is_sagittal else (15.0, 2.8)

    def field(grain_mm: tuple[float, float], keep: float) -> list[Float32Array]:
        size = tuple(
            max(4, int(extent * pixel / grain)) for extent, grain in zip((rows, columns), grain_mm, strict=True)
        )
        noise = rng.standard_normal((n, *size), dtype=np.float32)
        for k in range(1, n):
            noise[k] = keep * noise[k - 1] + np.float32(np.sqrt(1 - keep**2)) * noise[k]
        return [
            cv2.resize(layer, (columns, rows), interpolation=cv2.INTER_CUBIC).ravel() * np.float32(1.15)
            for layer in noise
        ]

    parts = (field((2.2, 2.2), 0.2), field((13.0, 11.0), 0.85), field((tall, wide), 0.4))
    return [Texture(fine=f, coarse=c, streak=s) for f, c, s in zip(*parts, strict=True)]


def render(
    stack: Stack,
    *,
    grid: SpineGrid,
    profiles: Profiles,
    surroundings: Surroundings,
    palette: Palette,
    rng: np.random.Generator,
) -> Float32Array:
    """Noise-free signal of every slice, slice thickness included. # [C, slices, rows, columns]"""
    channels = len(palette.weightings)
    out = np.zeros((channels, len(stack.planes), *stack.shape), dtype=np.float32)
    textures = _textures(stack, rng)
    for k, (plane, texture) in enumerate(zip(stack.planes, textures, strict=True)):
        # What lies around the spine is coarse: one sample through the slice's thickness will do.
        points = grid.points(plane, stack.shape)
        around = np.zeros((channels, points.u.size), dtype=np.float32)
        body = surroundings.paint(around, points, profiles, palette, texture)
        at = near_spine(points)
        near = points.take(at)
        for fraction in _SUBPLANES:
            canvas = around.copy()
            shifted = grid.shift(near, plane.normal, fraction * stack.thickness_mm)
            paint_spine(region_of(canvas, profiles, shifted, at), palette, texture)
            out[:, k] += (canvas * body).reshape(channels, *stack.shape) / len(_SUBPLANES)
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefacts:
    """What a scanner does to a series.

    Attributes:
      noise: Rician noise relative to bright signal.
      coil_mm: decay length of the surface coil's sensitivity away from the back; large means corrected.
      blur_px: in-plane blur.
      gibbs: strength of ringing by truncated k-space, 0..1.
      ghost: strength of a motion ghost.
      bias: amplitude of slow shading.
      saturation: whether a band in front of the spine darkens the abdomen.
      level: digital value of bright signal.
      interpolated: whether the scanner stores a finer matrix than it measured, which makes noise smooth.
    """

    noise: float
    coil_mm: float
    blur_px: float
    gibbs: float
    ghost: float
    bias: float
    saturation: bool
    level: float
    interpolated: bool


def draw_artefacts(rng: np.random.Generator) -> Artefacts:
    """A random scanner's state."""
    return Artefacts(
        noise=float(rng.uniform(0.004, 0.03)),
        coil_mm=float(rng.choice([rng.uniform(55, 110), rng.uniform(110, 200), 600.0], p=[0.45, 0.35, 0.2])),
        blur_px=float(rng.uniform(0.25, 0.75)),
        gibbs=float(rng.uniform(0.2, 0.8)) if rng.random() < 0.3 else 0.0,
        ghost=float(rng.uniform(0.02, 0.08)) if rng.random() < 0.08 else 0.0,
        bias=float(rng.uniform(0.03, 0.2)),
        saturation=bool(rng.random() < 0.4),
        level=float(rng.choice([rng.uniform(250, 700), rng.uniform(700, 2500)])),
        interpolated=bool(rng.random() < 0.4),
    )


def acquire(
    signal: Float32Array, stack: Stack, artefacts: Artefacts, back_mm: float, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """Magnitude images as stored: 12 bits. # [slices, rows, columns]"""
    rows, columns = stack.shape
    out = np.empty(signal.shape, dtype=np.uint16)
    shading = cv2.resize(
        gaussian_filter(rng.standard_normal((8, 8)), 1.2).astype(np.float32) * 3,
        (columns, rows),
        interpolation=cv2.INTER_CUBIC,
    )
    for k, plane in enumerate(stack.planes):
        image = signal[k]
        y = plane.origin_mm[1] + np.arange(columns) * plane.spacing_mm[1] * plane.row_dir[1]
        if not stack.view.is_sagittal:
            y = (plane.origin_mm[1] + np.arange(rows) * plane.spacing_mm[0] * plane.col_dir[1])[:, None]
        depth = np.clip(back_mm + 35 - y, 0, None).astype(np.float32)
        gain = 0.25 + 1.5 * np.exp(-depth / artefacts.coil_mm)
        if artefacts.saturation:
            gain = gain * (0.3 + 0.7 / (1 + np.exp((depth - 150) / 6)))
        image = image * gain * np.exp(artefacts.bias * shading)
        image = cv2.GaussianBlur(image, (0, 0), artefacts.blur_px)
        if artefacts.gibbs:
            image = _truncate(image, artefacts.gibbs)
        if artefacts.ghost:
            axis, shift = (1, columns // 5) if not stack.view.is_sagittal else (0, rows // 6)
            image = image + artefacts.ghost * (np.roll(image, shift, axis) + np.roll(image, -shift, axis))
        noise = rng.standard_normal((2, rows, columns), dtype=np.float32) * np.float32(artefacts.noise)
        image = np.hypot(image + noise[0], noise[1])
        if artefacts.interpolated:
            image = cv2.GaussianBlur(image, (0, 0), 0.7)
        out[k] = np.clip(image * artefacts.level, 0, 4095)
    return out


def _truncate(image: Float32Array, strength: float) -> Float32Array:
    """Ringing along the phase direction: the outer k-space lines were not measured."""
    k_space = np.fft.rfft(image, axis=0)
    k_space[int(len(k_space) * (0.92 - 0.3 * strength)) :] = 0
    result: Float32Array = np.abs(np.fft.irfft(k_space, n=image.shape[0], axis=0)).astype(np.float32)
    return result
