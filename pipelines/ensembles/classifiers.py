"""Several classifiers that grade the same points: the mean of their probabilities.

The mean is taken of probabilities of the grades, not of submissions, which carry the metric's weights. A mean of
submissions would trust the runs less that see a severe finding. Doubtful points are mixed with the prior in the same
space, so the mean of finished predictions is the prediction of the mean (docs/adr/0029).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.detections import Localization
from shared.labels import FINDINGS, Condition, Finding
from shared.probabilities.reasons import PriorReason
from shared.probabilities.table import class_weighted, floored, unweighted
from shared.study import Study

if TYPE_CHECKING:
    from classify.predict import StudyGrades


class Grades(Protocol):
    """What is needed of a classifier; see `classify.predict.Classifier`."""

    prior: NDArray[np.float64]
    families: frozenset[Condition]
    unmirror: bool

    def grade(self, study: Study, localizations: Mapping[Finding, Localization]) -> "StudyGrades": ...


class ClassifierEnsemble:
    """Two or more classifiers, all of which read mirrored series alike (`pipelines.grader` checks it).

    Attributes:
      prior: the mean of the members' training priors, as a submission. # [25, 3]
      families: conditions that at least one member was trained for.
      unmirror: whether crops of mirrored axial series show what the pictures show.
    """

    def __init__(self, members: Sequence[Grades], weights: NDArray[np.float64] | None = None) -> None:
        """Takes the members' weights per finding, [members, 25]; without them all weigh alike."""
        self._members = tuple(members)
        self._weights = np.ones((len(members), len(FINDINGS))) if weights is None else weights
        self.unmirror: bool = members[0].unmirror
        self.families: frozenset[Condition] = frozenset().union(*(m.families for m in members))
        self.prior: NDArray[np.float64] = _mean([m.prior for m in members], self._weights)

    def grade(self, study: Study, localizations: Mapping[Finding, Localization]) -> "StudyGrades":
        """As `classify.predict.Classifier.grade`. A finding is graded by the members that can grade it."""
        from classify.predict import StudyGrades

        graded = [member.grade(study, localizations) for member in self._members]
        able = np.stack([g.from_model for g in graded])  # [members, 25]
        answered: NDArray[np.bool_] = np.logical_or.reduce(able)
        values = np.where(answered[:, None], _mean([g.submission for g in graded], self._weights, able), self.prior)
        reasons = {f: _reason([g.reasons[f] for g in graded]) for f in FINDINGS if not answered[f.index]}
        problems = tuple(dict.fromkeys(text for g in graded for text in g.problems))
        return StudyGrades(submission=floored(values), reasons=reasons, problems=problems)


def _reason(reasons: Sequence[PriorReason]) -> PriorReason:
    """Why no member could grade a finding: what the study lacks rather than what a member was not trained for."""
    return next((r for r in reasons if r is not PriorReason.NOT_TRAINED), reasons[0])


def _mean(
    submissions: Sequence[NDArray[np.float64]], weights: NDArray[np.float64], able: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """The submission of the mean probabilities.

    Args:
      submissions: [25, 3] of each member.
      weights: [members, 25]; where all able members weigh 0, they count alike.
      able: which members can grade which finding, [members, 25]; all of them by default.
    """
    count = np.ones_like(weights) if able is None else able.astype(np.float64)
    share = np.where((weights * count).sum(0) > 0, weights * count, np.where(count.any(0), count, 1.0))
    share = share / share.sum(0)
    mean = (unweighted(np.stack(submissions)) * share[..., None]).sum(0)
    return class_weighted(mean)
