"""End-to-end inference: a study's DICOM files in, 25 submission rows and the evidence for them out."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.data.source import StudySource
from shared.detections import Detection, Localization, write_detections, write_localizations
from shared.labels import FINDINGS, Finding, Severity
from shared.mirror.correct import as_shown
from shared.numbering import Numbering
from shared.probabilities import ProbabilityTable, write_probabilities, write_submission
from shared.runtime.errors import InputError
from shared.runtime.files import inside, write_json
from shared.runtime.progress import log, track
from shared.runtime.run import read_run, write_run
from shared.study import LoadedStudy, Study


class StudyLocalization(Protocol):
    """What stage 1 says of one study."""

    @property
    def detections(self) -> tuple[Detection, ...]: ...
    @property
    def localizations(self) -> Mapping[Finding, Localization]: ...
    @property
    def numbering(self) -> Numbering | None: ...
    @property
    def problems(self) -> tuple[str, ...]: ...


class Localizer(Protocol):
    """Stage 1 as the pipeline sees it."""

    def localize(self, study: Study) -> StudyLocalization: ...


class Graded(Protocol):
    """What stage 2 says of one study. `values` [25, 3], `from_model` [25]."""

    @property
    def values(self) -> NDArray[np.float64]: ...
    @property
    def from_model(self) -> NDArray[np.bool_]: ...
    @property
    def problems(self) -> tuple[str, ...]: ...


class Grader(Protocol):
    """Stage 2 as the pipeline sees it; `prior` [25, 3] stands in where there is nothing to grade."""

    prior: NDArray[np.float64]

    def grade(self, study: Study, localizations: Mapping[Finding, Localization]) -> Graded: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Both stages, ready to answer; with `unmirror` both see a study as its pictures show it (`shared.mirror`)."""

    localizer: Localizer
    grader: Grader
    unmirror: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPrediction:
    """One study's answer. `values` [25, 3], `from_model` [25]; `problems` says why a row is a prior row.

    `numbering` says how sure the levels' names are; None where nothing was localized. `turned` names the axial series
    that were read as their pictures show them.
    """

    study_id: str
    values: NDArray[np.float64]
    from_model: NDArray[np.bool_]
    localizations: Mapping[Finding, Localization]
    detections: tuple[Detection, ...]
    problems: tuple[str, ...]
    numbering: Numbering | None = None
    turned: tuple[str, ...] = ()


def predict_study(loaded: LoadedStudy, models: Models) -> StudyPrediction:
    """Localizes and grades one study. Bad data becomes prior rows and a problem, never an exception."""
    localizer, grader = models.localizer, models.grader
    # Looked at once, for both stages: sides, crops and their handedness must be of one picture.
    shown = as_shown(loaded.study, look=models.unmirror)
    study, problems = shown.study, [*loaded.problems, *shown.problems]
    detections: tuple[Detection, ...] = ()
    localizations: Mapping[Finding, Localization] = {}
    numbering: Numbering | None = None
    values, from_model = grader.prior.copy(), np.zeros(len(FINDINGS), bool)
    try:
        located = localizer.localize(study)
        detections, numbering = located.detections, located.numbering
        localizations = {f: shown.as_given(x) for f, x in located.localizations.items()}
        problems += located.problems
        graded = grader.grade(study, located.localizations)
        values, from_model = graded.values, graded.from_model
        problems += graded.problems
    except InputError as error:
        problems.append(f"study {study.study_id}: {error}")
    return StudyPrediction(
        study_id=study.study_id,
        values=values,
        from_model=from_model,
        localizations=localizations,
        detections=detections,
        problems=tuple(problems),
        numbering=numbering,
        turned=shown.turned,
    )


def predict_source(source: StudySource, models_for: Callable[[str], Models], out: Path) -> list[StudyPrediction]:
    """Predicts every study and writes OUT's evidence, study by study, then the tables over all of them.

    `models_for` gives the models that may see a study: all folds for a new one, the held-out fold for a training one.
    """
    predictions = []
    for study_id in track(source.study_ids, "predict"):
        prediction = predict_study(source.load(study_id), models_for(study_id))
        write_json(inside(out / "studies", f"{study_id}.json"), study_record(prediction))
        predictions.append(prediction)
    table = to_table(predictions)
    write_probabilities(out / "probabilities.csv", table)
    write_detections(out / "detections.csv", [d for p in predictions for d in p.detections])
    write_localizations(out / "localizations.csv", {p.study_id: p.localizations for p in predictions})
    write_submission(out / "submission.csv", table, source.row_ids)
    return predictions


def to_table(predictions: Sequence[StudyPrediction]) -> ProbabilityTable:
    """The probabilities of all studies in one table."""
    return ProbabilityTable(
        study_ids=tuple(p.study_id for p in predictions),
        values=np.stack([p.values for p in predictions]) if predictions else np.zeros((0, len(FINDINGS), 3)),
        from_model=np.stack([p.from_model for p in predictions]) if predictions else np.zeros((0, len(FINDINGS)), bool),
    )


def study_record(prediction: StudyPrediction) -> dict[str, Any]:
    """The content of studies/<id>.json: every finding with its probabilities, where it was seen, and all problems."""
    findings = []
    for finding in FINDINGS:
        localization = prediction.localizations.get(finding)
        probabilities = prediction.values[finding.index]
        findings.append(
            {
                "finding": finding.column,
                "probabilities": {s.column: float(probabilities[s]) for s in Severity},
                "source": "model" if prediction.from_model[finding.index] else "prior",
                "localization": None
                if localization is None
                else {
                    "series_id": localization.series_id,
                    "instance_number": localization.instance_number,
                    "x_px": localization.x_px,
                    "y_px": localization.y_px,
                    "point_mm": list(localization.point_mm),
                    "source": localization.source.value,
                    "score": localization.score,
                },
            }
        )
    return {
        "study_id": prediction.study_id,
        "numbering": None if prediction.numbering is None else prediction.numbering.to_json(),
        "findings": findings,
        "problems": list(prediction.problems),
    }


def check_same_data(localizer_run: Path, classifier_run: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Both stages' run.json.

    Raises:
      InputError: when a run is missing or unfinished, or the two were trained on different data.
    """
    localizer = read_run(localizer_run, expected_kind="localize")
    classifier = read_run(classifier_run, expected_kind="classify")
    if localizer.get("data_fingerprint") != classifier.get("data_fingerprint"):
        raise InputError(
            f"{localizer_run} and {classifier_run} were trained on different data (fingerprints "
            f"{str(localizer.get('data_fingerprint'))[:12]} and {str(classifier.get('data_fingerprint'))[:12]}); "
            "train both stages on one data set"
        )
    return localizer, classifier


def write_prediction_run(
    out: Path, *, started: float, source: StudySource, predictions: Sequence[StudyPrediction], **facts: Any
) -> None:
    """Writes run.json of a prediction: counts of model and prior rows, of localization sources, and all problems."""
    rows = int(sum(p.from_model.size for p in predictions))
    model_rows = int(sum(p.from_model.sum() for p in predictions))
    write_run(
        out,
        command="predict",
        started=started,
        kind="predict",
        input=source.kind,
        studies=len(predictions),
        rows=rows,
        prior_rows=rows - model_rows,
        localization_sources=dict(
            sorted(Counter(x.source.value for p in predictions for x in p.localizations.values()).items())
        ),
        numbering_uncertain=_uncertain(predictions),
        problems=[text for p in predictions for text in p.problems],
        **facts,
    )


def _uncertain(predictions: Sequence[StudyPrediction]) -> list[str]:
    """Studies whose levels may all be one disc off."""
    return [p.study_id for p in predictions if p.numbering is not None and not p.numbering.certain]


def summarise(predictions: Sequence[StudyPrediction], started: float) -> None:
    """Says on standard error what was predicted and what could not be."""
    problems = [text for p in predictions for text in p.problems]
    rows = sum(p.from_model.size for p in predictions)
    prior_rows = rows - sum(int(p.from_model.sum()) for p in predictions)
    for text in problems[:20]:
        log(f"warning: {text}")
    if len(problems) > 20:
        log(f"warning: {len(problems) - 20} more problems are listed in run.json")
    uncertain = _uncertain(predictions)
    if uncertain:
        named = ", ".join(uncertain[:5]) + (", ..." if len(uncertain) > 5 else "")
        log(f"warning: the numbering of the levels is uncertain in {len(uncertain)} studies: {named}; see studies/")
    log(f"{len(predictions)} studies, {rows} rows ({prior_rows} from the prior) in {time.time() - started:.0f} s")
