"""Goes over all studies of a prediction, and writes the tables over all of them."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.bulk.study_lines import write_study_lines
from pipelines.pages.folder import INDEX, write_index
from pipelines.predict.answers import Answers, answering
from pipelines.predict.far import work_on
from pipelines.predict.request import PredictRequest, exporter, source_and_models, state_of
from pipelines.predict.study import StudyWork
from pipelines.predict.summary import PROBABILITIES_FILE, summarize, to_table, write_prediction_run
from pipelines.record import StudyRecord
from pipelines.result import StudyResult
from shared.data.remote import check_reach
from shared.data.source import StudySource
from shared.detections import write_detections, write_localizations
from shared.probabilities.files import read_probabilities, write_probabilities, write_submission
from shared.probabilities.table import ProbabilityTable
from shared.runtime.bulk.engine import Engine
from shared.runtime.problems import write_failures
from shared.runtime.progress import log, track
from shared.runtime.unfinished import ResumableOutput
from shared.storage.output import RemoteOutput

if TYPE_CHECKING:
    from pipelines.clinic.export import DicomExport


def predict(
    request: PredictRequest, out: Path, *, overwrite: bool = False, resume: bool = False,
    remote: RemoteOutput | None = None,
) -> ProbabilityTable:  # fmt: skip
    """Predicts every study into OUT (see docs/output.md) and returns the probabilities.

    Studies that a run was trained on are predicted out of fold: by the run's fold that held the study out. Any other
    study is predicted by all trained folds together. The detectors that ship have seen none of the studies, so they
    answer all of them.

    Args:
      resume: keeps the studies that an interrupted call has finished.
      remote: the address that OUT stands for, where it does (`shared.storage.output.output_folder`).

    Raises:
      InputError: for a missing or mismatched run, an unusable data folder, a non-empty OUT, or, to resume, one that was
        begun with other models, data or options.
    """
    results = predict_unfinished(request, out, overwrite=overwrite, resume=resume, remote=remote)
    if results is None:
        if remote is not None:
            remote.tidy()
        return read_probabilities(out / PROBABILITIES_FILE)
    output_of(out).finish()
    if remote is not None:
        remote.finish(out)
    if request.pages:
        log(f"open {out / INDEX}")
    return to_table(results)


def output_of(out: Path) -> ResumableOutput:
    """The folder of a prediction."""
    return ResumableOutput(path=out, command="predict")


def predict_unfinished(
    request: PredictRequest, out: Path, *, overwrite: bool = False, resume: bool = False,
    remote: RemoteOutput | None = None,
) -> list[StudyResult] | None:  # fmt: skip
    """Does all that `predict` does, but keeps what a resumed call needs, for callers that need the results for longer.

    Returns:
      The results, whose studies have no slices, since those of very many studies would fill the memory; None where OUT
      was finished already.
    """
    started = time.time()
    request = request if request.engine is Engine.LOCAL else request.anywhere()
    source, models = source_and_models(request)
    check_reach(request.data, source.remote, everywhere=request.engine is not Engine.LOCAL)
    state, export = state_of(request, source), exporter(request, source)
    source = source if request.shard is None else source.cut_to(request.shard)
    with answering(request, source.study_ids, models) as answers:
        # The models load after the cheap checks, so that a wrong path fails at once, and before OUT is emptied, so that
        # a missing model or device costs nothing.
        finished = output_of(out).begin(
            state, overwrite=overwrite, resume=resume,
            inputs=[p for p in (request.data, *request.members.runs, request.members.weights) if isinstance(p, Path)],
            ready=lambda: answers.ready(source),
        )  # fmt: skip
        if finished:
            return None
        if remote is not None:
            remote.begin(out)
        if source.files is not None:
            log(f"{request.data}: {source.files}")
        results = predict_source(source, answers, out, export, pages=request.pages, remote=remote)
        _record(request, source, answers, out, results, started)
        return results


def write_prediction(
    request: PredictRequest, source: StudySource, answers: Answers, out: Path, *, started: float,
    export: "DicomExport | None" = None,
) -> list[StudyResult]:  # fmt: skip
    """Predicts the studies of an opened source into a folder that has begun; otherwise as `predict_unfinished`."""
    results = predict_source(source, answers, out, export, pages=request.pages)
    _record(request, source, answers, out, results, started)
    return results


def _record(
    request: PredictRequest, source: StudySource, answers: Answers, out: Path, results: list[StudyResult],
    started: float,
) -> None:  # fmt: skip
    """Writes run.json, and says what was predicted."""
    write_prediction_run(
        out, results, started=started, input=source.kind, device=request.device, tta=request.tta,
        backend=request.backend.name, out_of_fold=answers.out_of_fold, **request.members.to_json(),
        **({} if source.files is None else {"files": asdict(source.files)}),
        **({"chosen_series": {uid: view.slug for uid, view in request.chosen.items()}} if request.chosen else {}),
        **({} if source.share is None else {"shard": str(source.share.shard)}),
    )  # fmt: skip
    summarize(results, started)


def predict_source(
    source: StudySource, answers: Answers, out: Path, export: "DicomExport | None" = None, *, pages: bool = True,
    remote: RemoteOutput | None = None,
) -> list[StudyResult]:  # fmt: skip
    """Predicts every study and writes OUT's evidence, study by study, then the tables over all of them.

    Args:
      answers: who answers the studies.
      export: writes each result as DICOM objects.
      pages: whether to write a page per study and their index.
      remote: the address that each study's files go to; OUT then gets the tables.

    Returns:
      As `predict_unfinished`.
    """
    near = StudyWork(
        out=out.absolute(), given=source.given, records=output_of(out).results(StudyRecord), export=export, pages=pages
    )
    with work_on(near, source, remote) as work:
        answered = list(track(answers.of(source, work), "predict", total=len(source.study_ids)))
    if pages:
        write_index(out, [answer.row for answer in answered if answer.row is not None])
    if source.share is not None:
        write_study_lines(out, source.share, [(answer.result, answer.row) for answer in answered])
    results = [answer.result for answer in answered]
    table = to_table(results)
    write_probabilities(out / PROBABILITIES_FILE, table)
    write_detections(out / "detections.csv", [d for r in results for d in r.detections])
    write_localizations(out / "localizations.csv", {r.study_id: r.localizations for r in results})
    write_submission(out / "submission.csv", table, source.row_ids)
    write_failures(out, [answer.failure for answer in answered if answer.failure is not None])
    return results
