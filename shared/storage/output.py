"""An output folder in an object store: what a command of ours left there, and what it adds.

OUT/.lumbar                        the marker of our folders
OUT/state.json                     as in a folder on a disk; with `finished` written last of all
OUT/unfinished/writer/token        the command that has begun last; an earlier one stops when it sees another token
OUT/unfinished/results/<id>.jsonl  the record of a study, uploaded after all its other files

An object store has no locks and no renames, but each object appears at once and whole. So a record that is there means
that its study is done, and `--resume` does the others.
"""

import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.runtime.documents import read_json
from shared.runtime.errors import InputError, show_as
from shared.runtime.files import write_text
from shared.runtime.ownership import (
    MARKER,
    NOT_EMPTY,
    NOT_OURS,
    NOT_RESUMABLE,
    foreign_keys,
    is_marker_text,
    refusal_of,
)
from shared.runtime.progress import log
from shared.runtime.run_folder import STATE_FILE
from shared.runtime.unfinished import FINISHED, UNFINISHED
from shared.storage.address import Address
from shared.storage.objects import Objects
from shared.storage.scratch import new_token, sweep

RESULTS: Final = f"{UNFINISHED}/results"
_WRITER: Final = f"{UNFINISHED}/writer/token"
_MOST_BYTES: Final = 64 << 20
# A prediction of a hundred thousand studies with pages and DICOM objects has some 400,000.
_MOST_KEPT: Final = 5_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteOutput:
    """The output folder of one command at an address. Picklable: worker processes add their studies themselves.

    Attributes:
      token: of this command; scratch folders carry it too.
      resumed: whether an earlier call may have finished studies.
      replaced: names directly below the address that are deleted when the command begins.
      state_file: the file that says whether the command has finished.
    """

    address: Address
    token: str
    resumed: bool
    replaced: tuple[str, ...] = ()
    state_file: str = STATE_FILE

    @classmethod
    def checked(
        cls, address: Address, *, overwrite: bool, resume: bool, inputs: Sequence[object] = (),
        state_file: str = STATE_FILE,
    ) -> "RemoteOutput":  # fmt: skip
        """Makes the checks of `shared.runtime.files.check_output` at an address, and changes nothing.

        Raises:
          InputError: as that does, and as the store does.
        """
        for given in inputs:
            if isinstance(given, Address):
                _check_apart(address, given, overwrite=overwrite)
        store = Objects(address=address, foreign=False)
        names = store.top(most=_MOST_KEPT)
        if names.keys() - {MARKER}:
            marker = store.read(MARKER, most_bytes=_MOST_BYTES) if MARKER in names else None
            ours = marker is not None and is_marker_text(marker)
            if resume and not ours:
                raise InputError(f"{address}: {NOT_RESUMABLE}")
            if resume and state_file not in names and names.keys() - {MARKER, UNFINISHED}:
                raise InputError(f"{address}: cannot resume, it holds no {state_file}; choose another folder")
            if not resume:
                keys = [entry.key for entry in store.listed(most=_MOST_KEPT)] if ours and overwrite else []
                reason = refusal_of(foreign_keys(keys)) if ours else NOT_OURS
                if reason is not None or not overwrite:
                    raise InputError(f"{address}: {reason or NOT_EMPTY}")
        replaced = () if resume else tuple(names)
        return cls(
            address=address, token=new_token(), resumed=resume and MARKER in names, replaced=replaced,
            state_file=state_file,
        )  # fmt: skip

    @property
    def _store(self) -> Objects:
        return Objects(address=self.address, foreign=False)

    def restore(self, folder: Path, read_again: Sequence[str]) -> None:
        """Brings what a resumed command looks at into its empty folder on this machine.

        Args:
          read_again: files that are read again where the command had finished.
        """
        store = self._store
        there = store.top(most=_MOST_KEPT)
        self._fetch_known(folder, [name for name in (MARKER, self.state_file) if name in there])
        path = folder / self.state_file
        state = read_json(path, advice="use --overwrite or another folder") if path.is_file() else None
        if isinstance(state, dict) and state.get(FINISHED) is True:
            self._fetch_known(folder, [name for name in read_again if name in there])

    def _fetch_known(self, folder: Path, names: Sequence[str]) -> None:
        store = self._store
        store.fetch([store.described(name) for name in names], folder)

    def begin(self, folder: Path, *, resumable: bool = True) -> None:
        """Makes the address this command's own, as `folder` is: deletes what is replaced, puts marker and state.

        Args:
          resumable: False for a command without --resume, whose state is only put at the end.
        """
        store = self._store
        if self.replaced:
            log(f"deleting what an earlier command wrote to {self.address}")
        store.delete(name for name in self.replaced if name != MARKER)
        store.put(folder, [MARKER])
        before = store.read(_WRITER, most_bytes=_MOST_BYTES) if self.resumed else None
        store.write(_WRITER, self.token.encode())
        if before is not None:  # a kill leaves the files of the studies in progress on the disk
            sweep(before.decode("ascii", "replace"))
        store.put(folder, [self.state_file] if resumable else [])

    def fetch_record(self, name: str, results: Path) -> None:
        """Brings the record of a study into a folder, if an earlier call has finished the study."""
        if self.resumed:
            store = self._store
            content = store.read(f"{RESULTS}/{name}.jsonl", most_bytes=_MOST_BYTES)
            if content is not None:
                write_text(results / f"{name}.jsonl", content.decode("utf-8", "replace"))

    def add_study(self, folder: Path, *, last: str = "") -> None:
        """Uploads all files of a study, its record last.

        Args:
          last: a file that is uploaded after all others, just before the record.

        Raises:
          InputError: when another command has begun to write to the address, or an upload fails for good.
        """
        self._check_writer()
        keys = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        records = [key for key in keys if key.startswith(f"{RESULTS}/")]
        self._store.put(folder, [key for key in keys if key not in (*records, last)])
        self._store.put(folder, [*([last] if last in keys else [])])
        self._store.put(folder, records)

    def finish(self, folder: Path) -> None:
        """Uploads what lies in the command's own folder, which must be finished, its state last.

        Deletes what only a resumed call needs.
        """
        self._check_writer()
        keys = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        store = self._store
        store.put(folder, [key for key in keys if key not in (self.state_file, MARKER)])
        store.put(folder, [self.state_file])
        self.tidy()

    def keep_only(self, below: str, names: Collection[str]) -> int:
        """Deletes what lies in a folder under other names; returns how many of them are JSON files."""
        store = Objects(address=self.address / below, foreign=False)
        others = [name for name in store.top(most=_MOST_KEPT) if name not in names]
        store.delete(others)
        return sum(name.endswith(".json") for name in others)

    def tidy(self) -> None:
        """Deletes what only a resumed call of an unfinished command needs."""
        self._store.delete([UNFINISHED])

    def _check_writer(self) -> None:
        writer = self._store.read(_WRITER, most_bytes=_MOST_BYTES)
        if writer != self.token.encode():
            raise InputError(
                f"{self.address}: another command has begun to write to this address, so this one stops; let one "
                "command write to it at a time"
            )


@contextmanager
def output_folder(
    out: Path | Address,
    *,
    overwrite: bool,
    resume: bool,
    inputs: Sequence[object],
    read_again: Sequence[str] = (),
    state_file: str = STATE_FILE,
) -> Iterator[tuple[Path, RemoteOutput | None]]:
    """The folder that a command writes to: a path itself, or for an address a folder for the time of the block.

    Messages name that folder as the address.

    Args:
      read_again: as in `RemoteOutput.restore`.

    Raises:
      InputError: as `RemoteOutput.checked` does.
    """
    if isinstance(out, Path):
        yield out, None
        return
    remote = RemoteOutput.checked(out, overwrite=overwrite, resume=resume, inputs=inputs, state_file=state_file)
    with tempfile.TemporaryDirectory(prefix="lumbar-") as made:
        folder = Path(made).resolve()
        show_as(folder, str(out))
        if resume:
            remote.restore(folder, read_again)
        yield folder, remote


def _check_apart(address: Address, given: Address, *, overwrite: bool) -> None:
    """Refuses an output among the images of a data set, and --overwrite where it would delete an input."""
    if any(address.is_within(given / f"{part}_images") for part in ("train", "test")):
        raise InputError(f"{address}: lies among the images of {given}; choose another folder")
    if overwrite and given.is_within(address):
        raise InputError(f"{address}: --overwrite would delete {given}; choose another folder")
