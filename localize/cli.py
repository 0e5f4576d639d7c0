"""`lumbar localize train | predict | evaluate`. Light to import: torch is loaded when the work starts."""

import argparse
import sys
from pathlib import Path
from typing import Any

from localize.train.command import DESCRIPTION as TRAIN_DESCRIPTION
from localize.train.command import add_arguments as add_train_arguments
from shared.runtime.device import HELP as DEVICE_HELP


def add_parsers(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Adds the three commands of stage 1."""
    add_train_arguments(
        subparsers.add_parser("train", help="train the detectors and the level chain", description=TRAIN_DESCRIPTION)
    )
    predict = subparsers.add_parser(
        "predict",
        help="localize the findings of studies",
        description="Detects the levels on the slices that matter and decodes a point for each finding. Writes "
        "OUT/detections.csv, localizations.csv and numbering.csv. Studies that RUN was trained on are localized by the "
        "fold that held them out, all others with the folds of RUN averaged.",
    )
    _add_common_arguments(predict)
    predict.add_argument(
        "--part", choices=("train", "test"), help="part of DATA to localize (default: test if DATA has one)"
    )
    predict.set_defaults(func=run_predict)
    evaluate = subparsers.add_parser(
        "evaluate",
        help="measure localizations against true points",
        description="Measures coverage, errors in mm and slices, confused levels and sides, mAP, the reliability of "
        "the scores, missing series and the worst cases. Writes OUT/report.json and OUT/report.html. The train part is "
        "measured out of fold, from RUN/localizations.csv; the test part is first localized with the folds of RUN "
        "averaged.",
    )
    _add_common_arguments(evaluate)
    evaluate.add_argument(
        "--truth", metavar="DIR", type=Path, help="folder with test_label_coordinates.csv; measures the test part"
    )
    evaluate.add_argument(
        "--manifest", metavar="FILE", type=Path,
        help="manifest.json of `lumbar synth --traps`: measures by planted trap (default: the one in --truth, if any)",
    )  # fmt: skip
    evaluate.set_defaults(func=run_evaluate)


def _add_common_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", type=Path, help="challenge directory")
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder of `lumbar localize train`")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write to")
    parser.add_argument(
        "--fold", action="append", type=int, metavar="K", help="use only this fold; may be repeated (default: all)"
    )
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
        help="override a chain, axial or slices value of RUN's config, for example slices.focused=false",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)
    parser.add_argument("--overwrite", action="store_true", help="empty OUT first if it is not empty")


def run_predict(args: argparse.Namespace) -> int:
    """Handler of `predict`."""
    from localize.predict import PredictRequest, predict, write_predictions
    from shared.data.challenge import Challenge
    from shared.runtime.files import prepare_output
    from shared.runtime.progress import log

    has_test = (args.data / "test_series_descriptions.csv").is_file()
    request = PredictRequest(
        run=args.run, data=Challenge.open(args.data, args.part or ("test" if has_test else "train")),
        folds=args.fold, overrides=args.overrides, device=args.device,
    )  # fmt: skip
    out = prepare_output(args.out, overwrite=args.overwrite, inputs=[args.data, args.run])
    predictions = predict(request)
    write_predictions(out, predictions)
    for problem in predictions.problems:
        log(f"warning: {problem}")
    for study_id in predictions.uncertain:
        log(f"warning: study {study_id}: the numbering of the levels is uncertain; see {out / 'numbering.csv'}")
    count = sum(len(found) for found in predictions.localizations.values())
    studies = len(predictions.localizations)
    sys.stdout.write(f"{count} findings localized in {studies} studies: {out / 'localizations.csv'}\n")
    return 0


def run_evaluate(args: argparse.Namespace) -> int:
    """Handler of `evaluate`."""
    from localize.evaluate import EvaluateRequest, evaluate_run

    request = EvaluateRequest(
        data=args.data, run=args.run, truth=args.truth, manifest=args.manifest,
        folds=args.fold, overrides=args.overrides, device=args.device,
    )  # fmt: skip
    sys.stdout.write(f"{evaluate_run(request, args.out, overwrite=args.overwrite)}\n")
    return 0
