"""A detector on disk: one safetensors file, whose header says which known architecture its tensors belong to.

Only the name of an architecture is stored, never its parts, so that a foreign file cannot say what is built.
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


class _About(Document):
    """What the metadata say about the network."""

    version: Literal[1] = 1
    architecture: str
    channels: Literal[1] = 1
    levels: tuple[str, ...] = _LEVELS

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
    """

    path: Path
    architecture: str
    shapes: Mapping[str, tuple[int, ...]]

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
        return cls(path=path, architecture=about.architecture, shapes=shapes)

    def load(self, network: torch.nn.Module) -> dict[str, torch.Tensor]:
        """All tensors, in single precision.

        Args:
          network: the one that they are for; their names, shapes and types must be exactly its, in half precision.

        Raises:
          InputError: when they are not, the file is damaged, or a value is not finite.
        """
        kinds = {
            name: TensorKind(shape=tuple(t.shape), dtype="float16" if t.is_floating_point() else "int64")
            for name, t in network.state_dict().items()
        }
        arrays = read_weights(self.path, kinds, advice=f"expected {self.architecture}; {_ADVICE}")
        return {name: _single(torch.from_numpy(array)) for name, array in arrays.items()}


def _single(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def write_detector(path: Path, architecture: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Writes a detector in half precision; equal weights give equal bytes.

    Args:
      tensors: the state dict of a network of the five levels.
    """
    about = _About(architecture=architecture).model_dump_json()
    kept = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).detach().cpu().contiguous()
        for name, tensor in tensors.items()
    }
    with written_beside(path) as temporary:
        temporary.write_bytes(save(kept, {_KEY: about}))
