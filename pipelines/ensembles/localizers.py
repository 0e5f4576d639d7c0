"""Several localizers that answer one study together.

Their points are averaged where they agree, and where they do not the chain that they support most is followed.

Each localizer decodes its own chain with its own prior and calibration, because scores of different detectors on
different pixel sizes cannot be pooled before they are calibrated. A chain is followed as a whole: points of two chains
that number the spine differently must not meet in one study. The score of a point is the mean of what the localizers
say of it (a linear opinion pool), where one whose own point lies elsewhere says 0, with the weight of its certainty. So
the score stays the probability that the point is right, and a disagreement lowers it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np

from localize.localizer import StudyLocalization
from localize.measures import RIGHT_MM
from shared.detections import Localization, Source
from shared.labels import Finding, Level
from shared.numbering import Numbering
from shared.runtime.errors import InputError
from shared.study import Slice, Study

Points = Mapping[Finding, Localization]
# From the strongest to the weakest evidence.
_SOURCES: Final = (Source.DETECTED, Source.PROJECTED, Source.INTERPOLATED)
# Of two chains whose support differs by less, the one that was named first is followed.
_TIE: Final = 1e-9


class Localizes(Protocol):
    """What is needed of a localizer; see `localize.localizer.Localizer`."""

    @property
    def unmirror(self) -> bool: ...

    def localize(self, study: Study) -> StudyLocalization: ...


class LocalizerEnsemble:
    """Two or more localizers, all of which read mirrored series alike (`pipelines.grader` checks it)."""

    def __init__(self, members: Sequence[Localizes]) -> None:
        self._members = tuple(members)

    @property
    def unmirror(self) -> bool:
        """Whether mirrored axial series are localized as their pixels show them."""
        return self._members[0].unmirror

    def localize(self, study: Study) -> StudyLocalization:
        """As `localize.localizer.Localizer.localize`; raises `InputError` when no localizer can read the study."""
        answers, errors = [], []
        for member in self._members:
            try:
                answers.append(member.localize(study))
            except InputError as error:
                errors.append(error)
        if not answers:
            raise errors[0]
        told = tuple(f"study {study.study_id}: one of the localizers failed: {error}" for error in errors)
        combined = combine(study, answers)
        return replace(combined, problems=(*combined.problems, *told))


def combine(study: Study, answers: Sequence[StudyLocalization]) -> StudyLocalization:
    """One answer of several localizers to a study; all in pixels of its files.

    A study is taken for another anatomy when most localizers say so. Otherwise those that say so count as certain that
    every point is wrong. A localizer that saw nothing at all has no say.
    """
    seen = [answer for answer in answers if not answer.not_lumbar]
    doubters = len(answers) - len(seen)
    problems = list(dict.fromkeys(text for answer in answers for text in answer.problems))
    shared = StudyLocalization(
        detections=tuple(d for answer in answers for d in answer.detections), localizations={},
        problems=tuple(problems), slices=max(answer.slices for answer in answers),
    )  # fmt: skip
    if doubters > len(seen):
        return replace(shared, not_lumbar=next(answer.not_lumbar for answer in answers if answer.not_lumbar))
    chains = [answer for answer in seen if answer.localizations]
    if not chains:
        return replace(shared, numbering=seen[0].numbering)
    votes = _Votes(points=tuple(c.localizations for c in chains), doubters=doubters)
    support = [sum(votes.belief(p) for p in c.localizations.values()) for c in chains]
    followed = next(c for c, value in zip(chains, support, strict=True) if value > max(support) - _TIE)
    points = _fused(study, followed.localizations, votes)
    if doubters:
        problems.append(f"study {study.study_id}: {doubters} of {len(answers)} localizers saw no lumbar spine in it")
    apart = sum(
        any(not _agree(p, c.localizations[f]) for c in chains if f in c.localizations) for f, p in points.items()
    )
    if apart:
        problems.append(
            f"study {study.study_id}: the localizers place {apart} of {len(points)} findings more than {RIGHT_MM:g} mm "
            "apart; the chain that they support most is followed"
        )
    return replace(
        shared, localizations=points, numbering=_numbering(followed.localizations, chains), problems=tuple(problems)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Votes:
    """What the localizers say of a study: the points of those that saw a spine, and how many saw another anatomy."""

    points: tuple[Points, ...]
    doubters: int

    def belief(self, point: Localization) -> float:
        """Probability that a point is right. Localizers without this finding, such as those of other views, abstain."""
        own = [points[point.finding] for points in self.points if point.finding in points]
        agreeing = [p.score for p in own if _agree(point, p)]
        against = sum(p.score for p in own if not _agree(point, p)) + self.doubters
        return sum(agreeing) / (len(agreeing) + against)


def _agree(one: Localization, other: Localization) -> bool:
    return bool(np.linalg.norm(np.subtract(one.point_mm, other.point_mm)) <= RIGHT_MM)


def _fused(study: Study, followed: Points, votes: _Votes) -> dict[Finding, Localization]:
    """The points of the followed chain, averaged with those that agree; its gaps are filled from chains like it."""
    alike = [points for points in votes.points if _offset(points, followed) == 0]
    fused = {}
    for finding in sorted({f for points in alike for f in points}, key=lambda f: f.index):
        options = [points[finding] for points in alike if finding in points]
        chosen = followed.get(finding) or max(options, key=votes.belief)
        agreeing = [p for p in options if _agree(chosen, p)]
        mean = _mean_point(study, chosen, agreeing)
        score = votes.belief(chosen)
        fused[finding] = replace(
            mean, score=score, raw_score=None, source=min((p.source for p in agreeing), key=_SOURCES.index)
        )
    return fused


def _mean_point(study: Study, chosen: Localization, agreeing: Sequence[Localization]) -> Localization:
    """The mean of points, weighted by score, on the nearest slice of the chosen point's series."""
    series = study.get(chosen.series_id)
    if series is None or len(agreeing) < 2:
        return chosen
    weights = np.array([p.score for p in agreeing]) + 1e-6
    mean_mm = np.average([p.point_mm for p in agreeing], axis=0, weights=weights)
    numbers = {p.instance_number for p in agreeing if p.series_id == chosen.series_id}
    slices = [item for item in series.slices if item.contains(_pixel(item, mean_mm))]
    # Between two slices at equal distance, one that a localizer chose is the better one.
    item = min(
        slices,
        key=lambda s: (round(abs(float(s.plane.distance_mm(mean_mm))), 3), s.instance_number not in numbers),
        default=None,
    )
    if item is None:
        return chosen
    x_px, y_px = _pixel(item, mean_mm)
    x, y, z = (float(v) for v in item.plane.to_patient((x_px, y_px)))
    return replace(chosen, instance_number=item.instance_number, x_px=x_px, y_px=y_px, point_mm=(x, y, z))


def _pixel(item: Slice, point_mm: np.ndarray) -> tuple[float, float]:
    x, y = item.plane.to_pixel(point_mm)
    return float(x), float(y)


def _offset(points: Points, followed: Points) -> int | None:
    """By how many discs towards the feet the levels of a chain lie from those of the followed one; None for none of -1,
    0 and 1."""
    matches = {
        shift: sum(
            (other := _moved(f, shift)) is not None and other in followed and _agree(p, followed[other])
            for f, p in points.items()
        )
        for shift in (0, 1, -1)
    }
    best = max(matches, key=lambda shift: matches[shift])
    return best if matches[best] else None


def _moved(finding: Finding, shift: int) -> Finding | None:
    level = finding.level + shift
    return replace(finding, level=Level(level)) if level in set(Level) else None


def _numbering(followed: Points, chains: Sequence[StudyLocalization]) -> Numbering | None:
    """The mean belief in the names of the followed chain. A chain that names the same discs otherwise doubts them."""
    parts: list[tuple[float, float, float]] = []
    alike: list[Numbering] = []
    for chain in chains:
        own, shift = chain.numbering, _offset(chain.localizations, followed)
        if own is None or shift is None:
            continue
        if shift == 0:
            alike.append(own)
            parts.append((own.as_named, own.one_higher, own.one_lower))
        elif shift > 0:  # what this chain calls L3/L4 is the followed chain's L4/L5
            parts.append((own.one_lower, own.as_named + own.one_higher, 0.0))
        else:
            parts.append((own.one_higher, 0.0, own.as_named + own.one_lower))
    if not alike:
        return None
    as_named, higher, _ = (float(v) for v in np.mean(parts, axis=0))
    return Numbering(
        as_named=as_named, one_higher=higher, one_lower=max(1 - as_named - higher, 0.0),
        disc_above=float(np.mean([n.disc_above for n in alike])),
        disc_below=float(np.mean([n.disc_below for n in alike])),
        missing={level: float(np.mean([n.missing[level] for n in alike])) for level in Level},
    )  # fmt: skip
