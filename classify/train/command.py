"""`lumbar classify train` and `python -m classify.train`. Light to import: torch is loaded when the work starts."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from classify.train.processes import SPREADS, Processes
from shared.labels import Condition
from shared.runtime import arguments as args
from shared.runtime.errors import InputError, exit_code
from shared.runtime.hardware.cores import let_threads_sleep
from shared.runtime.ownership import outputs_released
from shared.runtime.progress import speak_no_more
from shared.tracking.option import add_tracking

if TYPE_CHECKING:
    from classify.config import ClassifyConfig

DESCRIPTION = (
    "Trains the ResNet50 classifier on crops around the findings, one network per fold. Writes the networks, their "
    "logs and the out-of-fold probabilities to RUN."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of training and its handler."""
    args.add_paths(parser, data=args.CHALLENGE, run="run folder to write to")
    args.add_folds(parser, args.FOLD)
    args.add_path(
        parser, "--localizations", "CSV", "points to crop at: RUN/localizations.csv of `lumbar localize train` with "
        "the same splits, or OUT/localizations.csv of `lumbar localize predict DATA OUT --part train` with the "
        "detectors that ship (default: annotated points, jittered)",
    )  # fmt: skip
    args.add_path(
        parser, "--errors", "JSON", "errors.json of the same commands: the error by which training crops are "
        "jittered (default: the one beside --localizations, otherwise [jitter] of the config)",
    )  # fmt: skip
    parser.add_argument(
        "--condition", action="append", choices=[c.short for c in Condition],
        help="train on this condition only; may be repeated (default: all conditions)",
    )  # fmt: skip
    args.add_config(parser, "train.epochs=3")
    args.add_splits(parser)
    parser.add_argument(
        "--weights", metavar="WEIGHTS", help="starting weights: none, imagenet, which is downloaded, or a .pth, .pt or "
        ".safetensors file (default: model.weights of the config)",
    )  # fmt: skip
    args.add_workers(parser)
    args.add_device(parser)
    args.add_engine(parser)
    parser.add_argument(
        "--spread", choices=SPREADS, default="folds", help="what processes that torchrun started divide: whole folds, "
        "or the data of each batch, so that they train one network together (default: folds)",
    )  # fmt: skip
    args.add_path(
        parser, "--drop-noisy", "CSV", "noisy_labels.csv of an earlier run; its grades are left out of training but "
        "still scored",
    )  # fmt: skip
    parser.add_argument(
        "--keep-cache", action="store_true", help="keep the cached crops for a later call with --resume"
    )
    add_tracking(parser)
    args.add_output(parser, "RUN", resume="continue an unfinished run, or add folds to a finished one")
    parser.set_defaults(func=run)


def run(a: argparse.Namespace) -> int:
    """Trains as the arguments say."""
    from classify.noisy_labels import read_noisy
    from classify.train.request import TrainingResources, TrainRequest
    from shared.data.challenge import Challenge
    from shared.jitter import read_jitter
    from shared.out_of_fold import OutOfFold
    from shared.runtime.bulk.engine import Engine
    from shared.runtime.files import prepare_output
    from shared.runtime.progress import log
    from shared.runtime.run_folder import STATE_FILE
    from shared.runtime.weights import check_starting_file
    from shared.splits import chosen_splits, parse_folds
    from shared.tracking.tracker import Tracking

    engine = args.engine_of(a)
    config = _config(a)
    data = Challenge.open(a.data)
    splits = chosen_splits(data, a.run, a.splits, resume=a.resume)
    # All checks come before --overwrite deletes anything.
    request = TrainRequest(
        data=data, config=config, splits=splits, folds=tuple(parse_folds(a.fold, splits)),
        points=OutOfFold.of_file(a.localizations) if a.localizations else None,
        jitter=read_jitter(a.errors) if a.errors else None,
        conditions=tuple(c for c in Condition if a.condition is None or c.short in a.condition),
        without=read_noisy(a.drop_noisy, data) if a.drop_noisy else frozenset(),
    )  # fmt: skip
    processes = Processes.of_environment(spread=a.spread)
    processes.check(request.folds)
    begins = not (a.resume and (a.run / STATE_FILE).is_file())
    if begins:
        check_starting_file(config.model.weights, ("none", "imagenet"))
    log("loading torch")
    from classify.network.model import check_starting_weights
    from classify.train.run import train

    resources = TrainingResources(
        device=a.device, workers=a.workers, resume=a.resume, keep_cache=a.keep_cache, processes=processes,
        tracking=Tracking(kinds=tuple(a.track), run=a.run),
    )  # fmt: skip
    if begins:  # or RUN would keep weights that cannot be had
        check_starting_weights(config.model)
    first = processes.rank == 0  # this process prepares the folder for the others
    weights = Path(config.model.weights)
    inputs = [
        a.data, a.config, a.splits, a.localizations, a.errors, a.drop_noisy, weights if weights.is_file() else None,
    ]  # fmt: skip
    with processes.first_alone():
        prepare_output(a.run, overwrite=a.overwrite and first, resume=a.resume or not first, inputs=inputs, shared=True)
    if engine is Engine.RAY:
        from classify.train.on_cluster import train_on_cluster

        train_on_cluster(request, a.run, resources, device=a.device)
    else:
        train(request, a.run, resources)
    if processes.writes:
        sys.stdout.write(f"trained fold {', '.join(map(str, processes.share(request.folds)))} -> {a.run}\n")
    return 0


def _config(a: argparse.Namespace) -> "ClassifyConfig":
    from classify.config import ClassifyConfig

    overrides = list(a.overrides)
    if a.weights is not None:
        if any(o.split("=")[0].strip() == "model.weights" for o in overrides):
            raise InputError("--weights and --set model.weights are both given; keep one")
        overrides.append(f'model.weights="{a.weights}"')
    return ClassifyConfig.load(a.config, tuple(overrides))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `python -m classify.train` and returns its exit code."""
    let_threads_sleep()
    parser = args.Parser(prog="python -m classify.train", description=DESCRIPTION)
    parser.set_defaults(command=parser.prog)
    add_arguments(parser)
    a = parser.parse_args(argv)
    with outputs_released():
        return exit_code(lambda: _run(a), resumable=True)


def _run(a: argparse.Namespace) -> int:
    processes = Processes.of_environment(spread=a.spread)
    if not processes.writes:
        speak_no_more()
    with processes.one_message(), args.begin(a):
        return run(a)
