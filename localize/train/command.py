"""`lumbar localize train` and `python -m localize.train`. Light to import: torch is loaded when the work starts."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from shared.labels import View
from shared.runtime.device import HELP as DEVICE_HELP
from shared.runtime.errors import exit_code

DESCRIPTION = (
    "Trains one YOLO detector per view on the annotated points of DATA, fits the level chain, and localizes the "
    "held-out studies of every trained fold. Writes the models, the out-of-fold localizations.csv and their measured "
    "error to RUN."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of training and its handler."""
    parser.add_argument(
        "data", metavar="DATA", type=Path,
        help="challenge directory: train_images/ and train.csv, train_label_coordinates.csv, "
        "train_series_descriptions.csv",
    )  # fmt: skip
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder to write to")
    parser.add_argument(
        "--fold", default="all", metavar="K|all", help="fold to train, a number or `all` (default: all)"
    )
    parser.add_argument(
        "--view",
        action="append",
        choices=[view.slug for view in View],
        help="train only this view's detector; may be repeated (default: all views)",
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML config (default: built in, the full run)")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
        help="override a config value, for example axial_t2.epochs=20; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--splits", metavar="FILE", type=Path,
        help="splits.json (default: RUN's own with --resume, otherwise five seeded folds of DATA)",
    )  # fmt: skip
    parser.add_argument("--weights", metavar="none|coco|imagenet|PATH", help="starting weights; the names download")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, metavar="N",
        help="processes that read data; on a CPU also detectors that train side by side (default: all cores)",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help=f"{DEVICE_HELP}; 0,1 trains on two GPUs")
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--resume", action="store_true", help="continue an unfinished run, or add folds or views to a finished one"
    )
    group.add_argument("--overwrite", action="store_true", help="empty RUN first if it is not empty")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Trains as the arguments say."""
    from localize.config import LocalizeConfig
    from localize.detector.yolo import starting_weights
    from localize.train.request import TrainingResources, TrainRequest
    from localize.train.run import train
    from shared.data.challenge import Challenge
    from shared.runtime.files import prepare_output
    from shared.splits import chosen_splits, parse_folds

    overrides = list(args.overrides)
    if args.weights is not None:
        overrides.append(f'model.weights="{args.weights}"')
    config = LocalizeConfig.load(args.config, tuple(overrides))
    data = Challenge.open(args.data)
    splits = chosen_splits(data, args.run, args.splits, resume=args.resume)
    # All checks come before --overwrite deletes anything.
    request = TrainRequest(
        data=data, config=config, splits=splits, folds=tuple(parse_folds(args.fold, splits)),
        views=tuple(View.from_slug(v) for v in args.view) if args.view else tuple(View),
    )  # fmt: skip
    resources = TrainingResources(device=args.device, workers=args.workers, resume=args.resume)
    if not args.resume:
        starting_weights(config.model)
    weights = Path(config.model.weights)
    inputs = [args.data, args.config, args.splits, weights if weights.is_file() else None]
    train(request, prepare_output(args.run, overwrite=args.overwrite, resume=args.resume, inputs=inputs), resources)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `python -m localize.train` and returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m localize.train", description=DESCRIPTION)
    add_arguments(parser)
    args = parser.parse_args(argv)
    return exit_code(lambda: run(args), resumable=True)
