"""The score table: submissions beside the baselines on the same studies, with bootstrap intervals over studies."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.metric import TERMS, Interval, Score, bootstrap, interval, score, study_losses
from shared.probabilities.files import read_submission
from shared.probabilities.table import ProbabilityTable, class_weighted, constant_table, weighted_prior
from shared.runtime.problems import counted
from shared.runtime.run_folder import RunScore
from shared.splits import Splits

UNIFORM: Final = "uniform"
PRIOR: Final = "weighted prior"
ORACLE: Final = "oracle"
RESAMPLES: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The score of one submission.

    Attributes:
      gain: score of the weighted prior minus this one (positive is better), with its paired interval; None for the
        prior itself.
      gap_closed: share of the distance from the weighted prior to the oracle; None without an oracle.
      prior_rows: rows that hold the training prior instead of a model's answer.
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
    """Scores of several submissions on the same studies; gains are measured against `reference`.

    `notes` say what was changed or left out when the submissions were read, one sentence each.
    """

    studies: int
    graded_rows: int
    reference: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()

    def line(self, name: str) -> Line:
        return next(line for line in self.lines if line.name == name)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def baselines(study_ids: Sequence[str], training_grades: NDArray[np.int8]) -> dict[str, ProbabilityTable]:
    """Uniform probabilities, and the weighted prior per condition and level of the training part."""
    return {UNIFORM: _uniform(study_ids), PRIOR: constant_table(study_ids, weighted_prior(training_grades))}


def out_of_fold_baselines(
    study_ids: Sequence[str], grades: Mapping[str, NDArray[np.int8]], splits: Splits
) -> dict[str, ProbabilityTable]:
    """`baselines` for held-out studies: each gets the weighted prior of the studies that its fold trained on.

    Args:
      study_ids: held-out studies of one or more folds.
      grades: [25] severity values of every study in `splits`, -1 where not graded.
    """
    folds = [splits.fold_of(s) for s in study_ids]
    priors = {k: weighted_prior(np.stack([grades[s] for s in splits.training(k)])) for k in sorted(set(folds))}
    uniform = _uniform(study_ids)
    values = np.stack([priors[k] for k in folds])
    prior = ProbabilityTable(study_ids=uniform.study_ids, submission=values, from_model=uniform.from_model)
    return {UNIFORM: uniform, PRIOR: prior}


def _uniform(study_ids: Sequence[str]) -> ProbabilityTable:
    return constant_table(study_ids, np.full((25, 3), 1 / 3))


def read_oracle(path: Path) -> ProbabilityTable:
    """Reads probabilities in the columns of a submission, and turns them into the best submission."""
    table = read_submission(path).table
    return ProbabilityTable(
        study_ids=table.study_ids, submission=class_weighted(table.submission), from_model=table.from_model
    )


def compare(
    submissions: Mapping[str, ProbabilityTable], study_ids: Sequence[str], grades: NDArray[np.int8]
) -> Comparison:
    """Scores every submission on the same studies.

    Intervals are 95% percentile intervals of a bootstrap over studies. Gains over the weighted prior, where it is among
    the submissions, resample the same studies on both sides.

    Args:
      grades: [n, 25] in the order of `study_ids`, -1 where not graded.

    Raises:
      InputError: when a submission lacks one of the studies.
    """
    tables = {n: t.select(study_ids) for n, t in submissions.items()}
    scores = {n: score(t.submission, grades) for n, t in tables.items()}
    samples = {n: bootstrap(study_losses(t.submission, grades), resamples=RESAMPLES) for n, t in tables.items()}
    prior, oracle = scores.get(PRIOR), scores.get(ORACLE)
    lines = []
    for name, table in tables.items():
        gain = gain_interval = closed = None
        if prior is not None and name != PRIOR:
            gain = prior.score - scores[name].score
            gain_interval = interval(samples[PRIOR] - samples[name])
        if prior is not None and oracle is not None and prior.score > oracle.score:
            closed = (prior.score - scores[name].score) / (prior.score - oracle.score)
        lines.append(
            Line(
                name=name,
                score=scores[name],
                interval=interval(samples[name]),
                gain=gain,
                gain_interval=gain_interval,
                gap_closed=closed,
                prior_rows=int((~table.from_model).sum()),
            )
        )
    return Comparison(studies=len(study_ids), graded_rows=int((grades >= 0).sum()), reference=PRIOR, lines=tuple(lines))


def run_score(submission: NDArray[np.float64], grades: NDArray[np.int8]) -> RunScore | None:
    """What a training records of its out-of-fold answers, as they were written; None where nothing is graded.

    Args:
      submission: [n, 25, 3].
      grades: [n, 25], -1 where not graded.
    """
    if not (grades >= 0).any():
        return None
    bounds = interval(bootstrap(study_losses(submission, grades), resamples=RESAMPLES))
    return RunScore(
        of="competition metric, out of fold", lower_is_better=True, value=score(submission, grades).score,
        low=bounds.low, high=bounds.high, studies=len(grades),
    )  # fmt: skip


def as_text(comparison: Comparison) -> str:
    """The comparison as the plain table that the commands print."""
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
        f"{counted(comparison.studies, 'study')}, {counted(comparison.graded_rows, 'graded row')}; "
        "lower is better; "
        "95% intervals resample studies."
    )
    return "\n".join([*lines, *comparison.notes])
