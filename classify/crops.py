"""The cropper: cuts what the network sees of a finding, in training and in prediction alike.

A crop is a square of fixed size in mm around the localization. It always shows the anatomy in the same orientation, in
the finding's own view and, where configured, in a second view after it:

- sagittal: x to posterior, y to foot; slices medial to lateral for a side, right to left for the canal;
- axial: x to the finding's side (to the patient's left for the canal), y to posterior; slices head to foot.

Directions come from the plane of each slice, so the storage order and in-plane orientation of a series do not matter,
and a right side becomes the mirror image of a left one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from classify.config import CropConfig
from shared.detections import Localization
from shared.geometry import HEAD, LEFT, POSTERIOR, FloatArray, Plane
from shared.labels import Finding, Side, View
from shared.runtime.errors import InputError
from shared.study import Series, Slice, Study

ReadPixels = Callable[[Slice], NDArray[np.uint8]]
Axes = tuple[FloatArray, FloatArray]

# A view shows a point if one of its slices is this near. Slices are 3 to 6 mm apart, centre to centre.
_WITHIN_MM: Final = 5.0
# If several series of a view are about equally near, the study's first is taken, so that T2 and STIR do not alternate.
_AS_NEAR_MM: Final = 1.0
# Slices nearer than this along the normal are one position stored twice.
_SAME_POSITION_MM: Final = 0.1
# A gap this many times the median gap separates two blocks of one tilt, which show different discs.
_WIDE_GAP: Final = 1.8


class WrongPlaneError(InputError):
    """A slice does not lie in the plane of its view."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CropSpec:
    """Shape of a crop.

    Attributes:
      size_px: side of the square.
      slices: number of channels per view, odd.
      mirror: whether right sides become the mirror image of left ones.
      second: a second view, with as many channels of the same place.
    """

    size_px: int
    slices: int
    mm_per_px: float
    mirror: bool = True
    second: View | None = None

    def shows_mirrored(self, finding: Finding) -> bool:
        return self.mirror and finding.side is Side.RIGHT

    @classmethod
    def final(cls, config: CropConfig, finding: Finding) -> "CropSpec":
        """The crop that the network sees."""
        return cls(
            size_px=config.size_px, slices=config.slices, mm_per_px=config.mm_per_px.of(finding.condition),
            mirror=config.mirror_right, second=config.second_view_of(finding.condition),
        )  # fmt: skip

    @classmethod
    def cached(cls, config: CropConfig, finding: Finding) -> "CropSpec":
        """The crop that training keeps, with a margin for jitter."""
        return replace(cls.final(config, finding), size_px=config.cached_px, slices=config.cached_slices)


def canonical_axes(plane: Plane, view: View, *, mirrored: bool = False) -> Axes:
    """In-plane unit directions [3] of a crop's x and y in patient space (LPS).

    Args:
      mirrored: whether a right side is shown like a left one.

    Raises:
      WrongPlaneError: when the plane is not sagittal (or axial) at all, so that the directions do not exist in it.
    """
    if view.is_sagittal:
        x_wish, y_wish = POSTERIOR, -HEAD
    else:
        x_wish, y_wish = (-LEFT if mirrored else LEFT), POSTERIOR
    x_dir = x_wish - (x_wish @ plane.normal) * plane.normal
    length = float(np.linalg.norm(x_dir))
    if length < 0.5:  # more than 60 degrees off: another view under this name
        raise WrongPlaneError(f"a plane with normal {np.round(plane.normal, 2).tolist()} is no {view.value} plane")
    x_dir = x_dir / length
    y_dir = np.cross(plane.normal, x_dir)
    return x_dir, y_dir if y_dir @ y_wish >= 0 else -y_dir


def channel_slices(
    series: Series, instance_number: int, count: int, view: View, *, mirrored: bool = False
) -> tuple[Slice, ...]:
    """The `count` slices of a crop in canonical order around the given one; the ends of its block are repeated.

    Raises:
      InputError: when the series has no slice of that instance number.
    """
    for stack in series.stacks:
        middle = next((i for i, s in enumerate(stack) if s.instance_number == instance_number), None)
        if middle is None:
            continue
        kept, center = _block(*_without_duplicates(stack, middle))
        if _reversed(kept, view, mirrored=mirrored):
            kept, center = kept[::-1], len(kept) - 1 - center
        half = count // 2
        return tuple(kept[min(max(center + k, 0), len(kept) - 1)] for k in range(-half, half + 1))
    raise InputError(
        f"series {series.series_id} has no slice {instance_number}; the localizations belong to other data"
    )


def _without_duplicates(stack: tuple[Slice, ...], middle: int) -> tuple[list[Slice], int]:
    """The stack with one slice per position, always with slice `middle`, and the new index of that slice."""
    normal = stack[middle].plane.normal
    kept: list[int] = []
    position = [float(np.asarray(s.plane.origin_mm) @ normal) for s in stack]
    for i in range(len(stack)):
        if kept and abs(position[i] - position[kept[-1]]) < _SAME_POSITION_MM:
            if i == middle:
                kept[-1] = i
            continue
        kept.append(i)
    return [stack[i] for i in kept], kept.index(middle)


def _block(stack: list[Slice], middle: int) -> tuple[list[Slice], int]:
    """The stack up to the next wide gap on either side of slice `middle`, and the new index of that slice."""
    if len(stack) < 3:
        return stack, middle
    gaps = np.abs(np.diff([np.asarray(s.plane.origin_mm) @ stack[middle].plane.normal for s in stack]))
    wide = np.flatnonzero(gaps > _WIDE_GAP * np.median(gaps))  # gap i lies between slices i and i + 1
    first = int(max(wide[wide < middle] + 1, default=0))
    last = int(min(wide[wide >= middle], default=len(stack) - 1))
    return stack[first : last + 1], middle - first


def _reversed(stack: list[Slice], view: View, *, mirrored: bool) -> bool:
    """Whether canonical order is the reverse of the stack's order."""
    step = np.asarray(stack[-1].plane.origin_mm) - np.asarray(stack[0].plane.origin_mm)
    along = float(step @ stack[0].plane.normal) * stack[0].plane.normal
    if not view.is_sagittal:
        return bool(along @ HEAD > 0)
    return bool(along @ (-LEFT if mirrored else LEFT) < 0)


def crop(study: Study, localization: Localization, spec: CropSpec, read: ReadPixels) -> NDArray[np.uint8]:
    """Cuts one crop [slices, size_px, size_px] in the finding's own view. It is black outside the image.

    Args:
      read: returns a slice's 8-bit pixels [rows, columns]. It is called often, so it should cache.

    Raises:
      InputError: when the series or slice does not exist, or a slice cannot be read.
      WrongPlaneError: when the slice does not lie in the plane of the finding's view.
    """
    series = study.get(localization.series_id)
    if series is None:
        raise InputError(f"there is no series {localization.series_id}; the localizations belong to other data")
    slices = channel_slices(
        series, localization.instance_number, spec.slices, localization.finding.view,
        mirrored=spec.shows_mirrored(localization.finding),
    )  # fmt: skip
    center_mm = slices[spec.slices // 2].plane.to_patient([localization.x_px, localization.y_px])
    return _channels(slices, center_mm, localization.finding, localization.finding.view, spec, read)


def second_crop(
    study: Study, localization: Localization, view: View, spec: CropSpec, read: ReadPixels
) -> NDArray[np.uint8]:
    """As `crop`, at the same place in another view. It is black if the study has no slice of that place."""
    series = study.get(localization.series_id)
    own = series.by_instance(localization.instance_number) if series else None
    shown = None
    if own is not None:
        point_mm = own.plane.to_patient([localization.x_px, localization.y_px])
        shown = _slice_at(study, view, point_mm)
    if shown is None:
        return np.zeros((spec.slices, spec.size_px, spec.size_px), np.uint8)
    slices = channel_slices(*shown, spec.slices, view, mirrored=spec.shows_mirrored(localization.finding))
    return _channels(slices, point_mm, localization.finding, view, spec, read)


def _channels(
    slices: Sequence[Slice], center_mm: FloatArray, finding: Finding, view: View, spec: CropSpec, read: ReadPixels
) -> NDArray[np.uint8]:
    """Crops [slices, size, size] of each slice around the projection of `center_mm`.

    A neighbour that cannot be read is replaced by the next slice towards the middle; the middle one must be sound.
    """
    cut: dict[int, NDArray[np.uint8]] = {}

    def crop_of(item: Slice) -> NDArray[np.uint8]:
        if id(item) not in cut:
            axes = canonical_axes(item.plane, view, mirrored=spec.shows_mirrored(finding))
            cut[id(item)] = resample(read(item), item.plane, center_mm, axes, spec)
        return cut[id(item)]

    middle = len(slices) // 2
    channels = {middle: crop_of(slices[middle])}
    for k in sorted(range(len(slices)), key=lambda k: abs(k - middle)):
        try:
            channels[k] = crop_of(slices[k])
        except InputError:  # `cut_crops` tells of it
            channels[k] = channels[k + (1 if k < middle else -1)]
    return np.stack([channels[k] for k in range(len(slices))])


def _shows(item: Slice, point_mm: FloatArray) -> bool:
    x, y = item.plane.to_pixel(point_mm)
    return item.contains((float(x), float(y)))


def _slice_at(study: Study, view: View, point_mm: FloatArray) -> tuple[Series, int] | None:
    """The first of the nearest series of a view that show a point, and the number of its nearest slice."""
    nearest: list[tuple[float, Series, int]] = []
    for series in study.of_view(view):
        showing = [s for s in series.slices if _shows(s, point_mm)]
        distances = [abs(float(s.plane.distance_mm(point_mm))) for s in showing]
        if distances and min(distances) <= _WITHIN_MM:
            best = int(np.argmin(distances))
            nearest.append((distances[best], series, showing[best].instance_number))
    if not nearest:
        return None
    least = min(distance for distance, _, _ in nearest)
    return next((series, number) for distance, series, number in nearest if distance <= least + _AS_NEAR_MM)


def resample(
    pixels: NDArray[np.uint8], plane: Plane, center_mm: FloatArray, axes: Axes, spec: CropSpec
) -> NDArray[np.uint8]:
    """One channel [size, size]: the plane's image around the projection of `center_mm`, along `axes`."""
    x_dir, y_dir = axes
    origin = plane.to_pixel(center_mm)
    step_x = (plane.to_pixel(center_mm + x_dir) - origin) * spec.mm_per_px  # source px per crop px, along crop x
    step_y = (plane.to_pixel(center_mm + y_dir) - origin) * spec.mm_per_px
    middle = (spec.size_px - 1) / 2
    matrix = np.column_stack([step_x, step_y, origin - middle * (step_x + step_y)])
    source, matrix = _region(pixels, matrix, spec.size_px)
    # A crop that is coarser than the image needs a low-pass first, or fine detail would alias.
    ratio = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if ratio > 1.05:
        sigma = 0.5 * float(np.sqrt(ratio**2 - 1))
        blurred = cv2.GaussianBlur(source, (0, 0), sigmaX=sigma, borderType=cv2.BORDER_REPLICATE)
        source = np.asarray(blurred, dtype=np.uint8)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (spec.size_px, spec.size_px)
    return np.asarray(
        cv2.warpAffine(source, matrix, size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=0), dtype=np.uint8
    )


def _region(pixels: NDArray[np.uint8], matrix: FloatArray, size_px: int) -> tuple[NDArray[np.uint8], FloatArray]:
    """The part of the image that the crop needs with a border for the low-pass, and the matrix into that part."""
    last = size_px - 1
    corners = matrix @ np.array([[0, last, 0, last], [0, 0, last, last], [1, 1, 1, 1]], dtype=np.float64)
    height, width = pixels.shape
    left, top = (max(int(np.floor(v)) - 8, 0) for v in corners.min(axis=1))
    right, bottom = (int(np.ceil(v)) + 9 for v in corners.max(axis=1))
    part = pixels[min(top, height) : max(bottom, 0), min(left, width) : max(right, 0)]
    if part.size == 0:
        return np.zeros((1, 1), np.uint8), matrix
    shifted = matrix.copy()
    shifted[:, 2] -= [left, top]
    return part, shifted
