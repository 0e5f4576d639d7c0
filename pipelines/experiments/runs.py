"""`lumbar runs`: a table of all trained runs below a folder. Reads small files only, and loads no model."""

import json
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from classify.config import ClassifyConfig
from localize.config import LocalizeConfig
from shared.runtime.config import Config
from shared.runtime.documents import OpenDocument, read_document
from shared.runtime.errors import InputError
from shared.runtime.problems import counted
from shared.runtime.run_folder import RUN_FILE, STATE_FILE, RunScore, read_run
from shared.splits import read_splits

VERSION: Final = 1
_CONFIGS: Final[dict[str, type[Config]]] = {"localize": LocalizeConfig, "classify": ClassifyConfig}
# The file that each stage writes last into a fold.
_LAST_FILES: Final = {"localize": "metrics.json", "classify": "model.json"}
# Folders that hold very many files and never a run.
_SKIPPED: Final = frozenset(
    {"train_images", "test_images", "studies", "cache", "work", "unfinished", "png", "progress"}
)
_MOST_DEPTH: Final = 12
_WIDTH: Final = 120
_HEADER: Final = ("run", "state", "folds", "seed", "score", "95% interval", "hours", "commit", "settings")


class _Begun(OpenDocument):
    """What state.json of a training tells of its stage."""

    command: str = ""
    config: dict[str, Any] = Field(default_factory=dict)
    crops: Any = None


class _Seeds(OpenDocument):
    training: int | None = None


class _Facts(OpenDocument):
    """What run.json tells beside what `read_run` checks."""

    kind: str
    seconds: float = 0.0
    earlier_seconds: float = 0.0
    started: str = ""
    version: str = ""
    git_commit: str | None = None
    seed: int | None = None
    seeds: _Seeds = _Seeds()
    folds: dict[str, Any] | list[int] = Field(default_factory=list)
    score: RunScore | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a training.

    Attributes:
      path: from the folder that was searched.
      stage: localize or classify.
      finished: False for one that is still training or was interrupted.
      folds: trained ones; `of_folds` is how many the splits have.
      score: out of fold, with its 95% interval; None where it was not recorded.
      hours: of all calls together; None for an unfinished run.
      settings: what its config changes of the stage's default, by dotted key.
    """

    path: str
    stage: str
    finished: bool
    folds: int
    of_folds: int | None
    seed: int | None = None
    score: RunScore | None = None
    hours: float | None = None
    started: str = ""
    version: str = ""
    commit: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"score": None if self.score is None else self.score.model_dump()}


def find_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """The runs below a folder, best first within each stage, and what is wrong with others, one sentence each.

    Raises:
      InputError: when there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder in which your runs lie")
    runs, problems = [], []
    for place in _candidates(folder):
        try:
            found = _read(folder, place)
        except InputError as error:
            problems.append(f"not listed: {error}")
        else:
            runs += [] if found is None else [found]
    return sorted(runs, key=_order), problems


def _order(run: Run) -> tuple[bool, float, str]:
    """Localizers first; then better scores first, runs without one last."""
    if run.score is None:
        return (run.stage != "localize", float("inf"), run.path)
    better = run.score.value if run.score.lower_is_better else -run.score.value
    return (run.stage != "localize", better, run.path)


def _candidates(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        place = Path(here)
        if RUN_FILE in files or STATE_FILE in files:
            yield place
        deep = len(place.relative_to(folder).parts) >= _MOST_DEPTH
        folders[:] = [] if deep else sorted(f for f in folders if f not in _SKIPPED and not f.startswith("."))


def _read(root: Path, place: Path) -> Run | None:
    """The run in a folder; None for a finished output of another command. Raises `InputError` for a damaged one."""
    if (place / RUN_FILE).is_file():
        facts = read_document(place / RUN_FILE, _Facts)
        if facts.kind not in _CONFIGS:
            return None
        read_run(place, expected_kind=facts.kind)  # all that commands read back of it
        stage = facts.kind
    else:
        began = read_document(place / STATE_FILE, _Begun)
        if began.command or not began.config:
            return None  # a command over many studies
        facts, stage = None, "localize" if began.crops is None else "classify"
    splits = place / "splits.json"
    run = Run(
        path=place.relative_to(root).as_posix(), stage=stage, finished=facts is not None,
        folds=len(list(place.glob(f"fold[0-9]*/{_LAST_FILES[stage]}"))),
        of_folds=len(read_splits(splits).folds) if splits.is_file() else None,
        settings=_settings(_CONFIGS[stage], place / "config.toml"),
    )  # fmt: skip
    if facts is None:
        return run
    commit = facts.git_commit or ""
    return replace(
        run, folds=len(facts.folds), seed=facts.seeds.training if facts.seed is None else facts.seed, score=facts.score,
        hours=(facts.seconds + facts.earlier_seconds) / 3600, started=facts.started, version=facts.version,
        commit=commit[:7] + "+" * commit.endswith("+"),
    )  # fmt: skip


def _settings(config: type[Config], path: Path) -> dict[str, Any]:
    """What a run's config.toml changes of the default. The seed has a column of its own."""
    default = dict(_flat(config().model_dump(mode="json")))
    own = dict(_flat(config.load(path).model_dump(mode="json")))
    return {k: v for k, v in own.items() if v != default.get(k) and k.rpartition(".")[2] != "seed"}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def as_text(runs: Sequence[Run]) -> str:
    """A table per stage. Settings that all its runs share stand once, below it."""
    blocks = []
    for stage in _CONFIGS:
        of_stage = [run for run in runs if run.stage == stage]
        if of_stage:
            blocks.append(_block(stage, of_stage))
    return "\n\n".join(blocks)


def _block(stage: str, runs: Sequence[Run]) -> str:
    shared = {k: v for k, v in runs[0].settings.items() if all(r.settings.get(k) == v for r in runs)}
    rows = [_HEADER, *(_row(run, shared) for run in runs)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(_HEADER))]
    lines = ["  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    scored = next((run.score for run in runs if run.score is not None), None)
    if scored is not None:
        lines.append(f"score: {scored.of}; {'lower' if scored.lower_is_better else 'higher'} is better")
    if shared:
        whose = "all of them" if len(runs) > 1 else "settings"
        lines += textwrap.wrap(f"{whose}: {_pairs(shared)}", _WIDTH, subsequent_indent="  ", break_long_words=False)
    return "\n".join([f"{stage}: {counted(len(runs), 'run')}, settings as they differ from the default", *lines])


def _row(run: Run, shared: Mapping[str, Any]) -> tuple[str, ...]:
    score = run.score
    own = {k: v for k, v in run.settings.items() if k not in shared}
    return (
        run.path, "finished" if run.finished else "unfinished", f"{run.folds}/{run.of_folds or '?'}",
        "" if run.seed is None else str(run.seed), "" if score is None else f"{score.value:.4f}",
        "" if score is None else f"[{score.low:.4f}, {score.high:.4f}]",
        "" if run.hours is None else f"{run.hours:.2f}", run.commit, _pairs(own) or "-",
    )  # fmt: skip


def _pairs(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={json.dumps(value)}" for key, value in settings.items())


def as_json(runs: Sequence[Run], problems: Sequence[str]) -> str:
    """The same for programs, with all settings of each run."""
    listed = {"schema": "runs-1", "version": VERSION, "runs": [r.to_json() for r in runs], "problems": list(problems)}
    return json.dumps(listed, indent=2)


def write_table(path: Path, runs: Sequence[Run], *, overwrite: bool = False) -> None:
    """Writes all columns as CSV; raises `InputError` for a file that is there."""
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already; choose another name, or replace it with --overwrite")
    import pandas as pd

    from shared.runtime.files import write_csv

    rows = []
    for run in runs:
        values = {k: v for k, v in run.to_json().items() if k not in ("score", "settings")}
        score = {} if run.score is None else run.score.model_dump()
        names = ("of", "value", "low", "high", "studies")
        rows.append(values | {f"score_{name}": score.get(name) for name in names} | {"settings": _pairs(run.settings)})
    write_csv(path, pd.DataFrame(rows))
