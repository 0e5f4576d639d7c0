"""Sample points of one slice in patient and spine coordinates, and painting with soft edges."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.geometry import Plane
from shared.synthetic.profiles import Profiles, profile_index
from shared.synthetic.spine import STEP_MM, Spine

Float32Array = NDArray[np.float32]
IndexArray = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Points of one sampling plane, flattened.

    Attributes:
      x, y, z: patient mm (LPS). # [N]
      u, v: mm to the left of the spine's curve, mm behind it. # [N]
      i: index of the arc position s into the profiles. # [N]
      soft: width over which an edge fades, mm: about a pixel.
    """

    x: Float32Array
    y: Float32Array
    z: Float32Array
    u: Float32Array
    v: Float32Array
    i: NDArray[np.int32]
    soft: float


class SpineGrid:
    """Float32 lookup tables of a spine for fast conversion of whole planes."""

    def __init__(self, spine: Spine) -> None:
        self._map_s, self._map_v, self._origin, self._step = spine.plane_map()
        self._x, self._slope, self._slip = (a.astype(np.float32) for a in spine.lateral)

    def points(self, plane: Plane, shape: tuple[int, int], offset_mm: float) -> Points:
        """Sample points of a plane shifted by `offset_mm` along its normal."""
        rows = np.arange(shape[0], dtype=np.float32)[:, None] * np.float32(plane.spacing_mm[0])
        cols = np.arange(shape[1], dtype=np.float32)[None, :] * np.float32(plane.spacing_mm[1])
        origin = np.asarray(plane.origin_mm) + offset_mm * plane.normal
        x, y, z = (
            np.float32(origin[a]) + cols * np.float32(plane.row_dir[a]) + rows * np.float32(plane.col_dir[a])
            for a in range(3)
        )
        at_y, at_z = (y - self._origin[0]) / self._step, (z - self._origin[1]) / self._step
        s, v = (
            cv2.remap(m, at_y, at_z, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for m in (self._map_s, self._map_v)
        )
        last = len(self._x) - 1
        on_curve = np.clip((s * np.float32(1 / STEP_MM)).astype(np.int32), 0, last)
        u = x - self._x[on_curve]
        i = np.clip(profile_index(s + u * self._slope[on_curve]), 0, last)
        v = v + self._slip[i]
        soft = max(0.8 * max(plane.spacing_mm), 0.45)
        return Points(x=x.ravel(), y=y.ravel(), z=z.ravel(), u=u.ravel(), v=v.ravel(), i=i.ravel(), soft=soft)


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Some points of a plane with what their painters share: coordinates and the profiles to look up.

    Attributes:
      at: which points of the plane. # [n]
      u, v: spine coordinates, u signed. # [n]
      a: |u|. # [n]
      side: 0 left, 1 right. # [n]
      i: profile index. # [n]
    """

    canvas: Float32Array
    profiles: Profiles
    at: IndexArray
    u: Float32Array
    v: Float32Array
    a: Float32Array
    side: NDArray[np.int8]
    i: NDArray[np.int32]
    soft: float

    def get(self, name: str) -> Float32Array:
        """A profile at every point; two-sided ones give the value of the point's side. # [n]"""
        values: Float32Array = getattr(self.profiles, name)
        return values[self.i] if values.ndim == 1 else values[self.side, self.i]

    def where(self, mask: NDArray[np.bool_]) -> "Region":
        """The points where `mask` holds."""
        keep = np.flatnonzero(mask)
        return Region(
            canvas=self.canvas,
            profiles=self.profiles,
            at=self.at[keep],
            u=self.u[keep],
            v=self.v[keep],
            a=self.a[keep],
            side=self.side[keep],
            i=self.i[keep],
            soft=self.soft,
        )

    def inside(self, distance: Float32Array, soft: float | None = None) -> Float32Array:
        """Coverage 0..1 from a signed distance in mm, positive inside. # [n]"""
        alpha = distance * np.float32(1 / (soft or self.soft)) + np.float32(0.5)
        return np.clip(alpha, 0, 1, out=alpha)

    def paint(self, alpha: Float32Array, value: Float32Array) -> None:
        """Blends a signal, [C, 1] or [C, n], over the canvas."""
        old = self.canvas[:, self.at]
        self.canvas[:, self.at] = old + alpha * (value - old)


def region_of(canvas: Float32Array, profiles: Profiles, points: Points, mask: NDArray[np.bool_]) -> Region:
    """The region of a plane where `mask` holds."""
    at = np.flatnonzero(mask)
    u = points.u[at]
    return Region(
        canvas=canvas,
        profiles=profiles,
        at=at,
        u=u,
        v=points.v[at],
        a=np.abs(u),
        side=(u < 0).astype(np.int8),
        i=points.i[at],
        soft=points.soft,
    )


def ellipse(a: Float32Array, b: Float32Array, half_a: Float32Array | float, half_b: Float32Array | float) -> Float32Array:
    """About the signed distance in mm to an ellipse centred at (0, 0), positive inside. # [n]"""
    p, q = a / half_a, b / half_b
    radius = np.sqrt(p * p + q * q) + np.float32(1e-6)
    # (1 - r) / |grad r|: exact at the boundary, which is where it matters.
    slope = np.sqrt((p / half_a) ** 2 + (q / half_b) ** 2) / radius + np.float32(1e-6)
    result: Float32Array = ((1 - radius) / slope).astype(np.float32)
    return result
