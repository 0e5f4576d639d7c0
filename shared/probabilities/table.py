"""What stage 2 produces: severity probabilities of every finding, the prior, and what the metric makes of them.

Two kinds of numbers have three values per finding. Probabilities are what is believed of the grades. A submission is
what scores best under the metric: each probability times the weight of its grade, renormalised. Computing works with
submissions, because losses and temperatures are defined on them. Whatever a person reads holds probabilities; only
files with the columns of submission.csv hold submissions (docs/adr/0026-probabilities-for-people.md).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.labels import FINDINGS, SEVERITY_WEIGHTS
from shared.probabilities.reasons import PriorReason, PriorReasons, is_from_model
from shared.runtime.errors import InputError
from shared.runtime.problems import counted

SUM_TOLERANCE: Final = 1e-6
# No submitted probability is below this: a confident miss then costs 13.8, where a zero would cost 36.
FLOOR: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbabilityTable:
    """The answers for all 25 findings of some studies.

    Attributes:
      study_ids: one per row of `submission`.
      submission: [n, 25, 3], `FINDINGS` x `Severity`, with the metric's weights; finite, non-negative, summing to 1.
      from_model: [n, 25]; False where the training prior stands in.
      reasons: study id -> why it does, for every prior row; without the studies whose reasons are not known.
    """

    study_ids: tuple[str, ...]
    submission: NDArray[np.float64]
    from_model: NDArray[np.bool_]
    reasons: Mapping[str, PriorReasons] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = (len(self.study_ids), len(FINDINGS), 3)
        if self.submission.shape != expected or self.from_model.shape != expected[:2]:
            raise ValueError(
                f"expected {expected} and {expected[:2]}, got {self.submission.shape} and {self.from_model.shape}"
            )
        if len(set(self.study_ids)) != len(self.study_ids):
            raise ValueError("a study is listed twice")
        bad = ~(np.isfinite(self.submission).all(-1) & (self.submission >= 0).all(-1))
        bad |= np.abs(self.submission.sum(-1) - 1) > SUM_TOLERANCE
        if bad.any():
            study, finding = np.argwhere(bad)[0]
            raise ValueError(
                f"study {self.study_ids[study]}, {FINDINGS[finding].column}: {self.submission[study, finding]} "
                "are not probabilities (finite, not negative, summing to 1)"
            )
        for study_id, from_model in zip(self.study_ids, self.from_model, strict=True):
            if study_id in self.reasons and not np.array_equal(is_from_model(self.reasons[study_id]), from_model):
                raise ValueError(f"study {study_id}: expected a reason for each prior row and for no other")

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """What is believed of the grades: the submission without the metric's weights. [n, 25, 3]"""
        return unweighted(self.submission)

    @property
    def prior_rows(self) -> int:
        return int((~self.from_model).sum())

    @property
    def reason_counts(self) -> dict[PriorReason, int]:
        """Number of rows with each reason, in the order of `PriorReason`."""
        counts = Counter(reason for of_study in self.reasons.values() for reason in of_study.values())
        return {reason: counts[reason] for reason in PriorReason if reason in counts}

    @property
    def prior_summary(self) -> str:
        """One line on the prior rows, such as "12 rows from the prior: 10 no_series, 2 level_not_seen"."""
        counts = ", ".join(f"{count} {reason}" for reason, count in self.reason_counts.items())
        return f"{counted(self.prior_rows, 'row')} from the prior" + (f": {counts}" if counts else "")

    def select(self, study_ids: Sequence[str]) -> "ProbabilityTable":
        """The rows of the given studies, in that order; raises `InputError` for a study that is not there."""
        index = {s: i for i, s in enumerate(self.study_ids)}
        missing = [s for s in study_ids if s not in index]
        if missing:
            raise InputError(
                f"study {missing[0]} has no probabilities ({len(missing)} of {len(study_ids)} are missing)"
            )
        rows = [index[s] for s in study_ids]
        return ProbabilityTable(
            study_ids=tuple(study_ids), submission=self.submission[rows], from_model=self.from_model[rows],
            reasons={s: self.reasons[s] for s in study_ids if s in self.reasons},
        )  # fmt: skip


def weighted_prior(grades: NDArray[np.int8], *, smoothing: float = 1.0) -> NDArray[np.float64]:
    """The best constant submission per finding: p_c proportional to weight_c * count_c. [n, 25] -> [25, 3]

    `smoothing` is added to every count, so that no class has probability 0.
    """
    counts = np.stack([(grades == c).sum(0) for c in range(3)], axis=-1) + smoothing
    weighted = counts * np.asarray(SEVERITY_WEIGHTS)
    return weighted / weighted.sum(-1, keepdims=True)


def class_weighted(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities -> the submission that the weighted metric rewards most: p * w, renormalised. [..., 3]"""
    weighted = probabilities * np.asarray(SEVERITY_WEIGHTS)
    return weighted / weighted.sum(-1, keepdims=True)


def unweighted(submission: NDArray[np.float64]) -> NDArray[np.float64]:
    """A submission -> probabilities of the grades: s / w, renormalised; the inverse of `class_weighted`. [..., 3]"""
    plain = submission / np.asarray(SEVERITY_WEIGHTS)
    return plain / plain.sum(-1, keepdims=True)


def shrunk(
    submission: NDArray[np.float64], prior: NDArray[np.float64], certainty: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Submissions that are right only with some certainty: mixtures of the probabilities with the prior's.

    Args:
      submission: with the metric's weights. # [..., 3]
      prior: the submission where nothing is known. # [..., 3]
      certainty: probability that `submission` is about the right place. # [...]
    """
    share = certainty[..., None]
    return class_weighted(share * unweighted(submission) + (1 - share) * unweighted(prior))


def floored(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of at least `FLOOR`, renormalised. [..., 3]"""
    clipped = np.maximum(values, FLOOR)
    return clipped / clipped.sum(-1, keepdims=True)


def constant_table(study_ids: Sequence[str], prior: NDArray[np.float64]) -> ProbabilityTable:
    """The same submission [25, 3] for every study, marked as prior."""
    return ProbabilityTable(
        study_ids=tuple(study_ids),
        submission=np.broadcast_to(prior, (len(study_ids), *prior.shape)).copy(),
        from_model=np.zeros((len(study_ids), len(FINDINGS)), bool),
    )
