"""Unseen synthetic studies at their true points, and what graders say of them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classify.predict import Classifier
from shared.annotations import annotated_localizations
from shared.data.challenge import Challenge, read_grades, read_points
from shared.detections import Localization
from shared.dicom.pixels import kept_pixels
from shared.labels import Finding
from shared.mirror.correct import as_shown
from shared.runtime.progress import track
from shared.study import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """The test studies of `lumbar synth`."""

    folder: Path
    study_ids: tuple[str, ...]
    grades: NDArray[np.int8]  # [n, 25]

    @classmethod
    def open(cls, folder: Path, count: int | None = None) -> "Unseen":
        """Opens OUT of `lumbar synth`, all of its test studies or the first `count`."""
        truth = read_grades(folder / "truth" / "test.csv")
        study_ids = tuple(sorted(truth))[:count]
        return cls(folder=folder, study_ids=study_ids, grades=np.stack([truth[s] for s in study_ids]))

    def answers(self, graders: Mapping[str, Classifier]) -> dict[str, NDArray[np.float64]]:
        """The submission of each grader, [n, 25, 3]. Slices are decoded once for all."""
        said: dict[str, list[NDArray[np.float64]]] = {name: [] for name in graders}
        with_points = self._with_points()
        for study_id in track(self.study_ids, "unseen"):
            with kept_pixels():
                study, points = with_points(study_id)
                for name, grader in graders.items():
                    said[name].append(grader.grade(study, points).submission)
        return {name: np.stack(each) for name, each in said.items()}

    def seconds(self, graders: Mapping[str, Classifier], rounds: int) -> dict[str, list[float]]:
        """Time to grade each study, crops and networks, in turns: every study by each grader, `rounds` times.

        Slices are decoded before, as stage 1 leaves them. The order of the graders alternates. The first study warms
        up.
        """
        spent: dict[str, list[float]] = {name: [] for name in graders}
        with_points, names = self._with_points(), list(graders)
        for n, study_id in enumerate(self.study_ids):
            with kept_pixels():
                study, points = with_points(study_id)
                for grader in graders.values():
                    grader.grade(study, points)
                for turn in range(rounds if n else 0):
                    for name in names if (n + turn) % 2 else reversed(names):
                        started = time.perf_counter()
                        graders[name].grade(study, points)
                        spent[name].append(time.perf_counter() - started)
        return spent

    def _with_points(self) -> Callable[[str], tuple[Study, Mapping[Finding, Localization]]]:
        data = Challenge.open(self.folder / "data", "test")
        points = read_points(self.folder / "truth" / "test_label_coordinates.csv")

        def of(study_id: str) -> tuple[Study, Mapping[Finding, Localization]]:
            study = as_shown(data.load_study(study_id).study).study
            return study, annotated_localizations(study, points.get(study_id, ()))

        return of


def mean_of(answers: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The submission of several networks together, as `classify.predict.Classifier` makes it but for its floor."""
    return np.asarray(np.mean(answers, axis=0))
