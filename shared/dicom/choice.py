"""Which of several series is used for a view, and why.

The best candidate of each view is used. A further one is used together with it only where it shows what the others
lack: levels for an axial series, width or height for a sagittal one. Points make the order: coverage of the lumbar
levels counts most, then how sure the contrast is, then plane, pixels, slices, fat and recency. The points are a
judgement of what a reader of the pictures would prefer; no measurement stands behind them.
"""

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from shared.dicom.header import Header, Moment
from shared.dicom.views import DOUBTFUL, STIR_INVERSION, Verdict
from shared.dicom.vocabulary import Term
from shared.geometry import HEAD
from shared.labels import View
from shared.study import Series

# Five levels lie within some 150 mm; both foramina of a vertebra lie within some 60 mm.
_LEVELS_MM: Final = 150.0
_FIELD_MM: Final = 200.0
_WIDTH_MM: Final = 60.0
# Blocks that follow the discs leave gaps up to here between neighbouring discs, longer ones where a disc is missing.
_BRIDGED_MM: Final = 40.0
# What a further series must add to be used: half the way from disc to disc, a vertebra and a half, two slices.
_MORE_LEVELS_MM: Final = 20.0
_MORE_HEIGHT_MM: Final = 50.0
_MORE_WIDTH_MM: Final = 10.0
# Usual pixels and slice distance. Tilts up to here are usual: axial slices follow the discs.
_PIXEL_MM: Final = 0.6
_GAP_MM: Final = 4.5
_SAGITTAL_TILT_DEG: Final = 15.0
_AXIAL_TILT_DEG: Final = 40.0

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A series that may serve a view.

    Attributes:
      heights_mm: intervals of patient z that it shows, from low to high; gaps between the blocks of neighbouring discs
        are bridged.
      width_mm: interval of patient x that its slices span.
      gap_mm: median distance between slices; None where no two are parallel.
      tilt_deg: largest angle between a slice and the plane of the view.
      kind: equal for repeats of one acquisition.
      frame: frame of reference; positions are only comparable within one. None where the headers say nothing.
      repeated: whether a later repeat is among the candidates.
    """

    series_id: str
    view: View
    verdict: Verdict
    heights_mm: tuple[Interval, ...]
    width_mm: Interval
    pixel_mm: float
    gap_mm: float | None
    tilt_deg: float
    fat_suppressed: bool
    moment: Moment
    kind: Hashable
    frame: str | None = None
    repeated: bool = False

    @property
    def sure(self) -> bool:
        """Whether it needs to give way to no other one."""
        return self.verdict.doubt < DOUBTFUL

    @property
    def coverage(self) -> float:
        """The part of the lumbar spine that it shows, 0 to 1, as far as sizes tell."""
        height = sum(high - low for low, high in self.heights_mm)
        if not self.view.is_sagittal:
            return min(1.0, height / _LEVELS_MM)
        return min(1.0, height / _FIELD_MM) * min(1.0, (self.width_mm[1] - self.width_mm[0]) / _WIDTH_MM)

    @property
    def extent(self) -> str:
        """Its size in words."""
        height = f"{sum(high - low for low, high in self.heights_mm):.0f} mm"
        return f"{self.width_mm[1] - self.width_mm[0]:.0f} x {height}" if self.view.is_sagittal else height


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What became of a candidate.

    Attributes:
      rank: 1 for the best candidate of its view.
      score: points; higher is better.
      reason: in words; empty for the only candidate of a view.
    """

    used: bool
    rank: int
    score: float
    reason: str


def candidate(series: Series, verdict: Verdict, headers: Sequence[Header]) -> Candidate:
    """Measures a series, given the headers of its slices in any order."""
    planes, acquisition = [item.plane for item in series.slices], headers[0].acquisition
    corners = np.array(
        [
            item.plane.to_patient([[x, y] for x in (0, item.shape[1] - 1) for y in (0, item.shape[0] - 1)])
            for item in series.slices
        ]
    )  # [n, 4, 3]
    centers = corners.mean(axis=1)
    half = (series.gap_mm or 0.0) / 2
    across = (float(centers[:, 0].min()) - half, float(centers[:, 0].max()) + half)
    if series.view.is_sagittal:
        heights = [(float(corners[..., 2].min()), float(corners[..., 2].max()))]
    else:
        heights = [(float(z) - half, float(z) + half) for z in centers @ HEAD]
    axis = 0 if series.view.is_sagittal else 2
    facing = min(1.0, min(abs(float(plane.normal[axis])) for plane in planes))
    inversion = acquisition.inversion_ms or 0.0
    return Candidate(
        series_id=series.series_id, view=series.view, verdict=verdict, heights_mm=_bridged(heights), width_mm=across,
        pixel_mm=max(max(plane.spacing_mm) for plane in planes), gap_mm=series.gap_mm,
        tilt_deg=float(np.degrees(np.arccos(facing))),
        fat_suppressed=bool({Term.FAT_SUPPRESSED, Term.STIR} & acquisition.terms)
        or STIR_INVERSION[0] <= inversion <= STIR_INVERSION[1],
        moment=_beginning([h.moment for h in headers]), kind=(headers[0].description, acquisition),
        frame=headers[0].frame_of_reference,
    )  # fmt: skip


def _beginning(moments: Sequence[Moment]) -> Moment:
    """When the first of these slices was acquired."""
    times = [m.time_s for m in moments if m.time_s is not None]
    series = [m.series_number for m in moments if m.series_number is not None]
    acquisitions = [m.acquisition_number for m in moments if m.acquisition_number is not None]
    return Moment(
        time_s=min(times, default=None), series_number=min(series, default=None),
        acquisition_number=min(acquisitions, default=None),
    )  # fmt: skip


def choose(candidates: Sequence[Candidate], chosen: Collection[str] = ()) -> dict[str, Choice]:
    """Series id -> its choice, for the candidates of one study. Their order does not matter.

    Args:
      chosen: series that the user wants; they alone are used for their views.
    """
    choices: dict[str, Choice] = {}
    fields: list[Interval] = []
    frame = _frame_of_examination(candidates, chosen)
    for view in sorted(View, key=lambda v: not v.is_sagittal):
        own = [c for c in candidates if c.view is view]
        if not view.is_sagittal and fields:
            # Levels are numbered on sagittal slices, so only what lies within them counts.
            within = min(low for low, _ in fields), max(high for _, high in fields)
            clipped = [replace(c, heights_mm=_clipped(c.heights_mm, within)) for c in own]
            own = clipped if any(c.heights_mm for c in clipped) else own
        of_view = _choose(_with_repeats(own), chosen, frame)
        choices |= of_view
        if view.is_sagittal:
            fields += [piece for c in own if of_view[c.series_id].used for piece in c.heights_mm]
    return choices


def _frame_of_examination(candidates: Sequence[Candidate], chosen: Collection[str]) -> str | None:
    """The frame of reference whose series go together best, where a study holds several examinations; else None.

    A patient who got up between them lies elsewhere. A frame with series of two views is an examination.
    """
    scores: dict[str, dict[View, float]] = {}
    for c in candidates:
        if c.frame and (c.sure or c.series_id in chosen):
            of_frame = scores.setdefault(c.frame, {})
            of_frame[c.view] = max(_score(c), of_frame.get(c.view, -np.inf))
    wanted = {c.frame for c in candidates if c.series_id in chosen}
    frames = [frame for frame in sorted(scores) if len(scores[frame]) > 1]
    if len(frames) < 2:
        return None
    return max(frames, key=lambda f: (f in wanted, len(scores[f]), sum(scores[f].values())))


def _choose(candidates: Sequence[Candidate], chosen: Collection[str], frame: str | None) -> dict[str, Choice]:
    """The choice for one view; series outside `frame` only where it has none."""
    wanted = {c.series_id for c in candidates} & set(chosen)
    sure = any(c.sure for c in candidates)
    inside = frame is not None and any(c.sure and c.frame == frame for c in candidates)

    def elsewhere(c: Candidate) -> bool:
        return inside and c.frame not in (None, frame)

    def order(c: Candidate) -> tuple[bool, bool, bool, float, str]:
        return c.series_id not in wanted, sure and not c.sure, elsewhere(c), -_score(c), c.series_id

    ranked = sorted(candidates, key=order)
    used: list[Candidate] = []
    choices: dict[str, Choice] = {}
    for rank, c in enumerate(ranked, start=1):
        if wanted:
            takes = c.series_id in wanted
            reason = "it was chosen with --series" if takes else f"{ranked[0].series_id} was chosen with --series"
        elif not used:
            takes, reason = True, f"it is the best of {len(ranked)}" if len(ranked) > 1 else ""
        elif elsewhere(c):
            takes, reason = False, f"{used[0].series_id} lies in one frame of reference with the other views"
        elif sure and not c.sure:
            takes, reason = False, f"{used[0].series_id} is less doubtful"
        else:
            more = _more(c, used)
            takes, reason = bool(more), more or _behind(used[0], c)
        if takes:
            used.append(c)
        choices[c.series_id] = Choice(used=takes, rank=rank, score=round(_score(c), 2), reason=reason)
    return choices


def _score(c: Candidate) -> float:
    return sum(_points(c).values())


def _points(c: Candidate) -> dict[str, float]:
    """Points by what they are given for."""
    return {
        "coverage": 4 * c.coverage,
        "contrast": c.verdict.score,
        "plane": -max(0.0, c.tilt_deg - (_SAGITTAL_TILT_DEG if c.view.is_sagittal else _AXIAL_TILT_DEG)) / 15,
        "pixels": _finer(c.pixel_mm, _PIXEL_MM),
        "slices": _finer(c.gap_mm, _GAP_MM),
        "fat": -0.5 * (c.fat_suppressed and c.view is not View.SAGITTAL_T1),  # of a T1 it is among the doubts
        "recency": -0.3 * c.repeated,
    }


def _words(what: str, best: Candidate, c: Candidate) -> str:
    """What the best candidate has before another one."""
    return {
        "coverage": f"covers more ({best.extent} against {c.extent})",
        "contrast": "is surer or less doubtful",
        "plane": f"is less oblique ({best.tilt_deg:.0f} against {c.tilt_deg:.0f} degrees)",
        "pixels": f"has finer pixels ({best.pixel_mm:.2f} against {c.pixel_mm:.2f} mm)",
        "slices": f"has closer slices ({_told(best.gap_mm)} against {_told(c.gap_mm)})",
        "fat": "shows fat unsuppressed",
        "recency": "is a later repeat",
    }[what]


def _more(c: Candidate, used: Sequence[Candidate]) -> str:
    """What a candidate shows and the used ones lack, in words; empty for nothing that counts."""
    higher = _longest_beyond(c.heights_mm, [piece for u in used for piece in u.heights_mm])
    beside = f"it is used beside {used[0].series_id}, which lacks"
    if not c.view.is_sagittal:
        return f"{beside} {higher:.0f} mm of its levels" if higher >= _MORE_LEVELS_MM else ""
    if higher >= _MORE_HEIGHT_MM:
        return f"{beside} {higher:.0f} mm of its height"
    have = [u.width_mm for u in used]
    wider = _longest_beyond([c.width_mm], have)
    if wider >= _MORE_WIDTH_MM and max(high for _, high in have) - min(low for low, _ in have) < _WIDTH_MM:
        return f"{beside} {wider:.0f} mm of its width"
    return ""


def _behind(best: Candidate, c: Candidate) -> str:
    """Why the best candidate is enough."""
    points = _points(c)
    ahead = {what: value - points[what] for what, value in _points(best).items()}
    most = max(ahead, key=ahead.__getitem__)
    return f"it shows no more than {best.series_id}, which " + (
        _words(most, best, c) if ahead[most] > 1e-6 else "is as good"
    )


def _with_repeats(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, those marked of whose acquisition there is a later repeat."""
    by_kind: dict[Hashable, list[Candidate]] = {}
    for c in candidates:
        by_kind.setdefault(c.kind, []).append(c)
    times = {id(c): time for alike in by_kind.values() for c, time in zip(alike, _order(alike), strict=True)}
    return [replace(c, repeated=any(times[id(other)] > times[id(c)] for other in by_kind[c.kind])) for c in candidates]


def _order(alike: Sequence[Candidate]) -> list[float]:
    """A number per candidate that is larger for later ones: of what all of them have, the first that differs."""
    for values in (
        [c.moment.time_s for c in alike],
        [c.moment.series_number for c in alike],
        [c.moment.acquisition_number for c in alike],
    ):
        known = [float(v) for v in values if v is not None]
        if len(known) == len(alike) and len(set(known)) > 1:
            return known
    return [0.0] * len(alike)


def _finer(size_mm: float | None, usual_mm: float) -> float:
    """Half a point for each halving of a usual size, within half a point."""
    return 0.0 if not size_mm else float(np.clip(-0.5 * np.log2(size_mm / usual_mm), -0.5, 0.5))


def _told(size_mm: float | None) -> str:
    return "single slices" if size_mm is None else f"{size_mm:.1f} mm"


def _bridged(intervals: Sequence[Interval]) -> tuple[Interval, ...]:
    merged: list[Interval] = []
    for low, high in sorted(intervals):
        if merged and low - merged[-1][1] <= _BRIDGED_MM:
            merged[-1] = merged[-1][0], max(high, merged[-1][1])
        else:
            merged.append((low, high))
    return tuple(merged)


def _clipped(intervals: Sequence[Interval], within: Interval) -> tuple[Interval, ...]:
    clipped = ((max(low, within[0]), min(high, within[1])) for low, high in intervals)
    return tuple((low, high) for low, high in clipped if high > low)


def _longest_beyond(own: Sequence[Interval], others: Sequence[Interval]) -> float:
    """The longest piece of the own intervals that none of the others covers."""
    longest = 0.0
    for low, high in own:
        for left, right in sorted(others):
            if right > low and left < high:
                longest = max(longest, left - low)
                low = max(low, right)
        longest = max(longest, high - low)
    return longest
