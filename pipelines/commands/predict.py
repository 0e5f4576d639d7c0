"""`lumbar predict`."""

import argparse
import sys

from pipelines.commands.data import add_choice
from pipelines.ensembles.cli import add_members, members_of
from shared.backends.arguments import add_backend, backend_of
from shared.runtime import arguments as args
from shared.runtime.errors import InputError
from shared.runtime.problems import FAILURES_FILE, code_of


def add_parser(commands: args.Commands) -> None:
    """Adds the command."""
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
    add_choice(p)
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
