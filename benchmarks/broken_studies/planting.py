"""A challenge directory with sound studies and a damaged copy of one of them for each kind of damage."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd
import pydicom
from pydicom.uid import UID

from benchmarks.broken_studies.damage import Damage, Planted
from shared.data.challenge import Part
from shared.labels import View
from shared.runtime.files import write_csv

TWIN: Final = "9000000000"
_TABLES: Final = ("series_descriptions", "label_coordinates")


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much of a data set is planted: its first studies, and so many evenly spaced slices of each series."""

    part: Part = "test"
    sound: int = 3
    slices: int | None = None


def plant(data: Path, out: Path, damages: Mapping[str, Damage], extent: Extent) -> dict[str, str]:
    """Writes sound studies of `data`, an undamaged copy of the first one, and one copy for each damage.

    Returns:
      damage -> study id. The undamaged copy is study `TWIN`.
    """
    part, slices = extent.part, extent.slices
    tables = _read(data, part)
    sound = list(dict.fromkeys(tables["series_descriptions"]["study_id"]))[: extent.sound]
    tables = {name: table[table["study_id"].isin(sound)] for name, table in tables.items()}
    rows = tables["series_descriptions"]
    ids = {name: str(int(TWIN) + n) for n, name in enumerate(damages, start=1)}
    for study_id in sound:
        for series_id in rows.loc[rows["study_id"] == study_id, "series_id"]:
            folder = Path(f"{part}_images", study_id, series_id)
            _copy(data / folder, out / folder, slices, ())
    for name, study_id in {"": TWIN, **ids}.items():
        study, tables = _twin(out, part, tables, sound[0], study_id)
        if name:
            listed = list(study.rows)
            damages[name].spoil(study)
            if study.rows != listed:
                tables["series_descriptions"] = _listed(tables["series_descriptions"], study_id, study.rows)
    for name, table in tables.items():
        write_csv(out / (f"{part}.csv" if name == "grades" else f"{part}_{name}.csv"), table)
    return ids


def _read(data: Path, part: Part) -> dict[str, pd.DataFrame]:
    names = {name: f"{part}_{name}.csv" for name in _TABLES} | {"grades": f"{part}.csv"}
    return {
        name: pd.read_csv(data / file, dtype=str, keep_default_na=False)
        for name, file in names.items()
        if (data / file).is_file()
    }


def _twin(
    out: Path, part: Part, tables: dict[str, pd.DataFrame], of: str, study_id: str
) -> tuple[Planted, dict[str, pd.DataFrame]]:
    """Copies a sound study of `out` under another id, with its rows in all tables."""
    rows = tables["series_descriptions"]
    rows = rows[rows["study_id"] == of]
    series = {old: f"{study_id}{n}" for n, old in enumerate(rows["series_id"], start=1)}
    images = out / f"{part}_images"
    for old, new in series.items():
        uids = (("StudyInstanceUID", f"1.{study_id}"), ("SeriesInstanceUID", f"1.{new}"), ("PatientID", study_id))
        _copy(images / of / old, images / study_id / new, None, uids)
    views = [
        (series[old], View.from_text(text))
        for old, text in zip(rows["series_id"], rows["series_description"], strict=True)
    ]
    added = {}
    for name, table in tables.items():
        copied = table[table["study_id"] == of].assign(study_id=study_id)
        if "series_id" in copied:
            copied["series_id"] = copied["series_id"].map(series)
        added[name] = pd.concat([table, copied])
    return Planted(folder=images / study_id, rows=views), added


def _copy(source: Path, target: Path, slices: int | None, uids: Iterable[tuple[str, str]]) -> None:
    paths = sorted(source.glob("*.dcm"), key=lambda path: int(path.stem))
    step = len(paths) / slices if slices and slices < len(paths) else 1
    target.mkdir(parents=True)
    for n in range(round(len(paths) / step)):
        path = paths[int(n * step)]
        dataset = pydicom.dcmread(path)
        for keyword, value in uids:
            setattr(dataset, keyword, value)
        if uids:
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"1.{target.name}.{path.stem}")
            dataset.FrameOfReferenceUID = f"1.{target.parent.name}.9"
        dataset.save_as(target / path.name, enforce_file_format=True)


def _listed(table: pd.DataFrame, study_id: str, rows: Iterable[tuple[str, View]]) -> pd.DataFrame:
    own = pd.DataFrame([(study_id, s, v.value) for s, v in rows], columns=list(table.columns))
    return pd.concat([table[table["study_id"] != study_id], own])
