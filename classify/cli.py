"""Command line of stage 2: `lumbar classify train|predict|evaluate`. Light at import: handlers load torch."""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from shared.labels import Condition
from shared.runtime.errors import InputError, exit_code

if TYPE_CHECKING:
    from shared.data.challenge import Challenge
    from shared.detections import Localizations
    from shared.splits import Splits

Handler = Callable[[argparse.Namespace], int]
_DATA_HELP = "challenge directory: train_images/, train.csv, train_label_coordinates.csv, train_series_descriptions.csv"


def add_parsers(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the verbs train, predict and evaluate; each sets `func`, a handler that returns the exit code."""
    train = subparsers.add_parser(
        "train",
        help="train the ResNet50 grader, fold by fold",
        description="Trains the ResNet50 grader on crops around localized findings, one network per fold.",
    )
    _train_arguments(train)
    predict = subparsers.add_parser(
        "predict",
        help="grade studies at given localizations",
        description="Grades studies with the mean of a run's folds. Writes OUT/probabilities.csv and submission.csv.",
    )
    _predict_arguments(predict)
    evaluate = subparsers.add_parser(
        "evaluate",
        help="score a run's out-of-fold predictions",
        description="Scores RUN/out_of_fold.csv per condition and level. Writes OUT/report.html and report.json.",
    )
    _evaluate_arguments(evaluate)


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", type=Path, metavar="DATA", help=_DATA_HELP)
    add("run", type=Path, metavar="RUN", help="run folder to write: checkpoints, logs, out-of-fold probabilities")
    add("--fold", default="all", metavar="K", help="fold to train, or all (default: all)")
    add("--localizations", type=Path, metavar="CSV",
        help="RUN/localizations.csv of `lumbar localize train` under the same splits; without it crops lie at "
        "annotated points, jittered")  # fmt: skip
    add("--errors", type=Path, metavar="JSON",
        help="the localizer's measured error, from which training jitter is drawn (default: errors.json beside "
        "--localizations, else the config's [jitter])")  # fmt: skip
    add("--condition", action="append", choices=[c.short for c in Condition], metavar="C",
        help="train on this condition family only: canal, foraminal or subarticular; may be repeated")  # fmt: skip
    add(
        "--config",
        type=Path,
        metavar="F",
        help="TOML config, for example configs/classify/demo.toml (default: full run)",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="a.b=c",
        help="override one config value, for example train.epochs=3",
    )
    add(
        "--weights",
        metavar="W",
        help="start of the trunk: none, imagenet (downloads) or the path of a ResNet50 state dict",
    )
    add(
        "--splits",
        type=Path,
        metavar="F",
        help="splits.json shared with stage 1 (default: derived from DATA, kept in RUN)",
    )
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or N (default: auto)")
    add(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes that decode images (default: all cores)",
    )
    add("--drop-noisy", type=Path, metavar="CSV",
        help="noisy_labels.csv of an earlier run: grades to train without (they are still scored)")  # fmt: skip
    add("--keep-cache", action="store_true", help="leave the cached crops in RUN/cache for another call with --resume")
    _output_flags(parser)
    parser.set_defaults(func=_train)


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", type=Path, metavar="DATA", help=_DATA_HELP.replace("train", "test"))
    add("run", type=Path, metavar="RUN", help="run folder of `classify train`")
    add("out", type=Path, metavar="OUT", help="folder to write")
    add(
        "--localizations",
        type=Path,
        required=True,
        metavar="CSV",
        help="localizations.csv of stage 1 for these studies; for --part train that of `lumbar localize train`",
    )
    add(
        "--tta",
        action="store_true",
        help="average over shifted, turned and scaled views of each crop (10 times slower)",
    )
    add("--part", choices=("train", "test"), default="test",
        help="which studies of DATA; each of train is graded by the fold that held it out (default: test)")  # fmt: skip
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or N (default: auto)")
    _output_flags(parser, resume=False)
    parser.set_defaults(func=_predict)


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", type=Path, metavar="DATA", help=_DATA_HELP)
    add("run", type=Path, metavar="RUN", help="run folder of `classify train` on these data")
    add("out", type=Path, metavar="OUT", help="folder to write")
    add("--localizations", type=Path, metavar="CSV", help="where the run's crops lay, for the worst-mistake gallery "
        "(default: annotated points if the run was trained at them, else no gallery)")  # fmt: skip
    _output_flags(parser, resume=False)
    parser.set_defaults(func=_evaluate)


def _output_flags(parser: argparse.ArgumentParser, *, resume: bool = True) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--overwrite", action="store_true", help="empty the output folder first")
    if resume:
        group.add_argument(
            "--resume", action="store_true", help="continue a run that was stopped; finished folds are kept"
        )


def main_train(argv: list[str] | None = None) -> int:
    """`python -m classify.train`: the same as `lumbar classify train`."""
    parser = argparse.ArgumentParser(
        prog="python -m classify.train", description="Trains the ResNet50 grader (stage 2)."
    )
    _train_arguments(parser)
    return run_handler(parser.parse_args(argv))


def run_handler(arguments: argparse.Namespace) -> int:
    """Runs `arguments.func`; bad input becomes one line on standard error and exit code 1."""
    handler: Handler = arguments.func
    return exit_code(lambda: handler(arguments))


def _train(arguments: argparse.Namespace) -> int:
    from classify.config import ClassifyConfig
    from classify.device import pick_device
    from classify.noisy_labels import read_noisy
    from classify.train.processes import Processes
    from classify.train.run import check_inputs, train
    from shared.data.challenge import Challenge
    from shared.jitter import read_jitter
    from shared.runtime.files import prepare_output
    from shared.splits import chosen_splits, parse_folds

    overrides = list(arguments.set)
    if arguments.weights is not None:
        if any(o.split("=")[0].strip() == "model.pretrained" for o in overrides):
            raise InputError("--weights and --set model.pretrained both given; keep one")
        overrides.append(f'model.pretrained="{arguments.weights}"')
    config = ClassifyConfig.load(arguments.config, tuple(overrides))
    data = Challenge.open(arguments.data, "train")
    splits = chosen_splits(data, arguments.run, arguments.splits, resume=arguments.resume)
    localizations, errors = None, arguments.errors
    if arguments.localizations:
        localizations = _out_of_fold(arguments.localizations, data, splits)
        beside = arguments.localizations.parent / "errors.json"
        errors = errors or (beside if beside.is_file() else None)
    jitter = read_jitter(errors) if errors else None
    conditions = tuple(c for c in Condition if arguments.condition is None or c.short in arguments.condition)
    folds = parse_folds(arguments.fold, splits)
    # What can be wrong is found before --overwrite deletes anything.
    check_inputs(data, splits, folds, localizations)
    without = read_noisy(arguments.drop_noisy, data) if arguments.drop_noisy else frozenset()
    processes = Processes.of_environment()
    processes.check(folds)
    device = processes.device(arguments.device)
    pick_device(device)
    inputs = [arguments.data, arguments.localizations, arguments.drop_noisy]
    resume = arguments.resume or processes.rank > 0  # the first process has made the folder ready for the others
    with processes.first_alone():
        run = prepare_output(
            arguments.run, overwrite=arguments.overwrite and processes.rank == 0, resume=resume, inputs=inputs
        )
    train(
        data, run, config, folds=folds, splits=splits, localizations=localizations, jitter=jitter,
        conditions=conditions, without=without, device=device, workers=arguments.workers, resume=arguments.resume,
        keep_cache=arguments.keep_cache, processes=processes,
    )  # fmt: skip
    sys.stdout.write(f"trained fold {', '.join(map(str, processes.share(folds)))} -> {run}\n")
    return 0


def _out_of_fold(path: Path, data: "Challenge", splits: "Splits") -> "Localizations":
    """Reads a localizer run's localizations.csv, in which each study was localized by the fold that held it out.

    Raises:
      InputError: for any other CSV, whose detector may have trained on a study that validates the grader.
    """
    from shared.detections import read_localizations
    from shared.runtime.run import read_run
    from shared.splits import read_splits

    try:
        facts = read_run(path.parent, expected_kind="localize")
        folds = read_splits(path.parent / "splits.json").folds
    except InputError as error:
        raise InputError(
            f"--localizations {path}: expected RUN/localizations.csv of `lumbar localize train` ({error})"
        ) from error
    if facts.get("data_fingerprint") != data.fingerprint:
        raise InputError(
            f"--localizations {path}: its localizer was trained on other data than {data.root}; "
            "use RUN/localizations.csv of `lumbar localize train` on these"
        )
    if folds != splits.folds:
        raise InputError(
            f"--localizations {path}: found under other folds than this run's, so a detector may have trained on a "
            f"study that validates the grader; train both stages with one --splits file, {path.parent}/splits.json"
        )
    return read_localizations(path)


def _predict(arguments: argparse.Namespace) -> int:
    from classify.predict import Grader, predict_out_of_fold, predict_studies, write_predictions
    from shared.data.challenge import Challenge
    from shared.detections import read_localizations
    from shared.runtime.files import prepare_output
    from shared.splits import read_splits

    started = time.time()
    data = Challenge.open(arguments.data, arguments.part)
    grader = Grader.load(arguments.run, device=arguments.device, tta=arguments.tta)
    if arguments.part == "train":
        localizations = _out_of_fold(arguments.localizations, data, read_splits(arguments.run / "splits.json"))
    else:
        localizations = read_localizations(arguments.localizations)
    if not set(data.study_ids) & set(localizations):
        raise InputError(
            f"--localizations {arguments.localizations}: holds none of the {len(data.study_ids)} {arguments.part} "
            f"studies of {data.root}; it is of other data"
        )
    inputs = [arguments.data, arguments.run, arguments.localizations]
    out = prepare_output(arguments.out, overwrite=arguments.overwrite, inputs=inputs)
    if arguments.part == "train":
        table, problems = predict_out_of_fold(
            arguments.run, data, localizations, device=arguments.device, tta=arguments.tta
        )
    else:
        table, problems = predict_studies(grader, data, data.study_ids, localizations)
    row_ids = data.submission_row_ids if arguments.part == "test" else None
    write_predictions(out, table, problems, row_ids=row_ids, started=started, run=arguments.run)
    for problem in problems[:5]:
        sys.stderr.write(f"warning: {problem}\n")
    prior_rows = int((~table.from_model).sum())
    sys.stdout.write(f"{len(table.study_ids)} studies, {prior_rows} of {table.from_model.size} prior rows -> {out}\n")
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from classify.report import check_run, evaluate_run
    from shared.data.challenge import Challenge
    from shared.detections import read_localizations
    from shared.runtime.files import prepare_output

    data = Challenge.open(arguments.data, "train")
    localizations = read_localizations(arguments.localizations) if arguments.localizations else None
    check_run(data, arguments.run)
    inputs = [arguments.data, arguments.run, arguments.localizations]
    out = prepare_output(arguments.out, overwrite=arguments.overwrite, inputs=inputs)
    sys.stdout.write(evaluate_run(data, arguments.run, out, localizations=localizations) + "\n")
    return 0
