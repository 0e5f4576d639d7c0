"""Damage that needs no knowledge of a file: bytes are changed, lost, repeated, or come from another file."""

import struct
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Final, TypeAlias

# Content, the case's own chance, and other sound files of the same kind -> the damaged content.
Damage: TypeAlias = Callable[[bytes, Random, Sequence[bytes]], bytes]

# Numbers at which sizes and signs overflow.
EDGES: Final = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_LONGEST_RUN: Final = 512


def place(content: bytes, rng: Random) -> int:
    """An offset in the content. Half of them lie in its first kilobyte, where headers are."""
    most = len(content) if rng.random() < 0.5 else min(len(content), 1024)
    return rng.randrange(most) if most else 0


def _flip_bits(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    changed = bytearray(content or b"\0")
    for _ in range(rng.choice((1, 1, 2, 4, 16, 64))):
        changed[place(content, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _set_run(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    start, length = place(content, rng), rng.randint(1, _LONGEST_RUN)
    value = rng.choice((b"\0", b"\xff", bytes([rng.randrange(256)])))
    return content[:start] + value * len(content[start : start + length]) + content[start + length :]


def _scramble_run(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    start, length = place(content, rng), rng.randint(1, _LONGEST_RUN)
    return content[:start] + rng.randbytes(len(content[start : start + length])) + content[start + length :]


def _cut_off(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    return content[: place(content, rng)]


def _insert(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    start, length = place(content, rng), rng.randint(1, _LONGEST_RUN)
    return content[:start] + (rng.randbytes(length) if rng.random() < 0.5 else b"\0" * length) + content[start:]


def _delete(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    start = place(content, rng)
    return content[:start] + content[start + rng.randint(1, _LONGEST_RUN) :]


def _duplicate(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    start, length = place(content, rng), rng.choice((1, 2, 8, 64, _LONGEST_RUN, len(content)))
    return content[: start + length] + content[start : start + length] + content[start + length :]


def _splice(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others) if others else content[::-1]
    start = place(content, rng)
    # At one offset, so that what follows stands where a reader expects it; or anywhere.
    return content[:start] + other[start if rng.random() < 0.5 else place(other, rng) :]


def _set_number(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """Overwrites what may be a length, a count or a size."""
    start, (form, bits) = place(content, rng), rng.choice((("B", 8), ("H", 16), ("I", 32), ("Q", 64)))
    value = rng.choice((*EDGES, len(content), rng.getrandbits(bits))) % 2**bits
    number = struct.pack(rng.choice("<>") + form, value)
    return content[:start] + number + content[start + len(number) :]


ANYWHERE: Final[Mapping[str, Damage]] = {
    "bits flipped": _flip_bits,
    "run of one byte": _set_run,
    "run of random bytes": _scramble_run,
    "cut off": _cut_off,
    "bytes inserted": _insert,
    "bytes deleted": _delete,
    "bytes repeated": _duplicate,
    "spliced with another file": _splice,
    "number overwritten": _set_number,
}
