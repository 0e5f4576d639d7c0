"""Weights of networks: whatever is wrong with a file is one message, before memory is allocated for it."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from shared.runtime.errors import InputError
from shared.runtime.weights import TensorKind, read_weights

KINDS = {"a.weight": TensorKind(shape=(2, 3), dtype="float32"), "count": TensorKind(shape=(), dtype="int64")}


def _sound() -> dict[str, np.ndarray]:
    return {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "count": np.array(4)}


def test_sound_weights_are_read_back_equal(tmp_path: Path) -> None:
    save_file(_sound(), tmp_path / "w.safetensors")
    read = read_weights(tmp_path / "w.safetensors", KINDS)
    assert all(np.array_equal(read[name], tensor) for name, tensor in _sound().items())


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (_sound() | {"a.weight": np.full((2, 3), np.nan, np.float32)}, r"a\.weight holds values that are not finite"),
        (_sound() | {"a.weight": np.full((2, 3), np.inf, np.float32)}, r"a\.weight holds values that are not finite"),
        (_sound() | {"a.weight": np.zeros((3, 2), np.float32)}, r"expected float32 of shape \[2, 3\], got float32"),
        (_sound() | {"a.weight": np.zeros((2, 3), np.int32)}, r"expected float32 of shape \[2, 3\], got int32"),
        ({"a.weight": _sound()["a.weight"]}, "bytes; expected"),
        ({"b": _sound()["a.weight"], "count": np.array(4)}, r"holds no tensor 'a\.weight'"),
        (_sound() | {"a.weight": np.zeros((1000, 1000), np.float32)}, "bytes; expected"),
    ],
)
def test_other_weights_are_refused(tmp_path: Path, tensors: dict[str, np.ndarray], message: str) -> None:
    save_file(tensors, path := tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=message) as caught:
        read_weights(path, KINDS)
    assert str(caught.value).startswith(f"{path}: ")


def _declared(header: object) -> Callable[[bytes], bytes]:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return lambda _: struct.pack("<Q", len(text)) + text + bytes(32)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "short": lambda content: content[:5],
    "cut": lambda content: content[:-7],
    "longer": lambda content: content + b"x",
    "endless header": lambda content: struct.pack("<Q", 2**60) + content[8:],
    "no header": lambda content: bytes(8) + content[8:],
    "huge tensor": _declared({"a.weight": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 32]}}),
    "beyond the end": _declared({"a.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [2**50, 2**50 + 24]}}),
    "nested": _declared(b"[" * 100_000),
    "text": lambda _: b"not weights at all",
    "pickle": lambda _: b"\x80\x04cos\nsystem\n(S'true'\ntR.",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_refused(tmp_path: Path, damage: str) -> None:
    save_file(_sound(), path := tmp_path / "w.safetensors")
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(InputError, match=r"w\.safetensors: no usable weights .*; restore the file or train again"):
        read_weights(path, KINDS)


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    for name in ("pipe", "sparse", "none", "."):
        with pytest.raises(InputError, match="no usable weights"):
            read_weights(tmp_path / name, KINDS)
