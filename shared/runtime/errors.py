"""The one error that users can cause, bad input or data, and how every command reports it."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from shared.runtime.names import hidden

# Folders of temporary files -> what users know them as, and what joins that to the path below.
_SHOWN: Final[dict[str, tuple[str, str]]] = {}

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
    """Text that any terminal and file takes: names of foreign files may hold escape sequences, or no text at all."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


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


def exit_code(command: Callable[[], int], *, resumable: bool = False) -> int:
    """Runs a command; bad input becomes one line on standard error and exit code 1.

    `resumable`: the command has --resume, so an interrupted run mentions it.
    """
    try:
        return command()
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except BrokenPipeError:  # the reader of our output has gone, as in `lumbar info | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        sys.stderr.write(f"error: {shown(str(error.filename or 'system'))}: {error.strerror or type(error).__name__}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted" + ("; finished parts are kept, go on with --resume\n" if resumable else "\n"))
        return 130
