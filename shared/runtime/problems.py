"""Messages on what of a study could not be used: a fault of many slices fills one line."""

import re
from collections.abc import Sequence
from typing import Final

# So many messages of one place are given one by one.
_EACH: Final = 2


def folded(where: str, errors: Sequence[object], what: str) -> list[str]:
    """A message for each error, or one for all if there are more than two.

    Args:
      where: what the messages begin with, for example "study 1 series 2".
      errors: what is wrong, in the order of the slices.
      what: follows the number of errors, for example "of 15 slices cannot be read".
    """
    if len(errors) <= _EACH:
        return [f"{where}: {error}" for error in errors]
    return [f"{where}: {len(errors)} {what}, first: {errors[0]}"]


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number with its noun: "1 study", "2 studies", "1 series", "0 boxes"."""
    return f"{count} {noun if count == 1 else plural or _plural(noun)}"


def _plural(noun: str) -> str:
    if noun.endswith("series"):
        return noun
    if re.search(r"[^aeiou]y$", noun):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if re.search(r"(s|x|ch|sh)$", noun) else f"{noun}s"
