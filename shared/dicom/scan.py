"""Every file below a folder: which may be DICOM, which are not, and which cannot even be opened."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shared.dicom.parsing import begins_like_dicom
from shared.runtime.errors import InputError
from shared.runtime.names import hide_names, order_of

# No exporter nests deeper, and os.walk calls itself for each level.
_MOST_DEPTH: Final = 64
_ARCHIVES: Final = frozenset({".zip", ".tar", ".tgz", ".tbz2", ".txz", ".7z", ".rar"})
# Formats that people convert DICOM files to, and what they are called.
_CONVERTED: Final = {
    ".png": "PNG picture", ".jpg": "JPEG picture", ".jpeg": "JPEG picture", ".tif": "TIFF picture",
    ".tiff": "TIFF picture", ".bmp": "BMP picture", ".webp": "WebP picture", ".gif": "GIF picture",
    ".nii": "NIfTI file", ".nrrd": "NRRD file", ".mha": "MetaImage file", ".mhd": "MetaImage file",
    ".npy": "NumPy file", ".npz": "NumPy file", ".pdf": "PDF file",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderScan:
    """The files below a folder, in order of their masked names.

    Attributes:
      dicom: files that begin like DICOM.
      other: how many files do not.
      archives: how many of those are archives by their names.
      converted: how many of those are pictures and the like by their names, by what they are called.
      closed: files and folders that cannot be opened or listed, with the reason.
    """

    dicom: tuple[Path, ...]
    other: int
    archives: int = 0
    converted: Mapping[str, int] = field(default_factory=dict)
    closed: tuple[tuple[Path, InputError], ...]


def scan_folder(folder: Path) -> FolderScan:
    """Looks at every file below a folder. Links are followed; a folder that is reached twice counts once."""
    hide_names(folder)
    dicom: list[Path] = []
    closed: list[tuple[Path, InputError]] = []
    converted: Counter[str] = Counter()
    other = archives = 0
    for path in sorted(files_below(folder, closed), key=order_of):
        try:
            found = begins_like_dicom(path)
        except OSError as error:
            closed.append((path, InputError(f"{path}: cannot be opened ({error.strerror or type(error).__name__})")))
            continue
        if found:
            dicom.append(path)
        else:
            other += 1
            archives += path.suffix.lower() in _ARCHIVES or path.name.lower().endswith(".tar.gz")
            converted.update(filter(None, [converted_kind(path)]))
    return FolderScan(dicom=tuple(dicom), other=other, archives=archives, converted=converted, closed=tuple(closed))


def converted_kind(path: Path) -> str:
    """What a file is that DICOM may have been converted to, by its name; empty for any other."""
    suffix = ".nii" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()
    return _CONVERTED.get(suffix, "")


def files_below(folder: Path, closed: list[tuple[Path, InputError]]) -> Iterator[Path]:
    """Every file below a folder, as `scan_folder` walks it; what cannot be listed is added to `closed`."""

    def note(error: OSError) -> None:
        path = Path(str(error.filename))
        closed.append((path, InputError(f"{path}: cannot be listed ({error.strerror or type(error).__name__})")))

    seen: set[str] = set()
    for here, folders, names in os.walk(folder, onerror=note, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:  # a link back to where we have been
            folders.clear()
            continue
        seen.add(real)
        if folders and len(Path(here).relative_to(folder).parts) >= _MOST_DEPTH:
            closed.append(
                (Path(here), InputError(f"{here}: holds folders more than {_MOST_DEPTH} deep; they are left out"))
            )
            folders.clear()
        yield from (Path(here) / name for name in names)
