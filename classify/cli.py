"""`lumbar classify train | distill | predict | evaluate`. Light to import: torch is loaded when the work starts."""

import argparse
import sys
import time

from classify.distill.command import DESCRIPTION as DISTILL_DESCRIPTION
from classify.distill.command import add_arguments as add_distill_arguments
from classify.train.command import DESCRIPTION as TRAIN_DESCRIPTION
from classify.train.command import add_arguments as add_train_arguments
from shared.backends.arguments import add_backend, backend_of
from shared.runtime import arguments as args


def add_parsers(commands: args.Commands) -> None:
    """Adds the commands of stage 2."""
    add_train_arguments(args.add_command(commands, "train", "train the ResNet50 classifier", TRAIN_DESCRIPTION))
    distill = args.add_command(commands, "distill", "make one fast network of a run's folds", DISTILL_DESCRIPTION)
    add_distill_arguments(distill)
    predict = args.add_command(
        commands, "predict", "grade studies at given localizations",
        "Grades studies. A training study is graded by the fold that held it out, a test study by the average of all "
        "folds. Writes OUT/probabilities.csv, submission.csv, failures.csv and run.json.",
    )  # fmt: skip
    args.add_paths(predict, data=args.CHALLENGE, run=args.CLASSIFIER, out="folder to write to")
    args.add_path(
        predict, "--localizations", "CSV",
        "localizations.csv of these studies; with --part train, the one that RUN was trained with",
        required=True,
    )  # fmt: skip
    predict.add_argument("--tta", action="store_true", help=args.TTA)
    predict.add_argument("--fast", action="store_true", help=args.FAST)
    args.add_part(predict, "test")
    args.add_device(predict)
    add_backend(predict)
    args.add_output(predict, resume=args.KEPT)
    predict.set_defaults(func=run_predict)
    evaluate = args.add_command(
        commands, "evaluate", "score a run's out-of-fold predictions",
        "Scores RUN/out_of_fold.csv per condition and level. Writes OUT/report.html and report.json.",
    )  # fmt: skip
    args.add_paths(evaluate, data=args.CHALLENGE, run=args.CLASSIFIER, out="folder to write to")
    args.add_path(
        evaluate, "--localizations", "CSV", "localizations.csv that RUN was trained with, to draw the gallery of worst "
        "mistakes (default: annotated points if RUN was trained at those, otherwise no gallery)",
    )  # fmt: skip
    args.add_output(evaluate)
    evaluate.set_defaults(func=run_evaluate)


def run_predict(a: argparse.Namespace) -> int:
    """Handler of `predict`."""
    from classify.predict import GradeRecord, PredictRequest, predict_studies, write_predictions
    from shared.data.challenge import Challenge
    from shared.detections import read_localizations
    from shared.out_of_fold import OutOfFold
    from shared.runtime.problems import code_of, counted
    from shared.runtime.progress import log
    from shared.runtime.unfinished import ResumableOutput

    started = time.time()
    data = Challenge.open(a.data, a.part or "test")
    request = PredictRequest(
        data=data, run=a.run, device=a.device, tta=a.tta, fast=a.fast, backend=backend_of(a),
        points=OutOfFold.of_file(a.localizations) if data.part == "train" else read_localizations(a.localizations),
    )  # fmt: skip
    models, output = request.models(), ResumableOutput(path=a.out, command="classify predict")
    # A model that cannot be loaded is found before OUT is emptied.
    finished = output.begin(
        request.state, overwrite=a.overwrite, resume=a.resume, inputs=[a.data, a.run, a.localizations],
        ready=lambda: models(request.study_ids[0]),
    )  # fmt: skip
    if finished:
        return code_of(a.out)
    kept = output.results(GradeRecord)
    table, problems = predict_studies(models, request.data, request.study_ids, request.localizations, kept)
    write_predictions(request, a.out, table, problems, started=started)
    output.finish()
    for problem in problems[:5]:
        log(f"warning: {problem}")
    sys.stdout.write(
        f"{counted(len(table.study_ids), 'study')}, {counted(table.from_model.size, 'row')} -> {a.out}\n"
        f"{table.prior_summary}\n"
    )
    return code_of(a.out)


def run_evaluate(a: argparse.Namespace) -> int:
    """Handler of `evaluate`."""
    from classify.evaluate import EvaluateRequest, evaluate_run
    from shared.data.challenge import Challenge
    from shared.detections import read_localizations
    from shared.runtime.files import prepare_output

    localizations = read_localizations(a.localizations) if a.localizations else None
    request = EvaluateRequest(data=Challenge.open(a.data), run=a.run, localizations=localizations)
    out = prepare_output(a.out, overwrite=a.overwrite, inputs=[a.data, a.run, a.localizations])
    sys.stdout.write(evaluate_run(request, out) + "\n")
    return 0
