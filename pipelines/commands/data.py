"""Commands on data sets, before any model: series, show, audit, prepare and splits."""

import argparse
import sys

from shared.runtime import arguments as args
from shared.runtime.errors import InputError
from shared.runtime.problems import code_of, counted


def add_parsers(commands: args.Commands) -> None:
    """Adds the commands."""
    _add_series(commands)
    _add_show(commands)
    _add_audit(commands)
    _add_prepare(commands)
    _add_splits(commands)


def _add_series(commands: args.Commands) -> None:
    p = args.add_command(
        commands, "series", "list which series would be used for which view, which not, and why",
        "Reads headers only and loads no model. Each series is listed with the reasons. `lumbar predict` uses exactly "
        "the series that are listed as used: the best of each view, and a further one only where it shows more.",
    )  # fmt: skip
    args.add_paths(p, data=args.ANY_STUDIES)
    add_choice(p)
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


def add_choice(p: argparse.ArgumentParser) -> None:
    """Adds `--series`."""
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
