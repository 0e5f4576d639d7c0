"""`lumbar predict`: DICOM files in, 25 submission rows per study and the evidence for them out."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pipelines.ensembles.members import Members, Team
from pipelines.grader import Grader
from pipelines.pages.folder import INDEX, PageFolder
from pipelines.record import StudyRecord
from pipelines.result import StudyResult
from shared.data.challenge import Part
from shared.data.identity import study_key
from shared.data.source import StudySource, open_source
from shared.data.store import Store
from shared.detections import write_detections, write_localizations
from shared.dicom.pixels import kept_pixels
from shared.labels import FINDINGS, View
from shared.out_of_fold import FoldModels
from shared.probabilities import ProbabilityTable, read_probabilities, write_probabilities, write_submission
from shared.runtime.errors import InputError
from shared.runtime.files import inside, write_json
from shared.runtime.problems import Failure, counted, write_failures
from shared.runtime.progress import log, track
from shared.runtime.run_folder import write_run
from shared.runtime.unfinished import ResumableOutput, digest_of
from shared.study import LoadedStudy

if TYPE_CHECKING:
    from pipelines.clinic.export import DicomExport

PROBABILITIES_FILE: Final = "probabilities.csv"
DICOM_EXTRA: Final = "install the extra `dicom`: pip install 'lumbar-severity[dicom]', or highdicom itself"
_LISTED_PROBLEMS = 20
_LISTED_STUDIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictRequest:
    """What to predict, and with which models.

    Attributes:
      data: challenge directory, prepared store, or DICOM files: any folder, archive, DICOMDIR or single file.
      members: the runs of both stages.
      part: of a challenge directory; without it the test part where there is one.
      device: auto, cpu, mps, cuda, cuda:N or N.
      tta: whether the classifier averages over shifted, turned and scaled copies of each crop.
      chosen: series id -> the view that the user wants it for, in a folder of DICOM files.
      dicom: whether to write OUT/dicom/, the results as DICOM objects.
      pages: whether to write a page per study and their index.
    """

    data: Path
    members: Members
    part: Part | None = None
    device: str = "auto"
    tta: bool = False
    chosen: Mapping[str, View] = field(default_factory=dict)
    dicom: bool = False
    pages: bool = True


def predict(request: PredictRequest, out: Path, *, overwrite: bool = False, resume: bool = False) -> ProbabilityTable:
    """Predicts every study into OUT (see docs/output.md) and returns the probabilities.

    Studies that a run was trained on are predicted out of fold: by the run's fold that held the study out. Any other
    study is predicted by all trained folds together. The detectors that ship have seen none of the studies, so they
    answer all of them.

    Args:
      resume: keeps the studies that an interrupted call has finished.

    Raises:
      InputError: for a missing or mismatched run, an unusable data folder, a non-empty OUT, or, to resume, one that was
        begun with other models, data or options.
    """
    results = predict_unfinished(request, out, overwrite=overwrite, resume=resume)
    if results is None:
        return read_probabilities(out / PROBABILITIES_FILE)
    output_of(out).finish()
    if request.pages:
        log(f"open {out / INDEX}")
    return to_table(results)


def output_of(out: Path) -> ResumableOutput:
    """The folder of a prediction."""
    return ResumableOutput(path=out, command="predict")


def predict_unfinished(
    request: PredictRequest, out: Path, *, overwrite: bool = False, resume: bool = False
) -> list[StudyResult] | None:
    """Does all that `predict` does, but keeps what a resumed call needs, for callers that need the results for longer.

    Returns:
      The results, whose studies have no slices, since those of very many studies would fill the memory; None where OUT
      was finished already.
    """
    started = time.time()
    source, models = source_and_models(request)
    export = exporter(request, source)
    # The models load after the cheap checks, so that a wrong path fails at once, and before OUT is emptied, so that a
    # missing model or device costs nothing.
    finished = output_of(out).begin(
        _state(request, source), overwrite=overwrite, resume=resume,
        inputs=[request.data, *request.members.runs, request.members.weights],
        ready=lambda: [models(study_id) for study_id in source.study_ids[:1]],
    )  # fmt: skip
    if finished:
        return None
    if source.files is not None:
        log(f"{request.data}: {source.files}")
    return write_prediction(request, source, models, out, started=started, export=export)


def write_prediction(
    request: PredictRequest, source: StudySource, models: FoldModels[Grader], out: Path, *, started: float,
    export: "DicomExport | None" = None,
) -> list[StudyResult]:  # fmt: skip
    """Predicts the studies of an opened source into a folder that has begun; otherwise as `predict_unfinished`."""
    results = predict_source(source, models, out, export, pages=request.pages)
    write_prediction_run(
        out, results, started=started, input=source.kind, device=request.device, tta=request.tta,
        out_of_fold=models.out_of_fold, **request.members.to_json(),
        **({} if source.files is None else {"files": asdict(source.files)}),
        **({"chosen_series": {uid: view.slug for uid, view in request.chosen.items()}} if request.chosen else {}),
    )  # fmt: skip
    _summarize(results, started)
    return results


def load_grader(request: PredictRequest, team: Team | None = None) -> Grader:
    """Loads the models of a request: those of a team, or of all trained folds."""
    log("loading the models")
    return Grader.load(request.members, team=team, device=request.device, tta=request.tta)


def _state(request: PredictRequest, source: StudySource) -> dict[str, Any]:
    """What a resumed call must agree with. The files of each study are compared one by one."""
    return {
        "data": digest_of(source.kind, source.study_ids, source.fingerprint, source.row_ids),
        **models_of(request),
        "pages": request.pages,
    }


def models_of(request: PredictRequest) -> dict[str, Any]:
    """What an answer depends on beside its study, as JSON-ready values."""
    from classify.device import pick_device

    return {
        **request.members.state,
        "device": str(pick_device(request.device)),
        "tta": request.tta,
        "series": {uid: view.slug for uid, view in request.chosen.items()},
        "dicom": request.dicom,
    }


def exporter(request: PredictRequest, source: StudySource | None = None) -> "DicomExport | None":
    """What writes the DICOM objects; None where none are asked for.

    Raises:
      InputError: when the extra `dicom` is not installed, or the source is a prepared store, which has no headers.
    """
    if not request.dicom:
        return None
    try:
        from pipelines.clinic.export import DicomExport
    except ModuleNotFoundError as error:
        if error.name != "highdicom":
            raise
        raise InputError(f"--dicom: highdicom is not installed; {DICOM_EXTRA}") from error
    if source is not None and Store.find(source.given.folder) is not None:
        raise InputError(
            f"{request.data}: is a prepared store, which keeps no patient and study of a DICOM header; give --dicom "
            "the DICOM files themselves"
        )
    members = request.members
    options = [*(["tta"] if request.tta else []), *([f"blend {members.blend_digest}"] if members.weights else [])]
    return DicomExport.of_runs(members.localizers, members.classifiers, options=options)


def source_and_models(request: PredictRequest) -> tuple[StudySource, FoldModels[Grader]]:
    """The studies to predict, and the models that may predict each of them.

    Raises:
      InputError: for an unusable data folder, or when no study was held out by every run.
    """
    given = open_source(request.data, request.part, request.chosen)
    source, team_of = request.members.teams(given)
    if team_of is None:
        return source, FoldModels(lambda _: load_grader(request))
    left_out = len(given.study_ids) - len(source.study_ids)
    log(f"training studies: predicted out of fold ({left_out} of untrained folds are left out)")
    teams = list(dict.fromkeys(team_of.values()))

    def load(chosen: Sequence[int] | None) -> Grader:
        return load_grader(request, None if chosen is None else teams[chosen[0]])

    return source, FoldModels(load, {study_id: teams.index(team) for study_id, team in team_of.items()})


def predict_source(
    source: StudySource,
    grader_for: Callable[[str], Grader],
    out: Path,
    export: "DicomExport | None" = None,
    *,
    pages: bool = True,
) -> list[StudyResult]:
    """Predicts every study and writes OUT's evidence, study by study, then the tables over all of them.

    Args:
      grader_for: gives the models that may see a study: all folds for a new one, the held-out fold for a training one.
      export: writes each result as DICOM objects.
      pages: whether to write a page per study and their index.

    Returns:
      As `predict_unfinished`.
    """
    records, page_folder = output_of(out).results(StudyRecord), PageFolder(out, wanted=pages)
    results: list[StudyResult] = []
    failures: list[Failure] = []
    for study_id in track(source.study_ids, "predict"):
        loaded = source.load(study_id)

        def predicted(loaded: LoadedStudy = loaded) -> StudyRecord:
            page_folder.forget(loaded.study.study_id)
            return StudyRecord.of(grader_for(loaded.study.study_id).predict(loaded))

        with kept_pixels():
            record = records.fetch(study_id, study_key(loaded, source.given), predicted)
            result = record.result(loaded)
            failures += [] if result.failure is None else [result.failure]
            if export is not None:
                result = export.write(result, out)
            write_json(inside(out / "studies", f"{study_id}.json"), result.to_json())
            page_folder.add(result)
        # The slices of very many studies would fill the memory.
        results.append(replace(result, study=replace(loaded.study, series=())))
    page_folder.finish()
    table = to_table(results)
    write_probabilities(out / PROBABILITIES_FILE, table)
    write_detections(out / "detections.csv", [d for r in results for d in r.detections])
    write_localizations(out / "localizations.csv", {r.study_id: r.localizations for r in results})
    write_submission(out / "submission.csv", table, source.row_ids)
    write_failures(out, failures)
    return results


def to_table(results: Sequence[StudyResult]) -> ProbabilityTable:
    """The probabilities of all studies in one table."""
    return ProbabilityTable(
        study_ids=tuple(r.study_id for r in results),
        submission=np.array([r.submission for r in results]).reshape(-1, len(FINDINGS), 3),
        from_model=np.array([r.from_model for r in results], dtype=bool).reshape(-1, len(FINDINGS)),
        reasons={r.study_id: r.reasons for r in results},
    )


def write_prediction_run(out: Path, results: Sequence[StudyResult], *, started: float, **facts: Any) -> None:
    """Writes run.json: counts of rows, prior rows with their reasons and localization sources, and all problems."""
    table = to_table(results)
    sources = Counter(x.source.value for r in results for x in r.localizations.values())
    write_run(
        out, command="predict", started=started, kind="predict", studies=len(results),
        rows=table.from_model.size, prior_rows=table.prior_rows, prior_reasons=table.reason_counts,
        localization_sources=dict(sorted(sources.items())), numbering_uncertain=_uncertain(results),
        problems=[text for r in results for text in r.problems], **facts,
    )  # fmt: skip


def _uncertain(results: Sequence[StudyResult]) -> list[str]:
    """Studies whose levels may all be one disc off."""
    return [r.study_id for r in results if r.numbering is not None and not r.numbering.certain]


def _summarize(results: Sequence[StudyResult], started: float) -> None:
    """Says on standard error what was predicted and what could not be."""
    problems = [text for r in results for text in r.problems]
    for text in problems[:_LISTED_PROBLEMS]:
        log(f"warning: {text}")
    if len(problems) > _LISTED_PROBLEMS:
        log(f"warning: {counted(len(problems) - _LISTED_PROBLEMS, 'more problem')}: see run.json")
    uncertain = _uncertain(results)
    if uncertain:
        named = ", ".join(uncertain[:_LISTED_STUDIES]) + (", ..." if len(uncertain) > _LISTED_STUDIES else "")
        studies = counted(len(uncertain), "study")
        log(f"warning: the numbering of the levels is uncertain in {studies}: {named}; see studies/")
    table = to_table(results)
    log(f"{counted(len(results), 'study')}, {counted(table.from_model.size, 'row')} in {time.time() - started:.0f} s")
    log(table.prior_summary)
