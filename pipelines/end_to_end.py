"""`lumbar predict`: loads both stages' runs and predicts a data source. The only module here that loads models."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.predict import (
    Models,
    StudyPrediction,
    check_same_data,
    predict_source,
    summarise,
    write_prediction_run,
)
from pipelines.report import prediction_report
from shared.data.challenge import Part
from shared.data.source import StudySource, open_source
from shared.runtime.errors import InputError
from shared.runtime.files import prepare_output
from shared.runtime.progress import log
from shared.runtime.run import sha256_of
from shared.splits import read_splits

if TYPE_CHECKING:
    from classify.predict import Grader as LoadedGrader
    from localize.predict import Localizer as LoadedLocalizer


def predict(
    data: Path,
    out: Path,
    *,
    localizer_run: Path,
    classifier_run: Path,
    part: Part | None = None,
    device: str = "auto",
    tta: bool = False,
    overwrite: bool = False,
) -> list[StudyPrediction]:
    """Predicts every study of a challenge directory or DICOM folder into OUT (see docs/output.md).

    The studies that both runs were trained on are predicted out of fold: each by the detector and the classifier of
    the fold that held it out. Any other study is predicted by all trained folds together. With `tta` the grader
    averages over views of each crop.

    Raises:
      InputError: for a missing or mismatched run, an unusable data folder or a non-empty OUT.
    """
    started = time.time()
    facts = check_same_data(localizer_run, classifier_run)
    source = open_source(data, part)
    folds = held_out_folds(source, localizer_run, classifier_run, facts)
    if folds is not None:
        left_out = len(source.study_ids) - len(folds)
        log(f"training studies: predicted out of fold ({left_out} of untrained folds are left out)")
        source = replace(source, study_ids=tuple(folds), row_ids=None)
    inputs = [data, localizer_run, classifier_run]
    if not overwrite:
        prepare_output(out, inputs=inputs)  # says at once that OUT is not empty
    # Torch and Ultralytics load here, after the cheap checks, so that a wrong path fails at once; OUT is emptied after,
    # so that a model or device that cannot be had costs nothing.
    models = _Models(localizer_run, classifier_run, device, folds, tta=tta)
    if source.study_ids:
        models(source.study_ids[0])
    prepare_output(out, overwrite=overwrite, inputs=inputs)
    predictions = predict_source(source, models, out)
    prediction_report(source, predictions, out)
    write_prediction_run(
        out,
        started=started,
        source=source,
        predictions=predictions,
        device=device,
        tta=tta,
        out_of_fold=folds is not None,
        localizer=sha256_of(localizer_run / "run.json"),
        classifier=sha256_of(classifier_run / "run.json"),
    )
    summarise(predictions, started)
    return predictions


def held_out_folds(
    source: StudySource, localizer_run: Path, classifier_run: Path, facts: tuple[Mapping[str, Any], Mapping[str, Any]]
) -> dict[str, int] | None:
    """Study -> the fold that holds it out, fold by fold, where the source is what the runs were trained on; else None.

    Raises:
      InputError: when the two runs have different splits or no trained fold in common.
    """
    if source.fingerprint is None or source.fingerprint != facts[0]["data_fingerprint"]:
        return None
    splits = read_splits(localizer_run / "splits.json")
    if splits.folds != read_splits(classifier_run / "splits.json").folds:
        raise InputError(
            f"{localizer_run} and {classifier_run} have different splits; train both with one --splits file"
        )
    trained = sorted({int(k) for k in facts[0]["folds"]} & {int(k) for k in facts[1]["folds"]})
    if not trained:
        raise InputError(f"{localizer_run} and {classifier_run} have no trained fold in common")
    return {study_id: fold for fold in trained for study_id in splits.held_out(fold)}


def both(localizer: "LoadedLocalizer", grader: "LoadedGrader") -> Models:
    """The two stages as one.

    Raises:
      InputError: when they would see other pictures of a mirrored series.
    """
    if localizer.unmirror != grader.unmirror:
        raise InputError(
            f"the localizer has axial.unmirror = {localizer.unmirror}, the classifier crop.unmirror = "
            f"{grader.unmirror}; both stages must see one picture, train them with the same"
        )
    return Models(localizer=localizer, grader=grader, unmirror=grader.unmirror)


class _Models:
    """The models that may grade a study, loaded when first asked for and kept until another fold is."""

    def __init__(
        self, localizer_run: Path, classifier_run: Path, device: str, folds: Mapping[str, int] | None, *, tta: bool
    ) -> None:
        self._runs, self._device, self._folds, self._tta = (localizer_run, classifier_run), device, folds, tta
        self._loaded: tuple[int | None, Models] | None = None

    def __call__(self, study_id: str) -> Models:
        from classify.predict import Grader
        from localize.predict import Localizer

        fold = None if self._folds is None else self._folds[study_id]
        if self._loaded is None or self._loaded[0] != fold:
            only = None if fold is None else [fold]
            localizer = Localizer.load(self._runs[0], folds=only, device=self._device)
            grader = Grader.load(self._runs[1], folds=only, device=self._device, tta=self._tta)
            self._loaded = (fold, both(localizer, grader))
        return self._loaded[1]
