"""The one error a user may cause: bad input or data."""


class InputError(Exception):
    """Bad input or data; the message says what, where, expected, got and the next step.

    The command line prints it as one line and exits with 1.
    """
