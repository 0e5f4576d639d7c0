"""`lumbar export`: a run's networks as ONNX files, each compared with torch, and which library is the fastest here."""

import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shared.backends.exported import (
    EXPORT_FILE,
    EXPORT_FOLDER,
    MOST_BYTES,
    Difference,
    ExportedNetwork,
    ExportFile,
    Library,
    Measured,
    Stage,
)
from shared.backends.sessions import Network, installed_libraries, library_version, load_network
from shared.runtime.errors import InputError, first_line
from shared.runtime.files import prepare_output, write_json
from shared.runtime.problems import counted
from shared.runtime.progress import track
from shared.runtime.run_folder import git_commit, package_version, read_run, sha256_of

if TYPE_CHECKING:
    from pipelines.export.networks import TorchNetwork

# What the comparison with torch allows. Boxes are rounded to far more than a hundredth of a pixel by what follows.
TOLERANCE: Final = Difference(probability=1e-4, box_px=1e-2)
EXTRAS: Final = "pip install 'lumbar-severity[onnx]' or 'lumbar-severity[openvino]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What to export.

    Attributes:
      run: a finished run of either stage, or the detectors that ship.
      rounds: how often each network is timed with each library; 0 for not at all.
      stage: of the run.
      libraries: with which the files are compared with torch: those that are installed.

    Raises:
      InputError: for an unfinished run, or where neither library is installed.
    """

    run: Path
    rounds: int
    stage: Stage = field(init=False)
    libraries: tuple[Library, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stage", read_run(self.run, expected_kind="localize", or_kind="classify")["kind"])
        object.__setattr__(self, "libraries", tuple(installed_libraries()))
        if not self.libraries:
            raise InputError(f"lumbar export: needs ONNX Runtime or OpenVINO, and onnx; install an extra: {EXTRAS}")


def export(request: ExportRequest, out: Path, *, overwrite: bool = False) -> str:
    """Writes OUT/fold<K>/<name>.onnx for every network of a run, and OUT/export.json last.

    Returns:
      What was written, how far it is from torch, and which library is the fastest.

    Raises:
      InputError: when a network answers otherwise than torch with one of the libraries, beyond `TOLERANCE`.
    """
    from pipelines.export.networks import count_networks, networks_of
    from pipelines.export.speed import Stopwatch
    from pipelines.export.writing import OPSET

    started, count = time.time(), count_networks(request.run, request.stage)
    prepare_output(out, overwrite=overwrite, inputs=[request.run])
    stopwatch, entries = Stopwatch(rounds=request.rounds), []
    for network in track(networks_of(request.run, request.stage), "exporting", total=count):
        entry, sessions = _exported(network, request.libraries, out)
        entries.append(entry)
        if request.rounds and network.name.partition("/")[0] == entries[0].file.partition("/")[0]:
            stopwatch.time(network, sessions)
    file = ExportFile(
        schema="export-1", stage=request.stage, version=package_version(), git_commit=git_commit(),
        exported=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)), opset=OPSET,
        libraries=_versions(request.libraries), tolerance=TOLERANCE, networks=entries, speed=stopwatch.result(),
    )  # type: ignore[call-arg]  # fmt: skip
    write_json(out / EXPORT_FILE, file.model_dump(mode="json", by_alias=True))
    return _summary(request, out, file)


def _exported(
    network: "TorchNetwork", libraries: tuple[Library, ...], out: Path
) -> tuple[ExportedNetwork, dict[Library, Network]]:
    """Writes one network and compares it; returns its entry, and the network as each library computes it."""
    from pipelines.export.speed import THREADS
    from pipelines.export.writing import write_onnx

    path = out / f"{network.name}.onnx"
    write_onnx(network, path)
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise InputError(f"{path}: has {size} bytes; expected at most {MOST_BYTES}")
    data = path.read_bytes()
    sessions = {name: load_network(name, data, place="cpu", threads=THREADS) for name in libraries}
    entry = ExportedNetwork(
        file=f"{network.name}.onnx", sha256=sha256_of(path), bytes=size,
        weights=f"{network.weights.parent.name}/{network.weights.name}", weights_sha256=sha256_of(network.weights),
        inputs={name: list(axes) for name, axes in network.inputs.items()},
        shapes_tried=[list(shape) for shape in network.shapes], differences=_differences(network, sessions),
    )  # fmt: skip
    for name, found in entry.differences.items():
        if found.probability > TOLERANCE.probability or (found.box_px or 0.0) > (TOLERANCE.box_px or 0.0):
            raise InputError(
                f"{path}: {name} answers otherwise than torch, by {_told(found)}; expected at most {_told(TOLERANCE)}. "
                f"Use torch for this run, and please report it with the versions {_versions(libraries)}"
            )
    return entry, sessions


def _differences(network: "TorchNetwork", sessions: dict[Library, Network]) -> dict[Library, Difference]:
    found: dict[Library, list[Difference]] = {name: [] for name in sessions}
    for shape in network.shapes:
        arrays = network.arrays(shape)
        expected = network.compute(*arrays)
        for name, compute in sessions.items():
            try:
                found[name].append(network.difference(expected, compute(*arrays)))
            except Exception as error:  # the libraries share no class of errors
                raise InputError(
                    f"{network.weights}: {name} cannot compute what was exported on a batch of shape {list(shape)} "
                    f"({first_line(error)}); use torch for this run, and please report it"
                ) from error
    return {
        name: Difference(
            probability=max(d.probability for d in each),
            box_px=max(d.box_px or 0.0 for d in each) if network.is_detector else None,
        )
        for name, each in found.items()
    }


def _versions(libraries: tuple[Library, ...]) -> dict[str, str]:
    import onnx
    import torch

    found = {"python": platform.python_version(), "torch": torch.__version__, "onnx": onnx.__version__}
    return found | {{"onnx": "onnxruntime"}.get(name, name): library_version(name) for name in libraries}


def _told(difference: Difference) -> str:
    boxes = "" if difference.box_px is None else f" and {difference.box_px:.1e} px of a box"
    return f"{difference.probability:.1e} in probability{boxes}"


def _summary(request: ExportRequest, out: Path, file: ExportFile) -> str:
    lines = [f"{counted(len(file.networks), 'network')} -> {out}"]
    for name in request.libraries:
        each = [network.differences[name] for network in file.networks]
        largest = Difference(
            probability=max(d.probability for d in each),
            box_px=None if each[0].box_px is None else max(d.box_px or 0.0 for d in each),
        )
        lines.append(f"{name}: differs from torch by at most {_told(largest)}")
    lines += [] if file.speed is None else [_recommended(file.speed)]
    lines.append(_usage(request, out, file.speed))
    return "\n".join(lines)


def _recommended(speed: Measured) -> str:
    times = ", ".join(f"{name} {share:.2f}" for name, share in sorted(speed.of_torch.items(), key=lambda x: x[1]))
    return f"time of a call on one core here, as a share of torch's: {times}; {speed.fastest} is the fastest"


def _usage(request: ExportRequest, out: Path, speed: Measured | None) -> str:
    """The options of `lumbar predict` that use the export."""
    name = request.libraries[0] if speed is None or speed.fastest == "torch" else speed.fastest
    found = out.resolve() == (request.run / EXPORT_FOLDER).resolve()
    where = "" if found else f" --exported {out}"
    if speed is not None and speed.fastest == "torch":
        return f"lumbar predict needs no option for torch; to use {name} all the same: --backend {name}{where}"
    return f"to use it: lumbar predict ... --backend {name}{where}"
