"""A sound input: its files, which of them may be damaged, and how users read them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shared.runtime.errors import InputError

Kind = Literal["dicom", "folder", "archive", "table", "json", "toml", "run", "checkpoint"]
# "summed": JSON with a checksum of itself, which the damage makes good.
Form = Literal["dicom", "csv", "json", "summed", "toml", "zip", "tensors", "binary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """A sound input of one kind.

    Attributes:
      files: name below the case's folder -> content.
      targets: which of them are damaged, one or more in a case, and their form.
      read: reads the input in a folder as users would. Returns what it says about damaged parts beside sound ones;
        raises `InputError` where nothing can be read.
    """

    kind: Kind
    name: str
    files: Mapping[str, bytes]
    targets: Mapping[str, Form]
    read: Callable[[Path], Iterable[str]]

    def write(self, folder: Path, changed: Mapping[str, bytes]) -> None:
        """Writes the files into a folder, with the changed ones in their places."""
        for name, content in {**self.files, **changed}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def collected(calls: Sequence[Callable[[], Any]]) -> list[str]:
    """Makes every call; the messages of those that raise `InputError`."""
    said = []
    for call in calls:
        try:
            call()
        except InputError as error:
            said.append(str(error))
    return said
