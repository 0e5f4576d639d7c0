"""Checks that the levels of a study's points run from head to foot and that the conditions agree on them.

Takes only points that lie on an image. A study whose conditions are all shifted together agrees with itself, so this
check cannot find it.
"""

from collections.abc import Mapping
from itertools import combinations, pairwise
from typing import Final

import numpy as np

from pipelines.audit.issues import Code, Issue, name_findings
from shared.geometry import HEAD, LEFT, FloatArray
from shared.labels import Condition, Finding, Level, Side

# A level this much higher than the one above it is more than a reader's inaccuracy.
ORDER_MARGIN_MM: Final = 3.0
# Shares of the distance between two discs. Foraminal points lie a little above the disc, so 0.5 would be too near.
_SHIFTED: Final = 0.65
_APART: Final = 0.65
_WHOLE_CHAIN: Final = 3
# Canal, foramina and recesses of one level lie within some 30 mm of each other, left and right apart.
FAR_MM: Final = 60.0

Chain = dict[Level, FloatArray]


def check_levels(points_mm: Mapping[Finding, FloatArray]) -> list[Issue]:
    """Order, shifts between conditions and outliers.

    Args:
      points_mm: patient position of each finding, [3] each.
    """
    far = _far(points_mm)
    issues = [
        Issue(
            code=Code.POINT_FAR,
            reason=f"{name_findings(finding)} lies {distance:.0f} mm from the other points of its level",
        )
        for finding, distance in far.items()
    ]
    near = {finding: mm for finding, mm in points_mm.items() if finding not in far}
    issues += [Issue(code=Code.LEVEL_ORDER, reason=reason) for reason in _order(near)]
    chains = condition_chains(near)
    shifts = {pair: level_shifts(chains[pair[0]], chains[pair[1]]) for pair in combinations(chains, 2)}
    whole = {
        pair: float(np.median(list(s.values())))
        for pair, s in shifts.items()
        if len(s) >= _WHOLE_CHAIN and abs(float(np.median(list(s.values())))) > _SHIFTED
    }
    issues += [Issue(code=Code.LEVELS_SHIFTED, reason=reason) for reason in _shift_reasons(whole, list(chains))]
    apart = _apart({pair: by_level for pair, by_level in shifts.items() if pair not in whole})
    issues += [Issue(code=Code.LEVEL_APART, reason=reason) for reason in apart]
    return issues


def _apart(shifts: Mapping[tuple[Condition, Condition], Mapping[Level, float]]) -> list[str]:
    """One reason per level at which conditions lie apart."""
    reasons = []
    for level in Level:
        wide = {pair: by_level[level] for pair, by_level in shifts.items() if abs(by_level.get(level, 0.0)) > _APART}
        told = [f"{a.short} {abs(v):.1f} disc distances {_direction(v)} {b.short}" for (a, b), v in wide.items()]
        if told:
            reasons.append(f"at {level.display} {', '.join(told)}")
    return reasons


def condition_chains(points_mm: Mapping[Finding, FloatArray]) -> dict[Condition, Chain]:
    """One point per condition and level: midway between left and right where both exist."""
    groups: dict[Condition, dict[Level, list[FloatArray]]] = {}
    for finding, mm in points_mm.items():
        groups.setdefault(finding.condition, {}).setdefault(finding.level, []).append(mm)
    return {
        condition: {level: np.mean(groups[condition][level], axis=0) for level in sorted(groups[condition])}
        for condition in Condition
        if condition in groups
    }


def level_shifts(a: Chain, b: Chain) -> dict[Level, float]:
    """How far a's points lie below b's along the spine, in disc distances. Levels without a neighbour are left out."""
    shifts = {}
    for level in sorted(set(a) & set(b)):
        spine = _towards_foot(b, level)
        spine = _towards_foot(a, level) if spine is None else spine
        if spine is not None:
            shifts[level] = float((a[level] - b[level]) @ spine / (spine @ spine))
    return shifts


def _towards_foot(chain: Chain, level: Level) -> FloatArray | None:
    """The step from one disc to the next at `level`, in the sagittal plane; shape [3]."""
    above, below = level - 1, level + 1
    steps = []
    if above >= 0 and Level(above) in chain:
        steps.append(chain[level] - chain[Level(above)])
    if below < len(Level) and Level(below) in chain:
        steps.append(chain[Level(below)] - chain[level])
    if not steps:
        return None
    step: FloatArray = np.mean(steps, axis=0)
    step = step - (step @ LEFT) * LEFT
    # Points in the wrong order give no direction to measure along; they are reported separately.
    return step if step @ HEAD < -ORDER_MARGIN_MM else None


def _far(points_mm: Mapping[Finding, FloatArray]) -> dict[Finding, float]:
    """Points that lie far from the median of the other points of their level, seen from the side."""
    far = {}
    for finding, mm in points_mm.items():
        others = [p for f, p in points_mm.items() if f.level is finding.level and f != finding]
        if len(others) < 2:
            continue
        offset = mm - np.median(others, axis=0)
        distance = float(np.linalg.norm(offset - (offset @ LEFT) * LEFT))
        if distance > FAR_MM:
            far[finding] = distance
    return far


def _order(points_mm: Mapping[Finding, FloatArray]) -> list[str]:
    reasons = []
    chains: dict[tuple[Condition, Side | None], list[Finding]] = {}
    for finding in sorted(points_mm, key=lambda f: f.index):
        chains.setdefault((finding.condition, finding.side), []).append(finding)
    for chain in chains.values():
        for upper, lower in pairwise(chain):
            rise = float((points_mm[lower] - points_mm[upper]) @ HEAD)
            if rise > ORDER_MARGIN_MM:
                reasons.append(
                    f"{name_findings(lower)} lies {rise:.0f} mm above {name_findings(upper)}; expected it below"
                )
    return reasons


def _shift_reasons(whole: Mapping[tuple[Condition, Condition], float], chains: list[Condition]) -> list[str]:
    """Names the condition that two others contradict; with two conditions only the pair."""
    if not whole:
        return []
    culprits = [c for c in chains if sum(c in pair for pair in whole) == 2] if len(chains) == 3 else []
    if len(culprits) == 1 and len(whole) == 2:
        condition = culprits[0]
        pair, shift = next(iter(whole.items()))
        down = shift if pair[0] is condition else -shift
        others = " and ".join(c.short for c in chains if c is not condition)
        return [f"{condition.short} points lie {abs(down):.1f} levels {_direction(down)} {others}"]
    return [
        f"{a.short} points lie {abs(shift):.1f} levels {_direction(shift)} {b.short}; one of the two is wrong"
        for (a, b), shift in whole.items()
    ]


def _direction(shift: float) -> str:
    return "below" if shift > 0 else "above"
