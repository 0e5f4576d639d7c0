"""The `lumbar` command. Parsers are built without heavy imports, so `--help` answers at once."""

import argparse
import json
import sys
from collections.abc import Sequence

from classify.cli import add_parsers as add_classify
from localize.cli import add_parsers as add_localize
from pipelines.bulk.cli import add_parsers as add_bulk
from pipelines.ensembles.cli import add_members, members_of
from pipelines.ensembles.cli import add_parsers as add_ensembles
from pipelines.experiments.cli import add_parsers as add_experiments
from pipelines.export.cli import add_parser as add_export
from shared.backends.arguments import add_backend, backend_of
from shared.runtime import arguments as args
from shared.runtime.errors import InputError, exit_code
from shared.runtime.hardware.cores import let_threads_sleep
from shared.runtime.ownership import outputs_released
from shared.runtime.problems import FAILURES_FILE, code_of, counted


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code."""
    let_threads_sleep()
    arguments = build_parser().parse_args(argv)
    with outputs_released():
        return exit_code(lambda: _run(arguments), resumable="resume" in arguments, spread="workers" in arguments)


def _run(arguments: argparse.Namespace) -> int:
    with args.begin(arguments):
        code: int = arguments.func(arguments)
    return code


def build_parser() -> args.Parser:
    """The whole command line."""
    parser = args.Parser(
        prog="lumbar",
        description="Two-stage grading of degenerative lumbar spine MRI (RSNA 2024 format).",
        epilog=args.EPILOG,
    )
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    commands = args.add_commands(parser)
    _add_demo(commands)
    _add_synth(commands)
    _add_series(commands)
    _add_show(commands)
    _add_audit(commands)
    _add_prepare(commands)
    _add_splits(commands)
    localize = args.add_command(commands, "localize", "stage 1: find the five disc levels")
    add_localize(args.add_commands(localize))
    classify = args.add_command(commands, "classify", "stage 2: grade the crops")
    add_classify(args.add_commands(classify))
    _add_predict(commands)
    _add_evaluate(commands)
    add_bulk(commands)
    add_ensembles(commands)
    add_experiments(commands)
    _add_pack(commands)
    add_export(commands)
    _add_info(commands)
    return parser


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, **options: object) -> None:
        super().__init__(option_strings, dest, nargs=0, help=str(options.get("help")))

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        sys.stdout.write(f"lumbar-severity {version('lumbar-severity')}\n")
        parser.exit()


def _add_demo(commands: args.Commands) -> None:
    p = args.add_command(
        commands, "demo", "run the whole pipeline on synthetic studies",
        "Makes synthetic studies, trains both stages, grades unseen studies and compares the scores with baselines.",
    )  # fmt: skip
    args.add_paths(p, out="folder to write to: data, models, reports and submission.csv")
    _add_synth_options(p, studies=180, test_studies=24)
    args.add_seed(p, "random seed of the data, the splits and the training")
    args.add_folds(p, args.FOLD, "0")
    args.add_device(p)
    args.add_workers(p)
    for stage in ("localize", "classify"):
        args.add_path(p, f"--{stage}-config", "FILE", f"TOML config (default: the shipped configs/{stage}/demo.toml)")
    args.add_output(p, resume="continue an unfinished demo and keep its finished steps")
    p.set_defaults(func=_demo)


def _demo(a: argparse.Namespace) -> int:
    from pipelines.demo import DemoOptions, demo

    options = DemoOptions(
        studies=a.studies, test_studies=a.test_studies, preset=a.preset, seed=a.seed, fold=",".join(a.fold or ["0"]),
        device=a.device, workers=a.workers, localize_config=a.localize_config, classify_config=a.classify_config,
    )  # fmt: skip
    sys.stdout.write(demo(a.out, options, overwrite=a.overwrite, resume=a.resume) + "\n")
    return 0


def _add_synth_options(p: argparse.ArgumentParser, *, studies: int, test_studies: int) -> None:
    p.add_argument(
        "--studies", type=args.whole(1), default=studies, metavar="N", help="training studies (default: %(default)s)"
    )
    p.add_argument(
        "--test-studies",
        type=args.whole(0),
        default=test_studies,
        metavar="N",
        help="unseen test studies (default: %(default)s)",
    )
    p.add_argument(
        "--preset", choices=("demo", "full"), default="demo",
        help="matrix sizes: demo for small ones, full for those of real scans (default: %(default)s)",
    )  # fmt: skip


def _add_synth(commands: args.Commands) -> None:
    p = args.add_command(
        commands, "synth", "make synthetic studies in the challenge's format",
        "Writes a challenge directory to OUT/data. Writes the true test grades and points, the latent variables, the "
        "oracle and the manifest to OUT/truth.",
    )  # fmt: skip
    args.add_paths(p, out="folder to write to")
    _add_synth_options(p, studies=100, test_studies=20)
    args.add_seed(p, "random seed; the same seed gives the same files, byte for byte")
    p.add_argument(
        "--traps", action="store_true", help="plant faults that real data have; OUT/truth/manifest.json lists them"
    )
    args.add_workers(p)
    args.add_output(p, resume=args.KEPT)
    p.set_defaults(func=_synth)


def _synth(a: argparse.Namespace) -> int:
    from pipelines.synth import synth
    from pipelines.synthetic import SynthOptions

    options = SynthOptions(studies=a.studies, test_studies=a.test_studies, preset=a.preset, seed=a.seed, traps=a.traps)
    synth(a.out, options, workers=a.workers, overwrite=a.overwrite, resume=a.resume)
    return 0


def _add_series(commands: args.Commands) -> None:
    p = args.add_command(
        commands, "series", "list which series would be used for which view, which not, and why",
        "Reads headers only and loads no model. Each series is listed with the reasons. `lumbar predict` uses exactly "
        "the series that are listed as used: the best of each view, and a further one only where it shows more.",
    )  # fmt: skip
    args.add_paths(p, data=args.ANY_STUDIES)
    _add_choice(p)
    args.add_part(p, "both")
    p.add_argument("--json", action="store_true", help="write JSON, for programs")
    p.add_argument(
        "--names", action="store_true",
        help="list instead which file is meant by each hidden-... of a message; the names may be of patients",
    )  # fmt: skip
    p.set_defaults(func=_series)


def _series(a: argparse.Namespace) -> int:
    from pipelines.series import SeriesRequest, names_table, parse_choices, series_table

    if a.names:
        sys.stdout.write(names_table(a.data) + "\n")
        return 0
    request = SeriesRequest(data=a.data, part=a.part, chosen=parse_choices(a.series))
    sys.stdout.write(series_table(request, as_json=a.json) + "\n")
    return 0


def _add_choice(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--series", action="append", default=[], metavar="VIEW=SERIES_ID",
        help="use this series for VIEW (sagittal_t1, sagittal_t2 or axial_t2) in the study that holds it, whatever "
        "speaks against it; for a folder of DICOM files; may be repeated",
    )  # fmt: skip


def _add_show(commands: args.Commands) -> None:
    p = args.add_command(
        commands, "show", "draw a contact sheet of a study: every slice, its points and grades",
        "Draws the slices of each series in anatomical order, with side, position and scale. Annotated and predicted "
        "points have the colour of their grade. With --prediction, the detectors' boxes are drawn too.",
    )  # fmt: skip
    args.add_paths(p, data=args.ANY_STUDIES)
    p.add_argument(
        "study", nargs="?", metavar="STUDY_ID", help="name of the study's folder in a challenge directory, its "
        "StudyInstanceUID for any other DICOM files",
    )  # fmt: skip
    p.add_argument("out", type=args.local, nargs="?", metavar="OUT.png", help="file to write")
    p.add_argument("--series", metavar="SERIES_ID", help="draw only this series, larger")
    p.add_argument(
        "--level", metavar="LEVEL", help="draw only the slices at this level, for example L4/L5, cropped and enlarged"
    )
    predicted = p.add_mutually_exclusive_group()
    predicted.add_argument(
        "--localizations", type=args.local, metavar="CSV", help="localizations.csv with predicted points to draw"
    )
    predicted.add_argument(
        "--prediction", type=args.local, metavar="DIR", help="OUT of `lumbar predict` or `lumbar localize predict`: "
        "points, boxes and grades to draw",
    )  # fmt: skip
    args.add_path(
        p, "--truth", "DIR", "folder with the true grades and points to draw: test.csv and test_label_coordinates.csv"
    )
    args.add_part(p, "both")
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


def _add_audit(commands: args.Commands) -> None:
    p = args.add_command(
        commands, "audit", "report what a data set holds and what is wrong with it",
        "Reads every DICOM header, and decodes slices as --pixels says. Writes OUT/report.html, report.json, "
        "findings.csv and failures.csv. docs/audit.md explains every code in them.",
    )  # fmt: skip
    args.add_places(p, data=args.ANY_STUDIES)
    args.add_paths(p, out="folder to write to")
    p.add_argument("--strict", action="store_true", help="exit with code 1 if any issue is an error")
    args.add_part(p, "both")
    p.add_argument("--no-images", action="store_true", help="audit only the CSV tables")
    p.add_argument(
        "--pixels", choices=("none", "sample", "all"), default="sample",
        help="which slices to decode: none, some of each series, or all (default: %(default)s)",
    )  # fmt: skip
    args.add_workers(p)
    args.add_engine(p)
    args.add_shard(p, "the report is made after `lumbar merge`")
    args.add_output(p, resume=args.KEPT)
    p.set_defaults(func=_audit)


def _audit(a: argparse.Namespace) -> int:
    from pipelines.audit import AuditOptions, audit, audit_shard, summary
    from pipelines.audit.pixels import Pixels
    from shared.runtime.bulk.engine import Engine

    options = AuditOptions(
        part=a.part, images=not a.no_images, pixels=Pixels(a.pixels), workers=a.workers, engine=Engine(a.engine),
        shard=a.shard,
    )  # fmt: skip
    if a.shard is not None:
        read = audit_shard(a.data, a.out, options, overwrite=a.overwrite, resume=a.resume)
        sys.stdout.write(f"{a.out}: shard {a.shard}, {counted(read, 'study')}; join all with `lumbar merge`\n")
        return 0
    result = audit(a.data, a.out, options, overwrite=a.overwrite, resume=a.resume)
    sys.stdout.write(summary(result, a.out) + "\n")
    if a.strict and result.errors:
        raise InputError(f"{a.data}: {counted(result.errors, 'error')} found; see {a.out / 'findings.csv'}")
    return code_of(a.out)


def _add_prepare(commands: args.Commands) -> None:
    p = args.add_command(
        commands, "prepare", "decode DICOM files once, into a store that training and prediction read faster",
        "Decodes every DICOM file once. Other commands then take STORE in place of DATA and give the same results. "
        "Only audit still needs the DICOM files. --resume brings an existing store up to date.",
    )  # fmt: skip
    args.add_places(p, data=args.ANY_STUDIES, store="folder to write to")
    args.add_part(p, "both")
    p.add_argument(
        "--png",
        action="store_true",
        help="also write STORE/png/<study>/<view>/*.png, the layout that the challenge's notebooks read",
    )
    p.add_argument(
        "--png-size", type=args.whole(1), metavar="PX", help="resize the PNGs to PX by PX pixels; implies --png "
        "(default: the slices' own size, which keeps annotated coordinates valid)",
    )  # fmt: skip
    args.add_workers(p)
    args.add_engine(p)
    args.add_shard(p, "`lumbar merge` joins them")
    args.add_output(p, "STORE", resume="decode only studies that are new or whose files changed")
    p.set_defaults(func=_prepare)


def _prepare(a: argparse.Namespace) -> int:
    from shared.runtime import pool
    from shared.runtime.bulk.engine import Engine

    engine = Engine(a.engine)
    if a.workers > 1 and engine is Engine.LOCAL:
        pool.begin("pipelines.prepare.study")
    from pipelines.prepare.prepare import PrepareOptions, prepare
    from shared.data.store import STORE_FILE
    from shared.storage.output import output_folder

    options = PrepareOptions(
        part=a.part, png=a.png, png_size=a.png_size, workers=a.workers, engine=engine, shard=a.shard
    )
    with output_folder(
        a.store, overwrite=a.overwrite, resume=a.resume, inputs=[a.data], state_file=STORE_FILE
    ) as (store, remote):  # fmt: skip
        said = prepare(a.data, store, options, overwrite=a.overwrite, resume=a.resume, remote=remote)
        sys.stdout.write(said + "\n")
        return code_of(store)


def _add_splits(commands: args.Commands) -> None:
    p = args.add_command(commands, "splits", "draw the cross-validation folds that both stages use")
    args.add_paths(p, data=args.CHALLENGE)
    p.add_argument("out", type=args.local, metavar="OUT.json", help="file to write; it must not exist yet")
    p.add_argument("--folds", type=args.whole(2), default=5, metavar="N", help="number of folds (default: %(default)s)")
    args.add_seed(p, "random seed of the shuffle")
    p.set_defaults(func=_splits)


def _splits(a: argparse.Namespace) -> int:
    from shared.data.challenge import Challenge
    from shared.splits import make_splits, write_splits

    if a.out.exists() or a.out.is_symlink():
        raise InputError(f"{a.out}: exists already; splits are written once, choose another name or delete it")
    data = Challenge.open(a.data, "train")
    splits = make_splits(data.study_ids, data.grades_of(data.study_ids), folds=a.folds, seed=a.seed)
    write_splits(a.out, splits)
    sys.stdout.write(
        f"{a.out}: {counted(len(splits.study_ids), 'study')} in folds of {[len(f) for f in splits.folds]}\n"
    )
    return 0


def _add_predict(commands: args.Commands) -> None:
    p = args.add_command(
        commands, "predict", "grade studies end to end: DICOM in, 25 rows per study out",
        "Grades studies with both stages. A study that a run was trained on is graded by the fold that held it "
        "out, any other study by the average of all folds. The detectors that ship with the package go with any "
        "classifier. Several runs of a stage answer together. Writes OUT/submission.csv, probabilities.csv, "
        "localizations.csv, detections.csv, failures.csv, run.json, studies/<id>.json, and for people index.html "
        "and a page per study, studies/<id>.html.",
    )  # fmt: skip
    args.add_places(p, data=args.ANY_STUDIES, out="folder to write to")
    add_members(p)
    args.add_part(p, "test if there is one, otherwise train")
    _add_choice(p)
    p.add_argument(
        "--dry-run", action="store_true", help="only list the series that would be used, as `lumbar series` does; "
        "load no model and write nothing",
    )  # fmt: skip
    p.add_argument("--tta", action="store_true", help=args.TTA)
    p.add_argument(
        "--strict", action="store_true", help="exit with code 1, after all files are written, if any row comes from "
        "the training prior",
    )  # fmt: skip
    p.add_argument("--no-pages", action="store_true", help="write no HTML pages, for bulk work that nobody looks at")
    _add_clinic(p)
    args.add_device(p)
    add_backend(p)
    args.add_workers(p, "most processes that answer studies side by side")
    args.add_engine(p)
    args.add_shard(p, "`lumbar merge` joins them")
    args.add_output(p, resume=args.KEPT)
    p.set_defaults(func=_predict)


def _add_clinic(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--dicom", action="store_true", help="also write OUT/dicom/<study>/: a DICOM structured report and a picture "
        "for the PACS. They carry the patient's name, as the study's files do. Needs the extra `dicom`",
    )  # fmt: skip
    p.add_argument(
        "--watch", action="store_true", help="watch the folder DATA: answer each study that arrives in it, into "
        "OUT/answers/<study>/, until Ctrl-C",
    )  # fmt: skip
    p.add_argument(
        "--still", type=float, metavar="SECONDS", help="with --watch: how long all files of a study must be unchanged "
        "before it is answered (default: 30)",
    )  # fmt: skip


def _predict(a: argparse.Namespace) -> int:
    from pipelines.series import SeriesRequest, parse_choices, series_table

    chosen = parse_choices(a.series)
    _check_watch(a)
    if a.dry_run:
        listed = SeriesRequest(data=args.on_disk(a.data, "--dry-run"), part=a.part, chosen=chosen, as_predicted=True)
        sys.stdout.write(series_table(listed) + "\n")
        return 0
    from pipelines.predict import PredictRequest, predict
    from pipelines.predict.summary import PROBABILITIES_FILE
    from shared.runtime.bulk.engine import Engine
    from shared.storage.output import output_folder

    request = PredictRequest(
        data=a.data, members=members_of(a), part=a.part, device=a.device, tta=a.tta, chosen=chosen, dicom=a.dicom,
        pages=not a.no_pages, workers=a.workers, engine=Engine(a.engine), shard=a.shard, backend=backend_of(a),
    )  # fmt: skip
    if a.watch:
        from pipelines.clinic.watch import STILL_S, watch

        still_s = STILL_S if a.still is None else a.still
        watch(request, args.on_disk(a.out, "--watch"), still_s=still_s, overwrite=a.overwrite, resume=a.resume)
        return 0
    read_again = (PROBABILITIES_FILE, FAILURES_FILE)
    with output_folder(
        a.out, overwrite=a.overwrite, resume=a.resume, inputs=[a.data], read_again=read_again
    ) as (out, remote):  # fmt: skip
        table = predict(request, out, overwrite=a.overwrite, resume=a.resume, remote=remote)
        if a.strict and table.prior_rows:
            raise InputError(f"{a.data}: {table.prior_summary}; see {out / PROBABILITIES_FILE}")
        return code_of(out)


def _check_watch(a: argparse.Namespace) -> None:
    """Refuses options that have no meaning for studies which nobody knows yet, and --still for those that are known."""
    if a.watch:
        args.on_disk(a.data, "--watch")
    if not a.watch:
        if a.still is not None:
            raise InputError("--still: only with --watch; without it all studies are answered at once")
        return
    unfit = {
        "--part": a.part, "--series": a.series, "--strict": a.strict, "--dry-run": a.dry_run, "--shard": a.shard,
        "--engine": a.engine != "local",
    }  # fmt: skip
    given = [name for name, value in unfit.items() if value]
    if given:
        raise InputError(f"{given[0]}: not with --watch, which answers whatever study arrives; leave it out")


def _add_evaluate(commands: args.Commands) -> None:
    p = args.add_command(
        commands, "evaluate", "score a submission: competition metric, baselines, bootstrap intervals, report",
        "Scores a submission with the competition metric, beside baselines and with bootstrap intervals. Writes "
        "OUT/report.html and report.json.",
    )  # fmt: skip
    args.add_paths(
        p, submission="submission.csv to score", data="folder with the true grades: train.csv or test.csv",
        out="folder to write to",
    )  # fmt: skip
    args.add_part(p, "test if DATA has a test.csv, otherwise train")
    args.add_path(
        p, "--train", "DATA", "challenge directory whose train.csv gives the prior baseline (default: the grades of "
        "the scored studies themselves, which make the prior look too good)",
    )  # fmt: skip
    p.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="NAME=CSV",
        help="another submission to compare with, and its name in the report; may be repeated",
    )
    args.add_path(
        p, "--oracle", "CSV", "OUT/truth/oracle.csv of `lumbar synth`: the true probabilities of its test studies"
    )
    args.add_output(p)
    p.set_defaults(func=_evaluate)


def _evaluate(a: argparse.Namespace) -> int:
    from pipelines.evaluate import EvaluateOptions, evaluate

    options = EvaluateOptions(part=a.part, train=a.train, against=tuple(a.against), oracle=a.oracle)
    sys.stdout.write(evaluate(a.submission, a.data, a.out, options, overwrite=a.overwrite) + "\n")
    return 0


def _add_pack(commands: args.Commands) -> None:
    p = args.add_command(
        commands, "pack", "put trained runs and the program into one archive, to predict without a network",
        "Packs what prediction needs: weights and configs of the runs, this program as a wheel, the licence, and a "
        "manifest with the SHA-256 of each file. Training tables, splits and study ids stay out. docs/kaggle.md tells "
        "how a Kaggle notebook predicts from it.",
    )  # fmt: skip
    args.add_several_paths(
        p, "runs", "RUN", "finished runs that were trained on the same data: of `lumbar classify train`, and of "
        f"`lumbar localize train` ({args.SHIPPED}); several of a stage answer together",
    )  # fmt: skip
    p.add_argument("out", type=args.local, metavar="OUT.zip", help="file to write")
    args.add_path(
        p, "--wheels", "DIR", "folder with wheels of other packages to pack too, as `pip download` leaves them"
    )
    p.add_argument(
        "--fast", action="store_true", help="pack only the fast grader of each classifier, a tenth of five folds, to "
        "predict with --fast (default: the folds, and the fast grader where there is one)",
    )  # fmt: skip
    p.add_argument("--overwrite", action="store_true", help="replace OUT.zip if it is a pack")
    p.set_defaults(func=_pack)


def _pack(a: argparse.Namespace) -> int:
    from pipelines.pack import PackRequest, pack

    request = PackRequest(runs=tuple(a.runs), wheels=a.wheels, fast=a.fast)
    sys.stdout.write(pack(request, a.out, overwrite=a.overwrite) + "\n")
    return 0


def _add_info(commands: args.Commands) -> None:
    p = args.add_command(commands, "info", "show versions, devices and labels")
    p.add_argument("--json", action="store_true", help="print JSON, for programs")
    p.set_defaults(func=_info)


def _info(a: argparse.Namespace) -> int:
    from pipelines.info import as_text, collect

    info = collect()
    sys.stdout.write((json.dumps(info, indent=2) if a.json else as_text(info)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
