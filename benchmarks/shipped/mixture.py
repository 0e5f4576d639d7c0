"""Synthetic studies and copies of real patients as one challenge directory, made of links."""

import csv
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Final

TABLES: Final = ("train.csv", "train_label_coordinates.csv", "train_series_descriptions.csv")
# SPIDER's patients are numbered from 910000000; copy k of one is numbered this much higher.
_STEP: Final = 1_000_000
# One patient has three annotated slices, a synthetic study about five; with so many copies a sixth of all slices are
# real.
COPIES: Final = 12


def patients_of(spider: Path) -> list[str]:
    """The patients of SPIDER's challenge directory."""
    return sorted(folder.name for folder in (spider / "train_images").iterdir())


def write_mixture(synthetic: Path, spider: Path, patients: Collection[str], out: Path) -> None:
    """Writes `out`, which holds the studies of `synthetic` and `COPIES` copies of each of the named patients."""
    shutil.rmtree(out, ignore_errors=True)
    images = out / "train_images"
    images.mkdir(parents=True)
    for study in sorted((synthetic / "train_images").iterdir()):
        (images / study.name).symlink_to(study.resolve())
    copies = {patient: [str(int(patient) + (k + 1) * _STEP) for k in range(COPIES)] for patient in patients}
    for patient, names in copies.items():
        for name in names:
            (images / name).symlink_to((spider / "train_images" / patient).resolve())
    for table in TABLES:
        rows = _rows(synthetic / table)
        columns = list(rows[0])
        for row in _rows(spider / table):
            rows += [{**row, "study_id": name} for name in copies.get(row["study_id"], ())]
        with (out / table).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def held_out(synthetic: Path, count: int) -> list[str]:
    """Synthetic studies, evenly spread over the sorted ids, that no detector trains on."""
    names = sorted(folder.name for folder in (synthetic / "train_images").iterdir())
    return names[:: max(1, len(names) // count)][:count]
