"""Section `decode`: DICOM files to arrays, on one core, beside the plain pydicom loop."""

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pydicom
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from benchmarks.bench.rounds import Line, in_turn, line
from shared.dicom.reader import read_header, read_pixels
from shared.runtime.pool import keep_memory

_ENCODINGS = {"uncompressed": ExplicitVRLittleEndian, "RLE": RLELossless, "JPEG 2000": JPEG2000Lossless}
_TARGETS = {"RLE": "at least 5 per core"}


def stock(path: Path, *, plugin: str = "") -> Any:
    """What everybody writes first. `plugin` pins one of the decoders that pydicom may choose from."""
    dataset = pydicom.dcmread(path)
    if plugin:
        dataset.pixel_array_options(decoding_plugin=plugin)
    return dataset.pixel_array


def copies(paths: Sequence[Path], syntax: UID, folder: Path) -> list[Path]:
    """The same slices in another encoding."""
    made = []
    for number, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        if dataset.file_meta.TransferSyntaxUID.is_compressed:
            dataset.decompress(generate_instance_uid=False)
        if syntax != ExplicitVRLittleEndian:
            dataset.compress(syntax, encoding_plugin="pylibjpeg", generate_instance_uid=False)
        made.append(folder / f"{number}-{syntax}.dcm")
        dataset.save_as(made[-1])
    return made


def measure_reading(paths: Sequence[Path], folder: Path, rounds: int) -> tuple[list[Line], dict[str, Any]]:
    """Ours reads, decodes and scales to 8 bits; the loops end at an array. Memory is kept as in worker processes."""
    keep_memory()
    lines: list[Line] = []
    details: dict[str, Any] = {"slices": len(paths)}
    for name, syntax in _ENCODINGS.items():
        files = copies(paths, syntax, folder)
        loops: dict[str, Callable[[Path], Any]] = {"ours": read_pixels, "with our dependencies": stock}
        if name == "RLE":
            loops["alone"] = partial(stock, plugin="pydicom")
        jobs = {loop: partial(_over, read, files) for loop, read in loops.items()}
        in_turn(jobs, 1)
        times = in_turn(jobs, rounds)  # not CPU time: JPEG is decoded in a process of its own
        ms = {loop: 1000 * statistics.median(own) / len(files) for loop, own in times.items()}
        details[name] = {"ms_per_slice": ms, "pydicom_finds": _plugins(syntax)}
        lines += [
            line(
                f"{name} file to 8-bit array", f"pydicom {loop}, `dcmread(path).pixel_array`",
                times[loop], times["ours"],
                target=_TARGETS.get(name, "") if loop == "alone" else "",
                note=f"{ms['ours']:.2f} ms a slice, the loop {ms[loop]:.2f} ms",
            )
            for loop in loops if loop != "ours"
        ]  # fmt: skip
    headers = in_turn({"header": partial(_over, read_header, paths)}, rounds)
    details["header_ms"] = 1000 * statistics.median(headers["header"]) / len(paths)
    return lines, details


def _over(read: Callable[[Path], Any], files: Sequence[Path]) -> None:
    for path in files:
        read(path)


def _plugins(syntax: UID) -> list[str]:
    """The decoders that pydicom finds here; it needs none for uncompressed pixels."""
    return list(get_decoder(syntax).available_plugins) if syntax.is_encapsulated else []
