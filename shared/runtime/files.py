"""Reads and writes files and output folders: nothing half-written, nothing overwritten by accident."""

import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from shared.runtime.errors import InputError
from shared.runtime.ownership import (
    MARKER,
    NOT_EMPTY,
    NOT_RESUMABLE,
    UNFINISHED_NAME,
    claim,
    is_empty,
    is_ours,
    refusal,
)

if TYPE_CHECKING:
    import pandas as pd


# What stays free on a disk.
_SPARE_BYTES: Final = 2**30


def room_bytes(folder: Path) -> int:
    """How much may be written to the disk of a folder: a GiB stays free, or half of what is free if that is less."""
    free = shutil.disk_usage(folder).free
    return free - min(_SPARE_BYTES, free // 2)


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` and renames it over `path` if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        remove(temporary)


def sweep_temporary(folder: Path, *, below: bool = True) -> None:
    """Deletes what processes that were killed left of `written_beside` in a folder, and `below` it.

    Processes of other machines, or of other containers, look as if they were not running: only sweep what is locked.
    """
    for path in list(folder.rglob(".*.tmp") if below else folder.glob(".*.tmp")):
        found = UNFINISHED_NAME.fullmatch(path.name)
        if found and not _is_running(int(found[1])):
            remove(path)


def _is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked about yet does not."""
    try:
        os.kill(pid, 0)
        with suppress(OSError):  # a system without /proc
            return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # of another user, or no number of a process
        return True
    return True


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
    path: Path, *, overwrite: bool = False, resume: bool = False, inputs: Iterable[Path | None] = (),
    shared: bool = False,
) -> Path:  # fmt: skip
    """Creates, marks and locks an output folder; `overwrite` empties one of ours, `resume` keeps its content.

    The lock lasts until the end of `shared.runtime.ownership.outputs_released`, or of this process.

    Args:
      shared: several processes may write to the folder side by side, as training does, once it is prepared.

    Raises:
      InputError: as `check_output` does, and when another process writes to the folder.
    """
    given = list(inputs)
    check_output(path, overwrite=overwrite, resume=resume, inputs=given)
    claim(path, shared=shared and resume)
    check_output(path, overwrite=overwrite, resume=resume, inputs=given)  # now that nobody else changes it
    if not resume:
        empty_folder(path)
    claim(path, shared=shared)
    return path


def check_output(
    path: Path, *, overwrite: bool = False, resume: bool = False, inputs: Iterable[Path | None] = ()
) -> None:
    """Makes the checks of `prepare_output` and changes nothing, so that a long command can check first.

    Raises:
      InputError: when the folder is not empty and neither flag is given, or it is not ours or holds something that is
        not ours; when it is a file or a link; when emptying it would delete one of `inputs`, the working directory or
        the home directory; or when it lies among the images of one of `inputs`.
    """
    given = [kept for kept in inputs if kept is not None]
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise InputError(f"{path}: is a file or a link; expected a folder to write to")
    for kept in given:
        _check_outside_images(path, kept)
    if overwrite:
        for kept in (*given, Path.cwd(), *_home()):
            if kept.resolve().is_relative_to(path.resolve()):
                raise InputError(f"{path}: --overwrite would delete {kept}; choose another folder")
    if not path.is_dir() or is_empty(path):
        return
    if resume:
        if not is_ours(path):
            raise InputError(f"{path}: {NOT_RESUMABLE}")
        return
    reason = refusal(path)
    if reason is not None:
        raise InputError(f"{path}: {reason}")
    if not overwrite:
        raise InputError(f"{path}: {NOT_EMPTY}")


def _check_outside_images(path: Path, given: Path) -> None:
    """Refuses an output folder among the images of a challenge directory, where every folder is a study."""
    within, data = path.resolve(), given.resolve()
    for folder in (data / "train_images", data / "test_images"):
        if within.is_relative_to(folder) and folder.is_dir():
            raise InputError(f"{path}: lies among the images of {given}; choose another folder")


def _home() -> list[Path]:
    try:
        return [Path.home()]
    except RuntimeError:  # a user without a home
        return []


def remove(path: Path) -> None:
    """Deletes a file or a folder, if it is there; a link itself, never what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def empty_folder(path: Path, *, keep: Collection[str] = ()) -> None:
    """Deletes the content of a folder except our marker and the names to keep; does nothing without such a folder."""
    for entry in list(path.iterdir()) if path.is_dir() else ():
        if entry.name not in keep and entry.name != MARKER:
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
