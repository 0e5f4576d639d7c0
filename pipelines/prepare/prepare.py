"""`lumbar prepare`: decodes every DICOM file once, into a store for training and prediction (`shared.data.store`).

A further run compares the contents of all files: it decodes new and changed studies, keeps the others, and removes
those that are gone. A kill loses only the studies in progress.
"""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.prepare.far import Places, far_jobs, prepare_far, unprepared_far
from pipelines.prepare.plan import Plan, plan_units
from pipelines.prepare.png_tree import MAX_SIZE_PX, PNG_FOLDER, PngJob, is_png_folder, write_pngs
from pipelines.prepare.study import Job, Outcome, prepare_study, unprepared
from shared.data.challenge import PARTS, Challenge, Part, table_columns
from shared.data.remote import RemoteData, check_reach, open_place
from shared.data.store import STUDIES, Store, Unit, digest_of, is_store
from shared.data.unpack import Input
from shared.dicom.discover import group_studies
from shared.dicom.pixels import is_unreadable
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
from shared.storage.address import Address
from shared.storage.output import RemoteOutput
from shared.storage.scratch import new_token, sweep
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
    data: Path | Address, out: Path, options: PrepareOptions | None = None, *, overwrite: bool = False,
    resume: bool = False, remote: RemoteOutput | None = None,
) -> str:  # fmt: skip
    """Makes a store of `data` in `out`, or brings it up to date with `resume`; returns a summary.

    Args:
      remote: the address that `out` stands for, where it does (`shared.storage.output.output_folder`).

    Raises:
      InputError: when `data` is not a challenge directory or DICOM folder, or `out` is not a store that can be resumed.
    """
    started = time.time()
    options = options or PrepareOptions()
    _check(options, remote)
    given, fetched = open_place(data.absolute())  # the store outlives the current working directory
    check_reach(data, fetched, everywhere=options.engine is not Engine.LOCAL)
    folder = given.folder
    origin = data if isinstance(data, Address) else given.origin
    plan = replace(plan_units(folder, options.part), origin=origin, at_hand=fetched is None)
    if resume and out.is_dir() and not is_empty(out) and not is_store(out):
        raise InputError(f"{out}: is not empty and is not a prepared store; choose another folder, or pass --overwrite")
    if plan.kind == "folder" and _lies_inside(out, folder, data, remote):
        raise InputError(
            f"{out}: lies inside {folder}, whose folders are all searched for images; choose another folder"
        )
    prepare_output(out, overwrite=overwrite, resume=resume, inputs=[folder, given.origin])
    for below in (out, out / PNG_FOLDER):
        sweep_temporary(below, below=False)
    with spread_over(options.engine, options.workers) as spread:
        everything = plan
        store, plan = _begin(folder, out, plan, options)
        if remote is not None:
            remote.begin(out)
        far = _far(given, fetched, out, remote) if plan.kind == "challenge" else None
        outcomes = _decode(folder, store, plan, spread, far)
        removed = _sweep(store, plan, outcomes, remote)
        problems = [shown(text) for outcome in outcomes for text in outcome.problems]
        write_failures(out, [unreadable(study_id) for study_id in _lost(store, plan, outcomes, options)])
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
    if remote is not None:
        remote.finish(out)
    return _summary(store, outcomes, removed, problems)


def _lies_inside(out: Path, folder: Path, data: Path | Address, remote: RemoteOutput | None) -> bool:
    if remote is None:
        return out.resolve().is_relative_to(folder.resolve())
    return isinstance(data, Address) and remote.address.is_within(data)


def _far(
    given: Input, fetched: RemoteData | None, out: Path, remote: RemoteOutput | None
) -> Callable[[Challenge], Places] | None:  # fmt: skip
    """What studies need of object stores, part by part; None where all files are on a disk."""
    if fetched is None and remote is None:
        return None
    token = new_token() if remote is None else remote.token
    return lambda part: Places(
        given=given, data=part, remote=fetched, root=out.absolute(), output=remote, token=token
    )  # fmt: skip


def _decode(
    data: Path, store: Store, plan: Plan, spread: Spread, far: Callable[[Challenge], Places] | None
) -> list[Outcome]:  # fmt: skip
    """Brings every record up to date, here or in other processes."""
    total = sum(map(len, plan.units.values()))
    if far is None:
        jobs = [
            Job(root=store.root.absolute(), source=data, unit=unit) for units in plan.units.values() for unit in units
        ]
        return list(track(spread(prepare_study, jobs, lost=unprepared), "preparing", total=total))
    places = {part: far(Challenge.open(data, _part(part))) for part in plan.units}
    try:
        far_ones = (job for part, units in plan.units.items() for job in far_jobs(places[part], units))
        return list(track(spread(prepare_far, far_ones, lost=unprepared_far), "preparing", total=total))
    finally:
        for token in {each.token for each in places.values()}:
            sweep(token)


def _part(name: str) -> Part:
    return "train" if name == "train" else "test"


def _lost(store: Store, plan: Plan, outcomes: Sequence[Outcome], options: PrepareOptions) -> list[str]:
    """The studies of which nothing can be read."""
    if store.kind == "folder" and options.shard is None:
        found = group_studies(store.data, store.folder_readings())  # raises if nothing could be read
        return [s.study.study_id for s in found if is_unreadable(s.study)]
    units = [unit for units in plan.units.values() for unit in units]
    return [unit.name for unit, o in zip(units, outcomes, strict=True) if unit.series and not o.slices]


def _summary(store: Store, outcomes: Sequence[Outcome], removed: int, problems: Sequence[str]) -> str:
    for text in problems[:5]:
        log(f"warning: {text}")
    if len(problems) > 5:
        log(f"warning: {counted(len(problems) - 5, 'more problem')}, all in run.json")
    counts = Counter(outcome.state for outcome in outcomes)
    noun = "studies" if store.kind == "challenge" else "folders"
    states = ", ".join(f"{counts[state]} {state}" for state in ("new", "changed", "unchanged"))
    return shown(
        f"{store.root}: {len(outcomes)} {noun} ({states}, {removed} removed), "
        f"{counted(sum(o.slices for o in outcomes), 'slice')} in "
        f"{sum(o.pixel_bytes for o in outcomes) / 2**20:.1f} MiB, {counted(len(problems), 'problem')}"
    )


def _check(options: PrepareOptions, remote: RemoteOutput | None) -> None:
    if options.png_size is not None and not 1 <= options.png_size <= MAX_SIZE_PX:
        raise InputError(f"--png-size {options.png_size}: expected 1 to {MAX_SIZE_PX} pixels")
    if remote is not None and (options.png or options.png_size is not None):
        raise InputError(f"--png: not with {remote.address}, an address of an object store; write them to a path")
    if options.shard is not None and (options.png or options.png_size is not None):
        raise InputError("--png: not with --shard; write the PNGs after `lumbar merge`, with --resume and --png")


def _shared_out(shard: Shard | None, plan: Plan) -> dict[str, str]:
    """What run.json of a shard says: which one it is, and of which studies."""
    if shard is None:
        return {}
    names = {part: [unit.name for unit in units] for part, units in plan.units.items()}
    return {"shard": str(shard), "studies_digest": digest_of_values(names)}


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
        if plan.at_hand:
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


def _check_source(old: Store, data: Path | Address, part: Part) -> None:
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


def _sweep(store: Store, plan: Plan, outcomes: Sequence[Outcome], remote: RemoteOutput | None = None) -> int:
    """Deletes records of studies that are gone, and remains of killed runs; returns the number of records."""
    removed = 0
    done = iter(outcomes)
    kept = {part: {name for _ in units for name in next(done).files} for part, units in plan.units.items()}
    for name in (*PARTS, "folder"):
        if remote is not None and remote.resumed and (name in kept or name not in store.records):
            removed += remote.keep_only(f"{STUDIES}/{name}", kept.get(name, set()))
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
