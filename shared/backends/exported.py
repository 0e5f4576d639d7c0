"""export.json: which network is in which ONNX file, from which weights, and how far its answers are from torch's.

OUT/export.json             written last
OUT/fold<K>/<name>.onnx     one network; of a fast grader OUT/fast/model.onnx
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from shared.runtime.documents import Document, read_document
from shared.runtime.errors import InputError
from shared.runtime.run_folder import Digest

EXPORT_FILE: Final = "export.json"
# Where `lumbar export` writes within a run, and where prediction looks.
EXPORT_FOLDER: Final = "export"
# ONNX itself ends at 2 GiB. The largest backbone has a third of it.
MOST_BYTES: Final = 1 << 30
_AGAIN: Final = "export the run again with `lumbar export`"

# Within the folder of the export, or of the run; never a path that could lead out of it.
_Exported = Annotated[str, Field(pattern=r"^(fold[0-9]{1,4}|fast)/[a-z0-9_]{1,40}\.onnx$")]
_Weights = Annotated[str, Field(pattern=r"^(fold[0-9]{1,4}|fast)/[a-z0-9_]{1,40}\.safetensors$")]
_Difference = Annotated[float, Field(ge=0)]
Library = Literal["onnx", "openvino"]
Name = Literal["torch", "onnx", "openvino"]
Stage = Literal["localize", "classify"]
# Named as `--backend` names them.
LIBRARIES: Final[tuple[Library, ...]] = ("onnx", "openvino")


class _Part(Document):
    """A part of the file. Texts below the fields become descriptions of its JSON Schema."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Difference(_Part):
    """The largest differences from torch over all inputs that were tried, in single precision."""

    probability: _Difference
    """Of scores of boxes, or of probabilities of grades."""
    box_px: _Difference | None = None
    """Of centres and sizes of boxes; only for detectors."""


class ExportedNetwork(_Part):
    """One network."""

    file: _Exported
    sha256: Digest
    bytes: Annotated[int, Field(gt=0, le=MOST_BYTES)]
    weights: _Weights
    """The run's file that the network was made of."""
    weights_sha256: Digest
    inputs: dict[str, list[int | str]]
    """Shape of each input; a text is a size that may change from call to call."""
    shapes_tried: list[list[int]]
    """Shapes of the first input that were compared."""
    differences: dict[Library, Difference]


class Speed(_Part):
    """How fast one kind of network is on the machine that exported it."""

    network: str
    shape: list[int]
    """Of the first input."""
    seconds: dict[Name, Annotated[float, Field(gt=0)]]
    """Median of a call."""
    of_torch: dict[Library, Annotated[float, Field(gt=0)]]
    """Median over rounds of the time of a call, as a share of torch's in the same round."""


class Measured(_Part):
    """Speeds of the networks of one fold, measured in turn, round after round."""

    processor: str
    threads: Annotated[int, Field(gt=0)]
    """That each library may use."""
    rounds: Annotated[int, Field(gt=0)]
    of_torch: dict[Library, Annotated[float, Field(gt=0)]]
    """The same share of all networks together."""
    fastest: Name
    networks: list[Speed]


class ExportFile(_Part):
    """export.json."""

    schema_: Annotated[Literal["export-1"], Field(alias="schema")]
    stage: Stage
    version: str
    git_commit: str | None
    exported: str
    """UTC, as 2026-11-25T12:34:56Z."""
    opset: Annotated[int, Field(gt=0)]
    libraries: dict[str, str]
    """Version of torch, and of all libraries that wrote or tried the files."""
    tolerance: Difference
    """What no difference exceeds."""
    networks: Annotated[list[ExportedNetwork], Field(min_length=1)]
    speed: Measured | None = None


def read_export(folder: Path) -> ExportFile | None:
    """Reads a folder's export.json; None where there is none.

    Raises:
      InputError: when the file is malformed.
    """
    path = folder / EXPORT_FILE
    return read_document(path, ExportFile, advice=_AGAIN) if path.exists() else None


def found_in(folders: Mapping[Path, ExportFile], weights: Path, digest: str) -> tuple[Path, ExportedNetwork]:
    """The network that was exported from these very weights, and the folder that holds it.

    Args:
      folders: where to look.
      weights: RUN/fold<K>/<name>.
      digest: SHA-256 of the file.

    Raises:
      InputError: when none was; names an export of the run's earlier weights if there is one.
    """
    for folder, export in folders.items():
        for network in export.networks:
            if network.weights_sha256 == digest:
                return folder, network
    run, name = weights.parent.parent, f"{weights.parent.name}/{weights.name}"
    stale = [folder for folder, export in folders.items() if name in {n.weights for n in export.networks}]
    if stale:
        raise InputError(
            f"{stale[0]}: was not exported from the weights that {weights} holds now; export the run again: "
            f"`lumbar export {run} {stale[0]} --overwrite`"
        )
    raise InputError(
        f"{weights}: there is no export of it; make one with `lumbar export {run}`, or name its folder with --exported"
    )
