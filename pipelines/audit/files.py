"""One study's files: reads every header once and reports what cannot be read and how pixels are stored.

Issues come without part and study id, which `pipelines.audit.study` adds.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pipelines.audit.issues import Code, Issue
from shared.data.challenge import is_slice_file, number_of
from shared.dicom.encoding import Encoding, read_encoded_header, read_encoded_slices
from shared.dicom.header import Header, NoImageError, NoPlaneError
from shared.labels import View
from shared.runtime.errors import InputError, shown
from shared.runtime.names import name_of
from shared.runtime.problems import counted
from shared.study import Series, Slice, Study, number_uniquely, order_slices

_NAMED: Final = 5
_SUFFIXES: Final = frozenset(
    {".bak", ".bmp", ".csv", ".db", ".gz", ".html", ".ima", ".ini", ".jpeg", ".jpg", ".json", ".nii", ".pdf", ".png",
     ".tif", ".tmp", ".txt", ".xml", ".zip"}
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRead:
    """One readable slice. As in the tables, `slice` takes its number from the file's name where that is a number."""

    slice: Slice
    tag_number: int
    series_uid: str | None
    encoding: Encoding


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRead:
    """A series and its files, both in anatomical order.

    Attributes:
      numbered: whether the slices keep the files' own instance numbers; False where those repeat.
      files_found: number of files, readable or not.
    """

    series: Series
    files: tuple[FileRead, ...]
    numbered: bool
    files_found: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRead:
    """What could be read of a study; a series without a readable slice is only an issue."""

    study_id: str
    series: tuple[SeriesRead, ...]
    issues: tuple[Issue, ...]

    @property
    def study(self) -> Study:
        return Study(study_id=self.study_id, series=tuple(s.series for s in self.series))


def read_challenge_study(root: Path, part: str, study_id: str, listed: Sequence[tuple[str, View]]) -> StudyRead:
    """Reads the listed series of a study below `<root>/<part>_images`."""
    folder = root / f"{part}_images" / study_id
    if not _is_folder(folder):
        reason = f"expected the folder {name_of(folder)}, got none"
        return StudyRead(study_id=study_id, series=(), issues=(Issue(code=Code.IMAGES_MISSING, reason=reason),))
    known = {series_id for series_id, _ in listed}
    issues: list[Issue] = []
    for path in _entries(root, folder, issues):
        if path.name not in known:
            reason = "expected a series of the series descriptions, got a folder or file of another name"
            issues.append(Issue(code=Code.FOLDER_UNLISTED, file=name_of(path), reason=reason))
    series = []
    for series_id, view in listed:
        entries = _entries(root, folder / series_id, issues)
        paths = [p for p in entries if is_slice_file(p)]
        others = Counter(_kind(p) for p in entries if not is_slice_file(p))
        if others:
            reason = f"{others.total()} entries: " + ", ".join(f"{n} {kind}" for kind, n in sorted(others.items()))
            issues.append(Issue(code=Code.FILE_UNEXPECTED, series_id=series_id, reason=reason))
        read = _read_files(root, series_id, paths, issues, by_name=True)
        if read:
            series.append(_assemble(series_id, view, read, len(paths)))
        else:
            reason = f"expected {view.value} slices, got {counted(len(paths), 'file')}, none of them readable"
            issues.append(Issue(code=Code.SERIES_EMPTY, series_id=series_id, reason=reason))
    return StudyRead(study_id=study_id, series=tuple(series), issues=tuple(issues))


def read_known_study(root: Path, study: Study) -> StudyRead:
    """Reads the files of a study that was discovered in a plain folder."""
    issues: list[Issue] = []
    series = []
    for item in study.series:
        wanted = {(s.path, s.frame) for s in item.slices}
        paths = list(dict.fromkeys(s.path for s in item.slices))
        files = _read_files(root, item.series_id, paths, issues, by_name=False)
        read = [file for file in files if (file.slice.path, file.slice.frame) in wanted]
        if read:
            series.append(_assemble(item.series_id, item.view, read, len(paths)))
    return StudyRead(study_id=study.study_id, series=tuple(series), issues=tuple(issues))


def _entries(root: Path, folder: Path, issues: list[Issue]) -> list[Path]:
    """The sorted content of a folder; empty for a missing folder and for an unreadable one, which is an issue."""
    try:
        return sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        issues.append(unreadable_folder(root, folder, error))
        return []


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # its parent cannot be read, which is reported for the parent
        return False


def unreadable_folder(root: Path, folder: Path, error: OSError) -> Issue:
    reason = f"the folder cannot be read ({error.strerror or type(error).__name__})"
    return Issue(code=Code.FILE_UNREADABLE, file=name_of(folder), reason=reason)


def _kind(path: Path) -> str:
    """A stray file's suffix, if it is a common one. The name itself stays out: it may be a patient's."""
    return path.suffix.lower() if path.suffix.lower() in _SUFFIXES else "of another name"


def unread_code(error: InputError) -> Code:
    """The code of an error that a file raised."""
    if isinstance(error, NoImageError):
        return Code.NO_IMAGE
    return Code.NO_PLANE if isinstance(error, NoPlaneError) else Code.FILE_UNREADABLE


def _read_files(
    root: Path, series_id: str, paths: Iterable[Path], issues: list[Issue], *, by_name: bool
) -> list[FileRead]:
    """The readable files; `by_name` numbers slices by file name where that is a number."""
    read = []
    for path in paths:
        number = number_of(path)
        at = Issue(
            code=Code.PIXELS_UNREADABLE, reason="", series_id=series_id, instance_number=number,
            file=name_of(path),
        )  # fmt: skip
        for reading in _read_slices(path, by_name=by_name):
            if isinstance(reading, InputError):
                reason = str(reading).removeprefix(shown(str(path))).removeprefix(":").strip()
                issues.append(replace(at, code=unread_code(reading), reason=reason))
                continue
            header, encoding = reading
            used = number if by_name and number is not None else header.instance_number
            item = replace(header.to_slice(), instance_number=used)
            read.append(
                FileRead(slice=item, tag_number=header.instance_number, series_uid=header.series_uid, encoding=encoding)
            )
            if encoding.damage is not None and header.frame == 0:
                issues.append(replace(at, instance_number=used, reason=encoding.damage))
    return read


def _read_slices(path: Path, *, by_name: bool) -> list[tuple[Header, Encoding] | InputError]:
    """The slices of one file, of which a challenge's directory keeps one per file."""
    try:
        return [read_encoded_header(path)] if by_name else read_encoded_slices(path)
    except InputError as error:
        return [error]


def _assemble(series_id: str, view: View, read: Sequence[FileRead], files_found: int) -> SeriesRead:
    by_place = {(file.slice.path, file.slice.frame): file for file in read}
    ordered = order_slices((file.slice for file in read), view)
    numbered = number_uniquely(ordered)
    return SeriesRead(
        series=Series(series_id=series_id, view=view, slices=numbered),
        files=tuple(by_place[item.path, item.frame] for item in ordered),
        numbered=numbered is ordered,
        files_found=files_found,
    )


def check_encoding(read: StudyRead) -> list[Issue]:
    """How each series' pixels are stored; one issue per series and oddity."""
    issues = [
        Issue(code=code, series_id=item.series.series_id, reason=reason)
        for item in read.series
        for code, reason in _oddities(item)
    ]
    frames = {f.encoding.frame_of_reference for s in read.series for f in s.files} - {""}
    if len(frames) > 1:
        reason = f"{len(frames)} FrameOfReferenceUIDs in {len(read.series)} series"
        issues.append(Issue(code=Code.FRAME_OF_REFERENCE, reason=reason))
    return issues


def _oddities(item: SeriesRead) -> list[tuple[Code, str]]:
    files = item.files
    tests: list[tuple[Code, Callable[[Encoding], bool], Callable[[Encoding], str]]] = [
        (Code.MONOCHROME1, lambda e: e.photometric == "MONOCHROME1", lambda e: "PhotometricInterpretation MONOCHROME1"),
        (Code.SIGNED_PIXELS, lambda e: e.signed, lambda e: "PixelRepresentation 1"),
        (Code.RESCALED, lambda e: e.rescale not in (None, (1.0, 0.0)), lambda e: _rescale(e.rescale)),
        (Code.TRANSFER_SYNTAX, lambda e: not e.plain, lambda e: e.syntax),
        (Code.LOSSY, lambda e: e.lossy, lambda e: f"lossy compression, {e.syntax}"),
        (Code.SEVERAL_WINDOWS, lambda e: e.windows > 1, lambda e: f"{e.windows} window centres"),
    ]
    found = []
    for code, test, tell in tests:
        odd = [f for f in files if test(f.encoding)]
        if odd:
            found.append((code, f"{tell(odd[0].encoding)}; {len(odd)} of {counted(len(files), 'file')}"))
    uids = {f.series_uid for f in files if f.series_uid}
    if len(uids) > 1:
        found.append(
            (Code.SERIES_MIXED, f"{len(uids)} SeriesInstanceUIDs in one folder of {counted(len(files), 'file')}")
        )
    if item.numbered:
        other = [f for f in files if f.slice.instance_number != f.tag_number and number_of(f.slice.path) is not None]
        if other:
            first = other[0].slice.path.name
            found.append((Code.NUMBER_DIFFERS, f"{counted(len(other), 'file')}; {first} says {other[0].tag_number}"))
    else:
        counts = Counter(f.slice.instance_number for f in files)
        repeated = sorted(n for n, count in counts.items() if count > 1)
        named = ", ".join(str(n) for n in repeated[:_NAMED])
        found.append((Code.NUMBERS_REPEATED, f"{len(repeated)} numbers repeat: {named}"))
    return found


def _rescale(value: tuple[float, float] | None) -> str:
    slope, intercept = value or (1.0, 0.0)
    return f"slope {slope:g}, intercept {intercept:g}"
