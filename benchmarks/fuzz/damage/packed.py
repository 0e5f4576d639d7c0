"""Damage within zip files and safetensors files that keeps their own structure sound."""

import io
import struct
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from random import Random
from typing import Final

from benchmarks.fuzz.damage.anywhere import ANYWHERE, Damage
from benchmarks.fuzz.damage.text import JSON

_LENGTH: Final = struct.Struct("<Q")
_NAMES: Final = (
    "../x",
    "/x",
    "C:\\x",
    "a\\b\\c.dcm",
    "x" * 5000,
    "",
    ".",
    "a/../../b",
    "\x1b[2J",
    "data.pkl",
    "a/" * 2000,
)


def _within_member(damage: Damage) -> Damage:
    """The same damage to one member, which is packed anew."""

    def again(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
        members = _members(content)
        if not members:
            return content
        n = rng.randrange(len(members))
        info, own = members[n]
        members[n] = info, damage(own, rng, [other for _, other in members])
        return _packed(members)

    return again


def _another_name(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    members = _members(content)
    if not members:
        return content
    n, known = rng.randrange(len(members)), rng.choice(members)[0].filename
    members[n][0].filename = rng.choice((*_NAMES, known))
    return _packed(members)


def _repeated_member(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    members = _members(content)
    return _packed(members + [rng.choice(members)] * rng.choice((1, 1, 1000))) if members else content


def _members(content: bytes) -> list[tuple[zipfile.ZipInfo, bytes]]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return [(info, archive.read(info)) for info in archive.infolist()]
    except Exception:  # noqa: BLE001 - damaged before; zipfile raises anything
        return []


def _packed(members: Sequence[tuple[zipfile.ZipInfo, bytes]]) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
        warnings.simplefilter("ignore")  # of names that are there twice
        for info, content in members:
            entry = zipfile.ZipInfo(info.filename, info.date_time)
            entry.compress_type = info.compress_type
            archive.writestr(entry, content)
    return file.getvalue()


ZIP: Final[Mapping[str, Damage]] = {
    **{f"{name}, within a member": _within_member(ANYWHERE[name]) for name in ANYWHERE},
    "name of a member": _another_name,
    "repeated member": _repeated_member,
}


def _within_header(damage: Damage) -> Damage:
    """The same damage to the header of a safetensors file, whose length is made good."""

    def again(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
        if len(content) < _LENGTH.size:
            return content
        end = _LENGTH.size + _LENGTH.unpack_from(content)[0]
        header = damage(content[_LENGTH.size : end], rng, [])
        return _LENGTH.pack(len(header)) + header + content[end:]

    return again


TENSORS: Final[Mapping[str, Damage]] = {
    f"{name}, in the header": _within_header(damage) for name, damage in {**JSON, **ANYWHERE}.items()
}
