"""Mirrored axial series from pixels to sides: the generator's own trap, faultless detectors, a real decoding."""

from collections.abc import Sequence
from importlib import import_module

import numpy as np
import pytest

from localize.config import LocalizeConfig
from localize.decoding.prior import fit_prior
from localize.localizer import Localizer
from localize.measures import collect
from localize.predict import predict_studies
from pipelines.synthetic import SynthOptions, generate
from shared.annotations import annotated_localizations
from shared.data.challenge import Challenge
from shared.data.source import challenge_source
from shared.detections import Detection
from shared.labels import Condition, Level, Side, View
from shared.runtime.errors import InputError
from shared.study import Series, Slice

TRAPPED = 2


@pytest.fixture(scope="module")
def flipped(tmp_path_factory: pytest.TempPathFactory) -> Challenge:
    """Six studies; the axial pixels of two are mirrored against their headers."""
    root = tmp_path_factory.mktemp("flipped")
    with pytest.MonkeyPatch.context() as patch:
        planned = dict.fromkeys(range(TRAPPED), ("flipped_axial",))
        # The package exports a function of the module's name.
        patch.setattr(import_module("pipelines.synthetic.generate"), "assign_traps", lambda *_: planned)
        generate(root, SynthOptions(studies=6, test_studies=0, seed=12, traps=True))
    return Challenge.open(root / "data")


class _Faultless(Localizer):
    """Boxes around the annotated points, on the slice they are on and its neighbours."""

    data: Challenge

    def _detect(
        self, study_id: str, series: Series, slices: Sequence[Slice]
    ) -> tuple[list[Detection], list[InputError]]:
        numbers = [s.instance_number for s in series.slices]
        found = []
        for item in slices:
            for level in Level:
                near = [
                    p for p in self.data.points[study_id]
                    if p.series_id == series.series_id and p.finding.level is level
                    and p.instance_number in numbers  # of a part of the series, when sizes are compared
                    and abs(numbers.index(p.instance_number) - numbers.index(item.instance_number)) <= 1
                ]  # fmt: skip
                if not near:
                    continue
                # Detectors see the upright picture; a series that is read as mirrored is turned for that.
                points = item.orientation.to_upright([(p.x_px, p.y_px) for p in near], item.stored_shape)
                dy, dx = item.plane.spacing_mm
                aside = self.config.axial_t2.margin_mm if series.view is View.AXIAL_T2 else 14.0
                left, right = points[:, 0].min() - aside / dx, points[:, 0].max() + aside / dx
                top, bottom = points[:, 1].mean() - 14 / dy, points[:, 1].mean() + 14 / dy
                found.append(Detection(
                    study_id=study_id, series_id=series.series_id, instance_number=item.instance_number,
                    view=series.view, level=level, box_xyxy_px=(left, top, right, bottom), score=0.9,
                ))  # fmt: skip
        return found, []


@pytest.mark.parametrize(("unmirror", "turned"), [("true", TRAPPED), ("false", 0)])
def test_sides_of_mirrored_series(flipped: Challenge, unmirror: str, turned: int) -> None:
    config = LocalizeConfig.load(None, ("slices.focused=false", f"axial.unmirror={unmirror}"))
    truths = [annotated_localizations(flipped.load_study(s).study, flipped.points[s]) for s in flipped.study_ids]
    sound = [t for t in truths if _axial_left_is_left(t)]
    localizer = _Faultless(dict.fromkeys(View), fit_prior(sound), config)  # type: ignore[arg-type]
    localizer.data = flipped
    predictions = predict_studies(lambda _: localizer, challenge_source(flipped), flipped.study_ids)
    errors = [e for e in collect(flipped, predictions.localizations).errors if e.found]
    axial = [e for e in errors if e.finding.condition is Condition.SUBARTICULAR]
    wrong = {e.study_id for e in axial if e.wrong_side}
    assert len(axial) > 30
    assert len(wrong) == TRAPPED - turned
    mirrored = [text for text in predictions.problems if "is mirrored" in text]
    assert len(mirrored) == turned


def _axial_left_is_left(truth: dict) -> bool:
    x = {side: np.mean([t.point_mm[0] for f, t in truth.items()
                        if f.condition is Condition.SUBARTICULAR and f.side is side]) for side in Side}  # fmt: skip
    return bool(x[Side.LEFT] > x[Side.RIGHT])
