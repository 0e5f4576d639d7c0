"""`lumbar localize train | predict | evaluate`. Light to import: torch is loaded when the work starts."""

import argparse
import sys
import time
from typing import Any

from localize.train.command import DESCRIPTION as TRAIN_DESCRIPTION
from localize.train.command import add_arguments as add_train_arguments
from shared.backends.arguments import add_backend, backend_of
from shared.runtime import arguments as args


def add_parsers(commands: args.Commands) -> None:
    """Adds the commands of stage 1."""
    add_train_arguments(
        args.add_command(commands, "train", "train the detectors and the level chain", TRAIN_DESCRIPTION)
    )
    predict = args.add_command(
        commands, "predict", "localize the findings of studies",
        "Detects the levels and decodes a point for each finding, without RUN with the detectors that ship with the "
        "package. A study that RUN was trained on is localized by the fold that held it out, any other study by the "
        "average of all folds. Writes OUT/detections.csv, localizations.csv, numbering.csv, failures.csv and "
        "run.json, and for annotated studies errors.json.",
    )  # fmt: skip
    args.add_paths(predict, data=args.ANY_STUDIES)
    predict.add_argument("run", type=args.local, nargs="?", metavar="RUN", help=f"{args.LOCALIZER} ({args.SHIPPED})")
    predict.add_argument("out", type=args.local, action=_Output, metavar="OUT", help="folder to write to")
    _add_common_arguments(predict)
    add_backend(predict)
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
    args.add_paths(evaluate, data=args.CHALLENGE, run=args.LOCALIZER, out="folder to write to")
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
    args.add_folds(parser, "number of a trained fold to use, or all")
    args.add_overrides(
        parser,
        "override a [chain], [axial] or [slices] value of RUN's config, for example slices.focused=false; "
        "may be repeated",
    )
    args.add_device(parser)


class _Output(argparse.Action):
    """OUT of `predict`. Where RUN may be left out, a forgotten OUT would turn RUN into the folder to write to."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, _: str | None = None
    ) -> None:
        if namespace.run is None and any(values.glob("fold[0-9]*")):
            parser.error(f"{values}: is a run of a training, not a folder to write to; give DATA, RUN and OUT in a row")
        setattr(namespace, self.dest, values)


def run_predict(a: argparse.Namespace) -> int:
    """Handler of `predict`."""
    from localize.localizer import run_or_shipped
    from localize.predict import PredictRequest, StudyPrediction, predict, write_prediction_run, write_predictions
    from shared.data.source import open_source
    from shared.runtime.problems import code_of, counted
    from shared.runtime.progress import log
    from shared.runtime.unfinished import ResumableOutput

    started = time.time()
    run = run_or_shipped(a.run)
    request = PredictRequest(
        run=run,
        source=open_source(a.data, a.part),
        folds=args.chosen_folds(a.fold),
        overrides=a.overrides,
        device=a.device,
        backend=backend_of(a),
    )
    output = ResumableOutput(path=a.out, command="localize predict")
    if output.begin(request.state, overwrite=a.overwrite, resume=a.resume, inputs=[a.data, run]):
        return code_of(a.out)
    if request.source.files is not None:
        log(f"{a.data}: {request.source.files}")
    predictions = predict(request, output.results(StudyPrediction))
    write_predictions(a.out, predictions)
    write_prediction_run(a.out, request, predictions, started=started)
    output.finish()
    for problem in predictions.problems:
        log(f"warning: {problem}")
    for study_id in predictions.uncertain:
        log(f"warning: study {study_id}: the numbering of the levels is uncertain; see {a.out / 'numbering.csv'}")
    count = sum(len(found) for found in predictions.localizations.values())
    studies = counted(len(predictions.localizations), "study")
    sys.stdout.write(f"{counted(count, 'finding')} localized in {studies}: {a.out / 'localizations.csv'}\n")
    return code_of(a.out)


def run_evaluate(a: argparse.Namespace) -> int:
    """Handler of `evaluate`."""
    from localize.evaluate import EvaluateRequest, evaluate_run

    request = EvaluateRequest(
        data=a.data, run=a.run, truth=a.truth, manifest=a.manifest,
        folds=args.chosen_folds(a.fold), overrides=a.overrides, device=a.device,
    )  # fmt: skip
    sys.stdout.write(f"{evaluate_run(request, a.out, overwrite=a.overwrite)}\n")
    return 0


def run_convert(a: argparse.Namespace) -> int:
    """Handler of `convert`."""
    from localize.convert import convert

    convert(a.run, a.out, overwrite=a.overwrite)
    sys.stdout.write(f"{a.out}\n")
    return 0
