"""Slices that matter: which ones are looked at, and when everything is after all."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest

from localize.config import LocalizeConfig
from localize.decoding.prior import ChainPrior
from localize.decoding.slice_selection import first_slices
from localize.localizer import Localizer
from localize.measures import study_errors
from shared.detections import Detection
from shared.labels import Level, View
from shared.runtime.errors import InputError
from shared.study import Series, Slice, Study
from tests.localize.spine_phantom import axial_series, model_study, perfect_detections, sagittal_series, truth_of

CONFIG = LocalizeConfig()
ALL_SLICES = LocalizeConfig.load(None, ("slices.focused=false",))


class Scripted(Localizer):
    """A localizer whose detectors answer from a list; it keeps what it was asked."""

    def __init__(self, boxes: Iterable[Detection], prior: ChainPrior, config: LocalizeConfig = CONFIG) -> None:
        super().__init__(dict.fromkeys(View), prior, config)  # type: ignore[arg-type]
        self.boxes, self.asked = list(boxes), []

    def _detect(
        self, study_id: str, series: Series, slices: Sequence[Slice]
    ) -> tuple[list[Detection], list[InputError]]:
        numbers = {item.instance_number for item in slices}
        self.asked += [(series.series_id, number) for number in sorted(numbers)]
        return [d for d in self.boxes if d.series_id == series.series_id and d.instance_number in numbers], []

    def _why_not_lumbar(self, study: Study, spine: object, *, sure: bool) -> str:
        return ""  # another question, which looks again: see test_anatomy.py


def total(study: Study) -> int:
    return sum(len(series.slices) for series in study.series)


def contiguous_axial() -> Series:
    """Axial slices all along the spine, 4 mm apart."""
    first = axial_series(levels=(Level.L1_L2,)).slices[0]
    x, y, _ = first.plane.origin_mm
    slices = tuple(
        replace(first, instance_number=k + 1, plane=replace(first.plane, origin_mm=(x, y, 20.0 - 4.0 * k)))
        for k in range(45)
    )
    return Series(series_id="3", view=View.AXIAL_T2, slices=slices)


def test_a_clear_study_is_settled_by_part_of_its_slices(prior: ChainPrior) -> None:
    sagittal = model_study(views=[View.SAGITTAL_T1, View.SAGITTAL_T2])
    study = replace(sagittal, series=(*sagittal.series, contiguous_axial()))
    localizer, everything = (Scripted(perfect_detections(study), prior, c) for c in (CONFIG, ALL_SLICES))
    result, reference = localizer.localize(study), everything.localize(study)
    assert result.slices == len(localizer.asked) == len(set(localizer.asked))
    assert result.slices < 0.75 * total(study)
    assert reference.slices == total(study)
    assert set(result.localizations) == set(reference.localizations)
    truth = truth_of(study)
    errors = study_errors(study, truth, result.localizations)
    assert all(e.distance_mm is not None and e.distance_mm < 4 and e.nearest_level is e.finding.level for e in errors)


def test_the_first_look_is_at_the_middle_of_sagittal_t2() -> None:
    study = model_study()
    chosen = first_slices(study, CONFIG)
    assert set(chosen) == {"2"}
    # 13 slices 4 mm apart: those within 16 mm of the seventh.
    assert [item.instance_number for item in chosen["2"]] == list(range(3, 12))
    short = Series(series_id="2", view=View.SAGITTAL_T2, slices=study.series[1].slices[:5])
    assert len(first_slices(replace(study, series=(short,)), CONFIG)["2"]) == 5


def doubtful_studies() -> dict[str, tuple[Study, list[Detection]]]:
    study = model_study()
    boxes = perfect_detections(study)
    sagittal = [d for d in boxes if d.view is View.SAGITTAL_T2]
    others = [d for d in boxes if d.view is not View.SAGITTAL_T2]
    off = sagittal_series(View.SAGITTAL_T2, series_id="2")
    # The series' middle lies far from the spine.
    moved = tuple(
        replace(item, plane=replace(item.plane, origin_mm=(item.plane.origin_mm[0] + 20.0, *item.plane.origin_mm[1:])))
        for item in off.slices
    )
    beside = replace(study, series=(study.series[0], replace(off, slices=moved), study.series[2]))
    return {
        "no sagittal T2": (model_study(views=[View.SAGITTAL_T1, View.AXIAL_T2]), others),
        "nothing on T2": (study, others),
        "a level lost on T2": (study, [d for d in boxes if d.view is not View.SAGITTAL_T2 or d.level]),
        "the spine is not in the middle": (beside, perfect_detections(beside)),
        "other views call everything one level lower": (
            study,
            [*sagittal, *(replace(d, level=Level(d.level + 1), score=0.95) for d in others if d.level < 4)],
        ),
        "no box on an axial level": (study, [d for d in boxes if d.view is not View.AXIAL_T2 or d.level]),
    }


@pytest.mark.parametrize("name", list(doubtful_studies()))
def test_a_doubt_makes_it_look_at_everything(prior: ChainPrior, name: str) -> None:
    study, boxes = doubtful_studies()[name]
    localizer = Scripted(boxes, prior)
    result = localizer.localize(study)
    assert result.slices == total(study) == len(set(localizer.asked)) == len(localizer.asked)
    reference = Scripted(boxes, prior, ALL_SLICES).localize(study)
    assert result.localizations == reference.localizations
    assert result.numbering == reference.numbering


def test_each_series_of_a_view_is_looked_at(prior: ChainPrior) -> None:
    study = model_study()
    again = sagittal_series(View.SAGITTAL_T1, series_id="9")
    study = replace(study, series=(*study.series, again))
    localizer = Scripted(perfect_detections(study), prior)
    localizer.localize(study)
    assert {series_id for series_id, _ in localizer.asked} == {"1", "2", "3", "9"}
