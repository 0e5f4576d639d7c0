"""Shape of one patient's spine, and its own coordinates (s, u, v).

The spine runs along a curve through the posterior wall of the vertebral bodies. A point is given by s, mm along the
curve from head to feet, u, mm to the patient's left, and v, mm to posterior, perpendicular to the curve. Everything
that follows the spine is a function of (s, u, v); planes of any tilt only have to convert patient mm (LPS) to it.
Vertebral geometry: Panjabi et al., Spine 1992; sagittal alignment: Roussouly & Pinheiro-Franco, Eur Spine J 2011.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

from pipelines.synthetic.anatomy.warp import Warp
from shared.labels import Level

FloatArray = NDArray[np.float64]
# float32 in fact; numpy's stubs lose the precision in arithmetic with Python numbers.
Float32Array = NDArray[Any]

VERTEBRAE: Final = (
    *("T6", "T7", "T8", "T9", "T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5"),
    *("S1", "S2", "S3", "S4", "S5", "Co"),
)
L1: Final = VERTEBRAE.index("L1")
S1: Final = VERTEBRAE.index("S1")
# Disc i lies below vertebra i.
FIRST_DISC: Final = L1
# Posterior height of the body and of the disc below, depth (front to back) and width of the lower endplate, in mm.
# From L4 down, heights and the lordosis' shares are such that canal points come to lie where the challenge's have their
# medians: posterior walls are shorter there, and most of the bend lies at L5/S1.
_HEIGHT: Final = (20, 20, 20.5, 21, 22, 23, 24.5, 26, 27, 27, 25.3, 22.8, 28, 23, 19, 17, 15, 12)
_DISC: Final = (4, 4, 4, 4.5, 4.5, 5.5, 6.5, 7.8, 9.0, 10.0, 10.0, 8.6, 2.6, 1.2, 1.0, 1.0, 2.0)
_DEPTH: Final = (27, 27, 28, 28.5, 29, 30, 30.5, 32.5, 33.5, 34.5, 35.5, 35.0, 26, 18.5, 14, 11, 9, 6)
_WIDTH: Final = (27, 28, 29, 31, 33, 36, 39, 42, 44, 46, 49, 52, 50, 36, 28, 24, 18, 12)
# Share of the lumbar lordosis reached from S1 (0) up to L1 (1).
_LORDOSIS_SHARE: Final = {"L1": 1.0, "L2": 0.95, "L3": 0.86, "L4": 0.70, "L5": 0.43, "S1": 0.0}
# Backward turn of T6..T12 from L1, and of S2..Co from S1, in degrees.
_KYPHOSIS_DEG: Final = (26, 21, 16, 10, 5, 1, -2)
_SACRAL_DEG: Final = (0, 9, 24, 44, 64)
STEP_MM: Final = 0.25
_MAP_MM: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpineShape:
    """What differs between patients.

    Attributes:
      scale: size relative to an average adult.
      sacral_slope_deg, lordosis_deg: tilt of the S1 endplate; sum of the angles from L1 to S1.
      scoliosis_mm, scoliosis_phase: amplitude and position of the sideways bend.
      slip_mm: forward slip of the vertebra above each lumbar disc (spondylolisthesis).
      disc_height: factor on the height of each lumbar disc.
      lumbar_count: lumbar-type vertebrae: 4 (L5 fused to the sacrum), 5 or 6 (S1 free).
      remnant: how much of a disc is left between S1 and S2, from 0 (a thin line) to 1 (it could be taken for L5/S1).
      heading_deg: what each vertebra leans back beyond the average curve.
      body_height: factor on the height of each vertebra.
      sacral_curve: how strongly the sacrum bends, 0 straight to 1.5.
      sacral_taper: factor on the sacrum's depth below its first endplate.
      warp_seed, warp_mm: smooth irregularity and its size.
      origin_mm: patient position of the posterior rim of the L3/L4 disc.
    """

    scale: float
    sacral_slope_deg: float
    lordosis_deg: float
    scoliosis_mm: float
    scoliosis_phase: float
    slip_mm: tuple[float, ...]  # [5]
    disc_height: tuple[float, ...]  # [5]
    lumbar_count: int
    remnant: float
    heading_deg: tuple[float, ...]  # [18]
    body_height: tuple[float, ...]  # [18]
    sacral_curve: float
    sacral_taper: float
    warp_seed: int
    warp_mm: float
    origin_mm: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """Where vertebrae and discs lie along the curve.

    Attributes:
      vertebra_s: centre of each body.
      vertebra_half: half its height.
      disc_s: centre of each disc.
      disc_half: half its height.
      depth, width: of the endplates at each disc.
    """

    vertebra_s: FloatArray  # [18]
    vertebra_half: FloatArray  # [18]
    disc_s: FloatArray  # [17]
    disc_half: FloatArray  # [17]
    depth: FloatArray  # [17]
    width: FloatArray  # [17]

    def level_s(self, level: Level) -> float:
        """Disc centre of a graded level."""
        return float(self.disc_s[FIRST_DISC + level])


def _segments(shape: SpineShape) -> Segments:
    height = np.array(_HEIGHT) * shape.scale * shape.body_height
    disc = np.array(_DISC) * shape.scale
    disc[FIRST_DISC : FIRST_DISC + len(Level)] *= shape.disc_height
    depth, width = np.array(_DEPTH[:-1]) * shape.scale, np.array(_WIDTH[:-1]) * shape.scale
    disc[S1] *= 0.6 + 1.9 * shape.remnant
    depth[S1:] *= shape.sacral_taper
    depth[S1] *= 0.92 + 0.22 * shape.remnant
    if shape.lumbar_count == 4:
        disc[S1 - 1] *= 0.38
        depth[S1 - 1] *= 0.86
    elif shape.lumbar_count == 6:
        disc[S1] = 2.7 * _DISC[S1] * shape.scale
        depth[S1] *= 1.12
    top = np.concatenate([[0.0], np.cumsum(height[:-1] + disc)])
    return Segments(
        vertebra_s=top + height / 2,
        vertebra_half=height / 2,
        disc_s=top[:-1] + height[:-1] + disc / 2,
        disc_half=disc / 2,
        depth=depth,
        width=width,
    )


def _heading_deg(shape: SpineShape) -> FloatArray:  # [18]
    """Backward lean of each vertebra's upward axis."""
    slope, lordosis = shape.sacral_slope_deg, shape.lordosis_deg
    heading = np.zeros(len(VERTEBRAE))
    for name, share in _LORDOSIS_SHARE.items():
        heading[VERTEBRAE.index(name)] = -slope + share * lordosis
    if shape.lumbar_count == 6:
        heading[S1 - 1] += 0.12 * lordosis
    up = heading[L1]
    heading[:L1] = [up - d for d in _KYPHOSIS_DEG]
    heading[S1 + 1 :] = [-slope + shape.sacral_curve * d for d in _SACRAL_DEG]
    return heading + shape.heading_deg


class Spine:
    """A patient's spine: the curve, its segments, and both directions of the coordinates."""

    def __init__(self, shape: SpineShape) -> None:
        self.shape = shape
        self.segments = _segments(shape)
        self.warp = Warp(shape.warp_seed, shape.warp_mm)
        self.s: FloatArray = np.arange(0.0, self.segments.vertebra_s[-1] + self.segments.vertebra_half[-1], STEP_MM)
        # Vertebrae are rigid: the bend happens in the discs, softened because ligaments and the sac bend smoothly.
        nodes = np.stack(
            [
                self.segments.vertebra_s - 0.7 * self.segments.vertebra_half,
                self.segments.vertebra_s + 0.7 * self.segments.vertebra_half,
            ],
            axis=1,
        ).ravel()
        heading = np.interp(self.s, nodes, np.repeat(_heading_deg(shape), 2))
        self._heading = np.radians(gaussian_filter1d(heading, 5.0 / STEP_MM, mode="nearest"))
        y, z = (np.cumsum(-f(self._heading)) * STEP_MM for f in (np.sin, np.cos))
        anchor = int(self.segments.level_s(Level.L3_L4) / STEP_MM)
        self._y = y - y[anchor] + shape.origin_mm[1]
        self._z = z - z[anchor] + shape.origin_mm[2]
        wave = 2 * np.pi * (self.s - self.segments.level_s(Level.L3_L4)) / 330.0
        side = shape.scoliosis_mm * (np.cos(wave + shape.scoliosis_phase) - np.cos(shape.scoliosis_phase))
        self._x = side + shape.origin_mm[0]
        self._x_slope = np.gradient(self._x, STEP_MM)
        self._slip = self._slips()
        self._tree = cKDTree(np.stack([self._y, self._z], axis=1)[::2])
        self._map: tuple[Float32Array, Float32Array] | None = None
        self._map_origin = (shape.origin_mm[1] - 230.0, shape.origin_mm[2] - 270.0)

    def _slips(self) -> FloatArray:  # [S]
        """Forward shift along the curve: every slipped vertebra takes all above it along."""
        slip = np.zeros_like(self.s)
        for level, amount in zip(Level, self.shape.slip_mm, strict=True):
            slip += amount / (1 + np.exp((self.s - self.segments.level_s(level)) / 1.5))
        return slip

    def at(self, values: FloatArray, s: float) -> float:
        """Value of a profile along the curve at s."""
        return float(np.interp(s, self.s, values))

    def heading_rad(self, s: float) -> float:
        """Backward lean of the upward axis at s."""
        return self.at(self._heading, s)

    def to_patient(self, s: float, u: float, v: float) -> FloatArray:  # [3]
        """Spine coordinates to patient mm (LPS)."""
        s, u, v = self.warp.undo(s, u, v)
        on_curve = s
        for _ in range(6):  # endplates tilt with the sideways bend: s is read u * slope further down
            on_curve = s - u * self.at(self._x_slope, on_curve)
        back = v - self.at(self._slip, s)
        heading = self.at(self._heading, on_curve)
        x, y, z = (self.at(c, on_curve) for c in (self._x, self._y, self._z))
        return np.array([x + u, y + back * np.cos(heading), z - back * np.sin(heading)])

    def _in_plane(self, y: FloatArray, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(s, v) of points in the curve's plane, before slip, bend and tilt."""
        _, nearest = self._tree.query(np.stack([y.ravel(), z.ravel()], axis=1))
        i = np.asarray(nearest) * 2
        dy, dz = y.ravel() - self._y[i], z.ravel() - self._z[i]
        sin, cos = np.sin(self._heading[i]), np.cos(self._heading[i])
        s = self.s[i] - (dy * sin + dz * cos)
        return s.reshape(y.shape), (dy * cos - dz * sin).reshape(y.shape)

    def plane_map(self) -> tuple[Float32Array, Float32Array, tuple[float, float], float]:  # [Z, Y]
        """(s, v) on a grid over y and z, its origin (y, z) and its step: slices interpolate in it."""
        if self._map is None:
            y = self._map_origin[0] + np.arange(0, 420, _MAP_MM)
            z = self._map_origin[1] + np.arange(0, 540, _MAP_MM)
            grid = np.meshgrid(y, z)
            s, v = self._in_plane(*grid)
            self._map = (s.astype(np.float32), v.astype(np.float32))
        return *self._map, self._map_origin, _MAP_MM

    @property
    def lateral(self) -> tuple[FloatArray, FloatArray, FloatArray]:  # [S]
        """Profiles along s: sideways position x, its slope, and the forward slip."""
        return self._x, self._x_slope, self._slip

    @property
    def headings_rad(self) -> FloatArray:  # [S]
        """Backward lean of the upward axis along the curve."""
        return self._heading

    @property
    def path_mm(self) -> FloatArray:  # [S, 3]
        """Curve in patient mm."""
        return np.stack([self._x, self._y, self._z], axis=1)
