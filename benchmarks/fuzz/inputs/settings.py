"""JSON and TOML files: splits, what stage 1 fitted, the records of runs and stores, and configs."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.fuzz.inputs.dicom import saved, slice_dataset
from benchmarks.fuzz.inputs.sound import Sound, collected
from benchmarks.fuzz.inputs.world import CLASSIFIER, LOCALIZER, STUDIES, made, point, world
from classify.config import ClassifyConfig
from localize.calibrate import mean_calibration, read_calibration
from localize.config import LocalizeConfig
from localize.decoding.prior import mean_prior, read_prior
from localize.localizer import read_config, read_folds
from pipelines.ensembles.weights import BlendWeights, Member, read_weights_file, write_weights
from pipelines.experiments.runs import find_runs
from pipelines.prepare.prepare import PrepareOptions, prepare
from pipelines.record import StudyRecord
from shared.data.source import open_source
from shared.data.store import Store
from shared.jitter import read_jitter
from shared.labels import FINDINGS, Condition, Level
from shared.numbering import Numbering
from shared.out_of_fold import OutOfFold
from shared.runtime.config import Config, shipped_config
from shared.runtime.documents import read_json
from shared.runtime.run_folder import RunFolder
from shared.runtime.unfinished import Results
from shared.splits import parse_folds, read_splits, write_splits

_FOLD: Final = f"{LOCALIZER}/fold0"
_KEY: Final = "0" * 64


def sound_json() -> Iterator[Sound]:
    """Every JSON file that a later command reads, with the files beside it that the reader needs."""
    yield _of("splits", {f"{LOCALIZER}/splits.json"}, _splits)
    yield _of("measured errors", {f"{LOCALIZER}/errors.json"}, _errors)
    yield _of("chain prior", {f"{_FOLD}/chain.json"}, _prior)
    yield _of("calibration", {f"{_FOLD}/calibration.json"}, _calibration)
    run = {f"{LOCALIZER}/{name}" for name in ("run.json", "state.json", "splits.json", "errors.json")}
    yield _of("run, out of fold", run, _out_of_fold)
    yield _of("run, its folds", {f"{LOCALIZER}/run.json", f"{_FOLD}/chain.json", f"{_FOLD}/calibration.json"}, _folds)
    yield _of("run, resumed", {f"{LOCALIZER}/run.json", f"{LOCALIZER}/state.json"}, _resumed)
    listed = {f"{run}/{name}" for run in (LOCALIZER, CLASSIFIER) for name in ("run.json", "state.json", "splits.json")}
    yield _of("list of runs", listed & set(world()), lambda folder: find_runs(folder)[1])
    weights = made(_weights)
    yield Sound(
        kind="json", name="blend weights", files=weights, targets=dict.fromkeys(weights, "json"),
        read=lambda folder: _nothing(read_weights_file(folder / "weights.json").per_finding()),
    )  # fmt: skip
    yield from _stores()
    kept = made(lambda folder: _results(folder).write(STUDIES[0], _KEY, _record()))
    yield Sound(kind="json", name="kept result", files=kept, targets=dict.fromkeys(kept, "binary"), read=_kept)


def _weights(folder: Path) -> None:
    members = tuple(Member(name=name, digest=_KEY) for name in ("one", "two"))
    weights = dict.fromkeys(Condition, (0.25, 0.75))
    write_weights(
        folder / "weights.json", BlendWeights(members=members, weights=weights), studies=3, data_fingerprint=_KEY
    )


def _results(folder: Path) -> Results[StudyRecord]:
    return Results(folder=folder, kind=StudyRecord)


def _record() -> StudyRecord:
    sure = Numbering(as_named=0.9, one_higher=0.05, one_lower=0.05, disc_above=0.1, disc_below=0.1,
                     missing=dict.fromkeys(Level, 0.1))  # fmt: skip
    return StudyRecord(
        submission=((0.7, 0.2, 0.1),) * len(FINDINGS), reasons=(), localizations=(point(STUDIES[0], FINDINGS[0]),),
        detections=(), problems=("a problem",), numbering=sure, turned=(),
    )  # fmt: skip


def _kept(folder: Path) -> list[str]:
    """A damaged result is made again, so that nobody is told."""
    _results(folder).read(STUDIES[0], _KEY)
    return []


def sound_toml() -> Iterator[Sound]:
    """Every config that comes with the program, a run's own, and a change on the command line."""
    configs: Mapping[str, type[Config]] = {"localize": LocalizeConfig, "classify": ClassifyConfig}
    for stage, config in configs.items():
        for path in sorted(shipped_config(stage, "demo").parent.glob("*.toml")):
            files = {"config.toml": path.read_bytes()}
            yield Sound(
                kind="toml", name=f"{stage} {path.stem}", files=files, targets={"config.toml": "toml"},
                read=partial(_config, config),
            )  # fmt: skip
    yield Sound(
        kind="toml", name="a run's own", files=world(), targets={f"{LOCALIZER}/config.toml": "toml"},
        read=lambda folder: _nothing(read_config(folder / LOCALIZER, ("slices.focused=false",))),
    )  # fmt: skip


def _of(name: str, paths: set[str], read: Callable[[Path], list[str]]) -> Sound:
    tops = {path.partition("/")[0] for path in paths}
    files = {path: content for path, content in world().items() if path.partition("/")[0] in tops}
    return Sound(kind="json", name=name, files=files, targets=dict.fromkeys(sorted(paths), "json"), read=read)


def _nothing(read: Any) -> list[str]:
    return []


def _config(config: type[Config], folder: Path) -> list[str]:
    """What was read is also written, since a run keeps it."""
    config.load(folder / "config.toml").save(folder / "resolved.toml")
    config.load(folder / "resolved.toml")
    return []


def _splits(folder: Path) -> list[str]:
    splits = read_splits(folder / LOCALIZER / "splits.json")
    write_splits(folder / "again.json", splits)
    return collected([lambda: parse_folds("1", splits), lambda: splits.check_covers(splits.study_ids)])


def _errors(folder: Path) -> list[str]:
    measured = list(read_jitter(folder / LOCALIZER / "errors.json").values())
    return _nothing([a.at_least(b) for a in measured for b in measured])


def _prior(folder: Path) -> list[str]:
    sound, damaged = (read_prior(folder / LOCALIZER / f"fold{k}" / "chain.json") for k in (1, 0))
    return _nothing(mean_prior([sound, damaged]).posed(1.1, 10.0))


def _calibration(folder: Path) -> list[str]:
    sound, damaged = (read_calibration(folder / LOCALIZER / f"fold{k}" / "calibration.json") for k in (1, 0))
    return _nothing(mean_calibration([sound, damaged]))


def _out_of_fold(folder: Path) -> list[str]:
    return _nothing(OutOfFold.of_file(folder / LOCALIZER / "localizations.csv").jitter)


def _folds(folder: Path) -> list[str]:
    return _nothing(read_folds(folder / LOCALIZER, [0]))


def _resumed(folder: Path) -> list[str]:
    """What `localize train --resume` does before and after training."""
    run = RunFolder(path=folder / LOCALIZER, kind="localize", last_file="localizations.csv")
    state = read_json(folder / LOCALIZER / "state.json")
    said = collected([lambda: run.claim(state if isinstance(state, dict) else {}, resume=True)])
    run.record(started=1.7e9, folds={})
    return said


def _stores() -> Iterator[Sound]:
    files = made(_prepared)
    index = next(name for name in files if name.endswith("store.json"))
    records = [name for name in files if "/studies/" in name and name.endswith(".json")]
    for name, targets in (("store's index", [index]), ("store's records", records)):
        yield Sound(kind="json", name=name, files=files, targets=dict.fromkeys(targets, "json"), read=_store)
        yield Sound(
            kind="json", name=f"{name}, checksum made good", files=files, targets=dict.fromkeys(targets, "summed"),
            read=_store,
        )  # fmt: skip


def _prepared(root: Path) -> None:
    for n in range(1, 7):
        path = root / "scans" / f"{n}.dcm"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(saved(slice_dataset(n)))
    prepare(root / "scans", root / "store", PrepareOptions())


def _store(folder: Path) -> list[str]:
    Store.find(folder / "store")
    source = open_source(folder / "store")
    return [str(p) for s in source.study_ids for p in source.load(s).problems]
