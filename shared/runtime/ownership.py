"""Which output folders are ours, what in them is ours, and which process writes to one: the marker `.lumbar`.

A command marks a folder the moment it creates one or takes an empty one, so a killed run leaves a marked folder too.
The marker stays when the folder is emptied, and is the file that a writing process locks; the lock ends with the
process. Folders that versions before 0.2.0 have finished carry no marker; the content of their JSON tells them.
"""

import os
import re
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Final

from shared.runtime.errors import InputError, quoted, writing_to

MARKER: Final = ".lumbar"
_FIRST_WORDS: Final = b"lumbar-severity output folder"
_TEXT: Final = (
    _FIRST_WORDS + b"\nA command of lumbar made this folder. With --overwrite it deletes what such commands write.\n"
)

# The name of a file or folder that `shared.runtime.files.written_beside` has not finished, with its process.
UNFINISHED_NAME: Final = re.compile(r"\..+\.([0-9]{1,9})\.tmp", re.DOTALL)
# Our markers and locks, unfinished files, and what file managers and network disks leave behind.
_LEFT_BEHIND: Final = re.compile(
    rf"\.lumbar|lock|{UNFINISHED_NAME.pattern}|\.partial-[0-9]+|\.DS_Store|Thumbs\.db|desktop\.ini|\._.*|\.nfs[0-9a-f]+",
    re.DOTALL,
)
# Everything that a command of ours writes directly into an output folder. Whatever else lies there was put there by
# somebody, and is never deleted. DOTALL, because a file's name may hold newlines.
_OUR_NAMES: Final = re.compile(
    rf"{_LEFT_BEHIND.pattern}"
    r"|(run|state|store|report|errors|splits|demo|steps|weights|export)\.json|(report|index)\.html|config\.toml"
    r"|(submission|probabilities|localizations|detections|numbering|findings|failures|noisy_labels|out_of_fold|log)\.csv"
    r"|(train|test|sample)[a-z_]*\.csv|shard\.jsonl"
    r"|studies|dicom|answers|data|truth|localizer|classifier|prediction|reports|fold[0-9]+|fast|work|cache|png|unfinished"
    r"|tracking|export",
    re.DOTALL,
)
# What commands of ours write within their own folders, by its path from the output folder. The names of those folders
# are common ones, and a user may keep a thesis under `data` or `reports`.
_OUR_PATHS: Final = re.compile(
    r"((localizer|classifier|prediction|reports/(localize|classify|evaluation))/)?("
    rf"({_OUR_NAMES.pattern})"
    r"|studies/([a-z]+/)?[^/]+\.(json|html|u8)|dicom/[^/]+/[^/]+\.dcm|answers/.+"
    r"|data/([^/]+\.csv|(train|test)_images/.+)|truth/[^/]+\.(csv|json)|reports/([^/]+\.json|index\.html)"
    r"|(export/)?(export\.json|(fold[0-9]+|fast)/[^/]+\.onnx)"
    r"|(fold[0-9]+|fast)/([^/]+\.(safetensors|pt|json|csv)|progress/.+)|work/fold[0-9]+/.+"
    r"|cache/(.+/)?[^/]+\.(json|jsonl|npy)|png/.+\.(png|json)|unfinished/[a-z]+/.+|tracking/(tensorboard|mlflow)/.+"
    r")",
    re.DOTALL,
)
# Keys that mark the JSON files of earlier versions as ours. A user's own run.json has other ones.
_EARLIER: Final[tuple[tuple[str, frozenset[str]], ...]] = (
    ("run.json", frozenset({"command", "version", "git_commit", "python", "machine", "started"})),
    ("store.json", frozenset({"checksum", "format", "reader", "records"})),
    ("state.json", frozenset({"config", "splits", "data"})),
    ("state.json", frozenset({"config", "splits", "crops"})),
    ("demo.json", frozenset({"studies", "test_studies", "preset", "seed", "fold"})),
    ("report.json", frozenset({"about", "findings", "codes", "exploration"})),
    ("report.json", frozenset({"comparison", "detail_of", "details"})),
    ("report.json", frozenset({"distance", "by_view", "by_level", "level_confusion"})),
    ("report.json", frozenset({"graded_rows", "prior_rows", "comparison", "fold_spread"})),
    ("truth/manifest.json", frozenset({"seed", "preset", "parameters", "summaries"})),
)

NOT_OURS: Final = (
    "is not empty and no command of lumbar made it, so --overwrite deletes nothing in it; choose another folder"
)
NOT_EMPTY: Final = "is not empty; choose another folder, or replace what is there with --overwrite"
NOT_RESUMABLE: Final = (
    "is not empty and no command of lumbar made it, so nothing in it can be resumed; choose another folder"
)

# Without following a link, where the system can.
_OPEN: Final = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
# Locks of this process: the folder and the open marker.
_HELD: Final[dict[Path, int]] = {}
_TAKEN: ContextVar[list[Path] | None] = ContextVar("_TAKEN", default=None)


def is_ours(folder: Path) -> bool:
    """Whether a command of ours made the folder: it carries the marker, or an earlier version finished it."""
    return _is_marker(folder / MARKER) or any(_has_keys(folder, name, keys) for name, keys in _EARLIER)


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing, or only our marker and what is left of files that were never finished."""
    names = {path.name for path in folder.iterdir()}
    return not names or (
        _is_marker(folder / MARKER) and all(n == MARKER or UNFINISHED_NAME.fullmatch(n) for n in names)
    )


def foreign_entries(folder: Path) -> list[str]:
    """What lies in a folder and no command of ours writes, sorted: names directly in it, and paths of files below."""
    foreign = [path.name for path in folder.iterdir() if not _OUR_NAMES.fullmatch(path.name)]
    for here, _, names in os.walk(folder):
        below = Path(here).relative_to(folder)
        if below.parts and below.parts[0] not in foreign:
            paths = ((below / name).as_posix() for name in names)
            foreign += [path for path in paths if not _is_our_file(path) and not (folder / path).is_symlink()]
    return sorted(foreign)


def foreign_keys(keys: Collection[str]) -> list[str]:
    """The same of an output folder in an object store, which knows no folders: of the keys of its objects."""
    tops = {key.partition("/")[0] for key in keys}
    foreign = {top for top in tops if not _OUR_NAMES.fullmatch(top)}
    below = (key for key in keys if "/" in key and key.partition("/")[0] not in foreign)
    return sorted(foreign | {key for key in below if not _is_our_file(key)})


def _is_our_file(path: str) -> bool:
    return bool(_LEFT_BEHIND.fullmatch(path.rpartition("/")[2]) or _OUR_PATHS.fullmatch(path))


def claim(folder: Path, *, shared: bool = False) -> None:
    """Creates and marks a folder, and locks it until the end of `outputs_released` or of this process.

    A process that holds the lock may claim the folder again, and turn an exclusive lock into a shared one.

    Args:
      shared: several processes may hold the lock at once, but none that wants it alone.

    Raises:
      InputError: when another process holds it.
    """
    writing_to(folder)
    folder.mkdir(parents=True, exist_ok=True)
    place = folder.resolve()
    marker = _HELD.get(place)
    if marker is None:
        marker = os.open(place / MARKER, _OPEN, 0o644)
        try:
            _take_or_raise(marker, folder, shared=shared)
        except BaseException:
            os.close(marker)
            raise
        _HELD[place] = marker
        taken = _TAKEN.get()
        if taken is not None:
            taken.append(place)
    elif shared:
        _take_or_raise(marker, folder, shared=True)
    if os.fstat(marker).st_size == 0:
        os.write(marker, _TEXT)


@contextmanager
def outputs_released() -> Iterator[None]:
    """Releases at the end of the block, or of the function that this decorates, the folders that it has claimed."""
    taken: list[Path] = []
    before = _TAKEN.set(taken)
    try:
        yield
    finally:
        _TAKEN.reset(before)
        for place in taken:
            os.close(_HELD.pop(place))


def _take_or_raise(marker: int, folder: Path, *, shared: bool) -> None:
    if not take_lock(marker, folder, shared=shared):
        raise InputError(f"{folder}: another process is writing to this folder; wait for it, or choose another folder")


def take_lock(file: int, path: Path, *, shared: bool = False, wait: bool = False) -> bool:
    """Locks an open file until it is closed.

    Args:
      file: its descriptor.
      path: what a warning names where there are no locks.
      wait: until no other process holds the lock.

    Returns:
      False if another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # a system without such locks
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        from shared.runtime.progress import log

        log(f"warning: {path}: cannot be locked ({error.strerror}); let only one process write to it at a time")
    return True


def _is_marker(path: Path) -> bool:
    """Whether a path is our marker; one that a kill left empty is."""
    if path.name != MARKER:
        return False
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            return False
        with path.open("rb") as file:
            return is_marker_text(file.read(len(_FIRST_WORDS)))
    except OSError:
        return False


def is_marker_text(beginning: bytes) -> bool:
    """Whether a marker begins like that; one that a kill left empty is one, too."""
    return not beginning or beginning.startswith(_FIRST_WORDS)


def _has_keys(folder: Path, name: str, keys: frozenset[str]) -> bool:
    path = folder / name
    if any(p.is_symlink() for p in (path, path.parent)) or not path.is_file():
        return False
    from shared.runtime.documents import read_json

    try:
        found = read_json(path)
    except InputError:
        return False
    return isinstance(found, dict) and keys <= found.keys()


def refusal(folder: Path) -> str | None:
    """Why a folder that is not empty must not be emptied, or None if it may be."""
    return refusal_of(foreign_entries(folder)) if is_ours(folder) else NOT_OURS


def refusal_of(foreign: Sequence[str]) -> str | None:
    """The same of a folder of ours that holds these foreign entries."""
    if foreign:
        more = f" and {len(foreign) - 1} more that no command of lumbar wrote" if len(foreign) > 1 else ""
        return (
            f"holds {quoted(foreign[0])}{more or ', which no command of lumbar wrote'}, and --overwrite deletes only "
            "what is ours; move it away, or choose another folder"
        )
    return None
