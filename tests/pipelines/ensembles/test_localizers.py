"""Several localizers on one study: agreement averages, a shifted chain is doubted, sides and slices stay right."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localize.localizer import StudyLocalization
from pipelines.ensembles.localizers import LocalizerEnsemble, combine
from shared.detections import Localization, Source
from shared.geometry import Plane
from shared.labels import FINDINGS, Condition, Finding, Level, View
from shared.numbering import Numbering
from shared.runtime.errors import InputError
from shared.study import Series, Slice, Study

CANALS = [f for f in FINDINGS if f.condition is Condition.CANAL]
GAP_MM = 35.0


def sagittal() -> Study:
    """Five sagittal slices, 4 mm apart along x, with pixels of 1 mm: x_px to posterior (+y), y_px to foot (-z)."""
    slices = tuple(
        Slice(
            path=f"{k}.dcm", instance_number=k + 1, shape=(300, 200),  # type: ignore[arg-type]
            plane=Plane.from_arrays(
                origin_mm=(4.0 * k - 8, -100, 150), row_dir=(0, 1, 0), col_dir=(0, 0, -1), spacing_mm=(1, 1)
            ),
        )
        for k in range(5)
    )  # fmt: skip
    return Study(study_id="1", series=(Series(series_id="11", view=View.SAGITTAL_T2, slices=slices),))


STUDY = sagittal()


def chain(
    *, score: float = 0.9, move_mm: tuple[float, float, float] = (0, 0, 0), discs_lower: int = 0,
    source: Source = Source.DETECTED, as_named: float = 0.98, findings: list[Finding] = CANALS,
) -> StudyLocalization:  # fmt: skip
    """A chain of canal points down the middle slice, moved as a whole."""
    points: dict[Finding, Localization] = {}
    for finding in findings:
        wanted = np.add((0, 0, 100 - GAP_MM * (finding.level + discs_lower)), move_mm)
        item = min(STUDY.series[0].slices, key=lambda s: abs(float(s.plane.distance_mm(wanted))))
        x_px, y_px = (float(v) for v in item.plane.to_pixel(wanted))
        x_mm, y_mm, z_mm = (float(v) for v in item.plane.to_patient((x_px, y_px)))
        points[finding] = Localization(
            study_id="1", finding=finding, series_id="11", instance_number=item.instance_number, x_px=x_px, y_px=y_px,
            point_mm=(x_mm, y_mm, z_mm), source=source, score=score,
        )  # fmt: skip
    rest = (1 - as_named) / 2
    numbering = Numbering(
        as_named=as_named,
        one_higher=rest,
        one_lower=rest,
        disc_above=0,
        disc_below=0,
        missing=dict.fromkeys(Level, 0.0),
    )
    return StudyLocalization(detections=(), localizations=points, numbering=numbering, slices=3)


def scores(answer: StudyLocalization) -> list[float]:
    return [p.score for p in answer.localizations.values()]


@given(
    first=st.tuples(st.floats(0.05, 1), st.floats(-2, 2), st.floats(-2, 2)),
    second=st.tuples(st.floats(0.05, 1), st.floats(-2, 2), st.floats(-2, 2)),
)
def test_points_that_agree_are_averaged_by_their_scores(first, second) -> None:
    a, b = (chain(score=s, move_mm=(0, y, z)) for s, y, z in (first, second))
    both = combine(STUDY, [a, b])
    weight = first[0] / (first[0] + second[0])
    for finding, point in both.localizations.items():
        own, other = a.localizations[finding], b.localizations[finding]
        expected = weight * np.array(own.point_mm) + (1 - weight) * np.array(other.point_mm)
        assert point.point_mm == pytest.approx(expected, abs=1e-3)
        item = STUDY.series[0].by_instance(point.instance_number)
        assert item.plane.to_patient((point.x_px, point.y_px)) == pytest.approx(point.point_mm)
    assert scores(both) == pytest.approx([(first[0] + second[0]) / 2] * 5)
    assert both.numbering.as_named == pytest.approx(0.98)
    assert not [text for text in both.problems if "apart" in text]


def test_two_of_one_are_that_one() -> None:
    one = chain()
    both = combine(STUDY, [one, one])
    for finding, point in both.localizations.items():
        alone = one.localizations[finding]
        assert (point.instance_number, point.source) == (alone.instance_number, alone.source)
        assert (point.x_px, point.y_px, point.score) == pytest.approx((alone.x_px, alone.y_px, alone.score))


def test_points_on_neighbouring_slices_meet_on_the_slice_of_the_surer() -> None:
    a, b = chain(score=0.9), chain(score=0.6, move_mm=(4, 0, 0))
    assert {p.instance_number for p in combine(STUDY, [a, b]).localizations.values()} == {3}
    assert {p.instance_number for p in combine(STUDY, [b, a]).localizations.values()} == {3}


def test_of_two_chains_that_number_differently_the_surer_is_followed_as_a_whole_and_doubted() -> None:
    sure, shifted = chain(score=0.95), chain(score=0.8, discs_lower=1)
    for order in ([sure, shifted], [shifted, sure]):
        both = combine(STUDY, order)
        assert all(both.localizations[f].point_mm == sure.localizations[f].point_mm for f in CANALS)
        assert scores(both) == pytest.approx([0.95 / 1.8] * 5)
        assert not both.numbering.certain
        # The other chain calls each disc by the name of the one above it.
        assert both.numbering.one_higher == pytest.approx((0.01 + 0.99) / 2)
        assert any("place 5 of 5 findings more than 8 mm apart" in text for text in both.problems)


def test_two_outvote_one_that_is_surer() -> None:
    shifted = chain(score=0.99, discs_lower=1)
    for order in ([chain(), chain(), shifted], [shifted, chain(), chain()]):
        both = combine(STUDY, order)
        assert both.localizations[CANALS[0]].point_mm == pytest.approx(chain().localizations[CANALS[0]].point_mm)
        assert scores(both) == pytest.approx([(0.9 + 0.9) / 2.99] * 5)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(-1, 1), st.floats(-12, 12)), min_size=1, max_size=4))
def test_whatever_they_say_the_levels_stay_in_order_and_the_scores_are_probabilities(given_chains) -> None:
    answers = [chain(score=s, discs_lower=d, move_mm=(0, y, 0)) for s, d, y in given_chains]
    both = combine(STUDY, answers)
    z = [both.localizations[f].point_mm[2] for f in CANALS]
    assert all(a > b + 20 for a, b in pairwise(z))
    assert all(0 <= s <= 1 for s in scores(both))
    assert max(scores(both)) <= max(max(scores(a)) for a in answers) + 1e-9


def test_a_localizer_without_a_finding_abstains_and_others_fill_it_in() -> None:
    a, b = chain(score=0.9, findings=CANALS[:3]), chain(score=0.7)
    both = combine(STUDY, [a, b])
    assert set(both.localizations) == set(CANALS)
    assert scores(both) == pytest.approx([0.8] * 3 + [0.7] * 2)
    guessed = combine(STUDY, [chain(source=Source.INTERPOLATED), chain()])
    assert {p.source for p in guessed.localizations.values()} == {Source.DETECTED}


def test_one_that_is_not_sure_of_its_own_place_hardly_doubts_another() -> None:
    both = combine(STUDY, [chain(score=0.9), chain(score=0.05, discs_lower=1)])
    assert scores(both) == pytest.approx([0.9 / 1.05] * 5)


def test_another_anatomy_is_what_most_localizers_say() -> None:
    neck = StudyLocalization(detections=(), localizations={}, not_lumbar="shows no sacrum", slices=2)
    doubted = combine(STUDY, [chain(), neck])
    assert not doubted.not_lumbar
    assert scores(doubted) == pytest.approx([0.45] * 5)
    assert any("1 of 2 localizers saw no lumbar spine" in text for text in doubted.problems)
    refused = combine(STUDY, [neck, chain(), neck])
    assert refused.not_lumbar == "shows no sacrum"
    assert not refused.localizations


@dataclass(frozen=True)
class One:
    answer: StudyLocalization | None
    unmirror: bool = True

    def localize(self, study: Study) -> StudyLocalization:
        if self.answer is None:
            raise InputError("no slice can be read")
        return self.answer


def test_one_that_fails_does_not_stop_the_others() -> None:
    answer = LocalizerEnsemble([One(None), One(chain())]).localize(STUDY)
    assert scores(answer) == [0.9] * 5
    assert any("one of the localizers failed: no slice can be read" in text for text in answer.problems)
    with pytest.raises(InputError, match="no slice can be read"):
        LocalizerEnsemble([One(None), One(None)]).localize(STUDY)


def test_nothing_seen_stays_nothing() -> None:
    empty = StudyLocalization(detections=(), localizations={})
    assert combine(STUDY, [empty, empty]).localizations == {}
    assert scores(combine(STUDY, [empty, chain()])) == pytest.approx([0.9] * 5)


def test_problems_are_told_once() -> None:
    told = [replace(chain(), problems=("slice 3 cannot be read",)) for _ in range(2)]
    assert combine(STUDY, told).problems == ("slice 3 cannot be read",)
