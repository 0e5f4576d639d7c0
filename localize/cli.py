"""`lumbar localize train | predict | evaluate`. Importing this loads no torch: the work is imported when it starts."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.runtime.errors import exit_code

_DATA = "challenge directory: train_images/, train.csv, train_label_coordinates.csv, train_series_descriptions.csv"
_VIEWS = ("sagittal_t1", "sagittal_t2", "axial_t2")


def add_parsers(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Adds the three commands of stage 1."""
    add_train_arguments(
        subparsers.add_parser("train", help="train the detectors and the level chain", description=_TRAIN_DESCRIPTION)
    )
    predict = subparsers.add_parser(
        "predict",
        help="localize the findings of studies",
        description="Detects the levels on the slices that matter and decodes a point for each finding: "
        "writes OUT/detections.csv, localizations.csv and numbering.csv. Studies that RUN was trained on are localized "
        "by the fold that held them out, all others with the folds of RUN averaged.",
    )
    predict.add_argument("data", metavar="DATA", type=Path, help="challenge directory")
    predict.add_argument("run", metavar="RUN", type=Path, help="run folder of `lumbar localize train`")
    predict.add_argument("out", metavar="OUT", type=Path, help="folder to write to")
    predict.add_argument(
        "--part", choices=("train", "test"), help="part of DATA to localize (default: test where there is one)"
    )
    _add_prediction_flags(predict)
    predict.set_defaults(func=run_predict)
    evaluate = subparsers.add_parser(
        "evaluate",
        help="measure localizations against true points",
        description="Coverage, errors in mm and slices, level confusion, sides, mAP, reliability of the scores, "
        "missing series and the worst cases: writes OUT/report.json and OUT/report.html. The train part is measured "
        "out of fold, from RUN/localizations.csv; the test part is "
        "localized first, with the folds of RUN averaged.",
    )
    evaluate.add_argument("data", metavar="DATA", type=Path, help="challenge directory")
    evaluate.add_argument("run", metavar="RUN", type=Path, help="run folder of `lumbar localize train`")
    evaluate.add_argument("out", metavar="OUT", type=Path, help="folder to write to")
    evaluate.add_argument(
        "--truth", metavar="DIR", type=Path, help="folder with test_label_coordinates.csv; measures the test part"
    )
    evaluate.add_argument(
        "--manifest", metavar="FILE", type=Path,
        help="manifest.json of `lumbar synth --traps`: measures by planted trap (default: that of --truth, if there)",
    )  # fmt: skip
    _add_prediction_flags(evaluate)
    evaluate.set_defaults(func=run_evaluate)


_TRAIN_DESCRIPTION = (
    "Trains one YOLO detector a view on the annotated points of DATA, fits the level chain, and localizes the held-out "
    "studies of every trained fold. RUN gets the models, the out-of-fold localizations.csv and their measured errors."
)


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of training, for `lumbar localize train` and `python -m localize.train` alike."""
    parser.add_argument("data", metavar="DATA", type=Path, help=_DATA)
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder to write to")
    parser.add_argument(
        "--fold", default="all", metavar="K|all", help="fold to train, a number or `all` (default: all)"
    )
    parser.add_argument(
        "--view",
        action="append",
        choices=_VIEWS,
        help="train this view's detector only; may be given again (default: all)",
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML config (default: built in, the full run)")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
        help="override a config value, for example axial_t2.epochs=20; may be given again",
    )  # fmt: skip
    parser.add_argument(
        "--splits", metavar="FILE", type=Path,
        help="splits.json (default: RUN's own with --resume, else five seeded folds of DATA)",
    )  # fmt: skip
    parser.add_argument("--weights", metavar="none|coco|imagenet|PATH", help="starting weights; the names download")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, metavar="N",
        help="processes that read data and, on a CPU, detectors trained side by side (default: all cores)",
    )  # fmt: skip
    _add_device(parser, "; 0,1 trains on two GPUs")
    _add_output_flags(parser)
    parser.set_defaults(func=run_train)


def _add_prediction_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fold",
        action="append",
        type=int,
        metavar="K",
        help="use this fold only; may be given again (default: all)",
    )
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
        help="override a chain, axial or slices value of RUN's config, for example slices.focused=false",
    )  # fmt: skip
    _add_device(parser)
    parser.add_argument("--overwrite", action="store_true", help="empty OUT first if it is not empty")


def _add_device(parser: argparse.ArgumentParser, more: str = "") -> None:
    parser.add_argument(
        "--device", default="auto", help=f"auto, cpu, mps, cuda, cuda:N or the GPU's number N{more} (default: auto)"
    )


def _add_output_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--resume", action="store_true", help="continue an unfinished run, or add folds or views to a finished one"
    )
    group.add_argument("--overwrite", action="store_true", help="empty RUN first if it is not empty")


def run_train(args: argparse.Namespace) -> int:
    """Handler of `train`."""
    from localize.config import LocalizeConfig
    from localize.detector.yolo import starting_weights
    from localize.train.run import check_inputs, train
    from shared.data.challenge import Challenge
    from shared.labels import View
    from shared.runtime.files import prepare_output
    from shared.splits import chosen_splits, parse_folds

    overrides = list(args.overrides)
    if args.weights is not None:
        overrides.append(f'model.weights="{args.weights}"')
    config = LocalizeConfig.load(args.config, tuple(overrides))
    data = Challenge.open(args.data)
    splits = chosen_splits(data, args.run, args.splits, resume=args.resume)
    folds = parse_folds(args.fold, splits)
    # What can be wrong is found before --overwrite deletes anything.
    check_inputs(data, splits, folds, device=args.device)
    if not args.resume:
        starting_weights(config.model)
    inputs = [args.data, args.config, args.splits, _weights_file(config.model.weights)]
    run = prepare_output(args.run, overwrite=args.overwrite, resume=args.resume, inputs=inputs)
    views = tuple(View.from_slug(v) for v in args.view) if args.view else tuple(View)
    train(
        data, run, config,
        folds=folds, splits=splits, views=views, device=args.device, workers=args.workers, resume=args.resume,
    )  # fmt: skip
    return 0


def _weights_file(weights: str) -> Path | None:
    return Path(weights) if Path(weights).is_file() else None


def run_predict(args: argparse.Namespace) -> int:
    """Handler of `predict`."""
    from localize.predict import check_run, predict_data, write_predictions
    from shared.data.challenge import Challenge
    from shared.runtime.files import prepare_output
    from shared.runtime.progress import log

    has_test = (args.data / "test_series_descriptions.csv").is_file()
    data = Challenge.open(args.data, args.part or ("test" if has_test else "train"))
    check_run(args.run, data, folds=args.fold, overrides=args.overrides, device=args.device)
    out = prepare_output(args.out, overwrite=args.overwrite, inputs=[args.data, args.run])
    predictions = predict_data(args.run, data, folds=args.fold, overrides=args.overrides, device=args.device)
    write_predictions(out, predictions)
    for problem in predictions.problems:
        log(f"warning: {problem}")
    for study_id in predictions.uncertain:
        log(f"numbering uncertain: study {study_id}; see {out / 'numbering.csv'}")
    count = sum(len(found) for found in predictions.localizations.values())
    studies = len(predictions.localizations)
    sys.stdout.write(f"{count} findings localized in {studies} studies: {out / 'localizations.csv'}\n")
    return 0


def run_evaluate(args: argparse.Namespace) -> int:
    """Handler of `evaluate`."""
    from localize.report import evaluate_run

    page = evaluate_run(
        args.data, args.run, args.out,
        truth=args.truth, manifest=args.manifest, folds=args.fold, overrides=args.overrides, device=args.device,
        overwrite=args.overwrite,
    )  # fmt: skip
    sys.stdout.write(f"{page}\n")
    return 0


def main_train(argv: Sequence[str] | None = None) -> int:
    """`python -m localize.train`: the same as `lumbar localize train`."""
    parser = argparse.ArgumentParser(prog="python -m localize.train", description=_TRAIN_DESCRIPTION)
    add_train_arguments(parser)
    args = parser.parse_args(argv)
    return exit_code(lambda: run_train(args))
