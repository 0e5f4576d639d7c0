"""Run folders: what a run records about itself, who may resume it, and which of its folds are finished.

RUN/state.json   what a resumed run must agree with; written when the run begins
RUN/fold<K>/     one fold; finished when it holds the file that the stage writes last
RUN/fast/        one network made of all folds of stage 2, on request
RUN/run.json     version, git commit, data fingerprint, seeds, device, times; written last
"""

import hashlib
import json
import platform
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field

from shared.runtime.documents import Document, OpenDocument, fitted, json_text, parsed, read_document
from shared.runtime.errors import InputError, quoted
from shared.runtime.files import sweep_temporary, write_json
from shared.runtime.ownership import claim, is_empty

RUN_FILE: Final = "run.json"
STATE_FILE: Final = "state.json"
FAST_FOLDER: Final = "fast"
_AGAIN: Final = "restore the file or train again"

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
NonNegative = Annotated[float, Field(ge=0)]
_FoldName = Annotated[str, Field(pattern="^(0|[1-9][0-9]{0,3})$")]


class RunFacts(OpenDocument):
    """What commands read back of any run.json. The rest of it is for people, and differs between versions."""

    kind: str
    started: str = ""
    seconds: NonNegative = 0.0
    earlier_seconds: NonNegative = 0.0


class RunScore(Document):
    """How well a training did on the studies that its folds held out, with a 95% interval over studies."""

    of: str
    lower_is_better: bool
    value: float
    low: float
    high: float
    studies: int


class _TrainedRun(RunFacts):
    """What both stages record; runs of 0.1.0 do not name `unmirror`."""

    data_fingerprint: Annotated[str, Field(min_length=1)]
    unmirror: bool = True
    device: str = ""
    problems: list[str] = Field(default_factory=list)
    score: RunScore | None = None


class _FoldModels(Document):
    """The SHA-256 of a fold's detectors, by view."""

    models: dict[str, Digest]


class _LocalizeRun(_TrainedRun):
    folds: dict[_FoldName, _FoldModels]
    localizations_sha256: Digest = ""


class FastRecord(Document):
    """What a run records of the fast grader that was made of its folds: when, how long it took, and its digest."""

    started: str
    seconds: NonNegative
    folds: list[Annotated[int, Field(ge=0, lt=10000)]]
    device: str
    sha256: Digest


class _ClassifyRun(_TrainedRun):
    folds: list[Annotated[int, Field(ge=0, lt=10000)]]
    points: str = ""
    fast: FastRecord | None = None


class _LocalizePrediction(RunFacts):
    """What `lumbar localize predict` records of its points: of which data, from which detectors.

    The fingerprint of DICOM files without tables is empty.
    """

    data_fingerprint: str
    trained_on: Annotated[str, Field(min_length=1)]
    shipped: bool
    unmirror: bool
    localizations_sha256: Digest


PREDICTED_POINTS: Final = "localize-prediction"
# The kinds of all folders in which a command writes run.json.
_KINDS: Final = ("localize", "classify", PREDICTED_POINTS, "classify-prediction", "predict", "demo")
_SCHEMAS: Final[dict[str, type[RunFacts]]] = {
    "localize": _LocalizeRun, "classify": _ClassifyRun, PREDICTED_POINTS: _LocalizePrediction,
}  # fmt: skip


def package_version() -> str:
    try:
        return metadata.version("lumbar-severity")
    except metadata.PackageNotFoundError:  # run from a source tree that was never installed
        return "unknown"


def git_commit() -> str | None:
    """Commit of the source tree, with `+` for uncommitted changes; None outside a checkout."""
    here = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=here, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes; raises `InputError` when it cannot be read."""
    try:
        if not path.is_file() and path.exists():  # a pipe would block
            raise InputError(f"{path}: is no regular file")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def trained_digest(run: Path, *, fast: bool = False) -> str:
    """Hex digest of everything in a run's folder that decides what its models answer: config, splits and all folds.

    Unlike the digest of run.json, it stays the same where a finished run is resumed.

    Args:
      fast: the digest of the run's fast grader instead, which answers in place of the folds.

    Raises:
      InputError: when a file cannot be read.
    """
    folds = [run / "config.toml", run / "splits.json", *sorted(run.glob("fold*/[!.]*"))]
    files = sorted((run / FAST_FOLDER).glob("model.*")) if fast else folds
    digests = [(path.relative_to(run).as_posix(), sha256_of(path)) for path in files if path.is_file()]
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def utc(seconds: float) -> str:
    """A moment as run.json writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def write_run(folder: Path, *, command: str, started: float, **facts: Any) -> None:
    """Writes run.json: command, version, commit, Python, machine type, times, and the given facts.

    Its schema is named after the kind of the run, which is among the facts.
    """
    write_json(
        folder / RUN_FILE,
        {
            "schema": f"run-{facts['kind']}-1",
            "command": command,
            "version": package_version(),
            "git_commit": git_commit(),
            "python": platform.python_version(),
            "machine": platform.machine(),
            "started": utc(started),
            "seconds": round(time.time() - started, 1),
            **facts,
        },
    )


def read_run(folder: Path, *, expected_kind: str, or_kind: str | None = None) -> Mapping[str, Any]:
    """Reads run.json of a finished run.

    Args:
      or_kind: another kind that will do.

    Raises:
      InputError: when the folder is missing or empty, or the run is unfinished or of another kind.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        raise InputError(f"{folder}: {_no_run(folder, expected_kind)}")
    text = json_text(path, advice=_AGAIN)
    run: Mapping[str, Any] = parsed(path, text, advice=_AGAIN)
    kind = fitted(path, text, RunFacts, advice=_AGAIN).kind
    if kind not in (expected_kind, or_kind):
        raise InputError(f"{folder}: {_other_run(folder, expected_kind, kind)}")
    fitted(path, text, _SCHEMAS.get(kind, RunFacts), advice=_AGAIN)
    return run


def _no_run(folder: Path, kind: str) -> str:
    """What a path is that is no finished run, and what to give in its place."""
    wanted = f"expected the run folder of a finished `lumbar {kind} train`"
    if not folder.exists():
        return f"no such run folder; {wanted}"
    if not folder.is_dir():
        beside = folder.parent if (folder.parent / RUN_FILE).is_file() else None
        return f"is a file; {wanted}" + (f", perhaps {beside}" if beside else "")
    if re.fullmatch(rf"fold\d+|{FAST_FOLDER}", folder.name) and (folder.parent / STATE_FILE).is_file():
        part = "the fast grader" if folder.name == FAST_FOLDER else "one fold"
        return f"is {part} of a run; give the run itself, {folder.parent}"
    inner = _below(folder, kind)
    if inner is not None:
        return f"is no run; {wanted}, perhaps {inner}"
    if (folder / "config.toml").is_file() and (folder / STATE_FILE).is_file():
        return f"is an unfinished run; continue it with `lumbar {kind} train DATA {folder} --resume`"
    return f"is {'an empty folder' if is_empty(folder) else f'no run (it holds no {RUN_FILE})'}; {wanted}"


def _other_run(folder: Path, expected_kind: str, kind: str) -> str:
    """What another command's folder is, and what to give in its place."""
    made = {"localize": "localize train", "classify": "classify train", PREDICTED_POINTS: "localize predict",
            "classify-prediction": "classify predict"}  # fmt: skip
    what = f"is what `lumbar {made.get(kind, kind)}` wrote" if kind in _KINDS else f"is a run of kind {quoted(kind)}"
    inner = _below(folder, expected_kind)
    return f"{what}; expected the run folder of `lumbar {expected_kind} train`" + (
        f", perhaps {inner}" if inner else ""
    )


def _below(folder: Path, kind: str) -> Path | None:
    """Where a demo keeps the run of a stage."""
    inner = folder / {"localize": "localizer", "classify": "classifier"}.get(kind, kind)
    return inner if (inner / RUN_FILE).is_file() else None


def trained_folds(run: Path, facts: Mapping[str, Any]) -> list[int]:
    """The folds that a run's run.json names, ascending; raises `InputError` when it names none."""
    if not facts["folds"]:
        raise InputError(f"{run / RUN_FILE}: folds: expected at least one trained fold; {_AGAIN}")
    return sorted(int(k) for k in facts["folds"])


def claim_folder(folder: Path, state: Mapping[str, Any], *, command: str, resume: bool) -> Mapping[str, Any]:
    """Writes state.json into a folder, or checks that the folder to be resumed was begun with the same state.

    Args:
      state: JSON-ready values by the name under which a refusal mentions them.
      command: its words on the command line, for messages.

    Returns:
      The stored state, which may hold more.

    Raises:
      InputError: when the state differs, or the folder to be resumed holds something else.
    """
    path, wanted = folder / STATE_FILE, json.loads(json.dumps(state))  # tuples and int keys do not survive JSON
    if resume and path.is_file():
        stored = read_document(path, dict[str, Any], advice="use --overwrite or another folder")
        differing = [name for name, value in wanted.items() if stored.get(name) != value]
        if differing:
            raise InputError(
                f"{folder}: cannot resume, {' and '.join(differing)} changed since the run began; pass --overwrite or "
                "choose another folder"
            )
        return stored
    if resume and not is_empty(folder):
        raise InputError(f"{folder}: cannot resume, this is not a run of `lumbar {command}`; choose another folder")
    write_json(path, wanted)
    return dict(wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """The folder of one training run of a stage.

    Attributes:
      path: the folder itself.
      kind: `localize` or `classify`.
      last_file: the file that is written last in a fold's folder; a fold that has it is finished.
    """

    path: Path
    kind: str
    last_file: str

    def claim(self, state: Mapping[str, Any], *, resume: bool) -> None:
        """Records the state that defines the run, or checks that the run to be resumed has the same state.

        Args:
          state: JSON-ready values by name.

        Raises:
          InputError: when the state differs, or the folder to be resumed holds something else.
        """
        claim_folder(self.path, state, command=f"{self.kind} train", resume=resume)
        if resume:  # other processes may be writing to their folds
            sweep_temporary(self.path, below=False)

    def fold(self, k: int) -> Path:
        """The folder of fold `k`."""
        return self.path / f"fold{k}"

    def claim_fold(self, k: int) -> None:
        """Locks a fold that is about to be trained, and deletes what a killed process left unfinished in it.

        Raises:
          InputError: when another process trains it.
        """
        claim(self.fold(k))
        sweep_temporary(self.fold(k))

    def finished_folds(self) -> list[int]:
        """Folds that have finished training, ascending. Another process may finish more at any time."""
        found = self.path.glob(f"fold[0-9]*/{self.last_file}")
        return sorted(int(path.parent.name.removeprefix("fold")) for path in found)

    def facts(self) -> Mapping[str, Any]:
        """Reads run.json of the finished run; raises `InputError` as `read_run` does."""
        return read_run(self.path, expected_kind=self.kind)

    def record(self, *, started: float, **facts: Any) -> None:
        """Writes run.json, which finishes the run; `earlier_seconds` sums up earlier calls on the same run."""
        earlier = self.facts() if (self.path / RUN_FILE).is_file() else {}
        again = earlier.get("started") == utc(started)  # this same call has already recorded the run
        before = earlier.get("earlier_seconds", 0.0) + (0.0 if again else earlier.get("seconds", 0.0))
        write_run(
            self.path, command=f"{self.kind} train", started=started, kind=self.kind,
            earlier_seconds=round(before, 1), **facts,
        )  # fmt: skip
