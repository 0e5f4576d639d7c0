"""`lumbar predict`: loads both stages' runs and predicts a data source. The only module here that loads models."""

import time
from pathlib import Path

from pipelines.predict import StudyPrediction, check_same_data, predict_source, summarise, write_prediction_run
from pipelines.report import prediction_report
from pipelines.source import open_source
from shared.challenge import Part
from shared.files import prepare_output
from shared.manifest import sha256_of


def predict(
    data: Path,
    out: Path,
    *,
    localizer_run: Path,
    classifier_run: Path,
    part: Part | None = None,
    device: str = "auto",
    overwrite: bool = False,
) -> list[StudyPrediction]:
    """Predicts every study of a challenge directory or DICOM folder into OUT (see docs/output.md).

    Raises:
      InputError: for a missing or mismatched run, an unusable data folder or a non-empty OUT.
    """
    started = time.time()
    check_same_data(localizer_run, classifier_run)
    source = open_source(data, part)
    # Torch and Ultralytics load here, after the cheap checks, so that a wrong path fails at once.
    from classify.predict import Grader
    from localize.predict import Localizer

    localizer = Localizer.load(localizer_run, device=device)
    grader = Grader.load(classifier_run, device=device)
    prepare_output(out, overwrite=overwrite)
    predictions = predict_source(source, localizer, grader, out)
    prediction_report(source, predictions, out)
    write_prediction_run(
        out,
        started=started,
        source=source,
        predictions=predictions,
        device=device,
        localizer=sha256_of(localizer_run / "run.json"),
        classifier=sha256_of(classifier_run / "run.json"),
    )
    summarise(predictions, started)
    return predictions
