"""What a command over many studies has done so far, so that a kill at any moment costs the studies in progress.

OUT/state.json              what a resumed call must agree with, and whether everything is done; written first
OUT/unfinished/results/     one file per finished study: a line with digests, a line with the result
OUT/unfinished/             deleted at the end

The tables of OUT are always made from these files, so a resumed command writes the same bytes as one that ran through.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from pydantic import ValidationError

from shared.runtime.documents import adapter_of, read_json
from shared.runtime.files import check_output, inside, prepare_output, sweep_temporary, write_json, written_beside
from shared.runtime.progress import log
from shared.runtime.run_folder import STATE_FILE, claim_folder, package_version

UNFINISHED: Final = "unfinished"
FINISHED: Final = "finished"
# A study's result holds some hundred boxes; whatever is larger is not ours.
_MOST_BYTES: Final = 64 << 20

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Results(Generic[R]):
    """Results of single studies, one file each. Picklable, so that worker processes may write them.

    Attributes:
      folder: where the files lie; made when the first one is written.
      kind: type of the results, a dataclass that pydantic can read and write.
    """

    folder: Path
    kind: type[R]

    def read(self, name: str, key: str) -> R | None:
        """The kept result of a study, or None where it must be made: missing, damaged, or made of another input.

        Args:
          name: of the study, unique in this folder.
          key: digest of everything that the result depends on, beside what the whole run shares.
        """
        path = self._path(name)
        try:
            if path.stat().st_size > _MOST_BYTES:
                return None
            head, _, body = path.read_bytes().partition(b"\n")
            if json.loads(head) != _head(key, body):
                return None
            result: R = adapter_of(self.kind).validate_json(body, strict=True)
        except (OSError, ValueError, RecursionError, ValidationError):
            return None
        return result

    def write(self, name: str, key: str, result: R) -> None:
        """Keeps the result of a study."""
        # Unlike pydantic's own writer, this keeps infinite numbers.
        body = json.dumps(adapter_of(self.kind).dump_python(result, mode="json")).encode()
        with written_beside(self._path(name)) as temporary:
            temporary.write_bytes(json.dumps(_head(key, body)).encode() + b"\n" + body)

    def fetch(self, name: str, key: str, make: Callable[[], R]) -> R:
        """The kept result, or what `make` returns, as it is then kept."""
        kept = self.read(name, key)
        if kept is None:
            self.write(name, key, make())
            kept = self.read(name, key)
        if kept is None:
            raise RuntimeError(f"{self._path(name)}: was changed while the command ran")
        return kept

    def _path(self, name: str) -> Path:
        return inside(self.folder, f"{name}.jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumableOutput:
    """The output folder of one command that `--resume` continues.

    Attributes:
      path: the folder.
      command: its words on the command line, for example `localize predict`.
    """

    path: Path
    command: str

    @property
    def work(self) -> Path:
        """What is deleted at the end."""
        return self.path / UNFINISHED

    def begin(
        self, state: Mapping[str, Any], *, overwrite: bool, resume: bool, inputs: Sequence[Path | None],
        ready: Callable[[], object] = lambda: None,
    ) -> bool:  # fmt: skip
        """Prepares the folder and records what defines its content, or checks that one to be resumed is of the same.

        Args:
          state: JSON-ready values by the name under which a refusal mentions them.
          overwrite, resume, inputs: as in `shared.runtime.files.prepare_output`.
          ready: called after the cheap checks and before anything is deleted; loads what may be missing.

        Returns:
          Whether the output is finished already, so that nothing is left to do.

        Raises:
          InputError: as `prepare_output` and `ready`, when the state differs, or the folder holds something else.
        """
        check_output(self.path, overwrite=overwrite, resume=resume, inputs=inputs)
        if resume:
            prepare_output(self.path, resume=True, inputs=inputs)
            if self._claim(state, resume=True):
                return True
        ready()
        if not resume:
            prepare_output(self.path, overwrite=overwrite, inputs=inputs)
            self._claim(state, resume=False)
        return False

    def _claim(self, state: Mapping[str, Any], *, resume: bool) -> bool:
        wanted = {"command": self.command, "version": package_version(), **state}
        stored = claim_folder(self.path, wanted, command=self.command, resume=resume)
        if resume:
            sweep_temporary(self.path)
        else:
            shutil.rmtree(self.work, ignore_errors=True)
        if stored.get(FINISHED) is True:
            shutil.rmtree(self.work, ignore_errors=True)
            log(f"{self.path}: finished already, nothing is left to do")
            return True
        return False

    def results(self, kind: type[R]) -> Results[R]:
        """The results of the finished studies, under a path that is the same for processes anywhere."""
        return Results(folder=(self.work / "results").absolute(), kind=kind)

    def finish(self) -> None:
        """Marks the output as finished, which its files must be, and deletes what only a resumed call needs."""
        path = self.path / STATE_FILE
        write_json(path, read_json(path) | {FINISHED: True})
        shutil.rmtree(self.work, ignore_errors=True)


def digest_of(*values: Any) -> str:
    """SHA-256 of the values' JSON, for states and keys."""
    return hashlib.sha256(json.dumps(values, default=str).encode()).hexdigest()


def _head(key: str, body: bytes) -> dict[str, str]:
    return {"key": key, "sha256": hashlib.sha256(body).hexdigest()}
