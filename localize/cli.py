"""`lumbar localize train | predict | evaluate`. Light to import: torch is loaded when the work starts."""

import argparse
import sys

from localize.train.command import DESCRIPTION as TRAIN_DESCRIPTION
from localize.train.command import add_arguments as add_train_arguments
from shared.runtime import arguments as args


def add_parsers(commands: args.Commands) -> None:
    """Adds the commands of stage 1."""
    add_train_arguments(
        args.add_command(commands, "train", "train the detectors and the level chain", TRAIN_DESCRIPTION)
    )
    predict = args.add_command(
        commands, "predict", "localize the findings of studies",
        "Detects the levels and decodes a point for each finding. A study that RUN was trained on is localized by the "
        "fold that held it out, any other study by the average of all folds. Writes OUT/detections.csv, "
        "localizations.csv and numbering.csv.",
    )  # fmt: skip
    _add_common_arguments(predict)
    args.add_output(predict, resume=args.KEPT)
    args.add_part(predict, "test if there is one, otherwise train")
    predict.set_defaults(func=run_predict)
    evaluate = args.add_command(
        commands, "evaluate", "measure localizations against true points",
        "Measures coverage, errors in mm and slices, confused levels and sides, mAP, the calibration of the scores and "
        "the effect of missing series, and shows the worst cases. Without --truth it measures the train part out of "
        "fold, from RUN/localizations.csv. With --truth it first localizes the test part with the average of all "
        "folds. Writes OUT/report.html and report.json.",
    )  # fmt: skip
    _add_common_arguments(evaluate)
    args.add_output(evaluate)
    args.add_path(
        evaluate,
        "--truth",
        "DIR",
        "folder with test_label_coordinates.csv: the true points of the test part, to measure it",
    )
    args.add_path(
        evaluate, "--manifest", "FILE",
        "manifest.json of `lumbar synth --traps`, to measure each planted fault (default: the one in --truth, if any)",
    )  # fmt: skip
    evaluate.set_defaults(func=run_evaluate)
    convert = args.add_command(
        commands, "convert", "convert a run of an earlier release",
        "Copies a localizer's run whose detectors are .pt files into OUT, with detectors in today's format. Nothing in "
        "the .pt files is run, and all results stay the same.",
    )  # fmt: skip
    args.add_paths(convert, run=args.LOCALIZER, out="folder to write to")
    args.add_output(convert)
    convert.set_defaults(func=run_convert)


def _add_common_arguments(parser: argparse.ArgumentParser) -> None:
    args.add_paths(parser, data=args.CHALLENGE, run=args.LOCALIZER, out="folder to write to")
    parser.add_argument(
        "--fold", action="append", type=int, metavar="K", help="use only this fold; may be repeated (default: all)"
    )
    args.add_overrides(
        parser,
        "override a [chain], [axial] or [slices] value of RUN's config, for example slices.focused=false; "
        "may be repeated",
    )
    args.add_device(parser)


def run_predict(a: argparse.Namespace) -> int:
    """Handler of `predict`."""
    from localize.predict import PredictRequest, StudyPrediction, predict, write_predictions
    from shared.data.challenge import Challenge
    from shared.runtime.progress import log
    from shared.runtime.unfinished import ResumableOutput

    has_test = (a.data / "test_series_descriptions.csv").is_file()
    request = PredictRequest(
        run=a.run, data=Challenge.open(a.data, a.part or ("test" if has_test else "train")),
        folds=a.fold, overrides=a.overrides, device=a.device,
    )  # fmt: skip
    output = ResumableOutput(path=a.out, command="localize predict")
    if output.begin(request.state, overwrite=a.overwrite, resume=a.resume, inputs=[a.data, a.run]):
        return 0
    predictions = predict(request, output.results(StudyPrediction))
    write_predictions(a.out, predictions)
    output.finish()
    for problem in predictions.problems:
        log(f"warning: {problem}")
    for study_id in predictions.uncertain:
        log(f"warning: study {study_id}: the numbering of the levels is uncertain; see {a.out / 'numbering.csv'}")
    count = sum(len(found) for found in predictions.localizations.values())
    studies = len(predictions.localizations)
    sys.stdout.write(f"{count} findings localized in {studies} studies: {a.out / 'localizations.csv'}\n")
    return 0


def run_evaluate(a: argparse.Namespace) -> int:
    """Handler of `evaluate`."""
    from localize.evaluate import EvaluateRequest, evaluate_run

    request = EvaluateRequest(
        data=a.data, run=a.run, truth=a.truth, manifest=a.manifest,
        folds=a.fold, overrides=a.overrides, device=a.device,
    )  # fmt: skip
    sys.stdout.write(f"{evaluate_run(request, a.out, overwrite=a.overwrite)}\n")
    return 0


def run_convert(a: argparse.Namespace) -> int:
    """Handler of `convert`."""
    from localize.convert import convert

    convert(a.run, a.out, overwrite=a.overwrite)
    sys.stdout.write(f"{a.out}\n")
    return 0
