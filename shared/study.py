"""A study on disk: slices with their planes, grouped in series. Pixels stay on disk until they are read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from shared.geometry import HEAD, LEFT, FloatArray, Plane
from shared.labels import View
from shared.orientation import AS_STORED, Orientation

# Slices whose normals differ by less than this belong to one stack (cosine of about 2 degrees).
_SAME_STACK_COSINE: Final = 0.9994
# Slices nearer to each other than this show the same position.
SAME_POSITION_MM: Final = 0.1

REPEATED_NUMBERS: Final = "instance numbers repeat; its slices are numbered by position instead"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPixels:
    """Where a prepared store (`shared.data.store`) keeps a slice's decoded pixels.

    Attributes:
      path: file of 8-bit pixels, rows first, slice after slice.
      offset: where this slice begins in it, in bytes.
      crc32: checksum of the slice's bytes.
      problem: why the pixels could not be decoded; empty when they could.
    """

    path: Path
    offset: int
    crc32: int
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One image of a series. `shape` is (rows, columns); `shared.dicom.pixels.slice_pixels` gives its pixels.

    Plane, shape and pixels are those of the file, until `upright` turns all three. `orientation` records the turn.

    A slice read from a prepared store equals the one read from its DICOM file; `path` names the DICOM file in both, and
    `frame` the index of the slice's frame in it, from 0.
    """

    path: Path
    frame: int = 0
    instance_number: int
    plane: Plane
    shape: tuple[int, int]
    stored: StoredPixels | None = field(default=None, compare=False)
    orientation: Orientation = AS_STORED

    @property
    def stored_shape(self) -> tuple[int, int]:
        """Rows and columns of the picture in the file."""
        return self.orientation.shape(self.shape)

    def upright(self) -> "Slice":
        """The slice with its picture turned upright (see `shared.orientation`)."""
        turn = Orientation.upright(self.plane)
        if turn == AS_STORED or self.orientation != AS_STORED:
            return self
        plane = turn.plane(self.plane, self.shape)
        return replace(self, plane=plane, shape=turn.shape(self.shape), orientation=turn)

    def to_stored(self, points_px: ArrayLike) -> FloatArray:
        """Pixels (x, y) of this picture to pixels of the one in the file, (n, 2) -> (n, 2) or (2,) -> (2,)."""
        return self.orientation.to_stored(points_px, self.stored_shape)

    def contains(self, point_px: tuple[float, float]) -> bool:
        """Whether pixel point (x, y) lies on the image."""
        return -0.5 <= point_px[0] <= self.shape[1] - 0.5 and -0.5 <= point_px[1] <= self.shape[0] - 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A series with its slices in anatomical order: right to left when sagittal, head to foot when axial.

    The order comes from positions along the normal, never from instance numbers. Slices of equal tilt (a stack) stay
    together.
    """

    series_id: str
    view: View
    slices: tuple[Slice, ...]

    @property
    def stacks(self) -> tuple[tuple[Slice, ...], ...]:
        """Runs of parallel slices, in the series' order."""
        runs: list[list[Slice]] = []
        for item in self.slices:
            if runs and _parallel(runs[-1][-1].plane, item.plane):
                runs[-1].append(item)
            else:
                runs.append([item])
        return tuple(tuple(run) for run in runs)

    @property
    def gap_mm(self) -> float | None:
        """Median distance between neighbouring positions within the stacks; None where each stack has only one."""
        gaps = [gap for stack in self.stacks for gap in gaps_mm(stack) if gap > SAME_POSITION_MM]
        return float(np.median(gaps)) if gaps else None

    def by_instance(self, instance_number: int) -> Slice | None:
        """The first slice with this instance number, or None."""
        return next((s for s in self.slices if s.instance_number == instance_number), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One examination of one patient.

    Attributes:
      series: those with a readable slice.
      unreadable: views that have a series, but none with a readable slice.
      other_region: whether the headers of a series name another region than the lumbar spine.
    """

    study_id: str
    series: tuple[Series, ...]
    unreadable: frozenset[View] = frozenset()
    other_region: bool = False

    def upright(self) -> "Study":
        """The study with every slice turned upright."""
        series = (replace(s, slices=tuple(item.upright() for item in s.slices)) for s in self.series)
        return replace(self, series=tuple(series))

    def of_view(self, view: View) -> tuple[Series, ...]:
        return tuple(s for s in self.series if s.view is view)

    def get(self, series_id: str) -> Series | None:
        return next((s for s in self.series if s.series_id == series_id), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedSeries:
    """A series that lay among the files of a study, used or not.

    Attributes:
      view: what it shows; None where that is no view that is graded.
      state: in words, for example "used" or "not needed".
      reasons: why it is what it is, and why it is used or not.
    """

    series_id: str
    view: View | None
    slices: int
    state: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedStudy:
    """A study, and one message for each file or series that could not be read.

    Attributes:
      listed: every series that was found; empty where tables, not headers, say which series there are.
    """

    study: Study
    problems: tuple[str, ...] = ()
    listed: tuple[ListedSeries, ...] = ()


def gaps_mm(stack: Sequence[Slice]) -> FloatArray:
    """Distances between neighbouring slices of a stack along their normals; shape [n - 1]."""
    return np.array([abs(float(a.plane.distance_mm(np.asarray(b.plane.origin_mm)))) for a, b in pairwise(stack)])


def _parallel(a: Plane, b: Plane) -> bool:
    return bool(abs(a.normal @ b.normal) > _SAME_STACK_COSINE)


def number_uniquely(slices: tuple[Slice, ...]) -> tuple[Slice, ...]:
    """The same tuple if all instance numbers differ, else the slices numbered from 1 by position.

    A localization names its slice by instance number, so the number must be unique within a series.
    """
    if len({item.instance_number for item in slices}) == len(slices):
        return slices
    return tuple(replace(item, instance_number=position) for position, item in enumerate(slices, start=1))


def order_slices(slices: Iterable[Slice], view: View) -> tuple[Slice, ...]:
    """Slices in anatomical order (see `Series`), stack by stack; ties keep the instance order."""
    axis = LEFT if view.is_sagittal else -HEAD
    stacks: list[list[Slice]] = []
    for item in sorted(slices, key=lambda s: (s.instance_number, str(s.path))):
        for stack in stacks:
            if _parallel(stack[0].plane, item.plane):
                stack.append(item)
                break
        else:
            stacks.append([item])

    def center(item: Slice) -> float:
        return float(item.plane.center_mm(item.shape) @ axis)

    def along_normal(stack: list[Slice]) -> list[Slice]:
        normal = stack[0].plane.normal
        normal = normal if normal @ axis >= 0 else -normal
        return sorted(stack, key=lambda s: round(float(np.asarray(s.plane.origin_mm) @ normal), 3))

    ordered = sorted(
        (along_normal(stack) for stack in stacks), key=lambda stack: float(np.mean([center(s) for s in stack]))
    )
    return tuple(item for stack in ordered for item in stack)
