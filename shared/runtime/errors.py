"""The one error that users can cause, bad input or data, and how every command reports it."""

import errno
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from shared.runtime.names import hidden

# Folders of temporary files -> what users know them as, and what joins that to the path below.
_SHOWN: Final[dict[str, tuple[str, str]]] = {}

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# How long blocks may take to be left after a signal.
_ENDING_SECONDS: Final = 10
# The folder that the command writes to, once it is known.
_SHOWN_OUTPUT: Final[list[str]] = []

# What stands between slashes and blanks and is longer than any name of a file.
_NO_NAME: Final = re.compile(r"[^\s/]{256,}")
# Two paths of any usual length and some lines of text.
_LONGEST_MESSAGE: Final = 2000


def show_as(path: Path, name: str, *, join: str = "/") -> None:
    """Messages of this process name `path` as `name` from now on, and what lies below it `name<join>member`."""
    _SHOWN[str(path)] = name, join


def shown(text: str) -> str:
    """A message with temporary paths named as users know them, and the files of data sets under masked names."""
    text = hidden(text)
    for path, (name, join) in _SHOWN.items():
        if path in text:
            text = text.replace(f"{path}/", f"{name}{join}").replace(path, name)
    return text


def printable(text: str) -> str:
    """One line that any terminal takes: foreign names may hold newlines, escape sequences, or no text at all."""
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text)


def _shortened(text: str) -> str:
    """The message without the bulk of what it quotes. Names of files are shorter than what is cut here."""
    text = _NO_NAME.sub(lambda found: f"{found[0][:40]}...", text)
    if len(text) <= _LONGEST_MESSAGE:
        return text
    return f"{text[: _LONGEST_MESSAGE // 2]} ... {text[-_LONGEST_MESSAGE // 2 :]}"


class InputError(Exception):
    """Bad input or data. The message says what is wrong and where, what was expected and found, and what to do next.

    The command line prints it as one line and exits with 1.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_shortened(printable(shown(message))))


def quoted(value: object, *, marks: bool = True, most: int = 40) -> str:
    """The beginning of a foreign value, for a message; `marks` puts texts into quotation marks."""
    try:
        text = str(value)
    except ValueError:  # a whole number of more digits than Python prints
        return "a very long number"
    text = text if len(text) <= most else f"{text[: most - 3]}..."
    return repr(text) if marks and isinstance(value, str) else printable(text)


def first_line(error: BaseException) -> str:
    """The beginning of a foreign error's message, for one of ours; some run over pages, some say nothing."""
    return str(error).splitlines()[0][:160] if str(error) else "no message"


class Ended(KeyboardInterrupt):
    """The system asked this process to end; `number` is the signal."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def exit_code(command: Callable[[], int], *, resumable: bool = False, spread: bool = True) -> int:
    """Runs a command; bad input becomes one line on standard error and exit code 1.

    SIGTERM and SIGHUP end the command as Ctrl-C does, with exit codes 143 and 129: blocks are left in order, so
    temporary files and worker processes go.

    `resumable`: the command has --resume, so an interrupted run mentions it. `spread`: likewise --workers.
    """
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # paths need not be text in the terminal's encoding
            stream.reconfigure(errors="backslashreplace")
    fewer = ", or use fewer --workers" if spread else ""
    kept = "; finished parts are kept, go on with --resume" if resumable else ""
    try:
        with _ending_in_order():
            return command()
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except BrokenPipeError:  # the reader of our output has gone, as in `lumbar info | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        sys.stderr.write(f"error: {_told(error, kept)}\n")
        return 1
    except (MemoryError, ImportError, RuntimeError) as error:
        if not _lacks_memory(error):
            raise
        sys.stderr.write(f"error: this process got no more memory{kept}; give it more{fewer}\n")
        return 1
    except Ended as ended:
        sys.stderr.write(f"terminated{kept}\n")
        return 128 + ended.number
    except KeyboardInterrupt:
        sys.stderr.write(f"interrupted{kept}\n")
        return 130


def _open_standard_streams() -> None:
    """Gives a process that was started without standard streams (`2>&-`) silent ones.

    The next files that are opened would take their numbers, and what children and libraries print would go into them.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, this one
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Turns the signals that ask for an end into `Ended`. A second one ends the process at once.

    So does the alarm, where a library swallowed the exception or the end itself does not come to an end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # A signal that is ignored stays so: `nohup` means it.
    asked = [s for s in (getattr(signal, name) for name in names) if signal.getsignal(s) is signal.SIG_DFL]

    def end(number: int, _frame: object) -> None:
        for each in asked:
            signal.signal(each, signal.SIG_DFL)
        if hasattr(signal, "alarm"):
            signal.alarm(_ENDING_SECONDS)
        raise Ended(number)

    for each in asked:
        signal.signal(each, end)
    try:
        yield
    finally:
        for each in asked:
            signal.signal(each, signal.SIG_DFL)


def writing_to(folder: Path) -> None:
    """Messages about writes that failed without naming a file name this folder from now on."""
    _SHOWN_OUTPUT[:] = [str(folder)]


def _told(error: OSError, kept: str) -> str:
    """The message of an error of the system. A write to a full disk does not say which file it was for."""
    place = error.filename if error.filename is not None else next(iter(_SHOWN_OUTPUT), "system")
    text = f"{printable(shown(os.fsdecode(place) if isinstance(place, bytes) else str(place)))}: "
    full = disk_full(error)
    if not full:
        return text + (error.strerror or first_line(error))
    return f"{text}{full}; free some space, or choose a folder on another disk{kept}"


def disk_full(error: OSError) -> str:
    """The system's words for a disk that takes no more; empty for any other error."""
    # Libraries raise errors of their own from those of the system, with their words.
    return next((os.strerror(n) for n in _FULL if error.errno == n or os.strerror(n) in str(error)), "")


def _lacks_memory(error: BaseException) -> bool:
    """Whether memory was refused: by Python, by torch, to a new thread, or to a library that was to be loaded."""
    text = str(error)
    return isinstance(error, MemoryError) or any(
        words in text
        for words in ("allocate memory", "can't start new thread", "failed to map segment", "bad allocation")
    )
