"""`lumbar classify distill`. Light to import: torch is loaded when the work starts."""

import argparse
import sys

from shared.runtime import arguments as args

DESCRIPTION = (
    "Makes one network of all folds of a run, for `lumbar predict --fast`. It learns to say of each augmented crop "
    "what the folds say of it together. Writes RUN/fast/model.safetensors (half precision), model.json and log.csv, "
    "and names them in RUN/run.json. It learns from all studies of DATA, so it answers none of them afterwards."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of distillation and its handler."""
    args.add_paths(parser, data=f"what RUN was trained on: {args.CHALLENGE}", run=args.CLASSIFIER)
    args.add_path(
        parser, "--localizations", "CSV", "localizations.csv that RUN was trained with; only for a run that was "
        "trained at points of stage 1",
    )  # fmt: skip
    args.add_path(parser, "--config", "FILE", "TOML config of the recipe (default: the built-in one)")
    args.add_overrides(
        parser, "override a value of the recipe (length, rate, start, label_share, teachers), for example length=2; "
        "may be repeated",
    )  # fmt: skip
    args.add_workers(parser)
    args.add_device(parser)
    parser.add_argument(
        "--keep-cache", action="store_true", help="keep the cached crops for a later call with --resume"
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--overwrite", action="store_true", help="first delete the fast grader that RUN has")
    group.add_argument("--resume", action="store_true", help="continue an interrupted call with the same recipe")
    parser.set_defaults(func=run)


def run(a: argparse.Namespace) -> int:
    """Distills as the arguments say."""
    from classify.config import DistillConfig
    from classify.distill.request import DistillRequest
    from shared.data.challenge import Challenge
    from shared.detections import read_localizations
    from shared.runtime.files import check_output, prepare_output
    from shared.runtime.progress import log
    from shared.runtime.run_folder import FAST_FOLDER

    request = DistillRequest(
        data=Challenge.open(a.data), run=a.run, recipe=DistillConfig.load(a.config, tuple(a.overrides)),
        localizations=read_localizations(a.localizations) if a.localizations else None,
    )  # fmt: skip
    folder, inputs = a.run / FAST_FOLDER, [a.data, a.config, a.localizations]
    check_output(folder, overwrite=a.overwrite, resume=a.resume, inputs=inputs)
    log("loading torch")
    from classify.distill.run import distill
    from classify.train.request import TrainingResources

    how = TrainingResources(device=a.device, workers=a.workers, resume=a.resume, keep_cache=a.keep_cache)
    prepare_output(a.run, resume=True, shared=True)  # nobody empties the run meanwhile
    prepare_output(folder, overwrite=a.overwrite, resume=a.resume, inputs=inputs)
    card = distill(request, how)
    made = card.distilled
    sys.stdout.write(
        f"fold {', '.join(made.teachers)} -> {folder}: diverges from their mean answer by {made.divergence:.4f} nats "
        "at crops that it learned from; use it with --fast\n"
    )
    return 0
