"""Reads the weights of networks from safetensors files, which may have been damaged or made by somebody else.

Nothing of a tensor is read before the file's size and its header agree with the network that it is for.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.runtime.errors import InputError, first_line, quoted

MOST_HEADER_BYTES: Final = 4 << 20
_TYPES: Final = {
    "F64": "float64", "F32": "float32", "F16": "float16", "I64": "int64", "I32": "int32", "I8": "int8", "U8": "uint8",
    "BOOL": "bool",
}  # fmt: skip
_SUFFIXES: Final = (".pt", ".pth", ".safetensors")
_AGAIN: Final = "restore the file or train again"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorKind:
    """Shape and type of one tensor; `dtype` is NumPy's name of the type, such as float32."""

    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype} of shape {list(self.shape)}"


def read_weights(path: Path, expected: Mapping[str, TensorKind], *, advice: str = _AGAIN) -> dict[str, NDArray[Any]]:
    """Reads all tensors of a file.

    Args:
      expected: the tensors of the network by name.

    Raises:
      InputError: when the file is missing, truncated or too large, when it holds other tensors than expected, or a
        value that is not finite.
    """
    from safetensors import safe_open

    try:
        _check_size(path, expected)
        with safe_open(path, "np") as file:
            names = set(file.keys())
            strange = sorted(names ^ expected.keys())
            if strange:
                there = "an unknown" if strange[0] in names else "no"
                raise InputError(f"{path}: holds {there} tensor {quoted(strange[0])}; {advice}")
            for name, kind in expected.items():
                part = file.get_slice(name)
                found = TensorKind(shape=tuple(part.get_shape()), dtype=_TYPES.get(part.get_dtype(), part.get_dtype()))
                if found != kind:
                    raise InputError(f"{path}: {name}: expected {kind}, got {found}; {advice}")
            tensors = {name: file.get_tensor(name) for name in expected}
    except InputError:
        raise
    except Exception as error:  # safetensors raises a class of its own, which has no base but this
        raise InputError(f"{path}: no usable weights ({first_line(error)}); {advice}") from error
    check_finite(path, tensors, advice=advice)
    return tensors


def check_starting_file(weights: str, names: Sequence[str]) -> None:
    """Raises `InputError` for what cannot be starting weights, as far as that shows without reading them.

    Args:
      weights: one of `names`, or the path of a file.
      names: weights that have a name; the first stands for none at all.
    """
    if weights in names:
        return
    told, path = f"starting weights {quoted(weights)}", Path(weights)
    wanted = f"expected {', '.join(names)}, or the path of a {', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]} file"
    if not path.is_file():
        near = get_close_matches(weights, names, n=1)
        what = "is a folder" if path.is_dir() else f"no such file{f' (did you mean {near[0]}?)' if near else ''}"
        raise InputError(f"{told}: {what}; {wanted}")
    with path.open("rb") as file:
        begin = file.read(10)
    # A zip archive, a bare pickle, or the length of a header and the brace that opens it.
    if not begin.startswith((b"PK", b"\x80")) and begin[8:9] != b"{":
        raise InputError(f"{told}: the file holds no weights of a network; {wanted}")


def check_finite(path: Path, tensors: Mapping[str, NDArray[Any]], *, advice: str = _AGAIN) -> None:
    """Raises `InputError` for a tensor with a value that is not finite, which would end as a probability of NaN."""
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise InputError(f"{path}: {quoted(name, marks=False)} holds values that are not finite; {advice}")


def _check_size(path: Path, expected: Mapping[str, TensorKind]) -> None:
    """Raises `ValueError` for a file whose size cannot be that of the tensors with a header."""
    if not path.is_file():
        raise ValueError("no such file" if not path.exists() else "it is not a regular file")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
    header = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    needed = sum(prod(kind.shape) * np.dtype(kind.dtype).itemsize for kind in expected.values())
    if not 0 < header <= MOST_HEADER_BYTES:
        raise ValueError(f"a header of {header} bytes; expected at most {MOST_HEADER_BYTES}")
    if size != 8 + header + needed:
        raise ValueError(f"{size} bytes; expected {8 + header + needed}")
