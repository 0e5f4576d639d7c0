"""Reads and writes files and output folders: nothing half-written, nothing overwritten by accident."""

import json
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from shared.runtime.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

# The name of a file or folder that `written_beside` has not finished.
_TEMPORARY: Final = re.compile(r"\..+\.([0-9]{1,9})\.tmp", re.DOTALL)
# Every folder that one of our commands has finished holds one of these.
_OURS: Final = ("run.json", "store.json", "report.json")


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` and renames it over `path` if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        remove(temporary)


def sweep_temporary(folder: Path) -> None:
    """Deletes what processes that were killed left of `written_beside` below a folder."""
    for path in list(folder.rglob(".*.tmp")):
        found = _TEMPORARY.fullmatch(path.name)
        if found and not _is_running(int(found[1])):
            remove(path)


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing, or only what is left of a file that was never finished."""
    return all(_TEMPORARY.fullmatch(path.name) for path in folder.iterdir())


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # of another user, or no number of a process
        return True
    return True


def remove(path: Path) -> None:
    """Deletes a file or a folder, if it is there; a link itself, never what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with written_beside(path) as temporary:
        # Names of files need not be text in any encoding.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Writes JSON with keys in their order; raises ValueError for NaN, which JSON does not have."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Writes CSV without index, with floats to 9 significant digits; equal tables give equal bytes."""
    with written_beside(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.9g", lineterminator="\n")


def prepare_output(
    path: Path, *, overwrite: bool = False, resume: bool = False, inputs: Iterable[Path | None] = ()
) -> Path:
    """Creates an output folder. Refuses one that is not empty; `overwrite` empties it, `resume` keeps it.

    Raises:
      InputError: as `check_output` does.
    """
    check_output(path, overwrite=overwrite, resume=resume, inputs=inputs)
    if not resume:
        empty_folder(path)
    path.mkdir(parents=True, exist_ok=True)
    return path


def check_output(
    path: Path, *, overwrite: bool = False, resume: bool = False, inputs: Iterable[Path | None] = ()
) -> None:
    """Makes the checks of `prepare_output` and changes nothing, so that a long command can check first.

    Raises:
      InputError: when the folder is not empty and neither flag is given; when it is a file or a link; when emptying it
        would delete one of `inputs`, the working directory or the home directory; or when it lies in one of `inputs`
        and none of our commands wrote it.
    """
    given = [kept for kept in inputs if kept is not None]
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise InputError(f"{path}: is a file or a link; expected a folder to write to")
    if overwrite:
        for kept in (*given, Path.cwd(), *_home()):
            if kept.resolve().is_relative_to(path.resolve()):
                raise InputError(f"{path}: --overwrite would delete {kept}; choose another folder")
    if not path.is_dir() or not any(path.iterdir()) or resume:
        return
    if not overwrite:
        raise InputError(f"{path}: is not empty; choose another folder, or pass --overwrite or --resume")
    around = [kept for kept in given if path.resolve().is_relative_to(kept.resolve())]
    if around and not any((path / name).is_file() for name in _OURS):
        raise InputError(
            f"{path}: --overwrite would delete a part of {around[0]}, and the folder holds none of {', '.join(_OURS)}, "
            "so no command of lumbar wrote it; choose another folder"
        )


def _home() -> list[Path]:
    try:
        return [Path.home()]
    except RuntimeError:  # a user without a home
        return []


def empty_folder(path: Path, *, keep: Collection[str] = ()) -> None:
    """Deletes the content of a folder except the names to keep; does nothing without such a folder."""
    for entry in list(path.iterdir()) if path.is_dir() else ():
        if entry.name not in keep:
            remove(entry)


def inside(folder: Path, name: str) -> Path:
    """`folder / name`, where `name` comes from data.

    Raises:
      InputError: when the result would leave the folder.
    """
    target = (folder / name).resolve()
    if not target.is_relative_to(folder.resolve()) or target == folder.resolve():
        raise InputError(
            f"unsafe name {name!r}: it points outside its folder; expected a plain identifier without / or .."
        )
    return target
