"""Which studies or folders of a data set are prepared, and the files of each."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.data.challenge import Challenge, Part, listed_parts, series_files
from shared.data.store import Kind, Unit, is_store
from shared.dicom.discover import no_dicom
from shared.dicom.scan import scan_folder
from shared.runtime.errors import InputError
from shared.runtime.progress import log
from shared.storage.address import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The units of each part of the data.

    Attributes:
      origin: what the store names as its source, an archive that was unpacked for example; None for the data's folder.
      at_hand: whether the files are on a disk; otherwise the units do not tell them.
    """

    kind: Kind
    units: Mapping[str, tuple[Unit, ...]]
    origin: Path | Address | None = None
    at_hand: bool = True


def plan_units(data: Path, part: Part | None) -> Plan:
    """Looks at tables and folders without opening any DICOM file of a challenge directory.

    Raises:
      InputError: when there is nothing to prepare, or a table is broken.
    """
    if not data.is_dir():
        raise InputError(f"{data}: no such folder; expected a challenge directory or a folder of DICOM files")
    if is_store(data):
        raise InputError(f"{data}: is a prepared store itself; give the folder of DICOM files that it was made from")
    listed = listed_parts(data) if part is None else (part,)
    if not listed:
        return Plan(kind="folder", units={"folder": _folder_units(data)})
    units: dict[str, tuple[Unit, ...]] = {}
    for name in listed:
        challenge = Challenge.open(data, name)
        if challenge.images.is_dir():
            units[name] = _challenge_units(challenge)
        else:
            log(f"warning: {challenge.images}: no such folder; the {name} part is left out")
    if not units:
        raise InputError(f"{data}: has tables but no images; expected {part or 'train'}_images/<study>/<series>/*.dcm")
    return Plan(kind="challenge", units=units)


def _challenge_units(data: Challenge) -> tuple[Unit, ...]:
    units = []
    for study_id, listed in sorted(data.series.items()):
        folder = data.images / study_id
        series = tuple(dict.fromkeys(series_id for series_id, _ in listed))
        files = tuple(f"{s}/{path.name}" for s in series for path in series_files(folder / s))
        units.append(
            Unit(
                part=data.part, name=study_id, folder=f"{data.images.name}/{study_id}", series=series, files=files,
                exists=folder.is_dir(),
            )
        )  # fmt: skip
    return tuple(units)


def _folder_units(data: Path) -> tuple[Unit, ...]:
    """One unit per folder that holds DICOM files directly, named by a digest because folder names can be anything."""
    files: dict[str, list[str]] = defaultdict(list)
    scan = scan_folder(data)
    for path in scan.dicom:
        files[path.parent.relative_to(data).as_posix()].append(path.name)
    if not files:
        raise no_dicom(data, scan)
    return tuple(
        Unit(part="folder", name=hashlib.sha256(folder.encode("utf-8", "surrogateescape")).hexdigest()[:16],
             folder=folder, files=tuple(names))
        for folder, names in sorted(files.items())
    )  # fmt: skip
