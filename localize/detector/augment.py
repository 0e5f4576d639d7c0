"""Augmentation of a batch of grey training images and their boxes, on any device.

A box keeps its meaning: a fixed size around a point. Every draw comes from one generator of numpy, so a batch does not
depend on what was prepared before it.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from localize.config import AugmentConfig
from shared.geometry import FloatArray

# A box of which less than this share is visible is dropped: its point is near or beyond the border.
_MIN_VISIBLE: Final = 0.5
_KNOTS: Final = 6
# Smooth random fields are cubic splines through so many values a side.
_FIELD: Final = 4
_BLURS_FROM_PX: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes:
    """Boxes of a batch.

    Attributes:
      xyxy: [m, 4] in pixels, whose centres are whole numbers.
      image: position of each box's image in the batch, [m].
    """

    xyxy: FloatArray
    image: NDArray[np.intp]


class Augmenter:
    """Distorts images of one size and changes their grey values."""

    def __init__(self, config: AugmentConfig, shape: tuple[int, int], device: torch.device) -> None:
        self._config, self._shape, self._device = config, shape, device
        rows, columns = shape
        self._splines = (_spline(rows), _spline(columns))
        self._y, self._x = (torch.arange(n, dtype=torch.float32, device=device) for n in shape)
        self._down, self._across = (torch.from_numpy(s.astype(np.float32)).to(device) for s in self._splines)

    def __call__(
        self, images: Tensor, boxes: Boxes, rng: np.random.Generator
    ) -> tuple[Tensor, Boxes, NDArray[np.bool_]]:
        """Augments one batch.

        Args:
          images: [n, rows, columns], uint8.

        Returns:
          The images, [n, rows, columns] from 0 to 1; the boxes that are still visible, clipped to their images; and
          which of the given boxes they are.
        """
        config, count = self._config, len(images)
        values = self._look_up(images, rng)
        matrices, scales = self._motions(count, rng)
        strength = config.bend * max(self._shape) * rng.random((count, 1, 1, 1))
        bend = strength * rng.standard_normal((count, 2, _FIELD, _FIELD))
        values = self._move(values, matrices, bend)
        values = self._shade(values, rng)
        values = self._blur(values, rng)
        generator = torch.Generator(self._device).manual_seed(int(rng.integers(2**31)))
        noise = torch.randn(values.shape, generator=generator, device=self._device)
        values = values.addcmul_(noise, self._sent(config.noise * rng.random((count, 1, 1)))).clamp_(0, 1)
        field = self._fields_of_view(count, rng)
        values = self._blackened(values, field)
        moved = self._moved(boxes, matrices, scales, bend)
        left, top, right, bottom = field[boxes.image].T
        clipped = np.clip(moved, np.stack([left, top, left, top], 1), np.stack([right, bottom, right, bottom], 1))
        keep = _area(clipped) >= _MIN_VISIBLE * np.maximum(_area(moved), 1e-9)
        return values, Boxes(xyxy=clipped[keep], image=boxes.image[keep]), keep

    def _sent(self, values: ArrayLike) -> Tensor:
        return torch.from_numpy(np.asarray(values, np.float32)).to(self._device)

    def _look_up(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """Grey values through a random gamma and a random tone curve, one table an image."""
        config, count = self._config, len(images)
        exponent = np.exp(_uniform(rng, -config.gamma, config.gamma, (count, 1)))
        knots = np.linspace(0, 1, _KNOTS)
        strength = config.tone * _uniform(rng, -1, 1, (count, 1))
        curves = np.clip(knots + strength * rng.standard_normal((count, _KNOTS)) * (knots > 0), 0, 1.2)
        levels = np.linspace(0, 1, 256) ** exponent
        tables = np.stack([np.interp(level, knots, curve) for level, curve in zip(levels, curves, strict=True)])
        return self._sent(tables).gather(1, images.reshape(count, -1).long()).view(images.shape)

    def _motions(self, count: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Random rotations, scales and shifts from source to result, [n, 2, 3], and the scales."""
        config, (rows, columns) = self._config, self._shape
        angle = np.radians(_uniform(rng, -config.rotate_deg, config.rotate_deg, (count,)))
        scale = np.exp(_uniform(rng, -config.scale, config.scale, (count,)))
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        linear = np.stack([np.stack([cos, sin], 1), np.stack([-sin, cos], 1)], 1)
        middle = np.array([(columns - 1) / 2, (rows - 1) / 2])
        shift = _uniform(rng, -config.shift, config.shift, (count, 2)) * (columns, rows)
        return np.concatenate([linear, (middle - linear @ middle + shift)[..., None]], axis=2), scale

    def _field(self, values: ArrayLike) -> Tensor:
        """Smooth fields through the values, [n, c, 4, 4] -> [n, c, rows, columns]."""
        return self._down @ self._sent(values) @ self._across.T

    def _move(self, values: Tensor, matrices: FloatArray, bend: FloatArray) -> Tensor:
        """The images at p show what was at the inverse of p + bend(p)."""
        inverse = np.linalg.inv(np.concatenate([matrices, np.tile([[[0.0, 0.0, 1.0]]], (len(values), 1, 1))], axis=1))
        rows, columns = self._shape
        # From pixels to the range from -1 to 1 in which torch gives positions.
        unit = np.array([[2 / (columns - 1), 0, -1], [0, 2 / (rows - 1), -1], [0, 0, 1]])
        motion = self._sent((unit @ inverse)[:, :2])[..., None, None]
        bent = self._field(bend)
        x, y = bent[:, 0] + self._x, bent[:, 1] + self._y[:, None]
        # Computed as [n, rows, columns, 2], as torch wants it.
        grid = torch.stack([motion[:, k, 0] * x + motion[:, k, 1] * y + motion[:, k, 2] for k in (0, 1)], dim=-1)
        return nn.functional.grid_sample(values[:, None], grid, padding_mode="zeros", align_corners=True)[:, 0]

    def _moved(self, boxes: Boxes, matrices: FloatArray, scales: FloatArray, bend: FloatArray) -> FloatArray:
        """Boxes follow the centre and the scale but not the rotation: a box around a rotated box would be too large."""
        of, xyxy, (rows, columns) = boxes.image, boxes.xyxy, self._shape
        matrix, (down, across) = matrices[of], self._splines
        centers = (xyxy[:, :2] + xyxy[:, 2:]) / 2
        centers = np.einsum("mij,mj->mi", matrix[:, :, :2], centers) + matrix[:, :, 2]
        # The image at p shows what was at p + bend(p), so a point moves against the bend of the place that it moves to.
        straight = centers
        for _ in range(4):
            at = np.clip(np.rint(centers), 0, [columns - 1, rows - 1]).astype(int)
            centers = straight - np.einsum("mi,mcij,mj->mc", down[at[:, 1]], bend[of], across[at[:, 0]])
        half = (xyxy[:, 2:] - xyxy[:, :2]) / 2 * scales[of, None]
        return np.concatenate([centers - half, centers + half], axis=1)

    def _shade(self, values: Tensor, rng: np.random.Generator) -> Tensor:
        """Multiplies by a gain, by blotchy shading and by a brightness field like that of a surface coil."""
        config, count = self._config, len(values)
        gain = _uniform(rng, -config.gain, config.gain, (count, 1, 1))
        blotches = config.shading * rng.random((count, 1, 1, 1)) * rng.standard_normal((count, 1, _FIELD, _FIELD))
        a, b, c = (self._sent(v)[:, None] for v in _uniform(rng, -config.bias, config.bias, (3, count)))
        y, x = (torch.linspace(-0.5, 0.5, len(v), device=self._device) for v in (self._y, self._x))
        exponent = self._field(blotches)[:, 0]
        exponent += (a * x + 2 * c * x * x)[:, None] + (b * y + 2 * c * y * y)[..., None] + self._sent(gain)
        return values * exponent.exp_()

    def _blur(self, values: Tensor, rng: np.random.Generator) -> Tensor:
        sigma = _uniform(rng, 0, self._config.blur_px, (len(values), 1))
        if self._config.blur_px <= _BLURS_FROM_PX:
            return values
        radius = min(math.ceil(3 * self._config.blur_px), min(self._shape) - 1)
        offsets = np.arange(-radius, radius + 1)
        kernels = np.exp(-0.5 * (offsets / np.maximum(sigma, 1e-3)) ** 2)
        kernels = np.where(sigma > _BLURS_FROM_PX, kernels / kernels.sum(1, keepdims=True), offsets == 0)
        weights = self._sent(kernels)[:, None]
        for axis, kernel in ((0, weights[..., None]), (1, weights[:, :, None])):
            border = (radius, radius, 0, 0) if axis else (0, 0, radius, radius)
            padded = nn.functional.pad(values[None], border, mode="reflect")
            values = nn.functional.conv2d(padded, kernel, groups=len(values))[0]
        return values

    def _fields_of_view(self, count: int, rng: np.random.Generator) -> FloatArray:
        """Left, top, right and bottom of what stays visible, [n, 4] in whole pixels."""
        rows, columns = self._shape
        cut = rng.uniform(0, 0.22, (count, 4)) * rng.integers(0, 2, (count, 4))
        cut *= rng.random((count, 1)) < self._config.crop
        pixels = np.floor(cut * (columns, rows, columns, rows))
        return np.concatenate([pixels[:, :2], (columns, rows) - pixels[:, 2:]], axis=1)

    def _blackened(self, values: Tensor, field: FloatArray) -> Tensor:
        left, top, right, bottom = self._sent(field.T)[..., None]
        down = (self._y >= top) & (self._y < bottom)
        return values * (down[..., None] & ((self._x >= left) & (self._x < right))[:, None])


def _uniform(rng: np.random.Generator, low: float, high: float, shape: tuple[int, ...]) -> FloatArray:
    return low + (high - low) * rng.random(shape)


def _area(boxes_xyxy: FloatArray) -> FloatArray:
    return np.asarray((boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1]))


def _spline(size: int) -> FloatArray:
    """Weights of the values of a smooth field at each pixel of a side, [size, 4]."""
    corners = torch.eye(_FIELD, dtype=torch.float64)[None, None]
    return np.asarray(
        nn.functional.interpolate(corners, (size, _FIELD), mode="bicubic", align_corners=False)[0, 0].numpy()
    )
