"""Several classifiers at the same points: the mean of their probabilities, which any other way of averaging equals."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from classify.predict import StudyGrades
from pipelines.ensembles.blend import blend
from pipelines.ensembles.classifiers import ClassifierEnsemble
from shared.data.source import open_source
from shared.detections import Localization
from shared.labels import FINDINGS, Condition, Finding, findings_of
from shared.probabilities.reasons import PriorReason
from shared.probabilities.table import class_weighted, floored, unweighted
from shared.study import Study
from tests.pipelines.stand_ins import CanalLocalizer, grader_of, write_test_part

FORAMINAL = [f.index for f in findings_of(Condition.FORAMINAL)]
EMPTY = Study(study_id="1", series=())


class Drawn:
    """A classifier that gives random answers, and grades only what it was trained for."""

    unmirror = True

    def __init__(self, seed: int, *families: Condition, reason: PriorReason = PriorReason.NOT_TRAINED) -> None:
        rng = np.random.default_rng(seed)
        self.families, self._reason = frozenset(families or Condition), reason
        self.answers, self.prior = (floored(rng.dirichlet((2, 1, 1), 25)) for _ in range(2))

    def grade(self, study: Study, localizations: Mapping[Finding, Localization]) -> StudyGrades:
        able = {f for f in localizations if f.condition in self.families}
        reasons = {
            f: self._reason if f.condition not in self.families else PriorReason.NOT_COVERED
            for f in FINDINGS
            if f not in able
        }
        values = np.where(np.isin(np.arange(25), [f.index for f in able])[:, None], self.answers, self.prior)
        return StudyGrades(submission=values, reasons=reasons, problems=("slice 3 cannot be read",))


def everywhere() -> dict[Finding, Localization]:
    return dict.fromkeys(FINDINGS)  # type: ignore[return-value]


def test_the_answer_is_the_mean_of_the_probabilities() -> None:
    a, b = Drawn(0), Drawn(1)
    answer = ClassifierEnsemble([a, b]).grade(EMPTY, everywhere())
    np.testing.assert_allclose(
        unweighted(answer.submission), (unweighted(a.answers) + unweighted(b.answers)) / 2, atol=1e-5
    )
    assert answer.reasons == {}
    assert answer.problems == ("slice 3 cannot be read",)
    np.testing.assert_allclose(ClassifierEnsemble([a, a]).grade(EMPTY, everywhere()).submission, a.answers, atol=1e-9)


def test_weights_count_by_family() -> None:
    a, b = Drawn(0), Drawn(1)
    weights = np.tile([[1.0], [0.0]], 25)
    weights[:, FORAMINAL] = [[0.0], [1.0]]
    answer = ClassifierEnsemble([a, b], weights).grade(EMPTY, everywhere()).submission
    np.testing.assert_allclose(answer[0], a.answers[0], atol=1e-9)
    np.testing.assert_allclose(answer[FORAMINAL], b.answers[FORAMINAL], atol=1e-9)


def test_a_member_that_cannot_grade_a_finding_leaves_it_to_the_others() -> None:
    a, canal = Drawn(0), Drawn(1, Condition.CANAL)
    answer = ClassifierEnsemble([a, canal], np.tile([[0.0], [1.0]], 25)).grade(EMPTY, everywhere())
    np.testing.assert_allclose(answer.submission[FORAMINAL], a.answers[FORAMINAL], atol=1e-9)
    np.testing.assert_allclose(answer.submission[0], canal.answers[0], atol=1e-9)
    none = ClassifierEnsemble([canal, Drawn(2, reason=PriorReason.SLICE_DAMAGED)]).grade(EMPTY, {})
    assert set(none.reasons) == set(FINDINGS)
    # What the study lacks is told before what one of the members cannot do.
    assert none.reasons[FINDINGS[FORAMINAL[0]]] is PriorReason.NOT_COVERED
    assert none.submission == pytest.approx(ClassifierEnsemble([canal, Drawn(2)]).prior, abs=1e-5)


@pytest.mark.parametrize("score", [1.0, 0.6])
def test_a_blend_of_predictions_is_the_prediction_of_both(score: float, tmp_path: Path) -> None:
    """Also where the point is in doubt: the mean and the mixture with the prior are taken in one space."""
    loaded = open_source(write_test_part(tmp_path)).load("5")
    a, b, stage1 = Drawn(0), Drawn(1), CanalLocalizer(score=score)
    alone = [grader_of(stage1, c).predict(loaded).submission for c in (a, b)]
    both = grader_of(stage1, ClassifierEnsemble([a, b])).predict(loaded).submission
    np.testing.assert_allclose(blend([x[None] for x in alone], np.ones((2, 25)), "arithmetic")[0], both, atol=1e-5)
    # A mean of submissions is another one.
    assert np.abs((alone[0] + alone[1]) / 2 - both).max() > 0.01
    np.testing.assert_allclose(class_weighted(unweighted(both)), both)
