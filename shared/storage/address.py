"""Addresses of object stores, as the command line takes them. Light to import: fsspec is not loaded here."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from shared.runtime.errors import InputError, quoted

_FORM: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_LOCAL: Final = ("file", "local")


@dataclass(frozen=True, slots=True)
class Address:
    """A folder or file in an object store, such as s3://bucket/folder: any protocol that fsspec has.

    Raises:
      InputError: for an address without a bucket or host, with a password, with wildcards, or of several protocols.
    """

    text: str

    def __post_init__(self) -> None:
        found = _FORM.fullmatch(self.text)
        host = found[2].partition("/")[0] if found else ""
        if ":" in host.rpartition("@")[0]:  # never quoted
            raise InputError("an address holds a password; leave it to the configuration of the store's own library")
        if found is None or "::" in self.text or not found[2].strip("/"):
            raise InputError(f"expected an address such as s3://bucket/folder, got {quoted(self.text)}")
        if re.search(r"[*?\[\]\0]", self.text):
            raise InputError(f"expected the address of one folder, without * ? [ ], got {quoted(self.text)}")
        object.__setattr__(self, "text", f"{found[1].lower()}://{found[2].rstrip('/')}")

    def __str__(self) -> str:
        return self.text

    def __truediv__(self, name: str) -> "Address":
        return Address(f"{self.text}/{name}")

    @property
    def protocol(self) -> str:
        """What stands before ://."""
        return self.text.partition("://")[0]

    def absolute(self) -> "Address":
        """The address itself: it is the same on all machines."""
        return self

    def is_within(self, other: "Address") -> bool:
        """Whether this address is the other one, or lies below it."""
        return f"{self.text}/".startswith(f"{other.text}/")


def is_address(text: str) -> bool:
    """Whether a word of the command line is an address of an object store and not a path."""
    found = _FORM.fullmatch(text)
    return found is not None and found[1].lower() not in _LOCAL


def place_of(text: str) -> Path | Address:
    """The path or the address that a word of the command line names; file:///folder is the path /folder.

    Raises:
      InputError: as `Address` does.
    """
    if is_address(text):
        return Address(text)
    found = _FORM.fullmatch(text)
    return Path(text if found is None else unquote(found[2]))
