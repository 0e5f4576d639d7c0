"""Augmentation of grey training images and their boxes. A box keeps its meaning: a fixed size around a point."""

import cv2
import numpy as np
from numpy.typing import NDArray

from localize.config import AugmentConfig
from shared.geometry import FloatArray

# A box of which less than this share is visible is dropped: its point is near or beyond the border.
_MIN_VISIBLE = 0.5


def augment(
    image: NDArray[np.uint8], boxes_xyxy: FloatArray, config: AugmentConfig, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], FloatArray, NDArray[np.bool_]]:
    """Distorts one image and changes its grey values.

    Args:
      image: [rows, columns].
      boxes_xyxy: [n, 4] in pixels.

    Returns:
      The image, the boxes that are still visible, clipped to it ([m, 4]), and which of the given boxes they are ([n]).
    """
    moved, boxes = _move(image, boxes_xyxy, config, rng)
    left, top, right, bottom = _field_of_view(image.shape, config, rng)
    field = np.zeros_like(moved)
    field[top:bottom, left:right] = 1
    coloured = _recolour(moved, config, rng) * field
    clipped = np.clip(boxes, [left, top, left, top], [right, bottom, right, bottom])
    area, visible = _area(boxes), _area(clipped)
    keep = visible >= _MIN_VISIBLE * np.maximum(area, 1e-9)
    return coloured, clipped[keep], keep


def _area(boxes_xyxy: FloatArray) -> FloatArray:
    return np.asarray((boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1]))


def _move(
    image: NDArray[np.uint8], boxes_xyxy: FloatArray, config: AugmentConfig, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], FloatArray]:
    """Rotates, scales, shifts and bends. Boxes follow the centre and the scale but not the rotation: a box around a
    rotated box would be too large."""
    rows, columns = image.shape
    angle = rng.uniform(-config.rotate_deg, config.rotate_deg)
    scale = float(np.exp(rng.uniform(-config.scale, config.scale)))
    matrix = np.asarray(cv2.getRotationMatrix2D(((columns - 1) / 2, (rows - 1) / 2), angle, scale), np.float64)
    matrix[:, 2] += rng.uniform(-config.shift, config.shift, 2) * (columns, rows)
    bend = _smooth((rows, columns, 2), config.bend * max(rows, columns), rng)
    inverse = cv2.invertAffineTransform(matrix).astype(np.float32)
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    bent_x, bent_y = x + bend[..., 0], y + bend[..., 1]
    moved = cv2.remap(
        image,
        inverse[0, 0] * bent_x + inverse[0, 1] * bent_y + inverse[0, 2],
        inverse[1, 0] * bent_x + inverse[1, 1] * bent_y + inverse[1, 2],
        cv2.INTER_LINEAR,
    )
    centers = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2 @ matrix[:, :2].T + matrix[:, 2]
    # The image at p shows what was at p + bend(p), so a point moves against the bend of the place that it moves to.
    straight = centers
    for _ in range(4):
        at = np.clip(np.rint(centers), 0, [columns - 1, rows - 1]).astype(int)
        centers = straight - bend[at[:, 1], at[:, 0]]
    half = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) / 2 * scale
    return np.asarray(moved, np.uint8), np.concatenate([centers - half, centers + half], axis=1)


def _smooth(shape: tuple[int, ...], size: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A smooth random field of the given shape and of a standard deviation up to `size`."""
    grid = rng.standard_normal((4, 4, *shape[2:])).astype(np.float32) * np.float32(size * rng.random())
    return np.asarray(cv2.resize(grid, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), np.float32)


def _field_of_view(
    shape: tuple[int, ...], config: AugmentConfig, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what stays visible."""
    left, top, right, bottom = 0, 0, shape[1], shape[0]
    if rng.random() < config.crop:
        cut = rng.uniform(0, 0.22, 4) * rng.integers(0, 2, 4)
        left, top = int(cut[0] * shape[1]), int(cut[1] * shape[0])
        right, bottom = shape[1] - int(cut[2] * shape[1]), shape[0] - int(cut[3] * shape[0])
    return left, top, right, bottom


def _recolour(image: NDArray[np.uint8], config: AugmentConfig, rng: np.random.Generator) -> NDArray[np.uint8]:
    values: NDArray[np.float32] = image.astype(np.float32) / np.float32(255)
    values **= np.float32(np.exp(rng.uniform(-config.gamma, config.gamma)))
    knots = np.linspace(0, 1, 6)
    curve = np.clip(knots + config.tone * rng.uniform(-1, 1) * rng.standard_normal(6) * (knots > 0), 0, 1.2)
    values = np.interp(values, knots, curve).astype(np.float32)
    values *= np.float32(np.exp(rng.uniform(-config.gain, config.gain)))
    values *= np.exp(_smooth(image.shape, config.shading, rng))
    y, x = np.meshgrid(*(np.linspace(-0.5, 0.5, n, dtype=np.float32) for n in image.shape), indexing="ij")
    slope = rng.uniform(-config.bias, config.bias, 3).astype(np.float32)
    values *= np.exp(slope[0] * x + slope[1] * y + slope[2] * 2 * (x * x + y * y))
    sigma = rng.uniform(0, config.blur_px)
    if sigma > 0.2:
        values = np.asarray(cv2.GaussianBlur(values, (0, 0), sigma), np.float32)
    values += rng.normal(0, 1, values.shape).astype(np.float32) * np.float32(rng.uniform(0, config.noise))
    return np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)
