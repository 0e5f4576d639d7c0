"""Scores of submissions against the truth: the competition metric beside its baselines, with study-level intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.metric import TERMS, Interval, Score, bootstrap, interval, score, study_losses
from shared.probabilities import ProbabilityTable, constant_table, weighted_prior

UNIFORM: Final = "uniform"
PRIOR: Final = "weighted prior"
ORACLE: Final = "oracle"
RESAMPLES: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One submission's score.

    Attributes:
      gain: reference score minus this one (positive is better), with the paired interval; None for the reference.
      gap_closed: share of the distance from the weighted prior to the oracle; None without an oracle.
    """

    name: str
    score: Score
    interval: Interval
    gain: float | None
    gain_interval: Interval | None
    gap_closed: float | None
    prior_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Several submissions on the same studies; `reference` is what gains are measured against."""

    studies: int
    graded_rows: int
    reference: str
    lines: tuple[Line, ...]

    def line(self, name: str) -> Line:
        return next(line for line in self.lines if line.name == name)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def baselines(study_ids: Sequence[str], training_grades: NDArray[np.int8]) -> dict[str, ProbabilityTable]:
    """Uniform, and the weighted prior per condition x level of the training part."""
    uniform = np.full((training_grades.shape[1], 3), 1 / 3)
    return {
        UNIFORM: constant_table(study_ids, uniform),
        PRIOR: constant_table(study_ids, weighted_prior(training_grades)),
    }


def compare(
    submissions: Mapping[str, ProbabilityTable],
    study_ids: Sequence[str],
    grades: NDArray[np.int8],
    *,
    reference: str = PRIOR,
    seed: int = 0,
) -> Comparison:
    """Scores every submission on the same studies. `grades` is [n, 25] in the order of `study_ids`, -1 not graded.

    Intervals are 95% percentile intervals of a bootstrap over studies; gains resample the same studies on both sides.

    Raises:
      InputError: when a submission lacks one of the studies.
    """
    losses = {n: study_losses(t.select(study_ids).values, grades) for n, t in submissions.items()}
    samples = {n: bootstrap(item, resamples=RESAMPLES, seed=seed) for n, item in losses.items()}
    scores = {n: score(t.select(study_ids).values, grades) for n, t in submissions.items()}
    lines = []
    for name, table in submissions.items():
        gain = gain_interval = closed = None
        if name != reference and reference in scores:
            gain = scores[reference].score - scores[name].score
            gain_interval = interval(samples[reference] - samples[name])
        if ORACLE in scores and PRIOR in scores and scores[PRIOR].score > scores[ORACLE].score:
            distance = scores[PRIOR].score - scores[ORACLE].score
            closed = (scores[PRIOR].score - scores[name].score) / distance
        lines.append(
            Line(
                name=name,
                score=scores[name],
                interval=interval(samples[name]),
                gain=gain,
                gain_interval=gain_interval,
                gap_closed=closed,
                prior_rows=int((~table.select(study_ids).from_model).sum()),
            )
        )
    return Comparison(
        studies=len(study_ids), graded_rows=int((grades >= 0).sum()), reference=reference, lines=tuple(lines)
    )


def as_text(comparison: Comparison) -> str:
    """The comparison as the plain table that `lumbar demo` and `lumbar evaluate` print."""
    header = f"{'':<28} {'score':>6}  {'95% interval':<15} {'gain over prior, paired':<25} {'gap':>5}  "
    lines = [header + "  ".join(f"{term[:12]:>12}" for term in TERMS)]
    for line in comparison.lines:
        gain = ""
        if line.gain is not None and line.gain_interval is not None:
            gain = f"{line.gain:+.3f} [{line.gain_interval.low:+.3f}, {line.gain_interval.high:+.3f}]"
        terms = [line.score.terms[term] for term in TERMS]
        lines.append(
            f"{line.name:<28} {line.score.score:>6.3f}  "
            f"[{line.interval.low:.3f}, {line.interval.high:.3f}]  {gain:<25} "
            f"{'' if line.gap_closed is None else f'{line.gap_closed:.0%}':>5}  "
            + "  ".join(f"{'-' if t is None else f'{t:.3f}':>12}" for t in terms)
        )
    lines.append(
        f"{comparison.studies} studies, {comparison.graded_rows} graded rows; lower is better; "
        "95% intervals resample studies."
    )
    return "\n".join(lines)
