"""The signal of a patient on the slices of a stack, before a scanner adds noise and artefacts."""

from functools import partial
from typing import Final

import cv2
import numpy as np

from pipelines.synthetic.anatomy.patient import Case
from pipelines.synthetic.anatomy.spine import Float32Array
from pipelines.synthetic.painting.canvas import SpineGrid, Texture, region_of
from pipelines.synthetic.painting.contrast import Palette
from pipelines.synthetic.painting.spine import near_spine, paint_spine
from pipelines.synthetic.painting.trunk import Trunk
from pipelines.synthetic.scanner.stack import Stack

# Sub-planes per slice, at these fractions of the slice thickness from its middle.
_SUBPLANES: Final = (-0.25, 0.25)


def render(stack: Stack, case: Case, palette: Palette, rng: np.random.Generator) -> Float32Array:
    """Noise-free signal of every slice, slice thickness included: (C, slices, rows, columns)."""
    channels = len(palette.weightings)
    out = np.zeros((channels, len(stack.planes), *stack.shape), dtype=np.float32)
    grid, trunk = SpineGrid(case.spine), Trunk(case.spine, case.build)
    for k, (plane, texture) in enumerate(zip(stack.planes, _textures(stack, rng), strict=True)):
        region = partial(region_of, profiles=case.profiles, palette=palette, texture=texture)
        # What lies around the spine is coarse: one sample through the slice's thickness will do.
        points = grid.points(plane, stack.shape)
        around = region(np.zeros((channels, points.u.size), np.float32), points, np.arange(points.u.size))
        body = trunk.paint(around, points)
        at = near_spine(points)
        near = points.take(at)
        for fraction in _SUBPLANES:
            canvas = around.canvas.copy()
            shifted = grid.shift(near, plane.normal, fraction * stack.thickness_mm)
            paint_spine(region(canvas, shifted, at))
            out[:, k] += (canvas * body).reshape(channels, *stack.shape) / len(_SUBPLANES)
    return out


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
