"""Scales the grey values of a slice to 8 bit, by a percentile window."""

import math
from collections.abc import Callable
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

# Intensities between these percentiles of a slice are spread over 0..255. The lower end is at the darkest 1% (air and
# cortical bone); the upper end saturates the brightest fat near a surface coil, as a radiologist's window would.
WINDOW_PERCENTILES: Final = (1.0, 99.5)
# cv2.LUT is twice as fast as numpy, but before OpenCV 5 it looks up values of 8 bits only.
_LOOKS_UP_WORDS: Final = int(cv2.__version__.partition(".")[0]) >= 5
# From here on cv2.calcHist is slower than np.bincount.
_MANY_VALUES: Final = 2**14
# Whole numbers that float32 holds exactly.
_EXACT: Final = 2**24


def scale_to_8bit(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Spreads the intensities between two percentiles of the slice over 0..255; a flat image becomes black."""
    return _spread(pixels, *np.percentile(pixels, WINDOW_PERCENTILES))


def _spread(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        return np.zeros(values.shape, np.uint8)
    scaled = (values.astype(np.float32) - np.float32(low)) * np.float32(255.0 / (high - low))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def scale_by_table(stored: NDArray[Any], in_units: Callable[[NDArray[Any]], NDArray[np.float32]]) -> NDArray[np.uint8]:
    """The same bytes as `scale_to_8bit(in_units(stored))`, several times faster.

    16-bit integers have few distinct values, so percentiles come from their counts and each value is scaled once.

    Args:
      stored: integers of at most 16 bits, [rows, columns].
      in_units: maps values to units one by one; receives every value that occurs.
    """
    stored = np.ascontiguousarray(stored, stored.dtype.newbyteorder("="))
    bits = stored.view(f"u{stored.itemsize}")  # bit patterns, also of negative numbers, index the table
    counts = _counts(bits)
    present = np.flatnonzero(counts)
    units = in_units(present.astype(bits.dtype).view(stored.dtype))
    if not np.isfinite(units).all():
        return scale_to_8bit(in_units(stored))
    ascending, times = units, counts[present]
    if not (units[1:] > units[:-1]).all():  # falling, or several values that round to one
        order = np.argsort(units, kind="stable")
        ascending, times = units[order], times[order]
    table = np.zeros(256**stored.itemsize, np.uint8)
    table[present] = _spread(units, *_percentiles(ascending, times))
    return np.asarray(cv2.LUT(bits, table)) if _LOOKS_UP_WORDS else table.take(bits)


def _counts(bits: NDArray[Any]) -> NDArray[Any]:
    """How often each value occurs, at least up to the largest one that does."""
    top = int(bits.max())
    if bits.itemsize == 1 or top >= _MANY_VALUES or bits.size > _EXACT:
        return np.bincount(bits.ravel())
    counts = cv2.calcHist([bits], [0], None, [top + 1], [0, top + 1])  # twice as fast for few values; float32
    return np.asarray(counts).ravel().astype(np.intp)


def _percentiles(values: NDArray[np.float32], counts: NDArray[np.intp]) -> list[float]:
    """`np.percentile` of ascending values that each occur `counts` times, with numpy's own rounding."""
    ends = np.cumsum(counts)
    last, found = int(ends[-1]) - 1, []
    for percentile in WINDOW_PERCENTILES:
        at = last * (percentile / 100)
        below = int(at)
        a, b = (values[ends.searchsorted(i, side="right")] for i in (below, min(below + 1, last)))
        step, gamma = float(b - a), at - below
        found.append(float(b) - step * (1 - gamma) if gamma >= 0.5 else float(a) + step * gamma)
    return found
