"""The one error that users can cause, bad input or data, and how every command reports it."""

import os
import sys
from collections.abc import Callable


class InputError(Exception):
    """Bad input or data. The message says what is wrong and where, what was expected and found, and what to do next.

    The command line prints it as one line and exits with 1.
    """


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
        sys.stderr.write(f"error: {error.filename or 'system'}: {error.strerror or error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted" + ("; finished parts are kept, go on with --resume\n" if resumable else "\n"))
        return 130
