"""Reads Ultralytics checkpoints (.pt) as data.

A checkpoint is a pickle, and a pickle is a program: it names functions and says what to call them with. Here the
instructions are followed on paper. A name stays a name, a call is noted with its arguments, and nothing is imported,
built or called. The tensors are then read from the places that the notes point to.
"""

import math
import pickletools
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from shared.runtime.errors import InputError, quoted

# The checkpoints of the largest networks have half a megabyte of pickle, some thousand tensors, none over 20 MB.
_MOST_PICKLE_BYTES: Final = 4 * 2**20
_MOST_STORAGE_BYTES: Final = 256 * 2**20
_MOST_TENSORS: Final = 20_000  # and modules
_DEEPEST: Final = 64
# torch writes a storage for each tensor; only tied weights share one.
_MOST_READINGS: Final = 2
_DTYPES: Final = {
    "torch.HalfStorage": torch.float16, "torch.BFloat16Storage": torch.bfloat16, "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64, "torch.LongStorage": torch.int64, "torch.IntStorage": torch.int32,
}  # fmt: skip
_PLAIN: Final = frozenset({
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "INT", "LONG", "BINFLOAT", "FLOAT", "BINUNICODE", "UNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BINSTRING", "SHORT_BINSTRING",
    "STRING",
})  # fmt: skip
_FIXED: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_PUT: Final = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GET: Final = frozenset({"GET", "BINGET", "LONG_BINGET"})


@dataclass(frozen=True, slots=True)
class _Name:
    """The name of a class or function in a pickle."""

    dotted: str


@dataclass(slots=True, eq=False)
class _Noted:
    """An object that a pickle would make: of which class or by which call, from what, and what it is filled with."""

    of: str
    args: Any
    state: Any = None
    items: dict[str | int, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """Where a tensor lies in a checkpoint.

    Attributes:
      key: number of its storage.
      offset, strides: in elements of the storage.
    """

    key: str
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _RefusedError(Exception):
    """What is wrong with a checkpoint; the caller names the file."""


class _Machine:
    """The part of the pickle language that checkpoints use. What it does not know is refused."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, program: bytes) -> Any:
        argument: Any
        for opcode, argument, _ in pickletools.genops(program):
            name = opcode.name
            if name in _PLAIN:
                self.stack.append(argument)
            elif name in _FIXED:
                self.stack.append(_FIXED[name])
            elif name in _PUT:
                self.memo[argument] = self.stack[-1]
            elif name in _GET:
                self.stack.append(self.memo[argument])
            elif name not in ("PROTO", "FRAME", "STOP"):
                getattr(self, f"_{name.lower()}")(argument)
        (result,) = self.stack
        return result

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def _since_mark(self) -> list[Any]:
        at = self.marks.pop()
        values = self.stack[at:]
        del self.stack[at:]
        return values

    def _empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def _empty_list(self, _: Any) -> None:
        self.stack.append([])

    def _empty_tuple(self, _: Any) -> None:
        self.stack.append(())

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _last(self, count: int) -> None:
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def _tuple1(self, _: Any) -> None:
        self._last(1)

    def _tuple2(self, _: Any) -> None:
        self._last(2)

    def _tuple3(self, _: Any) -> None:
        self._last(3)

    def _global(self, argument: str) -> None:
        self.stack.append(_Name(argument.replace(" ", ".")))

    def _stack_global(self, _: Any) -> None:
        module, name = self.stack.pop(-2), self.stack.pop()
        self.stack.append(_Name(f"{module}.{name}"))

    def _reduce(self, _: Any) -> None:
        arguments, name = self.stack.pop(), self.stack.pop().dotted
        self.stack.append(_Noted(name, arguments))

    def _newobj(self, argument: Any) -> None:
        self._reduce(argument)

    def _binpersid(self, _: Any) -> None:
        self.stack.append(_Noted("storage", self.stack.pop()))

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], _Noted):
            self.stack[-1].state = state

    def _append(self, _: Any) -> None:
        self._extend([self.stack.pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self._since_mark())

    def _extend(self, values: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)

    def _setitem(self, _: Any) -> None:
        self._set_items([self.stack.pop(-2), self.stack.pop()])

    def _setitems(self, _: Any) -> None:
        self._set_items(self._since_mark())

    def _set_items(self, flat: list[Any]) -> None:
        items = _items(self.stack[-1])
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            if isinstance(key, str | int):  # hashing a tuple of tuples can take for ever
                items[key] = value


def _items(value: Any) -> dict[Any, Any]:
    """The content of a dict or of an OrderedDict."""
    if isinstance(value, dict):
        return value
    if isinstance(value, _Noted):
        return value.items
    raise TypeError(type(value).__name__)


class Checkpoint:
    """What a checkpoint holds, read without running any of it.

    Attributes:
      tensors: parameters and buffers of its network by name, the moving average where there is one.
      names: the network's classes; empty where it does not name them.
    """

    def __init__(self, path: Path) -> None:
        """Reads the structure, not the tensors; raises `InputError` for anything but a checkpoint of a network."""
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self._members = {item.filename.partition("/")[2]: item for item in archive.infolist()}
                content = _items(_Machine().run(self._read(archive, "data.pkl", _MOST_PICKLE_BYTES)))
                network = content.get("ema") or content.get("model")
                state = network.state if isinstance(network, _Noted) else None
                self.tensors: Mapping[str, StoredTensor] = dict(_tensors(network))
                self.names = _class_names(state.get("names") if isinstance(state, dict) else None)
        except _RefusedError as error:
            raise InputError(f"{path}: {error}") from error
        except Exception as error:  # a foreign file: zipfile and pickletools raise anything
            raise InputError(f"{path}: cannot be read as a detector ({type(error).__name__})") from error
        if not self.tensors:
            raise InputError(f"{path}: holds no Ultralytics model")

    def load(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """Tensors by name; raises `InputError` when one does not lie within its storage."""
        loaded, name = {}, ""
        left = _MOST_READINGS * self.path.stat().st_size
        try:
            with zipfile.ZipFile(self.path) as archive:
                for name in names:
                    left -= self._members[f"data/{self.tensors[name].key}"].file_size
                    if left < 0:  # many tensors of one large storage would fill the memory
                        raise _RefusedError("is shared by too many others")
                    loaded[name] = self._tensor(archive, self.tensors[name])
        except _RefusedError as error:
            raise InputError(f"{self.path}: tensor {quoted(name)} {error}") from error
        except Exception as error:  # as above
            raise InputError(f"{self.path}: tensor {quoted(name)} is damaged ({type(error).__name__})") from error
        return loaded

    def _tensor(self, archive: zipfile.ZipFile, place: StoredTensor) -> torch.Tensor:
        raw = self._read(archive, f"data/{place.key}", _MOST_STORAGE_BYTES)
        values = torch.frombuffer(bytearray(raw), dtype=place.dtype)
        end = place.offset + sum((n - 1) * s for n, s in zip(place.shape, place.strides, strict=True))
        if min(*place.strides, *place.shape, place.offset, 0) < 0 or max(end + 1, math.prod(place.shape)) > len(values):
            raise ValueError(place)
        return values.as_strided(place.shape, place.strides, place.offset).clone()

    def _read(self, archive: zipfile.ZipFile, name: str, most_bytes: int) -> bytes:
        """A member of the archive. torch writes them uncompressed, so none is larger than the file."""
        item = self._members[name]
        if item.compress_type != zipfile.ZIP_STORED or item.file_size > min(most_bytes, self.path.stat().st_size):
            raise _RefusedError(f"{name} is compressed or too large; expected a file that torch has saved")
        return archive.read(item)


def _tensors(network: Any) -> Iterator[tuple[str, StoredTensor]]:
    """Parameters and buffers of a network's modules, in the names of its state dict."""
    waiting, found = [("", network)], 0
    while waiting:
        prefix, module = waiting.pop()
        if not isinstance(module, _Noted) or not isinstance(module.state, dict):
            continue
        own = {**_items(module.state.get("_parameters", {})), **_items(module.state.get("_buffers", {}))}
        inner = _items(module.state.get("_modules", {}))
        found += 1 + len(own) + len(inner)
        if found > _MOST_TENSORS or prefix.count(".") > _DEEPEST:
            raise _RefusedError("has more modules or tensors than any detector")
        for name, value in own.items():
            place = _stored(value)
            if place is not None:
                yield f"{prefix}{name}", place
        waiting.extend((f"{prefix}{name}.", child) for name, child in inner.items())


def _stored(value: Any) -> StoredTensor | None:
    """The place of a tensor from the noted call that would rebuild it."""
    if isinstance(value, _Noted) and value.of == "torch._utils._rebuild_parameter":
        value = value.args[0]
    if not isinstance(value, _Noted) or value.of != "torch._utils._rebuild_tensor_v2":
        return None
    storage, offset, shape, strides = value.args[:4]
    _, kind, key, _, _ = storage.args
    numbers = (offset, *shape, *strides)
    if not re.fullmatch("[0-9]{1,9}", key) or any(type(n) is not int or abs(n) >= 2**40 for n in numbers):
        raise _RefusedError("has a tensor without a proper place")
    return StoredTensor(
        key=key, dtype=_DTYPES[kind.dotted], offset=offset, shape=tuple(shape), strides=tuple(strides)
    )  # fmt: skip


def _class_names(value: Any) -> dict[int, str]:
    given = value if isinstance(value, dict) else {}
    return {key: name for key, name in given.items() if isinstance(key, int) and isinstance(name, str)}
