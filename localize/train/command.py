"""`lumbar localize train` and `python -m localize.train`. Light to import: torch is loaded when the work starts."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from shared.labels import View
from shared.runtime import arguments as args
from shared.runtime.errors import exit_code
from shared.runtime.hardware.cores import let_threads_sleep
from shared.runtime.ownership import outputs_released
from shared.tracking.option import add_tracking

DESCRIPTION = (
    "Trains one YOLO detector per view on the annotated points of DATA, fits the level chain, and localizes the "
    "held-out studies of every trained fold. Writes the models, the out-of-fold localizations.csv and its measured "
    "error (errors.json) to RUN."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of training and its handler."""
    args.add_paths(parser, data=args.CHALLENGE, run="run folder to write to")
    args.add_folds(parser, args.FOLD)
    parser.add_argument(
        "--view", action="append", choices=[view.slug for view in View],
        help="train only this view's detector; may be repeated (default: all views)",
    )  # fmt: skip
    args.add_config(parser, "axial_t2.epochs=20")
    args.add_splits(parser)
    parser.add_argument(
        "--weights", metavar="WEIGHTS", help="starting weights: none; shipped, the detectors that ship with the "
        "package; coco or imagenet, which are downloaded; or a .pt or .safetensors file (default: model.weights of the "
        "config)",
    )  # fmt: skip
    args.add_workers(parser, "number of worker processes; on a CPU also the number of detectors trained side by side")
    args.add_device(parser, "; 0,1 trains on two GPUs", several=True)
    args.add_engine(parser)
    add_tracking(parser)
    args.add_output(parser, "RUN", resume="continue an unfinished run, or add folds or views to a finished one")
    parser.set_defaults(func=run)


def run(a: argparse.Namespace) -> int:
    """Trains as the arguments say."""
    from localize.config import STARTS, LocalizeConfig
    from localize.train.request import TrainingResources, TrainRequest
    from shared.data.challenge import Challenge
    from shared.runtime.files import prepare_output
    from shared.runtime.progress import log
    from shared.runtime.run_folder import STATE_FILE
    from shared.runtime.weights import check_starting_file
    from shared.splits import chosen_splits, parse_folds
    from shared.tracking.tracker import Tracking

    overrides = list(a.overrides)
    if a.weights is not None:
        overrides.append(f'model.weights="{a.weights}"')
    config = LocalizeConfig.load(a.config, tuple(overrides))
    engine = args.engine_of(a)
    data = Challenge.open(a.data)
    splits = chosen_splits(data, a.run, a.splits, resume=a.resume)
    # All checks come before --overwrite deletes anything.
    request = TrainRequest(
        data=data, config=config, splits=splits, folds=tuple(parse_folds(a.fold, splits)),
        views=tuple(View.from_slug(v) for v in a.view) if a.view else tuple(View),
    )  # fmt: skip
    begins = not (a.resume and (a.run / STATE_FILE).is_file())
    if begins:
        check_starting_file(config.model.weights, STARTS)
    log("loading Ultralytics")
    from localize.detector.yolo.training import starting_weights
    from localize.train.run import train

    resources = TrainingResources(
        device=a.device, workers=a.workers, resume=a.resume, tracking=Tracking(kinds=tuple(a.track), run=a.run),
        engine=engine,
    )  # fmt: skip
    if begins:  # or RUN would keep weights that cannot be had
        for view in request.views:
            starting_weights(request.config_of(view).model)
    weights = Path(config.model.weights)
    inputs = [a.data, a.config, a.splits, weights if weights.is_file() else None]
    prepare_output(a.run, overwrite=a.overwrite, resume=a.resume, inputs=inputs, shared=True)
    log("training the detectors")  # in processes of their own, so that this one would go on to tell of loading
    train(request, a.run, resources)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `python -m localize.train` and returns its exit code."""
    let_threads_sleep()
    parser = args.Parser(prog="python -m localize.train", description=DESCRIPTION)
    parser.set_defaults(command=parser.prog)
    add_arguments(parser)
    a = parser.parse_args(argv)
    with outputs_released():
        return exit_code(lambda: _run(a), resumable=True)


def _run(a: argparse.Namespace) -> int:
    with args.begin(a):
        return run(a)
