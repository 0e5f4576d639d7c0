"""Stand-ins for both stages, and a test part for them to answer."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from classify.config import CropConfig
from classify.predict import Classifier
from pipelines.grader import Grader
from shared.detections import Detection, Localization, Source
from shared.labels import FINDINGS, Condition, Finding
from shared.numbering import Numbering
from shared.runtime.errors import InputError
from shared.study import Study
from tests.dicom_files import write_dicom

PRIOR = np.tile([0.7, 0.2, 0.1], (25, 1))


@dataclass(frozen=True)
class Located:
    localizations: Mapping[Finding, Localization]
    detections: tuple[Detection, ...] = ()
    problems: tuple[str, ...] = ()
    numbering: Numbering | None = None
    not_lumbar: str = ""


class CanalLocalizer:
    """Finds every canal level on the first series; fails on a study without series."""

    def __init__(self, *, unmirror: bool = True, score: float = 1.0) -> None:
        self.unmirror, self.score = unmirror, score

    def localize(self, study: Study) -> Located:
        if not study.series:
            raise InputError("nothing to localize")
        series = study.series[0]
        found = {
            f: Localization(
                study_id=study.study_id, finding=f, series_id=series.series_id,
                instance_number=series.slices[0].instance_number, x_px=3, y_px=f.level, point_mm=(0, 0, 0),
                source=Source.DETECTED, score=self.score,
            )
            for f in FINDINGS
            if f.condition is Condition.CANAL
        }  # fmt: skip
        return Located(found)


class ConstantClassifier(Classifier):
    """The real thing around a network that always gives one answer."""

    def __init__(self, families: Collection[Condition] = tuple(Condition)) -> None:
        self.prior, self.families, self._crop = PRIOR, frozenset(families), CropConfig(size_px=32, slices=3)

    def _predict(self, crops: np.ndarray, findings: np.ndarray) -> np.ndarray:
        return np.tile((0.1, 0.2, 0.7), (len(crops), 1))


def grader_of(localizer: Any, classifier: Any) -> Grader:
    """Takes stand-ins of both stages."""
    return Grader(localizer=localizer, classifier=classifier)


def stand_ins(study_id: str) -> Grader:
    return grader_of(CanalLocalizer(), ConstantClassifier())


def write_test_part(root: Path) -> Path:
    """Study 5 is whole, study 6 has lost its files, study 7 has one broken file."""
    rows = [("5", "51"), ("6", "61"), ("7", "71")]
    pd.DataFrame(
        [(study, series, "Sagittal T2/STIR") for study, series in rows],
        columns=["study_id", "series_id", "series_description"],
    ).to_csv(root / "test_series_descriptions.csv", index=False)
    for study, series in (("5", "51"), ("7", "71")):
        for number in range(1, 6):
            write_dicom(root / "test_images" / study / series / f"{number}.dcm", ImagePositionPatient=[number, 0, 0])
    (root / "test_images/7/71/3.dcm").write_bytes(b"broken")
    return root
