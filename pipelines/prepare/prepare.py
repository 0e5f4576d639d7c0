"""`lumbar prepare`: decodes every DICOM file once, into a store for training and prediction (`shared.data.store`).

A further run compares the contents of all files: it decodes new and changed studies, keeps the others, and removes
those that are gone. A kill loses only the studies in progress.
"""

import hashlib
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.prepare.png_tree import MAX_SIZE_PX, PNG_FOLDER, PngJob, is_png_folder, write_pngs
from pipelines.prepare.study import Job, Outcome, prepare_study, unprepared
from shared.data.challenge import PARTS, Challenge, Part, listed_parts, series_files, table_columns
from shared.data.store import STUDIES, Kind, Store, Unit, digest_of, is_store
from shared.data.unpack import open_input
from shared.dicom.discover import group_studies, no_dicom
from shared.dicom.pixels import is_unreadable
from shared.dicom.scan import scan_folder
from shared.runtime.bulk.engine import Engine, spread_over
from shared.runtime.bulk.shards import Shard
from shared.runtime.errors import InputError, shown
from shared.runtime.files import prepare_output, sweep_temporary, written_beside
from shared.runtime.ownership import is_empty, outputs_released
from shared.runtime.pool import Spread
from shared.runtime.problems import counted, unreadable, write_failures
from shared.runtime.progress import log, track
from shared.runtime.run_folder import write_run
from shared.runtime.tables import only_columns
from shared.runtime.unfinished import digest_of as digest_of_values
from shared.study import LoadedStudy


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareOptions:
    """What to prepare, and how.

    Attributes:
      part: of a challenge directory; None prepares both.
      png: whether to write the PNG tree; a store that has one keeps it up to date regardless.
      png_size: side of a square in pixels; None keeps the slices' own size.
      workers: number of processes on this machine.
      engine: what the processes belong to.
      shard: the part of all studies to prepare, into a store that `lumbar merge` joins with the others.
    """

    part: Part | None = None
    png: bool = False
    png_size: int | None = None
    workers: int = 1
    engine: Engine = Engine.LOCAL
    shard: Shard | None = None


@outputs_released()
def prepare(
    data: Path, out: Path, options: PrepareOptions | None = None, *, overwrite: bool = False, resume: bool = False
) -> str:
    """Makes a store of `data` in `out`, or brings it up to date with `resume`; returns a summary.

    Raises:
      InputError: when `data` is not a challenge directory or DICOM folder, or `out` is not a store that can be resumed.
    """
    started = time.time()
    options = options or PrepareOptions()
    _check(options)
    given = open_input(data.absolute())  # the store outlives the current working directory
    data = given.folder
    plan = replace(plan_units(data, options.part), origin=given.origin)
    if resume and out.is_dir() and not is_empty(out) and not is_store(out):
        raise InputError(f"{out}: is not empty and is not a prepared store; choose another folder, or pass --overwrite")
    if plan.kind == "folder" and out.resolve().is_relative_to(data.resolve()):
        raise InputError(f"{out}: lies inside {data}, whose folders are all searched for images; choose another folder")
    prepare_output(out, overwrite=overwrite, resume=resume, inputs=[data, given.origin])
    for folder in (out, out / PNG_FOLDER):
        sweep_temporary(folder, below=False)
    with spread_over(options.engine, options.workers) as spread:
        everything = plan
        store, plan = _begin(data, out, plan, options)
        jobs = [Job(root=out.absolute(), source=data, unit=unit) for units in plan.units.values() for unit in units]
        outcomes = list(track(spread(prepare_study, jobs, lost=unprepared), "preparing", total=len(jobs)))
        removed = _sweep(store, plan, outcomes)
        problems = [shown(text) for outcome in outcomes for text in outcome.problems]
        if store.kind == "folder" and options.shard is None:
            found = group_studies(store.data, store.folder_readings())  # raises if nothing could be read
            lost = [s.study.study_id for s in found if is_unreadable(s.study)]
        else:
            lost = [job.unit.name for job, o in zip(jobs, outcomes, strict=True) if job.unit.series and not o.slices]
        write_failures(out, [unreadable(study_id) for study_id in lost])
        store.write(finished=True)
        if store.png_size is not None:
            problems += _write_png_tree(store, spread)
        counts = Counter(outcome.state for outcome in outcomes)
        slices, pixel_bytes = sum(o.slices for o in outcomes), sum(o.pixel_bytes for o in outcomes)
        write_run(
            out, command="prepare", started=started, kind="prepare", input=store.kind, parts=list(plan.units),
            decoded=counts["new"] + counts["changed"], unchanged=counts["unchanged"], removed=removed,
            slices=slices, pixel_bytes=pixel_bytes, problems=problems, **_shared_out(options.shard, everything),
        )  # fmt: skip
    for text in problems[:5]:
        log(f"warning: {text}")
    if len(problems) > 5:
        log(f"warning: {counted(len(problems) - 5, 'more problem')}, all in run.json")
    noun = "studies" if store.kind == "challenge" else "folders"
    states = ", ".join(f"{counts[state]} {state}" for state in ("new", "changed", "unchanged"))
    return (
        f"{out}: {len(jobs)} {noun} ({states}, {removed} removed), {counted(slices, 'slice')} in "
        f"{pixel_bytes / 2**20:.1f} MiB, "
        f"{counted(len(problems), 'problem')}"
    )


def _check(options: PrepareOptions) -> None:
    if options.png_size is not None and not 1 <= options.png_size <= MAX_SIZE_PX:
        raise InputError(f"--png-size {options.png_size}: expected 1 to {MAX_SIZE_PX} pixels")
    if options.shard is not None and (options.png or options.png_size is not None):
        raise InputError("--png: not with --shard; write the PNGs after `lumbar merge`, with --resume and --png")


def _shared_out(shard: Shard | None, plan: "Plan") -> dict[str, str]:
    """What run.json of a shard says: which one it is, and of which studies."""
    if shard is None:
        return {}
    names = {part: [unit.name for unit in units] for part, units in plan.units.items()}
    return {"shard": str(shard), "studies_digest": digest_of_values(names)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The units of each part of the data.

    Attributes:
      origin: what the store names as its source, an archive that was unpacked for example; None for the data's folder.
    """

    kind: Kind
    units: Mapping[str, tuple[Unit, ...]]
    origin: Path | None = None


def plan_units(data: Path, part: Part | None) -> Plan:
    """Looks at tables and folders without opening any DICOM file of a challenge directory.

    Raises:
      InputError: when there is nothing to prepare, or a table is broken.
    """
    if not data.is_dir():
        raise InputError(f"{data}: no such folder; expected a challenge directory or a folder of DICOM files")
    if is_store(data):
        raise InputError(f"{data}: is a prepared store itself; give the folder of DICOM files that it was made from")
    listed = listed_parts(data) if part is None else (part,)
    if not listed:
        return Plan(kind="folder", units={"folder": _folder_units(data)})
    units: dict[str, tuple[Unit, ...]] = {}
    for name in listed:
        challenge = Challenge.open(data, name)
        if challenge.images.is_dir():
            units[name] = _challenge_units(challenge)
        else:
            log(f"warning: {challenge.images}: no such folder; the {name} part is left out")
    if not units:
        raise InputError(f"{data}: has tables but no images; expected {part or 'train'}_images/<study>/<series>/*.dcm")
    return Plan(kind="challenge", units=units)


def _challenge_units(data: Challenge) -> tuple[Unit, ...]:
    units = []
    for study_id, listed in sorted(data.series.items()):
        folder = data.images / study_id
        series = tuple(dict.fromkeys(series_id for series_id, _ in listed))
        files = tuple(f"{s}/{path.name}" for s in series for path in series_files(folder / s))
        units.append(
            Unit(
                part=data.part, name=study_id, folder=f"{data.images.name}/{study_id}", series=series, files=files,
                exists=folder.is_dir(),
            )
        )  # fmt: skip
    return tuple(units)


def _folder_units(data: Path) -> tuple[Unit, ...]:
    """One unit per folder that holds DICOM files directly, named by a digest because folder names can be anything."""
    files: dict[str, list[str]] = defaultdict(list)
    scan = scan_folder(data)
    for path in scan.dicom:
        files[path.parent.relative_to(data).as_posix()].append(path.name)
    if not files:
        raise no_dicom(data, scan)
    return tuple(
        Unit(part="folder", name=hashlib.sha256(folder.encode("utf-8", "surrogateescape")).hexdigest()[:16],
             folder=folder, files=tuple(names))
        for folder, names in sorted(files.items())
    )  # fmt: skip


def _begin(data: Path, out: Path, plan: Plan, options: PrepareOptions) -> tuple[Store, Plan]:
    """Marks the store as unfinished and copies the tables. Adds to the plan the parts that an earlier call left."""
    old = None
    records: dict[str, tuple[str, ...]] = {}
    if is_store(out):
        old, finished = Store.open_any(out, any_reader=True)
        if old.kind != plan.kind:
            raise InputError(f"{out}: is the store of a {old.kind}, {data} is a {plan.kind}; choose another folder")
        for part in PARTS:
            if part not in old.records:
                continue
            if options.part not in (None, part) and finished and old.current:
                _check_source(old, plan.origin or data, part)
                records[part] = old.records[part]
                continue
            _check_images(old, data, part, options)
            if options.part not in (None, part):
                plan = replace(plan, units={**plan_units(data, part).units, **plan.units})
        _check_folders(old, data, plan)
    shard = None if options.shard is None else str(options.shard)
    if old is not None and old.shard != shard:
        raise InputError(f"{out}: is {_described(old.shard)}, asked was for {_described(shard)}; choose another folder")
    if options.shard is not None:
        plan = replace(plan, units={part: tuple(options.shard.share(units)) for part, units in plan.units.items()})
    png_size = old.png_size if old is not None else None
    if options.png or options.png_size is not None:
        png_size = options.png_size or 0
    records |= {part: tuple(unit.name for unit in units) for part, units in plan.units.items()}
    store = Store(
        root=out,
        made_from=digest_of(plan.origin or data),
        kind=plan.kind,
        records=records,
        png_size=png_size,
        shard=shard,
    )
    store.write(finished=False)
    for part in PARTS:
        if part in plan.units or part not in records:
            _copy_tables(data, out, part, part in records)
    return store, plan


def _described(shard: str | None) -> str:
    return "a whole store" if shard is None else f"shard {shard} of a store"


def _check_source(old: Store, data: Path, part: Part) -> None:
    """A store has one source, so a part that stays must come from the same data as the new one."""
    if old.made_from != digest_of(data):
        raise InputError(
            f"{data}: the {part} part of {old.root} was made from another folder; continue with that one, or prepare "
            "all parts from this one without --part"
        )


def _check_images(old: Store, data: Path, part: Part, options: PrepareOptions) -> None:
    """Refuses to drop a part whose images are gone: the store may hold all that is left of them."""
    images = data / f"{part}_images"
    if old.records[part] and not images.is_dir():
        other = "name the other part with --part, " if options.part is None and len(old.records) > 1 else ""
        raise InputError(
            f"{images}: gone, but {old.root} holds {counted(len(old.records[part]), 'study')} of it; restore it, "
            f"{other}or start "
            "again with --overwrite"
        )


def _check_folders(old: Store, data: Path, plan: Plan) -> None:
    """Does the same for single studies that the tables still list."""
    gone = []
    for part, units in plan.units.items():
        known = set(old.records.get(part, ()))
        gone += [unit for unit in units if unit.name in known and not unit.files and _holds_slices(old, unit)]
    if gone:
        raise InputError(
            f"{data / gone[0].folder}: gone or empty, but {old.root} holds its slices "
            f"({counted(len(gone), 'such study')}); "
            "restore it, remove it from the tables, or start again with --overwrite"
        )


def _holds_slices(store: Store, unit: Unit) -> bool:
    try:
        return store.study(unit.part, unit.name).slices > 0
    except InputError:
        return False  # damaged, so there is nothing to lose


def _copy_tables(data: Path, out: Path, part: Part, wanted: bool) -> None:
    """Copies what is read of the tables, and deletes those that `data` no longer has or the store no longer wants."""
    tables = {name: columns for name, columns in table_columns(part).items() if wanted and (data / name).is_file()}
    for name, columns in tables.items():
        with written_beside(out / name) as temporary:
            temporary.write_bytes(only_columns(data / name, columns))
    for name in table_columns(part).keys() - tables.keys():
        (out / name).unlink(missing_ok=True)


def _sweep(store: Store, plan: Plan, outcomes: Sequence[Outcome]) -> int:
    """Deletes records of studies that are gone, and remains of killed runs; returns the number of records."""
    removed = 0
    done = iter(outcomes)
    kept = {part: {name for _ in units for name in next(done).files} for part, units in plan.units.items()}
    for name in (*PARTS, "folder"):
        folder = store.root / STUDIES / name
        if not folder.is_dir() or (name in store.records and name not in kept):
            continue
        for path in list(folder.iterdir()):
            if path.name not in kept.get(name, ()) and not path.is_dir():
                removed += path.suffix == ".json"
                path.unlink()
    return removed


def _write_png_tree(store: Store, spread: Spread) -> list[str]:
    """Writes the PNGs of every study; returns error messages."""
    folder, size = store.root / PNG_FOLDER, store.png_size or 0
    studies = [loaded.study for loaded in _studies(store) if loaded.study.series]
    twice = [study_id for study_id, n in Counter(s.study_id for s in studies).items() if n > 1]
    if twice:
        raise InputError(f"{store.root}: study {twice[0]} is in both parts; prepare PNGs of one with --part")
    known = {study.study_id for study in studies}
    for path in list(folder.iterdir()) if folder.is_dir() else ():
        if path.name not in known and is_png_folder(path):
            shutil.rmtree(path)
    jobs = [PngJob(root=store.root.absolute(), study=study, size=size) for study in studies]
    return [text for text in track(spread(write_pngs, jobs), "PNGs", total=len(jobs)) if text]


def _studies(store: Store) -> Iterator[LoadedStudy]:
    if store.kind == "folder":
        yield from (found.loaded for found in group_studies(store.data, store.folder_readings()))
        return
    for part in PARTS:
        if part in store.records:
            data = Challenge.open(store.root, part)
            yield from (data.load_study(study_id) for study_id in data.study_ids)
