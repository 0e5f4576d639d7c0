"""A detector on disk: one safetensors file, whose header says which known architecture its tensors belong to.

Only the name of an architecture is stored, never its parts, so that a foreign file cannot say what is built.

Values are kept in half precision. A file that ships with the package keeps its kernels in 8 bits, which halves it
(docs/adr/0025): each output channel has a scale of its own, its largest weight over 127.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import torch
from pydantic import Field, ValidationError, field_validator
from safetensors.torch import save

from localize.config import ARCHITECTURES
from shared.labels import Level
from shared.runtime.documents import Document, OpenDocument, explained
from shared.runtime.errors import InputError
from shared.runtime.files import written_beside
from shared.runtime.weights import MOST_HEADER_BYTES, TensorKind, read_weights

SUFFIX: Final = ".safetensors"
# The only key of the header's metadata: safetensors writes several in no particular order.
_KEY: Final = "detector"
_LEVELS: Final = tuple(level.slug for level in Level)
_ADVICE: Final = "restore the file, or train or convert it again"
# What is added to a kernel's name for its scales, and the largest whole number of 8 bits that a kernel holds.
_SCALE: Final = ":scale"
_MOST_INT8: Final = 127


class _About(Document):
    """What the metadata say about the network."""

    version: Literal[1] = 1
    architecture: str
    channels: Literal[1] = 1
    levels: tuple[str, ...] = _LEVELS
    kernel_bits: Literal[8, 16] = 16

    @field_validator("architecture")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in ARCHITECTURES:
            raise ValueError("expected an architecture that `model.architecture` can name")
        return value

    @field_validator("levels")
    @classmethod
    def _are_ours(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value != _LEVELS:
            raise ValueError(f"expected {', '.join(_LEVELS)}")
        return value


class _Tensor(OpenDocument):
    """What the header says about one tensor."""

    shape: Annotated[tuple[Annotated[int, Field(ge=1, le=2**20)], ...], Field(max_length=4)]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDetector:
    """A detector's file, of which only the header has been read.

    Attributes:
      architecture: one of `localize.config.ARCHITECTURES`.
      shapes: shape of each tensor by its name, as the header claims.
      kernel_bits: 16, or 8 for a file whose kernels have scales.
    """

    path: Path
    architecture: str
    shapes: Mapping[str, tuple[int, ...]]
    kernel_bits: int

    @classmethod
    def open(cls, path: Path) -> "StoredDetector":
        """Reads and checks the header; raises `InputError` when the file is missing or is not such a file."""
        try:
            if not path.is_file() and path.exists():  # a pipe would block
                raise InputError(f"{path}: is no regular file; {_ADVICE}")
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header: Any = json.loads(file.read(length)) if length <= MOST_HEADER_BYTES else None
            about = _About.model_validate_json(header.pop("__metadata__")[_KEY])
            shapes = {name: _Tensor.model_validate_json(json.dumps(entry)).shape for name, entry in header.items()}
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            cause = f"header: {explained(error)}" if isinstance(error, ValidationError) else type(error).__name__
            raise InputError(f"{path}: is no detector of this project ({cause}); {_ADVICE}") from error
        return cls(path=path, architecture=about.architecture, shapes=shapes, kernel_bits=about.kernel_bits)

    def load(self, network: torch.nn.Module) -> dict[str, torch.Tensor]:
        """All tensors, in single precision.

        Args:
          network: the one that they are for; their names, shapes and types must be exactly its, in half precision.

        Raises:
          InputError: when they are not, the file is damaged, or a value is not finite.
        """
        kinds: dict[str, TensorKind] = {}
        for name, tensor in network.state_dict().items():
            shape = tuple(tensor.shape)
            small = self.kernel_bits == 8 and _is_kernel(tensor)
            dtype = "int8" if small else "float16" if tensor.is_floating_point() else "int64"
            kinds[name] = TensorKind(shape=shape, dtype=dtype)
            if small:
                kinds[name + _SCALE] = TensorKind(shape=shape[:1], dtype="float32")
        arrays = read_weights(self.path, kinds, advice=f"expected {self.architecture}; {_ADVICE}")
        read = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return {name: _single(t, read.get(name + _SCALE)) for name, t in read.items() if not name.endswith(_SCALE)}


def _is_kernel(tensor: torch.Tensor) -> bool:
    return tensor.ndim == 4 and tensor.is_floating_point()


def _single(tensor: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    if scale is not None:
        return tensor.float() * scale[:, None, None, None]
    return tensor.float() if tensor.is_floating_point() else tensor


def write_detector(
    path: Path, architecture: str, tensors: Mapping[str, torch.Tensor], *, kernel_bits: Literal[8, 16] = 16
) -> None:
    """Writes a detector; equal weights give equal bytes.

    Args:
      tensors: the state dict of a network of the five levels.
      kernel_bits: 16 for half precision; 8 for a file of half the size, whose kernels are rounded to 255 steps.
    """
    about = _About(architecture=architecture, kernel_bits=kernel_bits)
    kept: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        values = tensor.detach().cpu()
        if kernel_bits == 8 and _is_kernel(values):
            scale = values.float().abs().amax((1, 2, 3)).clamp_min(torch.finfo(torch.float32).tiny) / _MOST_INT8
            kept[name] = (values.float() / scale[:, None, None, None]).round().to(torch.int8).contiguous()
            kept[name + _SCALE] = scale
        else:
            kept[name] = (values.half() if values.is_floating_point() else values).contiguous()
    # The files of a training say nothing of 16 bits, so that they stay what they were before there were others.
    text = about.model_dump_json(exclude={"kernel_bits"} if kernel_bits == 16 else None)
    with written_beside(path) as temporary:
        temporary.write_bytes(save(kept, {_KEY: text}))
