"""ONNX files are read as data, and a backend computes only what was exported from the very weights of a run."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.backends.backend import TORCH, Backend
from shared.backends.exported import ExportFile, read_export
from shared.backends.sessions import load_network, missing_packages
from shared.runtime.errors import InputError
from shared.runtime.files import write_json

onnx = pytest.importorskip("onnx", reason="the extras onnx and openvino are not installed")
WEIGHTS = b"weights"


def model(*, domain: str = "", name: str = "image", change: Any = None) -> bytes:
    """Adds 2 to a batch of any size; `change` may spoil it."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    two = helper.make_tensor("two", kind, [1], [2.0])
    graph = helper.make_graph(
        [helper.make_node("Add", [name, "two"], ["sum"], domain=domain)], "g",
        [helper.make_tensor_value_info(name, kind, ["batch"])],
        [helper.make_tensor_value_info("sum", kind, ["batch"])], [two],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    if change is not None:
        change(made)
    return bytes(made.SerializeToString())


def keep_elsewhere(made: Any) -> None:
    tensor = made.graph.initializer[0]
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret")


def hide_in_a_condition(made: Any) -> None:
    """A tensor in another file, two graphs deep."""
    inner = onnx.helper.make_graph([], "inner", [], [])
    tensor = inner.initializer.add(name="hidden", data_type=1, dims=[1])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    outer = onnx.helper.make_graph([onnx.helper.make_node("If", ["c"], ["o"], then_branch=inner)], "outer", [], [])
    made.graph.node.append(onnx.helper.make_node("If", ["c"], ["p"], then_branch=outer))


def run_with(folder: Path, data: bytes, **changes: Any) -> Path:
    """A run with one file of weights, and an export of it; returns the weights' path."""
    weights = folder / "fold0" / "model.safetensors"
    target = folder / "export" / "fold0" / "model.onnx"
    for path in (weights, target):
        path.parent.mkdir(parents=True, exist_ok=True)
    weights.write_bytes(WEIGHTS)
    target.write_bytes(data)
    network = {
        "file": "fold0/model.onnx", "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data),
        "weights": "fold0/model.safetensors", "weights_sha256": hashlib.sha256(WEIGHTS).hexdigest(),
        "inputs": {"image": ["batch"]}, "shapes_tried": [[1]],
        "differences": {"onnx": {"probability": 0.0}, "openvino": {"probability": 0.0}}, **changes,
    }  # fmt: skip
    write_json(folder / "export" / "export.json", {
        "schema": "export-1", "stage": "classify", "version": "0", "git_commit": None, "exported": "now", "opset": 18,
        "libraries": {}, "tolerance": {"probability": 1e-4}, "networks": [network],
    })  # fmt: skip
    return weights


@pytest.fixture(params=["onnx", "openvino"])
def backend(request: pytest.FixtureRequest) -> Backend:
    skip_without(request.param)
    return Backend(name=request.param)


def skip_without(library: Any) -> None:
    """Not `importorskip`: importing openvino without our precautions sends an event."""
    if missing_packages(library):
        pytest.skip(f"the extra {library} is not installed")


def test_a_network_takes_batches_of_any_size(backend: Backend, tmp_path: Path) -> None:
    network = backend.network(run_with(tmp_path, model()), place="cpu", threads=1)
    for count in (1, 4, 3):
        array = np.arange(2 * count, dtype=np.float32)[::2]  # not contiguous
        np.testing.assert_array_equal(network(array), array + 2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (model(change=keep_elsewhere), "'two' in another file"),
        (model(change=hide_in_a_condition), "'hidden' in another file"),
        (model(domain="com.evil"), "operator of 'com.evil'"),
        (model(change=lambda m: m.functions.add(name="f", domain="d")), "functions"),
        (model(name="other"), "the inputs 'other'"),
        (b"\xff" * 50, "no ONNX model"),
        (b"", "greater than 0"),
    ],
)  # fmt: skip
def test_a_file_that_needs_more_than_itself_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    weights = run_with(tmp_path, data)
    with pytest.raises(InputError, match=message) as refusal:
        Backend(name="onnx").network(weights, place="cpu", threads=1)
    assert "export the run again" in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_what_was_changed_since_the_export_is_not_computed(tmp_path: Path) -> None:
    backend, weights = Backend(name="onnx"), run_with(tmp_path, model())
    (tmp_path / "export" / "fold0" / "model.onnx").write_bytes(model() + b" ")
    with pytest.raises(InputError, match="SHA-256 differs"):
        backend.network(weights, place="cpu", threads=1)
    weights.write_bytes(b"trained again")
    with pytest.raises(InputError, match=r"export again|export the run again") as refusal:
        backend.network(weights, place="cpu", threads=1)
    assert f"lumbar export {tmp_path} {tmp_path / 'export'} --overwrite" in str(refusal.value)


def test_an_export_is_found_by_the_weights_wherever_it_lies(backend: Backend, tmp_path: Path) -> None:
    weights = run_with(tmp_path / "run", model())
    other = run_with(tmp_path / "other", model(), weights_sha256="0" * 64, weights="fold1/model.safetensors")
    with pytest.raises(InputError, match="there is no export of it"):
        backend.network(other, place="cpu", threads=1)
    moved = (tmp_path / "run" / "export").rename(tmp_path / "moved")
    elsewhere = Backend(name=backend.name, exported=(moved,))
    assert elsewhere.network(weights, place="cpu", threads=1)(np.zeros(2, np.float32)).tolist() == [2, 2]


def test_a_library_that_was_not_compared_is_not_used(tmp_path: Path) -> None:
    weights = run_with(tmp_path, model(), differences={"openvino": {"probability": 0.0}})
    with pytest.raises(InputError, match="was not compared with torch in onnx"):
        Backend(name="onnx").network(weights, place="cpu", threads=1)


@pytest.mark.parametrize(
    "name", ["../fold0/model.onnx", "/etc/passwd", "fold0/../../x.onnx", "fold0/a/b.onnx", "C:\\x.onnx"]
)
def test_a_name_cannot_lead_out_of_the_folder(name: str, tmp_path: Path) -> None:
    run_with(tmp_path, model(), file=name)
    with pytest.raises(InputError, match="file"):
        read_export(tmp_path / "export")


def test_options_that_do_not_fit_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="only with --backend"):
        Backend(exported=(tmp_path,))
    with pytest.raises(InputError, match=r"holds no export\.json"):
        Backend(name="onnx", exported=(tmp_path,))
    assert TORCH.place("auto", "cuda:0") == "cuda:0"
    backend = Backend(name="openvino")
    assert backend.place("auto", "cuda:0") == "cpu"
    with pytest.raises(InputError, match="--device cuda: --backend openvino cannot compute there"):
        backend.place("cuda", "cuda:0")
    monkeypatch.setattr("shared.backends.backend.missing_packages", lambda name: ["onnxruntime"])
    with pytest.raises(InputError, match=r"onnxruntime not installed; install the extra `onnx`"):
        Backend(name="onnx")


def test_the_file_is_the_same_after_reading(tmp_path: Path) -> None:
    run_with(tmp_path, model())
    read = read_export(tmp_path / "export")
    assert read is not None
    assert ExportFile.model_validate_json(json.dumps(read.model_dump(mode="json", by_alias=True))) == read


def test_importing_openvino_sends_nothing() -> None:
    """The network guard of the test session records every attempt of this child too."""
    skip_without("openvino")
    code = (
        "import sys; from shared.backends.sessions import library_version; library_version('openvino');"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry.')], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "False"]


def test_a_model_that_a_library_cannot_load_is_told(backend: Backend, tmp_path: Path) -> None:
    def strange(made: Any) -> None:
        made.graph.node[0].op_type = "NoSuchOperator"

    with pytest.raises(InputError, match=f"cannot be loaded by {backend.name}"):
        backend.network(run_with(tmp_path, model(change=strange)), place="cpu", threads=1)
    with pytest.raises(Exception, match=r"."):
        load_network(backend.name, b"", place="cpu", threads=1)  # type: ignore[arg-type]
