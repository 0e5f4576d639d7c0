"""Which library computes the networks of a prediction, and where their exported files are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.backends.exported import EXPORT_FOLDER, ExportFile, Name, found_in, read_export
from shared.backends.onnx_file import read_onnx
from shared.backends.sessions import Network, cuda_is_there, load_network, missing_packages
from shared.runtime.errors import InputError, first_line
from shared.runtime.run_folder import sha256_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A library, and where to look for the files that it computes with.

    Attributes:
      name: of the library.
      exported: OUT of `lumbar export`; RUN/export is looked into as well.

    Raises:
      InputError: when the library is not installed, or a folder is no export.
    """

    name: Name = "torch"
    exported: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if self.name == "torch":
            if self.exported:
                raise InputError(
                    "--exported: only with --backend onnx or --backend openvino; torch reads the run itself"
                )
            return
        missing = missing_packages(self.name)
        if missing:
            raise InputError(
                f"--backend {self.name}: {' and '.join(missing)} not installed; install the extra `{self.name}`: pip "
                f"install 'lumbar-severity[{self.name}]'"
            )
        for folder in self.exported:
            if read_export(folder) is None:
                raise InputError(f"--exported {folder}: holds no export.json; expected OUT of `lumbar export`")

    @property
    def is_torch(self) -> bool:
        return self.name == "torch"

    def place(self, wanted: str, resolved: str) -> str:
        """Where the networks are computed: cpu or cuda:N, or for torch any of its devices.

        Args:
          wanted: as `--device` has it.
          resolved: torch's name of it (`shared.runtime.hardware.device.resolve_device`).

        Raises:
          InputError: when the library cannot compute there, unless `wanted` is auto.
        """
        if self.name == "torch" or resolved == "cpu":
            return resolved
        if self.name == "onnx" and resolved.startswith("cuda") and cuda_is_there():
            return resolved
        if wanted == "auto":
            return "cpu"
        way_out = "give --device cpu, or use --backend torch"
        if self.name == "onnx" and resolved.startswith("cuda"):
            way_out = "install onnxruntime-gpu in place of onnxruntime, which was built without CUDA, or " + way_out
        raise InputError(f"--device {wanted}: --backend {self.name} cannot compute there; {way_out}")

    def network(self, weights: Path, *, place: str, threads: int) -> Network:
        """The network that was exported from these weights.

        Args:
          weights: RUN/fold<K>/<name>.
          place: of `place`.
          threads: how many it may use on a CPU.

        Raises:
          InputError: when no export holds the network of just these weights, it was never compared with torch in this
            library, its file was changed, or the library cannot load it.
          ValueError: for torch, which reads the weights themselves.
        """
        if self.name == "torch":
            raise ValueError("torch computes with the weights themselves")
        folder, entry = found_in(self._exports(weights.parent.parent), weights, sha256_of(weights))
        if self.name not in entry.differences:
            raise InputError(
                f"{folder}: was not compared with torch in {self.name}, which was not installed then; export again: "
                f"`lumbar export {weights.parent.parent} {folder} --overwrite`"
            )
        data = read_onnx(folder, entry)
        try:
            return load_network(self.name, data, place=place, threads=threads)
        except Exception as error:  # a foreign file; the libraries share no class of errors
            raise InputError(f"{folder / entry.file}: cannot be loaded by {self.name} ({first_line(error)})") from error

    def _exports(self, run: Path) -> dict[Path, ExportFile]:
        found = {folder: read_export(folder) for folder in (*self.exported, run / EXPORT_FOLDER)}
        return {folder: export for folder, export in found.items() if export is not None}


TORCH: Final = Backend()
