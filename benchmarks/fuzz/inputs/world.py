"""A small challenge directory without images and a run of each stage, as the commands write them."""

import json
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from pydicom.dataset import FileDataset

from benchmarks.fuzz.inputs.dicom import saved, slice_dataset
from classify.config import ClassifyConfig
from localize.calibrate import Calibration, write_calibration
from localize.config import LocalizeConfig
from localize.decoding.prior import fit_prior, write_prior
from shared.data.challenge import Challenge, write_grades
from shared.detections import Detection, Localization, Source, write_detections, write_localizations
from shared.jitter import Jitter, write_jitter
from shared.labels import FINDINGS, Condition, Finding, Level, Severity, View
from shared.numbering import Numbering, write_numbering
from shared.probabilities.files import PROBABILITY_COLUMNS, write_probabilities, write_submission
from shared.probabilities.table import ProbabilityTable
from shared.runtime.files import write_csv, write_json
from shared.runtime.run_folder import sha256_of, write_run
from shared.splits import Splits, make_splits, write_splits

STUDIES: Final = tuple(str(100 + n) for n in range(6))
DATA: Final = "data"
LOCALIZER: Final = "localizer"
CLASSIFIER: Final = "classifier"
_STARTED: Final = 1.7e9


@cache
def world() -> Mapping[str, bytes]:
    """Name -> content of every file."""
    return made(_write)


def made(write: Callable[[Path], object]) -> Mapping[str, bytes]:
    """The files that `write` makes in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root)
        return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@cache
def images() -> Mapping[str, bytes]:
    """Three slices of each series of the first two studies."""
    return {
        f"{DATA}/train_images/{study}/{study}{n}/{k}.dcm": saved(_slice(study, view, k))
        for study in STUDIES[:2]
        for n, view in enumerate(View)
        for k in range(1, 6)
    }


def _slice(study: str, view: View, k: int) -> FileDataset:
    tags: dict[str, Any] = {"StudyInstanceUID": f"1.2.{study}", "SeriesInstanceUID": f"1.2.{study}.{view.slug[-1]}"}
    if view is View.AXIAL_T2:
        tags |= {
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "ImagePositionPatient": [-80.0, -90.0, 100.0 - 30.0 * k],
        }
    return slice_dataset(k, **tags)


def _write(root: Path) -> None:
    rng = np.random.default_rng(0)
    data = root / DATA
    grades = {s: rng.choice(3, len(FINDINGS), p=[0.6, 0.25, 0.15]).astype(np.int8) for s in STUDIES}
    write_grades(data / "train.csv", grades)
    write_grades(data / "test.csv", grades)
    points = {s: {f: point(s, f) for f in FINDINGS} for s in STUDIES}
    _write_challenge(data, points)
    challenge = Challenge.open(data)
    splits = make_splits(challenge.study_ids, challenge.grades_of(challenge.study_ids), folds=2)
    values = rng.dirichlet((4, 2, 1), (len(STUDIES), len(FINDINGS)))
    table = ProbabilityTable(study_ids=STUDIES, submission=values, from_model=np.ones(values.shape[:2], bool))
    write_submission(data / "sample_submission.csv", table)
    write_submission(data / "oracle.csv", table)
    write_json(data / "manifest.json", {"traps": [{"trap": "mirrored", "study_id": s} for s in STUDIES[:2]]})
    _write_localizer(root / LOCALIZER, challenge, splits, points)
    _write_classifier(root / CLASSIFIER, challenge, splits, table)


def point(study: str, finding: Finding) -> Localization:
    side = 0.0 if finding.side is None else {"left": 1.0, "right": -1.0}[finding.side.value] * 15.0
    level = float(finding.level)
    return Localization(
        study_id=study, finding=finding, series_id=f"{study}{list(View).index(finding.view)}", instance_number=3,
        x_px=20.0 + int(study) % 7, y_px=10.0 + 5.0 * level, point_mm=(side, 3.0 * level, 80.0 - 33.0 * level),
        source=Source.DETECTED, score=0.9, raw_score=0.8,
    )  # fmt: skip


def _write_challenge(data: Path, points: Mapping[str, Mapping[Finding, Localization]]) -> None:
    series = [(s, f"{s}{n}", view.value) for s in STUDIES for n, view in enumerate(View)]
    table = pd.DataFrame(series, columns=["study_id", "series_id", "series_description"])
    rows = [
        (s, p.series_id, p.instance_number, f.condition_display, f.level.display, p.x_px, p.y_px)
        for s, of_study in points.items()
        for f, p in of_study.items()
    ]
    names = ["study_id", "series_id", "instance_number", "condition", "level", "x", "y"]
    for part in ("train", "test"):
        write_csv(data / f"{part}_series_descriptions.csv", table)
        write_csv(data / f"{part}_label_coordinates.csv", pd.DataFrame(rows, columns=names))


def _write_localizer(
    run: Path, data: Challenge, splits: Splits, points: Mapping[str, Mapping[Finding, Localization]]
) -> None:
    config = LocalizeConfig()
    config.save(run / "config.toml")
    write_splits(run / "splits.json", splits)
    folds = [list(fold) for fold in splits.folds]
    write_json(run / "state.json", {
        "config": config.model_dump(mode="json"), "splits": folds, "data": data.fingerprint})  # fmt: skip
    write_localizations(run / "localizations.csv", {s: dict(p) for s, p in points.items()})
    jitter = Jitter(in_plane_sd_mm=1.2, slice_offsets={-1: 0.1, 0: 0.8, 1: 0.1})
    write_jitter(run / "errors.json", dict.fromkeys(Condition, jitter))
    for fold, held_out in enumerate(splits.folds):
        folder = run / f"fold{fold}"
        write_prior(folder / "chain.json", fit_prior([points[s] for s in held_out]))
        write_calibration(folder / "calibration.json", Calibration(slope=0.6, intercept=4.0, samples=90, support=0.7))
        write_localizations(folder / "localizations.csv", {s: dict(points[s]) for s in held_out})
        write_detections(folder / "detections.csv", [
            Detection(study_id=s, series_id=p.series_id, instance_number=3, view=f.view, level=f.level,
                      box_xyxy_px=(p.x_px - 5, p.y_px - 5, p.x_px + 5, p.y_px + 5), score=0.8)
            for s in held_out for f, p in points[s].items()
        ])  # fmt: skip
        sure = Numbering(as_named=0.98, one_higher=0.01, one_lower=0.01, disc_above=0.1, disc_below=0.1,
                         missing=dict.fromkeys(Level, 0.01))  # fmt: skip
        write_numbering(folder / "numbering.csv", dict.fromkeys(held_out, sure))
        levels = {level.slug: {"map50": 0.8, "map50_95": 0.5} for level in Level}
        write_json(folder / "metrics.json", {
            "map": {view.slug: {"map50": 0.8, "map50_95": 0.5, "levels": levels} for view in View}})  # fmt: skip
        for view in View:
            (folder / f"{view.slug}.safetensors").write_bytes(b"weights")
    models = {view.slug: sha256_of(run / "fold0" / f"{view.slug}.safetensors") for view in View}
    _write_run(
        run, "localize", data_fingerprint=data.fingerprint,
        seeds={"splits": 0, "training": 0}, device="cpu", unmirror=True,
        localizations_sha256=sha256_of(run / "localizations.csv"),
        folds={str(k): {"models": models} for k in range(len(splits.folds))},
    )  # fmt: skip


def _write_classifier(run: Path, data: Challenge, splits: Splits, table: ProbabilityTable) -> None:
    write_splits(run / "splits.json", splits)
    ClassifyConfig().save(run / "config.toml")
    write_probabilities(run / "out_of_fold.csv", table)
    grades = data.grades_of(STUDIES)
    flagged = [
        (s, f.column, Severity(int(grades[n, f.index])).column, 0.1, 0.9, 0.06, 0.04)
        for n, s in enumerate(STUDIES)
        for f in FINDINGS[:3]
    ]
    names = ["study_id", "finding", "grade", "submission", *PROBABILITY_COLUMNS]
    write_csv(run / "noisy_labels.csv", pd.DataFrame(flagged, columns=names))
    _write_run(
        run, "classify", data_fingerprint=data.fingerprint, seed=0,
        device="cpu", folds=list(range(len(splits.folds))), families=[c.short for c in Condition], points="localized",
        unmirror=True, noisy_labels=len(flagged), left_out_labels=0, problems=[],
    )  # fmt: skip


def _write_run(run: Path, kind: str, **facts: Any) -> None:
    """run.json as it would be for any version, time and machine, so that a number stands for the same case."""
    write_run(run, command=f"{kind} train", started=_STARTED, kind=kind, earlier_seconds=0.0, **facts)
    path = run / "run.json"
    same = {"version": "0.2.0", "git_commit": None, "python": "3.11.7", "machine": "x86_64", "seconds": 1.0}
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **same})
