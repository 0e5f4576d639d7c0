"""A folder that studies arrive in: which files are there, which study each belongs to, and which studies are still.

Nothing but polling works on every disk and network share. One look lists the folder and reads the headers of files that
are new or have changed, both within bounds.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shared.dicom.header import is_ours
from shared.dicom.parsing import begins_like_dicom, file_dataset
from shared.dicom.tags import DicomFaultError, tag_value
from shared.runtime.errors import InputError
from shared.runtime.progress import log

# What is more is not looked at: the folder is meant to be emptied now and then.
MAX_FILES: Final = 250_000
# A header takes about a millisecond.
_HEADERS_PER_LOOK: Final = 2000
_MOST_DEPTH: Final = 64
# Names that programs give to files which they have not finished.
_UNFINISHED: Final = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".filepart", ".download", "~")
_NO_STUDY: Final = ""
_UNREADABLE: Final = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """The files of one study that have been still for long enough.

    Attributes:
      key: names the study within the inbox.
      files: path -> size in bytes and time of modification, of all its files, and of those beside them that cannot be
        read, where no other study lies there.
    """

    key: str
    files: dict[Path, tuple[int, int]]


@dataclass(slots=True, kw_only=True)
class _Waiting:
    """When the last file of a study changed, and whether it is to be answered since."""

    changed_s: float
    due: bool = True


@dataclass(slots=True, kw_only=True)
class Inbox:
    """What is known of a watched folder. All times are seconds of one clock that only the caller reads.

    A file that goes is forgotten, and its study is not due for that: whoever empties the folder wants no new answers.

    Attributes:
      folder: with any folders in it; links to folders are not followed.
      still_s: how long all files of a study must be unchanged before it is due.
      behind, away: what the last look left undone; nothing is due then.
    """

    folder: Path
    still_s: float
    behind: bool = False
    away: bool = False
    _stats: dict[str, tuple[int, int]] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)
    _studies: dict[str, _Waiting] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def look(self, now_s: float) -> None:
        """Lists the folder once; `away` says that it could not, `behind` that headers were left for the next look."""
        try:
            listed = dict(self._listed())
        except OSError as error:
            self._tell("away", f"warning: {self.folder}: cannot be listed ({error.strerror}); trying again")
            self.away = True
            return
        self.away = False
        self._told.discard("away")
        for path in self._stats.keys() - listed.keys():
            del self._stats[path], self._keys[path]
        changed = [path for path, stat in listed.items() if self._stats.get(path) != stat]
        self.behind = len(changed) > _HEADERS_PER_LOOK
        for path in changed[:_HEADERS_PER_LOOK]:
            before = self._keys.get(path)
            key = _study_of(Path(path))
            self._stats[path], self._keys[path] = listed[path], key
            for each in {key, before} - {None, _NO_STUDY, _UNREADABLE}:
                self._studies[str(each)] = _Waiting(changed_s=now_s)
        for key in self._studies.keys() - set(self._keys.values()):
            del self._studies[key]

    def due(self, now_s: float) -> Arrival | None:
        """The study that has been still for the longest time and is not answered, if any is still for long enough."""
        if self.away or self.behind:  # nobody knows what else has come
            return None
        waiting = [(study.changed_s, key) for key, study in self._studies.items() if study.due]
        changed_s, key = min(waiting, default=(now_s, ""))
        return self._arrival(key) if key and now_s - changed_s >= self.still_s else None

    def done(self, arrival: Arrival) -> None:
        """Marks a study as answered, or as one that cannot be, until one of its files changes."""
        self._studies[arrival.key].due = False

    def postpone(self, arrival: Arrival, now_s: float) -> None:
        """Makes a study due again, once its files have been still for as long again."""
        if arrival.key in self._studies:
            self._studies[arrival.key] = _Waiting(changed_s=now_s)

    def _arrival(self, key: str) -> Arrival:
        of_folder: dict[str, set[str]] = defaultdict(set)
        for path, of in self._keys.items():
            of_folder[os.path.dirname(path)].add(of)  # noqa: PTH120 - of very many paths
        alone = {folder for folder, of in of_folder.items() if of <= {key, _NO_STUDY, _UNREADABLE} and key in of}
        own = [
            path for path, of in self._keys.items()
            if of == key or (of == _UNREADABLE and os.path.dirname(path) in alone)  # noqa: PTH120
        ]  # fmt: skip
        return Arrival(key=key, files={Path(path): self._stats[path] for path in own})

    def _listed(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """Path -> size and time of modification of every file with a finished name."""
        count, waiting = 0, [(str(self.folder), 0)]
        while waiting:
            folder, depth = waiting.pop()
            try:
                entries = list(os.scandir(folder))
            except OSError:
                if depth == 0:
                    raise
                continue
            for entry in entries:
                if entry.name.startswith(".") or entry.name.lower().endswith(_UNFINISHED):
                    continue
                try:
                    if entry.is_dir(follow_symlinks=False):
                        waiting += [(entry.path, depth + 1)] if depth < _MOST_DEPTH else []
                        continue
                    if not entry.is_file():
                        continue
                    stat = entry.stat()
                except OSError:  # it went while the folder was listed
                    continue
                count += 1
                if count > MAX_FILES:
                    self._tell(
                        "full", f"warning: {self.folder}: holds more than {MAX_FILES} files; the rest is not looked "
                        "at. Move answered studies away",
                    )  # fmt: skip
                    return
                yield entry.path, (stat.st_size, stat.st_mtime_ns)

    def _tell(self, what: str, message: str) -> None:
        """Says a thing once, not at every look."""
        if what not in self._told:
            self._told.add(what)
            log(message)


def _study_of(path: Path) -> str:
    """What names the study of a file: its StudyInstanceUID, or the folder that stands for it.

    Files that are no DICOM, and objects that this system made, belong to no study.
    """
    try:
        if not begins_like_dicom(path):
            return _NO_STUDY
        dataset = file_dataset(path, stop_before_pixels=True, tags=["StudyInstanceUID", "ManufacturerModelName"])
        uid = str(tag_value(dataset, "StudyInstanceUID") or "")
        if is_ours(dataset):
            return _NO_STUDY
    except (InputError, DicomFaultError, OSError):
        return _UNREADABLE
    return f"study {uid}" if uid else f"folder {path.parent.parent}"
