"""The `lumbar` command. Parsers are built without heavy imports, so `--help` answers at once."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from classify.cli import add_parsers as add_classify
from localize.cli import add_parsers as add_localize
from shared.runtime.errors import InputError, exit_code

EPILOG = "Exit codes: 0 done, 1 bad input or data, 2 bad usage. Research software, not a medical device."


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    return exit_code(lambda: arguments.func(arguments), resumable="resume" in arguments)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="lumbar",
        description="Two-stage grading of degenerative lumbar spine MRI (RSNA 2024 format).",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    _add_demo(commands)
    _add_synth(commands)
    _add_show(commands)
    _add_audit(commands)
    _add_prepare(commands)
    _add_splits(commands)
    _add_stage(commands, "localize", "stage 1: find the five disc levels", add_localize)
    _add_stage(commands, "classify", "stage 2: grade the crops", add_classify)
    _add_predict(commands)
    _add_evaluate(commands)
    _add_info(commands)
    return parser


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, **options: object) -> None:
        super().__init__(option_strings, dest, nargs=0, help=str(options.get("help")))

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        sys.stdout.write(f"lumbar-severity {version('lumbar-severity')}\n")
        parser.exit()


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # argparse has no public name for it


def _add_stage(commands: Commands, name: str, text: str, add: Callable[..., None]) -> None:
    stage = commands.add_parser(name, help=text, description=text.capitalize() + ".", epilog=EPILOG)
    add(stage.add_subparsers(required=True, metavar="COMMAND", title="commands"))


def _add_output(parser: argparse.ArgumentParser, *, resume: bool = False) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--overwrite", action="store_true", help="empty the output folder first if it is not empty")
    if resume:
        group.add_argument("--resume", action="store_true", help="keep what is finished and go on from there")


def _add_demo(commands: Commands) -> None:
    p = commands.add_parser(
        "demo", help="synthetic studies -> both stages trained -> unseen studies graded and scored", epilog=EPILOG
    )
    p.add_argument("out", type=Path, metavar="OUT", help="folder to write data, models, reports and submission.csv to")
    p.add_argument("--studies", type=int, default=240, help="training studies (default %(default)s)")
    p.add_argument("--test-studies", type=int, default=24, help="unseen studies (default %(default)s)")
    p.add_argument("--preset", choices=("demo", "full"), default="demo", help="small or real matrix sizes")
    p.add_argument("--seed", type=int, default=0, help="seed of data, splits and training (default %(default)s)")
    p.add_argument(
        "--fold", default="0", metavar="K|all", help="fold of the five to train, or all (default %(default)s)"
    )
    p.add_argument("--device", default="auto", help="auto, cpu, cuda or a CUDA index (default %(default)s)")
    p.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    p.add_argument("--localize-config", type=Path, metavar="FILE", help="instead of configs/localize/demo.toml")
    p.add_argument("--classify-config", type=Path, metavar="FILE", help="instead of configs/classify/demo.toml")
    _add_output(p, resume=True)
    p.set_defaults(func=_demo)


def _demo(a: argparse.Namespace) -> int:
    from pipelines.demo import DemoOptions, demo

    options = DemoOptions(
        studies=a.studies, test_studies=a.test_studies, preset=a.preset, seed=a.seed, fold=a.fold, device=a.device,
        workers=a.workers, localize_config=a.localize_config, classify_config=a.classify_config,
    )  # fmt: skip
    sys.stdout.write(demo(a.out, options, overwrite=a.overwrite, resume=a.resume) + "\n")
    return 0


def _add_synth(commands: Commands) -> None:
    p = commands.add_parser(
        "synth", help="write synthetic studies in the challenge's format", epilog=EPILOG,
        description="Writes OUT/data (a challenge directory) and OUT/truth (test grades, latents, oracle, manifest).",
    )  # fmt: skip
    p.add_argument("out", type=Path, metavar="OUT", help="folder to write data/ and truth/ to")
    p.add_argument("--studies", type=int, default=100, help="training studies (default %(default)s)")
    p.add_argument("--test-studies", type=int, default=20, help="test studies (default %(default)s)")
    p.add_argument("--preset", choices=("demo", "full"), default="demo", help="small or real matrix sizes")
    p.add_argument("--seed", type=int, default=0, help="same seed, same bytes (default %(default)s)")
    p.add_argument(
        "--traps", action="store_true", help="plant the traps of the real data, named in truth/manifest.json"
    )
    p.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    _add_output(p)
    p.set_defaults(func=_synth)


def _synth(a: argparse.Namespace) -> int:
    from pipelines.synth import synth
    from pipelines.synthetic import SynthOptions

    options = SynthOptions(studies=a.studies, test_studies=a.test_studies, preset=a.preset, seed=a.seed, traps=a.traps)
    synth(a.out, options, workers=a.workers, overwrite=a.overwrite)
    return 0


def _add_show(commands: Commands) -> None:
    p = commands.add_parser(
        "show", help="contact sheet of a study: every slice, its points and grades", epilog=EPILOG,
        description="Draws the slices of each series in anatomical order with side, position and scale, annotated and "
        "predicted points in the colour of their grade, and the detectors' boxes.",
    )  # fmt: skip
    p.add_argument("data", type=Path, metavar="DATA", help="challenge directory, or any folder of DICOM files")
    p.add_argument(
        "study", nargs="?", metavar="STUDY_ID", help="folder name, or StudyInstanceUID in a folder of DICOM files"
    )
    p.add_argument("out", type=Path, nargs="?", metavar="OUT.png", help="file to write")
    p.add_argument("--series", metavar="ID", help="draw this series alone, larger")
    p.add_argument("--level", metavar="LEVEL", help="draw the slices at this level alone, cropped and large: L4/L5")
    predicted = p.add_mutually_exclusive_group()
    predicted.add_argument("--localizations", type=Path, metavar="CSV", help="predicted points to draw")
    predicted.add_argument(
        "--prediction", type=Path, metavar="FOLDER", help="OUT of `lumbar predict` or `lumbar localize predict`: "
        "predicted points, boxes and grades to draw",
    )  # fmt: skip
    p.add_argument("--truth", type=Path, metavar="DIR", help="folder with test.csv and test_label_coordinates.csv")
    p.add_argument("--part", choices=("train", "test"), help="part of a challenge directory (default: search both)")
    p.add_argument("--overwrite", action="store_true", help="replace OUT.png if it is there")
    p.set_defaults(func=_show)


def _show(a: argparse.Namespace) -> int:
    from pipelines.show import ShowOptions, show
    from shared.labels import Level

    options = ShowOptions(
        part=a.part, series=a.series, level=None if a.level is None else Level.from_text(a.level),
        localizations=a.localizations, prediction=a.prediction, truth=a.truth,
    )  # fmt: skip
    sys.stdout.write(show(a.data, a.study, a.out, options, overwrite=a.overwrite) + "\n")
    return 0


def _add_audit(commands: Commands) -> None:
    p = commands.add_parser(
        "audit", help="report what a data set holds and what is wrong with it", epilog=EPILOG,
        description="Reads every header and writes OUT/report.html, report.json and findings.csv; docs/audit.md lists "
        "the codes.",
    )  # fmt: skip
    p.add_argument("data", type=Path, metavar="DATA", help="challenge directory, or any folder of DICOM files")
    p.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    p.add_argument("--strict", action="store_true", help="exit with 1 if any issue is an error")
    p.add_argument(
        "--part", choices=("train", "test"), help="part of a challenge directory (default: every part there is)"
    )
    p.add_argument("--no-images", action="store_true", help="audit the tables alone")
    p.add_argument(
        "--pixels",
        choices=("none", "sample", "all"),
        default="sample",
        help="which slices to decode: none, some of each series, or all (default: %(default)s)",
    )
    p.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    _add_output(p)
    p.set_defaults(func=_audit)


def _audit(a: argparse.Namespace) -> int:
    from pipelines.audit import AuditOptions, audit, summary
    from pipelines.audit.pixels import Pixels

    options = AuditOptions(part=a.part, images=not a.no_images, pixels=Pixels(a.pixels), workers=a.workers)
    result = audit(a.data, a.out, options, overwrite=a.overwrite)
    sys.stdout.write(summary(result, a.out) + "\n")
    if a.strict and result.errors:
        raise InputError(f"{a.data}: {result.errors} errors were found; see {a.out / 'findings.csv'}")
    return 0


def _add_prepare(commands: Commands) -> None:
    p = commands.add_parser(
        "prepare", help="decode DICOM files once, into a store that training and prediction read faster", epilog=EPILOG,
        description="Decodes every DICOM file once. Other commands then take STORE in place of DATA and give the same "
        "results; audit and the numbers of realism still need the DICOM files. --resume brings a store up to date and "
        "decodes only studies whose files changed.",
    )  # fmt: skip
    p.add_argument("data", type=Path, metavar="DATA", help="challenge directory, or any folder of DICOM files")
    p.add_argument("store", type=Path, metavar="STORE", help="folder to write to")
    p.add_argument("--part", choices=("train", "test"), help="part of a challenge directory (default: both)")
    p.add_argument(
        "--png", action="store_true", help="also write STORE/png/<study>/<view>/*.png, the layout that notebooks read"
    )
    p.add_argument("--png-size", type=int, metavar="PX", help="squeeze the PNGs to a square (default: the slices' own "
                   "size, which keeps annotated coordinates valid); implies --png")  # fmt: skip
    p.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    _add_output(p, resume=True)
    p.set_defaults(func=_prepare)


def _prepare(a: argparse.Namespace) -> int:
    from shared.runtime import pool

    if a.workers > 1:
        pool.begin("pipelines.prepare.study")
    from pipelines.prepare.prepare import PrepareOptions, prepare

    options = PrepareOptions(part=a.part, png=a.png, png_size=a.png_size, workers=a.workers)
    sys.stdout.write(prepare(a.data, a.store, options, overwrite=a.overwrite, resume=a.resume) + "\n")
    return 0


def _add_splits(commands: Commands) -> None:
    p = commands.add_parser("splits", help="write the folds that govern both stages", epilog=EPILOG)
    p.add_argument("data", type=Path, metavar="DATA", help="challenge directory")
    p.add_argument("out", type=Path, metavar="OUT.json", help="file to write; it must not exist")
    p.add_argument("--folds", type=int, default=5, help="number of folds (default %(default)s)")
    p.add_argument("--seed", type=int, default=0, help="seed of the shuffle (default %(default)s)")
    p.set_defaults(func=_splits)


def _splits(a: argparse.Namespace) -> int:
    from shared.data.challenge import Challenge
    from shared.splits import make_splits, write_splits

    if a.out.exists():
        raise InputError(f"{a.out}: exists already; splits are written once, choose another name or delete it")
    data = Challenge.open(a.data, "train")
    splits = make_splits(data.study_ids, data.grades_of(data.study_ids), folds=a.folds, seed=a.seed)
    write_splits(a.out, splits)
    sys.stdout.write(f"{a.out}: {len(splits.study_ids)} studies in folds of {[len(f) for f in splits.folds]}\n")
    return 0


def _add_predict(commands: Commands) -> None:
    p = commands.add_parser(
        "predict", help="grade studies end to end: DICOM in, 25 rows per study out", epilog=EPILOG,
        description="Writes OUT/submission.csv, probabilities.csv, localizations.csv, detections.csv, report.html, "
        "run.json and studies/<id>.json.",
    )  # fmt: skip
    p.add_argument("data", type=Path, metavar="DATA", help="challenge directory, or any folder of DICOM files")
    p.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    p.add_argument("--localizer", type=Path, required=True, metavar="RUN", help="run folder of `lumbar localize train`")
    p.add_argument(
        "--classifier", type=Path, required=True, metavar="RUN", help="run folder of `lumbar classify train`"
    )
    p.add_argument("--part", choices=("train", "test"), help="part of a challenge directory (default: test if there)")
    p.add_argument(
        "--tta", action="store_true", help="grade shifted, turned and scaled views of each crop too (10 times slower)"
    )
    p.add_argument("--device", default="auto", help="auto, cpu, cuda or a CUDA index (default %(default)s)")
    _add_output(p)
    p.set_defaults(func=_predict)


def _predict(a: argparse.Namespace) -> int:
    from pipelines.predict import PredictRequest, predict

    request = PredictRequest(
        data=a.data, localizer=a.localizer, classifier=a.classifier, part=a.part, device=a.device, tta=a.tta
    )
    predict(request, a.out, overwrite=a.overwrite)
    return 0


def _add_evaluate(commands: Commands) -> None:
    p = commands.add_parser(
        "evaluate", help="score a submission: competition metric, baselines, bootstrap intervals, report", epilog=EPILOG
    )
    p.add_argument("submission", type=Path, metavar="SUBMISSION", help="submission.csv")
    p.add_argument("data", type=Path, metavar="DATA", help="folder with the true grades: train.csv or test.csv")
    p.add_argument("out", type=Path, metavar="OUT", help="folder to write report.html and report.json to")
    p.add_argument("--part", choices=("train", "test"), help="which grades to use (default: test.csv if there)")
    p.add_argument("--train", type=Path, metavar="DATA", help="challenge directory whose train.csv gives the prior "
                   "baseline (default: the graded studies themselves, which flatters the prior)")  # fmt: skip
    p.add_argument("--against", action="append", default=[], metavar="NAME=CSV", help="another submission to compare")
    p.add_argument(
        "--oracle", type=Path, metavar="CSV", help="true probabilities of synthetic studies, truth/oracle.csv"
    )
    _add_output(p)
    p.set_defaults(func=_evaluate)


def _evaluate(a: argparse.Namespace) -> int:
    from pipelines.scoring import ScoringOptions, evaluate_files

    options = ScoringOptions(part=a.part, train=a.train, against=tuple(a.against), oracle=a.oracle)
    sys.stdout.write(evaluate_files(a.submission, a.data, a.out, options, overwrite=a.overwrite) + "\n")
    return 0


def _add_info(commands: Commands) -> None:
    p = commands.add_parser("info", help="versions, devices and labels", epilog=EPILOG)
    p.add_argument("--json", action="store_true", help="for programs")
    p.set_defaults(func=_info)


def _info(a: argparse.Namespace) -> int:
    from pipelines.info import as_text, collect

    info = collect()
    sys.stdout.write((json.dumps(info, indent=2) if a.json else as_text(info)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
