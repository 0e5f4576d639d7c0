"""Damaged tables and JSON files are one message, and nothing that comes of them is infinite."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from classify.noisy_labels import read_noisy
from localize.calibrate import Calibration, read_calibration, write_calibration
from localize.decoding.prior import fit_prior, read_prior, write_prior
from localize.evaluate import read_traps
from localize.measures import read_maps
from pipelines.audit.run import AuditOptions, inspect
from pipelines.evaluate import EvaluateOptions, score_files
from shared.data.challenge import Challenge
from shared.detections import (
    Detection,
    Localization,
    Source,
    read_detections,
    read_localizations,
    write_detections,
    write_localizations,
)
from shared.jitter import Jitter, read_jitter, write_jitter
from shared.labels import FINDINGS, SEVERITY_COLUMNS, Condition, Level, View
from shared.numbering import Numbering, read_numbering, write_numbering
from shared.probabilities.files import read_probabilities, read_submission, write_probabilities
from shared.probabilities.table import constant_table
from shared.runtime.errors import InputError
from shared.runtime.files import write_json
from shared.runtime.run_folder import RUN_FILE, STATE_FILE, RunFolder, read_run, trained_folds, write_run
from shared.splits import Splits, read_splits, write_splits
from tests.pipelines.damaged_files import damaged_documents, damaged_table

TABLES, DOCUMENTS = 100, 200
STUDIES = ("1001", "1002")


def _write_tables(folder: Path) -> None:
    columns = [f.column for f in FINDINGS]
    grades = "\n".join(f"{s},{','.join(['Moderate', 'Severe', ''] + ['Normal/Mild'] * 22)}" for s in STUDIES)
    (folder / "train.csv").write_text(f"study_id,{','.join(columns)}\n{grades}\n")
    rows = "\n".join(f"{s},{n},{v.value}" for s in STUDIES for n, v in enumerate(View, int(s) * 10))
    (folder / "train_series_descriptions.csv").write_text(f"study_id,series_id,series_description\n{rows}\n")
    points = "\n".join(
        f"{s},{int(s) * 10},{n},{f.condition_display},{f.level.display},{n}.5,{n}.25"
        for s in STUDIES
        for n, f in enumerate(FINDINGS, 1)
    )
    (folder / "train_label_coordinates.csv").write_text(
        f"study_id,series_id,instance_number,condition,level,x,y\n{points}\n"
    )
    table = constant_table(STUDIES, np.full((25, 3), 1 / 3))
    submission = "\n".join(f"{f.row_id(s)},0.25,0.25,0.5" for s in STUDIES for f in FINDINGS)
    (folder / "submission.csv").write_text(f"row_id,{','.join(SEVERITY_COLUMNS)}\n{submission}\n")
    (folder / "noisy_labels.csv").write_text(f"study_id,finding,grade\n1001,{columns[0]},moderate\n")
    write_probabilities(folder / "probabilities.csv", table)
    box = Detection(
        study_id="1001", series_id="10010", instance_number=3, view=View.SAGITTAL_T2, level=Level(1),
        box_xyxy_px=(1.0, 2.0, 3.0, 4.0), score=0.5,
    )  # fmt: skip
    write_detections(folder / "detections.csv", [box] * 3)
    point = Localization(
        study_id="1001", finding=FINDINGS[0], series_id="10010", instance_number=3, x_px=1.0, y_px=2.0,
        point_mm=(1.0, 2.0, 3.0), source=Source.DETECTED, score=0.5,
    )  # fmt: skip
    write_localizations(folder / "localizations.csv", {"1001": {FINDINGS[0]: point}})
    numbering = Numbering(
        as_named=0.9, one_higher=0.05, one_lower=0.05, disc_above=0.1, disc_below=0.2, missing=dict.fromkeys(Level, 0.1)
    )
    write_numbering(folder / "numbering.csv", dict.fromkeys(STUDIES, numbering))


def _open(folder: Path) -> None:
    data = Challenge.open(folder)
    assert data.fingerprint
    data.grades_of(data.study_ids)


def _score(folder: Path) -> None:
    json.dumps(score_files(folder / "submission.csv", folder, EvaluateOptions())[0].to_json(), allow_nan=False)


READERS: dict[str, tuple[Callable[[Path], object], ...]] = {
    **dict.fromkeys(
        ("train.csv", "train_series_descriptions.csv", "train_label_coordinates.csv"),
        (_open, lambda folder: inspect(folder, AuditOptions(part="train", images=False))),
    ),
    "submission.csv": (_score, lambda folder: read_submission(folder / "submission.csv")),
    "probabilities.csv": (lambda folder: read_probabilities(folder / "probabilities.csv"),),
    "noisy_labels.csv": (lambda folder: read_noisy(folder / "noisy_labels.csv", Challenge.open(folder)),),
    "detections.csv": (lambda folder: read_detections(folder / "detections.csv"),),
    "localizations.csv": (lambda folder: read_localizations(folder / "localizations.csv"),),
    "numbering.csv": (lambda folder: read_numbering(folder / "numbering.csv"),),
}


def _told(read: Callable[[Path], object], folder: Path, name: str) -> str:
    """The message about a damaged file; empty where it is read. Any other exception ends the test."""
    message = ""
    try:
        read(folder)
    except InputError as error:
        message = str(error)
    assert len(message) <= 2010, name
    return message


def test_damaged_tables_are_one_message(tmp_path: Path) -> None:
    _write_tables(tmp_path)
    readers = [(name, read) for name, reads in READERS.items() for read in reads]
    for name, read in readers:
        assert _told(read, tmp_path, name) == "", name
    told = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in range(TABLES):
            name, read = readers[n % len(readers)]
            sound = (tmp_path / name).read_bytes()
            (tmp_path / name).write_bytes(damaged_table(sound, np.random.default_rng(n)))
            told += bool(_told(read, tmp_path, f"{name} {n}"))
            (tmp_path / name).write_bytes(sound)
    assert told > TABLES // 3


def _write_documents(folder: Path) -> None:
    facts = {"data_fingerprint": "a" * 64, "unmirror": True, "problems": ["x"]}
    models = {"models": {view.slug: "0" * 64 for view in View}}
    write_run(folder, command="x", started=0.0, kind="localize", folds={"0": models, "1": models}, **facts)
    RunFolder(path=folder, kind="localize", last_file="x").claim({"config": {"a": 1}}, resume=False)
    write_splits(folder / "splits.json", Splits(seed=0, folds=(("1", "2"), ("3",))))
    write_jitter(folder / "errors.json", {c: Jitter(in_plane_sd_mm=1.5, slice_offsets={0: 1.0}) for c in Condition})
    write_prior(folder / "chain.json", fit_prior([]))
    write_calibration(folder / "calibration.json", Calibration(slope=0.5, intercept=1.0, samples=60, failures=3))
    level = {"map50": 0.5, "map50_95": 0.25}
    write_json(folder / "metrics.json", {"map": {"axial_t2": {**level, "levels": {"l1_l2": level}}}, "problems": []})
    write_json(folder / "manifest.json", {"traps": [{"study_id": "1", "trap": "x", "detail": "y"}], "seed": 0})


def _read_run(folder: Path) -> None:
    trained_folds(folder, read_run(folder, expected_kind="localize"))


def _read_prior(folder: Path) -> None:
    prior = read_prior(folder / "chain.json")
    assert np.isfinite(prior.gap_mean).all()
    assert np.isfinite(np.linalg.inv(prior.gap_cov)).all()


DOCUMENT_READERS: dict[str, Callable[[Path], object]] = {
    RUN_FILE: _read_run,
    STATE_FILE: lambda folder: RunFolder(path=folder, kind="localize", last_file="x").claim({"b": 1}, resume=True),
    "splits.json": lambda folder: read_splits(folder / "splits.json"),
    "errors.json": lambda folder: read_jitter(folder / "errors.json"),
    "chain.json": _read_prior,
    "calibration.json": lambda folder: read_calibration(folder / "calibration.json").apply([0.1, 0.9]),
    "metrics.json": lambda folder: read_maps(folder / "metrics.json"),
    "manifest.json": lambda folder: read_traps(folder / "manifest.json"),
}


def test_damaged_documents_are_one_message_that_names_the_file(tmp_path: Path) -> None:
    _write_documents(tmp_path)
    cases = [
        (name, what, new)
        for name in DOCUMENT_READERS
        for what, new in damaged_documents((tmp_path / name).read_text(encoding="utf-8"))
    ]
    told = 0
    for name, what, new in cases[:: len(cases) // DOCUMENTS]:
        sound = (tmp_path / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(new, encoding="utf-8", errors="surrogatepass")
        message = _told(DOCUMENT_READERS[name], tmp_path, f"{name}: {what}")
        assert not message or str(tmp_path) in message, (name, what, message)
        told += bool(message)
        (tmp_path / name).write_text(sound, encoding="utf-8")
    assert told > DOCUMENTS // 2


@pytest.mark.parametrize("value", ["1e400", "NaN", "-Infinity", "9" * 5000])
def test_numbers_that_are_not_finite_are_refused_in_every_document(tmp_path: Path, value: str) -> None:
    _write_documents(tmp_path)
    for name, read in DOCUMENT_READERS.items():
        sound = (tmp_path / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(sound.rstrip().removesuffix("}") + f', "more": {value}}}', encoding="utf-8")
        assert name in _told(read, tmp_path, name)
        (tmp_path / name).write_text(sound, encoding="utf-8")
