"""`lumbar demo`: synthetic studies -> both stages trained -> unseen studies graded -> scores and reports."""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from pipelines.demo.plan import FOLDS, DemoOptions, config_file, planned
from pipelines.demo.steps import AGAIN, Steps
from pipelines.ensembles.members import Members
from pipelines.predict import PredictRequest, output_of, predict_unfinished, to_table
from pipelines.report import demo_index, evaluation_report
from pipelines.result import StudyResult
from pipelines.synthetic import SynthOptions, generate
from shared.annotations import annotated_localizations
from shared.data.challenge import Challenge, read_grades, read_points
from shared.detections import read_localizations
from shared.figures.training import read_curves
from shared.metric import study_losses
from shared.mirror.correct import with_turned
from shared.out_of_fold import OutOfFold
from shared.probabilities.table import ProbabilityTable
from shared.runtime.config import Config, shipped_config
from shared.runtime.documents import read_document
from shared.runtime.errors import InputError, quoted
from shared.runtime.files import prepare_output, write_json
from shared.runtime.pool import processes
from shared.runtime.progress import log, track
from shared.runtime.run_folder import RUN_FILE, read_run, sha256_of, write_run
from shared.scores import ORACLE, Comparison, as_text, baselines, compare, read_oracle
from shared.splits import Splits, make_splits, parse_folds, read_splits, write_splits

J = TypeVar("J")
R = TypeVar("R")
OURS: Final = "this pipeline"
AT_TRUE_POINTS: Final = "this pipeline, true points"


def demo(out: Path, options: DemoOptions, *, overwrite: bool = False, resume: bool = False) -> str:
    """Runs the whole pipeline, writes its files to OUT and returns the table of scores.

    Raises:
      InputError: for a non-empty OUT without a flag, too few studies, an unknown fold, or an unreadable config.
    """
    if options.studies < 2 * FOLDS or options.test_studies < 2:
        raise InputError(f"the demo needs at least {2 * FOLDS} training and 2 test studies")
    if not set(options.fold.split(",")) <= {"all", *map(str, range(FOLDS))}:
        raise InputError(f"--fold {options.fold!r}: expected all or a number from 0 to {FOLDS - 1}")
    started = time.time()
    facts = _checked_facts(options)  # before --overwrite deletes anything
    prepare_output(
        out, overwrite=overwrite, resume=resume, inputs=[options.localize_config, options.classify_config]
    )  # fmt: skip
    _claim(out / "demo.json", facts)
    with Steps(out / "steps.json", planned(options)).running() as steps:
        comparison = _run(out, options, steps, resume=resume)
    text = as_text(comparison)
    write_json(out / "reports" / "scores.json", {"schema": "scores-1", **comparison.to_json()})
    index = demo_index(out / "reports", comparison.to_json(), OURS)
    device = read_run(out / "classifier", expected_kind="classify")["device"]  # what `auto` came to
    write_run(
        out, command="demo", started=started, kind="demo", studies=options.studies, test_studies=options.test_studies,
        preset=options.preset, seed=options.seed, fold=options.fold, device=device, step_seconds=steps.seconds,
        localize_config=_config_name("localize", options.localize_config),
        classify_config=_config_name("classify", options.classify_config),
        submission_sha256=sha256_of(out / "submission.csv"),
    )  # fmt: skip
    log(f"done in {(time.time() - started) / 60:.1f} minutes; open {index}")
    return text


def _run(out: Path, options: DemoOptions, steps: Steps, *, resume: bool) -> Comparison:
    """Runs the steps; those that an interrupted demo has finished find their work done."""
    with steps.step(0, done=(out / "data").is_dir()):
        if not (out / "data").is_dir():
            studies = SynthOptions(
                studies=options.studies, test_studies=options.test_studies, preset=options.preset, seed=options.seed
            )
            generate(out, studies, workers=options.workers, resume=resume)
        data = Challenge.open(out / "data", "train")
        splits = _splits(out / "splits.json", data, options.seed)
    with steps.step(1, done=(out / "localizer" / RUN_FILE).is_file()):
        _train_localizer(data, out / "localizer", splits, options, resume=resume)
    with steps.step(2, done=(out / "classifier" / RUN_FILE).is_file()):
        _train_classifier(data, out / "classifier", splits, options, resume=resume)
    with _beside(partial(_reports_ahead, options.device), out, options.workers) as maps:
        with steps.step(3):
            results = grade_unseen(out, options)
            at_true_points = _at_true_points(results, out, options.device)
        with steps.step(4):
            _localizer_report(out, results, maps())
    with steps.step(5):
        comparison = _score(results, at_true_points, data, out)
    output_of(out / "prediction").finish()  # until here, a resumed demo grades no study again
    return comparison


def _checked_facts(options: DemoOptions) -> dict[str, Any]:
    """The settings that must stay the same when a demo is resumed.

    Raises:
      InputError: for a config that is missing or unreadable, or a device that does not exist.
    """
    from classify.config import ClassifyConfig
    from classify.device import pick_device
    from localize.config import LocalizeConfig

    facts = {
        "studies": options.studies,
        "test_studies": options.test_studies,
        "preset": options.preset,
        "seed": options.seed,
        "fold": options.fold,
        "localize_config": _digest(LocalizeConfig.load(config_file("localize", options.localize_config))),
        "classify_config": _digest(ClassifyConfig.load(config_file("classify", options.classify_config))),
    }
    pick_device(options.device)  # loads torch, so it comes last
    return facts


def _digest(config: Config) -> str:
    """SHA-256 of a config's values; comments and the order of keys do not change it."""
    return hashlib.sha256(config.model_dump_json().encode()).hexdigest()


def _claim(path: Path, facts: Mapping[str, Any]) -> None:
    """Records the settings of a new demo, or raises `InputError` when a resumed one was begun with others."""
    if not path.is_file():
        write_json(path, facts)
    for name, begun in read_document(path, dict[str, Any], advice=AGAIN).items():
        if begun != facts.get(name):
            flag = "--" + name.replace("_", "-")
            given = f"another {flag}" if name.endswith("_config") else f"{flag} {quoted(begun, marks=False)}"
            raise InputError(f"{path.parent}: was begun with {given}; resume with the same, or use --overwrite")


def _splits(path: Path, data: Challenge, seed: int) -> Splits:
    if not path.is_file():
        write_splits(path, make_splits(data.study_ids, data.grades_of(data.study_ids), folds=FOLDS, seed=seed))
    splits = read_splits(path)
    splits.check_covers(data.study_ids)
    return splits


def _config_name(stage: str, given: Path | None) -> str:
    """How a report names a config: by its place among the shipped ones, or else by its file's name."""
    shipped = shipped_config(stage, "demo").parent
    path = config_file(stage, given).resolve()
    return f"configs/{stage}/{path.name}" if path.is_relative_to(shipped) else f"another {path.name}"


def _train_localizer(data: Challenge, run: Path, splits: Splits, options: DemoOptions, *, resume: bool) -> None:
    if (run / RUN_FILE).is_file():
        return
    from localize.config import LocalizeConfig
    from localize.train.request import TrainingResources, TrainRequest
    from localize.train.run import train

    config = LocalizeConfig.load(config_file("localize", options.localize_config), (f"optim.seed={options.seed}",))
    prepare_output(run, resume=resume)
    request = TrainRequest(
        data=data, config=config, splits=splits, folds=tuple(parse_folds(options.fold.split(","), splits))
    )
    train(request, run, TrainingResources(device=options.device, workers=options.workers, resume=resume))


def _train_classifier(data: Challenge, run: Path, splits: Splits, options: DemoOptions, *, resume: bool) -> None:
    if (run / RUN_FILE).is_file():
        return
    from classify.config import ClassifyConfig
    from classify.train.request import TrainingResources, TrainRequest
    from classify.train.run import train

    config = ClassifyConfig.load(config_file("classify", options.classify_config), (f"train.seed={options.seed}",))
    prepare_output(run, resume=resume)
    # Held-out studies are graded, and temperatures fitted, at points that stage 1 found without having seen them.
    request = TrainRequest(
        data=data, config=config, splits=splits, folds=tuple(parse_folds(options.fold.split(","), splits)),
        points=OutOfFold(run.parent / "localizer"),
    )  # fmt: skip
    train(request, run, TrainingResources(device=options.device, workers=options.workers, resume=resume))


def grade_unseen(out: Path, options: DemoOptions) -> list[StudyResult]:
    """Grades the unseen studies, and keeps those that an interrupted demo has graded with the same models."""
    request = PredictRequest(
        data=out / "data", part="test", device=options.device, workers=options.workers,
        members=Members(localizers=(out / "localizer",), classifiers=(out / "classifier",)),
    )  # fmt: skip
    folder = out / "prediction"
    try:
        results = predict_unfinished(request, folder, resume=True)
    except InputError:  # with models that have been trained again since
        results = None
    if results is None:
        results = predict_unfinished(request, folder, overwrite=True)
    shutil.copyfile(folder / "submission.csv", out / "submission.csv")
    unseen = Challenge.open(out / "data", "test")
    return [replace(r, study=unseen.load_study(r.study_id).study) for r in results or ()]


def _at_true_points(results: Sequence[StudyResult], out: Path, device: str) -> ProbabilityTable:
    """Grades the unseen studies at their true points. The difference in score is the cost of localization."""
    from classify.predict import Classifier

    classifier = Classifier.load(out / "classifier", device=device)
    points = read_points(out / "truth" / "test_label_coordinates.csv")
    graded = []
    for result in track(results, "true points"):
        study = with_turned(result.study, result.turned)
        graded.append(classifier.grade(study, annotated_localizations(study, points.get(study.study_id, ()))))
    return ProbabilityTable(
        study_ids=tuple(r.study_id for r in results),
        submission=np.stack([g.submission for g in graded]),
        from_model=np.stack([g.from_model for g in graded]),
    )


@contextmanager
def _beside(work: Callable[[J], R], job: J, workers: int) -> Iterator[Callable[[], R]]:
    """Does one job in another process while the block runs; with one worker, when the block asks for its result."""
    if workers <= 1:
        yield lambda: work(job)
        return
    with processes(2) as spread, ThreadPoolExecutor(1) as thread:
        result = thread.submit(lambda: next(spread(work, [job])))
        yield result.result


def _unseen(out: Path) -> Challenge:
    """The unseen studies with their true points."""
    points = read_points(out / "truth" / "test_label_coordinates.csv")
    return replace(Challenge.open(out / "data", "test"), points=points)


def _reports_ahead(device: str, out: Path) -> dict[str, Any]:
    """What of the reports needs no grade of an unseen study: stage 2's, on its held-out fold, and the detectors' mAP.

    Returns:
      The mAP on the unseen studies: fold -> view -> figures.
    """
    from classify.evaluate import EvaluateRequest, evaluate_run
    from localize.evaluate import measure_maps

    data = Challenge.open(out / "data", "train")
    found = read_localizations(out / "localizer" / "localizations.csv")
    folder = prepare_output(out / "reports" / "classify", overwrite=True)
    evaluate_run(EvaluateRequest(data=data, run=out / "classifier", localizations=found), folder)
    return measure_maps(_unseen(out), out / "localizer", device=device)


def _localizer_report(out: Path, results: Sequence[StudyResult], maps: dict[str, Any]) -> None:
    """Stage 1 on the unseen studies, as `lumbar localize evaluate` does."""
    from localize.localizer import chosen_folds
    from localize.report import Evaluation, write_report

    evaluation = Evaluation(
        data=_unseen(out),
        localizations={r.study_id: r.localizations for r in results},
        detections=[d for r in results for d in r.detections],
        maps=maps,
        how="Unseen studies",
        numbering={r.study_id: r.numbering for r in results if r.numbering is not None},
        curves=read_curves({k: out / "localizer" / f"fold{k}" for k in chosen_folds(out / "localizer")}),
    )
    write_report(prepare_output(out / "reports" / "localize", overwrite=True), evaluation)


def _score(results: Sequence[StudyResult], at_true_points: ProbabilityTable, data: Challenge, out: Path) -> Comparison:
    truth = read_grades(out / "truth" / "test.csv")
    study_ids = [r.study_id for r in results if r.study_id in truth]
    grades = np.stack([truth[s] for s in study_ids])
    ours = to_table(results)
    tables = baselines(study_ids, data.grades_of(data.study_ids)) | {OURS: ours, AT_TRUE_POINTS: at_true_points}
    comparison = compare(tables | {ORACLE: read_oracle(out / "truth" / "oracle.csv")}, study_ids, grades)
    losses = study_losses(ours.select(study_ids).submission, grades).losses.sum(1)
    order = [study_ids[i] for i in np.argsort(-losses)]
    by_id = {r.study_id: r for r in results}
    # The study that cost most, the one in the middle and the one that cost least.
    pictures = [by_id[s] for s in dict.fromkeys((order[0], order[len(order) // 2], order[-1]))]
    folder = prepare_output(out / "reports" / "evaluation", overwrite=True)
    evaluation_report(folder, comparison, OURS, ours.select(study_ids), grades, pictures)
    return comparison
