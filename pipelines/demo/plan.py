"""What the demo is asked for, and what each of its steps costs."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipelines.demo.steps import Step
from pipelines.synthetic import Preset
from shared.labels import FINDINGS, View
from shared.runtime.config import shipped_config

FOLDS: Final = 5
# One fold of the five keeps the demo short; `--fold all` trains the rest.
DEMO_FOLD: Final = 0
# Seconds on two idle cores of an AMD EPYC, of the demo with its own configs (results/demo.json).
_STUDY_SECONDS: Final = {"demo": 0.42, "full": 1.8}
_EXPORT_SECONDS: Final = 0.06
_DETECTOR_SECONDS: Final = 7.4e-7
_LOCALIZED_SECONDS: Final = 0.3
_CROP_SECONDS: Final = 0.0043
_GRADER_SECONDS: Final = 2.8e-6
_UNSEEN_SECONDS: Final = 0.7
_STARTING_SECONDS: Final = 6.0
_REPORT_SECONDS: Final = 0.05
# Annotated slices of a study per view; neighbours and negatives come on top.
_SLICES: Final = {View.SAGITTAL_T1: 2.6, View.SAGITTAL_T2: 1.3, View.AXIAL_T2: 6.2}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """Size and seed of the demo, and the folds to train: "all", "0" or "0,1"; see `lumbar demo --help`."""

    studies: int = 180
    test_studies: int = 24
    preset: Preset = "demo"
    seed: int = 0
    fold: str = str(DEMO_FOLD)
    device: str = "auto"
    workers: int = 1
    localize_config: Path | None = None
    classify_config: Path | None = None

    @property
    def folds(self) -> int:
        """How many folds are trained."""
        chosen = set(self.fold.split(","))
        return FOLDS if "all" in chosen else len(chosen)


def config_file(stage: str, given: Path | None) -> Path:
    """The config of a stage: the given one, or else the demo's."""
    return given or shipped_config(stage, "demo")


def planned(options: DemoOptions) -> tuple[Step, ...]:
    """The steps and what each of them took on the machine that was measured, scaled to these options."""
    studies, unseen = options.studies, options.test_studies
    synthesis = Step(
        title=f"{studies} training and {unseen} unseen synthetic studies",
        seconds=_STUDY_SECONDS[options.preset] * (studies + unseen),
        share=lambda name, done: done if name == "synthetic studies" else None,
    )
    return (
        synthesis, _detectors(options), _grader(options),
        Step(
            title="grading the unseen studies from their DICOM files",
            seconds=_STARTING_SECONDS + _UNSEEN_SECONDS * unseen,
            share=lambda name, done: {"predict": 0.8 * done, "true points": 0.8 + 0.2 * done}.get(name),
        ),
        Step(title="stage reports", seconds=_STARTING_SECONDS + _REPORT_SECONDS * (unseen + studies / FOLDS)),
        Step(title="scores", seconds=3.0),
    )  # fmt: skip


def _detectors(options: DemoOptions) -> Step:
    from localize.config import LocalizeConfig

    config = LocalizeConfig.load(config_file("localize", options.localize_config))
    trained, held_out = options.studies * (1 - 1 / FOLDS), options.studies / FOLDS
    pixels = 0.0
    for view, slices in _SLICES.items():
        section = config.of_view(view)
        images = trained * slices * (2 * section.neighbours + 1) * (1 + section.negatives)
        pixels += images * section.epochs * math.prod(section.image_px)
    seconds = _EXPORT_SECONDS * options.studies + _DETECTOR_SECONDS * pixels + _LOCALIZED_SECONDS * held_out

    def share(name: str, done: float) -> float | None:
        return 0.85 + 0.15 * done if "held-out" in name and options.folds == 1 else None

    title = "stage 1: training the three detectors"
    return Step(title=title, seconds=_STARTING_SECONDS + options.folds * seconds, share=share)


def _grader(options: DemoOptions) -> Step:
    from classify.config import ClassifyConfig

    config = ClassifyConfig.load(config_file("classify", options.classify_config))
    trained, epochs = options.studies * (1 - 1 / FOLDS), config.train.epochs
    pixels = trained * len(FINDINGS) * epochs * config.crop.size_px**2
    cutting, training = _CROP_SECONDS * len(FINDINGS) * options.studies, options.folds * _GRADER_SECONDS * pixels
    whole = cutting + training

    def share(name: str, done: float) -> float | None:
        epoch = re.fullmatch(r"epoch (\d+)", name)
        if name == "crops":
            return cutting / whole * done
        return (
            (cutting + training * (int(epoch[1]) - 1 + done) / epochs) / whole if epoch and options.folds == 1 else None
        )

    return Step(title="stage 2: training the grader", seconds=_STARTING_SECONDS + whole, share=share)
