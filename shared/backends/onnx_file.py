"""Reads an ONNX file, which may have been damaged or made by somebody else: it is data, and can name nothing outside.

ONNX lets a file name other files that hold its tensors, and operators of libraries that must be loaded. Ours has none.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shared.backends.exported import ExportedNetwork
from shared.runtime.errors import InputError, first_line, quoted

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

_AGAIN: Final = "export the run again with `lumbar export`"
# Both names of ONNX's own operators.
_OWN_DOMAINS: Final = ("", "ai.onnx")


def read_onnx(folder: Path, network: ExportedNetwork) -> bytes:
    """The bytes of a network's file.

    Raises:
      InputError: when the file is missing or is not the one that was exported, or when it needs other files, operators
        that are not ONNX's own, or other inputs than ours.
    """
    path = folder / network.file
    data = _read(path, network)
    try:
        check_self_contained(data, inputs=list(network.inputs))
    except ValueError as error:
        raise InputError(f"{path}: {error}; {_AGAIN}") from error
    return data


def _read(path: Path, network: ExportedNetwork) -> bytes:
    try:
        if path.exists() and not path.is_file():  # a pipe would block
            raise InputError(f"{path}: is no regular file; {_AGAIN}")
        with path.open("rb") as file:
            data = file.read(network.bytes + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {_AGAIN}") from error
    if len(data) != network.bytes or hashlib.sha256(data).hexdigest() != network.sha256:
        raise InputError(f"{path}: is not the file that was exported (its SHA-256 differs); {_AGAIN}")
    return data


def check_self_contained(data: bytes, *, inputs: list[str]) -> None:
    """Raises `ValueError` for a model that is damaged, needs anything beside itself, or has other inputs."""
    import onnx

    try:
        model: ModelProto = onnx.load_model_from_string(data)
    except Exception as error:  # a foreign file; protobuf's decoders share no class of errors
        raise ValueError(f"is no ONNX model ({first_line(error)})") from error
    if model.functions or model.training_info:
        raise ValueError("holds functions or training steps, which no export of ours has")
    for node in _nodes(model.graph):
        if node.domain not in _OWN_DOMAINS:
            raise ValueError(f"has an operator of {quoted(node.domain)}, which is not one of ONNX's own")
    for tensor in _tensors(model.graph):
        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError(f"keeps the tensor {quoted(tensor.name)} in another file")
    kept = {tensor.name for tensor in model.graph.initializer}
    found = [entry.name for entry in model.graph.input if entry.name not in kept]
    if found != inputs or len(model.graph.output) != 1:
        raise ValueError(f"has {len(model.graph.output)} outputs and the inputs {quoted(', '.join(found))}")


def _graphs(graph: "GraphProto") -> "Iterator[GraphProto]":
    """The graph, and those of its conditions and loops."""
    waiting = [graph]
    while waiting:
        here = waiting.pop()
        yield here
        for node in here.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else []
                waiting += attribute.graphs


def _nodes(graph: "GraphProto") -> "Iterator[NodeProto]":
    for here in _graphs(graph):
        yield from here.node


def _tensors(graph: "GraphProto") -> "Iterator[TensorProto]":
    for here in _graphs(graph):
        yield from here.initializer
        for sparse in here.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in here.node:
            for attribute in node.attribute:
                sparse_tensors: Iterable[object] = (attribute.sparse_tensor, *attribute.sparse_tensors)
                yield from (attribute.t, *attribute.tensors)
                for entry in sparse_tensors:
                    yield from (entry.values, entry.indices)  # type: ignore[attr-defined]
