"""The edits that traps are made of. Each returns a changed copy of the scan."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pipelines.synthetic.scanner.series import Point, Scan, StoredSeries
from shared.labels import View

# The changed scan and a sentence for the manifest; None where the scan offers no place for the trap.
Planted = tuple[Scan, str] | None
Trap = Callable[[Scan, np.random.Generator], Planted]


def series_of(scan: Scan, view: View) -> StoredSeries | None:
    return next((s for s in scan.series if s.view is view), None)


def any_series(scan: Scan, rng: np.random.Generator) -> StoredSeries:
    return scan.series[int(rng.integers(len(scan.series)))]


def swap(scan: Scan, old: StoredSeries, *new: StoredSeries) -> Scan:
    """The scan with one series replaced by others."""
    return replace(scan, series=tuple(n for s in scan.series for n in (new if s is old else (s,))))


def renumbered(series: StoredSeries, number: Callable[[int], int]) -> StoredSeries:
    slices = tuple(replace(s, instance_number=number(s.instance_number)) for s in series.slices)
    return replace(series, slices=tuple(sorted(slices, key=lambda s: s.instance_number)))


def move_points(scan: Scan, series_id: str, change: Callable[[Point], Point]) -> Scan:
    return replace(scan, points=tuple(change(p) if p.series_id == series_id else p for p in scan.points))


def new_id(scan: Scan, rng: np.random.Generator) -> str:
    taken = {s.series_id for s in scan.series}
    while (number := str(rng.integers(10**6, 2**32))) in taken:
        pass
    return number


def renumber(scan: Scan, series: StoredSeries, number: Callable[[int], int]) -> Scan:
    """Renumbers the slices of a series and the points on them."""
    changed = swap(scan, series, renumbered(series, number))
    return move_points(changed, series.series_id, lambda p: replace(p, instance_number=number(p.instance_number)))


def without(scan: Scan, view: View) -> Planted:
    series = series_of(scan, view)
    if series is None or len(scan.series) < 2:
        return None
    points = tuple(p for p in scan.points if p.series_id != series.series_id)
    return replace(swap(scan, series), points=points), f"no {view.value} series"
