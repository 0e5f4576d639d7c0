"""Tells a lumbar spine from other anatomy, by the room below its last disc and the size at which it is recognised.

Below L5/S1 lies the sacrum, so a chain of levels that reaches the lower edge of the picture belongs to a spine that
goes on: a neck or a chest. Where the field of view reaches further, size tells. The discs of a neck look like lumbar
discs of half the size, so a detector that recognises little in a neck recognises it when it is shown enlarged. A lumbar
spine is recognised best at its own size. Neither test needs a threshold on the detectors' scores, which differ from
scanner to scanner and from model to model (docs/adr/0018).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from localize.config import ChainConfig
from localize.decoding.chain import chain_weight, decode_chain
from localize.decoding.lift import LiftedDetection
from localize.decoding.prior import ChainPrior
from localize.decoding.sagittal import Spine
from shared.geometry import Plane
from shared.labels import Level, View
from shared.numbering import Numbering
from shared.study import Series, Slice, Study

# Enlargements that fit adults and children, and those at which a neck has the size of a lumbar spine.
LUMBAR_SIZES: Final = (0.8, 1.0)
OTHER_SIZES: Final = (1.8, 2.15)
# Log evidence by which the enlarged pictures must be the more convincing ones.
_MARGIN: Final = 1.8
# Where something else speaks against a lumbar spine, the sizes need only lean to the same side.
_SUSPECT_MARGIN: Final = 0.0
# Log evidence below this is noise: nothing was recognised at any size.
_SOMETHING: Final = 4.0
_SLICES: Final = 3
# The centre of L5/S1 is farther than this from the lower edge of a picture that shows some of the sacrum.
SACRUM_MM: Final = 15.0
# Evidence from which a disc above L1/L2 counts as seen.
_SEEN_ABOVE: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the detectors recognise in the middle of a study at one size.

    Attributes:
      enlargement: factor by which the pictures were enlarged.
      weight: log evidence of all chains of levels together.
      spacing_mm: mean distance of neighbouring discs of the best chain, at the patient's own size; None without one.
    """

    enlargement: float
    weight: float
    spacing_mm: float | None


def look_at(lifted: Sequence[LiftedDetection], enlargement: float, prior: ChainPrior, config: ChainConfig) -> Look:
    """Weighs the detections on pictures that were enlarged by a factor."""
    chain = decode_chain(lifted, prior, config).levels
    spacing_mm = None
    if chain:
        points = np.array([chain[level].yz_mm for level in Level])
        spacing_mm = float(np.linalg.norm(np.diff(points, axis=0), axis=1).mean()) / enlargement
    return Look(enlargement=enlargement, weight=chain_weight(lifted, prior, config), spacing_mm=spacing_mm)


def why_other_size(looks: Sequence[Look], prior: ChainPrior, *, suspicion: str = "") -> str:
    """Why a study shows no lumbar spine, in words; empty when it shows one or when nothing tells.

    Args:
      looks: at `LUMBAR_SIZES` and `OTHER_SIZES`.
      suspicion: what else speaks against a lumbar spine; it decides only where the sizes leave a doubt.
    """

    def mean(sizes: Sequence[float]) -> float:
        """Weights below zero are noise: one of them is no less evidence than another."""
        return float(np.mean([max(look.weight, 0.0) for look in looks if look.enlargement in sizes]))

    best = max((look for look in looks if look.enlargement in OTHER_SIZES), key=lambda look: look.weight)
    difference = mean(OTHER_SIZES) - mean(LUMBAR_SIZES)
    if best.weight < _SOMETHING or difference < (_SUSPECT_MARGIN if suspicion else _MARGIN):
        return ""
    usual_mm = float(np.linalg.norm(prior.gap_mean, axis=1).mean())
    return (
        f"its discs are recognised only when enlarged, and lie about {best.spacing_mm:.0f} mm apart "
        f"(lumbar discs: {usual_mm:.0f} mm)" + (f"; {suspicion}" if suspicion else "")
    )


def sacrum_room_mm(study: Study, spine: Spine) -> float:
    """Distance from L5/S1 down to the lower edge of the sagittal picture that reaches lowest, negative outside it.

    Infinite for a study without a sagittal series. `study` is upright.
    """
    point = spine.point_mm[Level.L5_S1]
    middles = [s.slices[len(s.slices) // 2] for s in study.series if s.view.is_sagittal]
    return max(
        (float(item.shape[0] - 0.5 - item.plane.to_pixel(point)[1]) * item.plane.spacing_mm[0] for item in middles),
        default=np.inf,
    )


def why_no_sacrum(room_mm: float) -> str:
    """In words that a chain of levels leaves no room for a sacrum; empty when it does."""
    if room_mm >= SACRUM_MM:
        return ""
    where = f"{room_mm:.0f} mm above" if room_mm > 0 else "below"
    return f"no sacrum is in view: what looks most like L5/S1 lies {where} the lower edge of the sagittal pictures"


def why_unanchored(room_mm: float, numbering: Numbering | None) -> str:
    """In words that neither end of the lumbar spine is in view, so that the levels cannot be counted; else empty."""
    if numbering is None or room_mm >= SACRUM_MM or numbering.disc_above >= _SEEN_ABOVE:
        return ""
    return (
        "neither a disc above L1/L2 nor the sacrum is in view, so the names of the levels rest on looks alone; "
        "count the vertebrae"
    )


def enlarged(study: Study, factor: float) -> Study:
    """The middle slices of the sagittal T2 series, as if the patient were larger by a factor.

    T1 slices are of no use here: foramina of any size look alike, and 4 of 150 real lumbar T1 series seemed too small.
    """
    series = study.of_view(View.SAGITTAL_T2)
    return replace(study, series=tuple(replace(s, slices=_enlarged(_middle(s), factor)) for s in series))


def _middle(series: Series) -> tuple[Slice, ...]:
    first = max((len(series.slices) - _SLICES) // 2, 0)
    return series.slices[first : first + _SLICES]


def _enlarged(slices: Sequence[Slice], factor: float) -> tuple[Slice, ...]:
    def plane(p: Plane) -> Plane:
        return Plane.from_arrays(
            origin_mm=np.asarray(p.origin_mm) * factor, row_dir=p.row_dir, col_dir=p.col_dir,
            spacing_mm=np.asarray(p.spacing_mm) * factor,
        )  # fmt: skip

    return tuple(replace(item, plane=plane(item.plane)) for item in slices)
