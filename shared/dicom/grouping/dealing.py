"""What makes slices one series when UIDs do not say so: whether several lots of slices were dealt from one series.

Lots of one series share frame of reference, description, acquisition and orientation; together they are evenly spaced,
and no position occurs twice. A repeat of a series lies at the same positions, or at positions of its own spacing.
"""

import hashlib
import re
from collections.abc import Hashable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np

from shared.dicom.header import Header
from shared.geometry import FloatArray, dominant_axis
from shared.runtime.names import masked_path
from shared.study import SAME_POSITION_MM

# Gaps of an evenly spaced stack differ by less than this part; up to so many slices in a row may be missing.
_UNEVEN: Final = 0.15
_MOST_STEPS: Final = 3
# Slices that lie nearer than this many thicknesses leave no room for others between them.
_TOUCHING: Final = 1.5
# Slices of one stack lie at least so many thicknesses apart. Between parallel blocks lies a gap of more than so many
# steps, and each block has at least so many slices.
_LEAST_STEP: Final = 0.9
_WIDE_STEP: Final = 1.5
_LEAST_RUN: Final = 3
# Slices whose normals differ by less than about 2 degrees (cosine) are parallel.
_PARALLEL: Final = 0.9994
_MOST_STACKS: Final = 64
# Positions are compared on a grid whose lines miss the decimals that scanners write.
_GRID_MM: Final = 2 * SAME_POSITION_MM
_GRID_ORIGIN_MM: Final = 0.0371
_LONGEST_NAME: Final = 128


def tie(header: Header) -> Hashable:
    """What the slices of one series have in common, whatever their UIDs."""
    return acquired(header), dominant_axis(header.plane)


def acquired(header: Header) -> Hashable:
    """What the slices of one acquisition have in common in all planes."""
    return (
        header.frame_of_reference, header.description, header.shape,
        tuple(round(v, 3) for v in header.plane.spacing_mm), header.acquisition,
    )  # fmt: skip


def position_of(header: Header) -> Hashable:
    """The place and direction of a slice; equal for slices that show the same."""
    plane, (rows, columns) = header.plane, header.shape
    right, down = (columns - 1) / 2 * plane.spacing_mm[1], (rows - 1) / 2 * plane.spacing_mm[0]
    center = (o + right * r + down * c for o, r, c in zip(plane.origin_mm, plane.row_dir, plane.col_dir, strict=True))
    return (
        *(int((v + _GRID_ORIGIN_MM) // _GRID_MM) for v in center),
        *(round(abs(float(v)), 1) for v in plane.normal),
    )  # fmt: skip


def complement(lots: Sequence[Sequence[Header]]) -> bool:
    """Whether lots of tied slices, two or more, make up one series: interleaved or adjoining, no position twice."""
    headers = [header for lot in lots for header in lot]
    lot_of = np.repeat(np.arange(len(lots)), [len(lot) for lot in lots])
    stacks = _stacks(np.array([header.plane.normal for header in headers]))
    if stacks is None:
        return False
    origins = np.array([header.plane.origin_mm for header in headers])
    thickness = min((h.thickness_mm for h in headers if h.thickness_mm), default=0.0)
    shared = 0
    for normal, members in stacks:
        offsets = origins[members] @ normal
        order = np.argsort(offsets)
        for block in _blocks(offsets[order], thickness):
            lots_of_block = lot_of[members][order][block]
            if len(set(lots_of_block)) > 1:
                if not _one_stack(offsets[order][block], lots_of_block, thickness):
                    return False
                shared += 1
    return shared > 0


def _blocks(offsets_mm: FloatArray, thickness_mm: float) -> list[slice]:
    """Runs of sorted positions between gaps that missing slices do not explain: discs may have parallel blocks.

    All positions are one run where slices would overlap, as those of a repeat do, or where a run has only one or two.
    """
    whole = [slice(0, len(offsets_mm))]
    if len(offsets_mm) < 2 or not 0 < _LEAST_STEP * thickness_mm <= np.median(np.diff(offsets_mm)):
        return whole
    steps = np.diff(offsets_mm) / np.median(np.diff(offsets_mm))
    odd = np.abs(steps - np.round(steps)) > _UNEVEN
    wide = [n + 1 for n, step in enumerate(steps) if step > _MOST_STEPS + _UNEVEN or (step > _WIDE_STEP and odd[n])]
    runs = [slice(a, b) for a, b in pairwise([0, *wide, len(offsets_mm)])]
    return runs if min(run.stop - run.start for run in runs) >= _LEAST_RUN else whole


def _stacks(normals: FloatArray) -> list[tuple[FloatArray, FloatArray]] | None:
    """The normal and the members of each stack of parallel slices; None when there are too many."""
    left = np.arange(len(normals))
    stacks: list[tuple[FloatArray, FloatArray]] = []
    while len(left):
        if len(stacks) == _MOST_STACKS:
            return None
        normal = normals[left[0]]
        near = np.abs(normals[left] @ normal) > _PARALLEL
        stacks.append((normal, left[near]))
        left = left[~near]
    return stacks


def _one_stack(offsets_mm: FloatArray, lot_of: FloatArray, thickness_mm: float) -> bool:
    """Whether sorted positions of several lots are those of one stack."""
    gaps = np.diff(offsets_mm)
    if gaps.min() < SAME_POSITION_MM:
        return False
    steps = gaps / np.median(gaps)
    if (
        steps.min() < 1 - _UNEVEN
        or steps.max() > _MOST_STEPS + _UNEVEN
        or np.abs(steps - np.round(steps)).max() > _UNEVEN
    ):
        return False
    runs = 1 + np.count_nonzero(np.diff(lot_of))
    if runs == len(set(lot_of)):  # they lie one after another
        return True
    # Lots that interleave, although each of them has no room for more slices, are repeats.
    own = [np.diff(offsets_mm[lot_of == lot]) for lot in set(lot_of)]
    return not all(len(g) and g.max() <= _TOUCHING * thickness_mm for g in own)


def folder_name(root: Path, folder: Path) -> str:
    """Stands in for a missing UID: the folder's masked path, so that two folders never become one.

    Results are named after it, and names of files are short, so the end of a long path becomes a digest.
    """
    relative = folder.relative_to(root) if folder.is_relative_to(root) else Path()
    name = re.sub(r"[^0-9A-Za-z.-]+", "-", masked_path(relative)).strip(".-") or "study"
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 17]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
