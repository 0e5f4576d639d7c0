"""The points of one slice in patient and spine coordinates, and painting on them with soft edges."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.synthetic.anatomy.profiles import Profiles
from pipelines.synthetic.anatomy.spine import STEP_MM, Float32Array, Spine
from pipelines.synthetic.painting.contrast import Palette, Tissue
from shared.geometry import Plane

IndexArray = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Points of one sampling plane, flattened.

    Attributes:
      x, y, z: patient mm (LPS).
      u, v: mm to the left of the spine's curve, mm behind it.
      s: arc position, mm.
      i: its index into the profiles.
      soft: width over which an edge fades, mm: about a pixel.
    """

    x: Float32Array  # [N]
    y: Float32Array  # [N]
    z: Float32Array  # [N]
    u: Float32Array  # [N]
    v: Float32Array  # [N]
    s: Float32Array  # [N]
    i: IndexArray  # [N]
    soft: float

    def take(self, at: IndexArray) -> "Points":
        """Some of the points."""
        x, y, z, u, v, s = (a.take(at) for a in (self.x, self.y, self.z, self.u, self.v, self.s))
        return replace(self, x=x, y=y, z=z, u=u, v=v, s=s, i=self.i.take(at))


class SpineGrid:
    """Float32 lookup tables of a spine for fast conversion of whole planes."""

    def __init__(self, spine: Spine) -> None:
        self._warp = spine.warp
        self._map_s, self._map_v, self._origin, self._step = spine.plane_map()
        self._x, self._slope, self._slip = (a.astype(np.float32) for a in spine.lateral)
        self._sin, self._cos = (f(spine.headings_rad).astype(np.float32) for f in (np.sin, np.cos))

    def points(self, plane: Plane, shape: tuple[int, int]) -> Points:
        """The pixel centres of a slice."""
        rows = np.arange(shape[0], dtype=np.float32)[:, None] * np.float32(plane.spacing_mm[0])
        cols = np.arange(shape[1], dtype=np.float32)[None, :] * np.float32(plane.spacing_mm[1])
        x, y, z = (
            np.float32(plane.origin_mm[a]) + cols * np.float32(plane.row_dir[a]) + rows * np.float32(plane.col_dir[a])
            for a in range(3)
        )
        at_y, at_z = (y - self._origin[0]) / self._step, (z - self._origin[1]) / self._step
        s, v = (
            cv2.remap(m, at_y, at_z, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for m in (self._map_s, self._map_v)
        )
        on_curve = self._index(s)
        u = x - self._x[on_curve]
        s = s + u * self._slope[on_curve]
        v = v + self._slip[self._index(s)]
        s, u, v = self._irregular(s, u, v)
        i = self._index(s)
        soft = max(0.8 * max(plane.spacing_mm), 0.45)
        flat = {name: a.ravel() for name, a in zip("xyzuvs", (x, y, z, u, v, s), strict=True)}
        return Points(**flat, i=i.ravel(), soft=soft)

    def shift(self, points: Points, normal: NDArray[np.float64], offset_mm: float) -> Points:
        """Points moved along a slice's normal by a fraction of its thickness, to first order."""
        dx, dy, dz = (np.float32(offset_mm * n) for n in normal)
        sin, cos = self._sin[points.i], self._cos[points.i]
        s = points.s - (dy * sin + dz * cos)
        v = points.v + (dy * cos - dz * sin)
        x, y, z, u = points.x + dx, points.y + dy, points.z + dz, points.u + dx
        return replace(points, x=x, y=y, z=z, u=u, v=v, s=s, i=self._index(s))

    def _irregular(self, s: Float32Array, u: Float32Array, v: Float32Array) -> tuple[Float32Array, ...]:
        """Coordinates displaced by the patient's warp, which is smooth enough for a coarse grid."""
        rows, columns = s.shape
        coarse = [
            cv2.resize(a, ((columns + 2) // 3, (rows + 2) // 3), interpolation=cv2.INTER_LINEAR) for a in (s, u, v)
        ]
        moved = (cv2.resize(d, (columns, rows), interpolation=cv2.INTER_LINEAR) for d in self._warp.offsets(*coarse))
        return tuple(a + d for a, d in zip((s, u, v), moved, strict=True))

    def _index(self, s: Float32Array) -> IndexArray:
        """Profile index of arc positions."""
        return np.clip((s * np.float32(1 / STEP_MM)).astype(np.intp), 0, len(self._x) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Texture:
    """Smooth noise of one slice, about unit variance.

    Attributes:
      fine: grain of a few mm.
      coarse: blobs of one or two cm.
      streak: drawn out along muscle fibres.
    """

    fine: Float32Array  # [N]
    coarse: Float32Array  # [N]
    streak: Float32Array  # [N]


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Some points of a slice that is being painted: where they lie, what is painted with, and on what.

    Attributes:
      canvas: signal of all points of the slice.
      texture: of all points of the slice.
      at: which points of the slice these are.
      u, v: spine coordinates, u signed.
      a: |u|.
      i: profile index.
      sided_i: index into a two-sided profile, whose left half comes first.
      soft: width over which an edge fades, mm.
    """

    canvas: Float32Array  # [C, N]
    profiles: Profiles
    palette: Palette
    texture: Texture
    at: IndexArray  # [n]
    u: Float32Array  # [n]
    v: Float32Array  # [n]
    a: Float32Array  # [n]
    i: IndexArray  # [n]
    sided_i: IndexArray  # [n]
    soft: float

    @property
    def fine(self) -> Float32Array:  # [n]
        return self.texture.fine.take(self.at)

    @property
    def coarse(self) -> Float32Array:  # [n]
        return self.texture.coarse.take(self.at)

    @property
    def streak(self) -> Float32Array:  # [n]
        return self.texture.streak.take(self.at)

    def get(self, name: str) -> Float32Array:  # [n]
        """A profile at every point; two-sided ones give the value of the point's side."""
        values = self.profiles[name]
        return values.take(self.i if values.ndim == 1 else self.sided_i)

    def sided(self, values: tuple[float, float]) -> Float32Array:  # [n]
        """The left or the right value, by each point's side."""
        return np.where(self.u < 0, np.float32(values[1]), np.float32(values[0]))

    def mix(self, base: Tissue, other: Tissue, share: Float32Array | float) -> Float32Array:  # [C, n]
        """Signal between two tissues."""
        result: Float32Array = self.palette[base] + share * (self.palette[other] - self.palette[base])
        return result

    def where(self, mask: NDArray[np.bool_]) -> "Region":
        """The points where `mask` holds."""
        return self.take(np.flatnonzero(mask))

    def take(self, keep: IndexArray) -> "Region":
        """Some of the points."""
        at, u, v, a, i, sided_i = (x.take(keep) for x in (self.at, self.u, self.v, self.a, self.i, self.sided_i))
        return replace(self, at=at, u=u, v=v, a=a, i=i, sided_i=sided_i)

    def inside(self, distance: Float32Array, soft: float | None = None) -> Float32Array:  # [n]
        """Coverage 0..1 from a signed distance in mm, positive inside."""
        alpha = distance * np.float32(1 / (soft or self.soft)) + np.float32(0.5)
        return np.minimum(np.maximum(alpha, 0, out=alpha), 1, out=alpha)

    def paint(self, alpha: Float32Array, value: Float32Array) -> None:
        """Blends a signal, [C, 1] or [C, n], over the canvas where alpha, [n], is not 0."""
        some = np.flatnonzero(alpha > 0.004)
        if not len(some):
            return
        where, share = self.at.take(some), alpha.take(some)
        for channel, signal in zip(self.canvas, value, strict=True):
            old = channel.take(where)
            channel[where] = old + share * ((signal if len(signal) == 1 else signal.take(some)) - old)


def region_of(
    canvas: Float32Array, points: Points, at: IndexArray, *, profiles: Profiles, palette: Palette, texture: Texture
) -> Region:  # [n]
    """The points `at` of a canvas, whose coordinates are `points`."""
    return Region(
        canvas=canvas,
        profiles=profiles,
        palette=palette,
        texture=texture,
        at=at,
        u=points.u,
        v=points.v,
        a=np.abs(points.u),
        i=points.i,
        sided_i=points.i + (points.u < 0) * profiles["to_disc"].size,
        soft=points.soft,
    )


def ellipse(
    a: Float32Array, b: Float32Array, half_a: Float32Array | float, half_b: Float32Array | float
) -> Float32Array:  # [n]
    """Approximate signed distance in mm to an ellipse centred at (0, 0), positive inside."""
    p, q = a / half_a, b / half_b
    radius = np.sqrt(p * p + q * q) + np.float32(1e-6)
    # (1 - r) / |grad r|: exact at the boundary, which is where it matters.
    slope = np.sqrt((p / half_a) ** 2 + (q / half_b) ** 2) / radius + np.float32(1e-6)
    result: Float32Array = ((1 - radius) / slope).astype(np.float32)
    return result
