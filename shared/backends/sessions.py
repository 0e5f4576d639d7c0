"""ONNX Runtime and OpenVINO: how each loads a model and computes with it.

Both are told to use a given number of threads, which sleep while they wait, and single precision. Neither loads
operators from libraries, and neither speaks to a network: of ONNX Runtime only the providers that are named here are
asked for, and what OpenVINO's Python package would report of its import is not loaded.
"""

import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.backends.exported import LIBRARIES, Library

# What a network computes: arrays in the order of its inputs -> its output, [b, ...].
Network = Callable[..., NDArray[np.float32]]

_PACKAGES: Final[dict[Library, tuple[str, ...]]] = {
    "onnx": ("onnxruntime", "onnx"), "openvino": ("openvino", "onnx"),
}  # fmt: skip
_ERRORS_ONLY: Final = 3


def missing_packages(library: Library) -> list[str]:
    """Which Python packages of a library are not installed."""
    return [name for name in _PACKAGES[library] if find_spec(name) is None]


def installed_libraries() -> list[Library]:
    """The libraries that are installed."""
    return [library for library in LIBRARIES if not missing_packages(library)]


def cuda_is_there() -> bool:
    """Whether the installed ONNX Runtime was built for CUDA."""
    return "CUDAExecutionProvider" in _onnxruntime().get_available_providers()


def library_version(library: Library) -> str:
    """Version of an installed library."""
    module = _onnxruntime() if library == "onnx" else _openvino()
    return str(module.__version__)


def load_network(library: Library, data: bytes, *, place: str, threads: int) -> Network:
    """A model that is ready to compute.

    Args:
      data: an ONNX file that `shared.backends.onnx_file` has checked.
      place: cpu or, for ONNX Runtime, cuda:N.
      threads: how many it may use on a CPU.

    Raises:
      Exception: of the library's own, when it cannot load the model.
    """
    return _with_openvino(data, threads) if library == "openvino" else _with_onnxruntime(data, place, threads)


def _with_onnxruntime(data: bytes, place: str, threads: int) -> Network:
    library = _onnxruntime()
    options = library.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    providers: list[Any] = ["CPUExecutionProvider"]
    if place != "cpu":
        settings = {"device_id": place.removeprefix("cuda:"), "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
        providers.insert(0, ("CUDAExecutionProvider", settings))
    session = library.InferenceSession(data, options, providers=providers)
    if place != "cpu" and session.get_providers()[0] != "CUDAExecutionProvider":  # it only warns
        raise RuntimeError("CUDA could not be used")
    names = [entry.name for entry in session.get_inputs()]

    def compute(*arrays: NDArray[Any]) -> NDArray[np.float32]:
        ready = map(np.ascontiguousarray, arrays)
        return np.asarray(session.run(None, dict(zip(names, ready, strict=True)))[0])

    return compute


def _with_openvino(data: bytes, threads: int) -> Network:
    library = _openvino()
    core = library.Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
        # Without these, processors that have bf16 use it, and threads are bound to cores that others may use.
        "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False,
    }  # fmt: skip
    model = core.compile_model(core.read_model(data, b""), "CPU", settings)

    def compute(*arrays: NDArray[Any]) -> NDArray[np.float32]:
        ready: Sequence[NDArray[Any]] = [np.ascontiguousarray(array) for array in arrays]
        return np.array(model(ready)[0])

    return compute


@cache
def _onnxruntime() -> Any:
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


@cache
def _openvino() -> Any:
    # Its import sends an event to the internet by this package, and goes without it where it is not installed.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # how Python marks what must not load
    import openvino

    return openvino
