"""Writes a whole synthetic challenge directory and the truth behind it."""

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from pipelines.synthetic.files.writer import probability_rows, wide_grades, write_csv
from pipelines.synthetic.grades import (
    READER_NOISE,
    THRESHOLDS,
    Labels,
    grade_probabilities,
    latent_scale,
    sample_labels,
    severity_text,
)
from pipelines.synthetic.scanner.acquire import RESOLUTIONS, Preset
from pipelines.synthetic.scanner.scan import StudyPlan
from pipelines.synthetic.simulate import StudyJob, StudyRecord, simulate_study
from pipelines.synthetic.traps.plant import assign_traps
from shared.labels import FINDINGS
from shared.runtime.errors import InputError

# Changes whenever the same seed gives other bytes.
GENERATOR_VERSION: Final = "5"

Progress = Callable[[int, int], None]


def generate(
    out: Path,
    *,
    studies: int,
    test_studies: int,
    preset: Preset = "demo",
    seed: int = 0,
    traps: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
) -> None:
    """Writes `out/data` (the challenge directory) and `out/truth`.

    The same arguments give the same bytes, whatever the number of workers. Nothing is left half written: both folders
    are made beside and renamed.

    Args:
      studies, test_studies: how many go to `train_images` and to `test_images`.
      preset: "demo" is small and fast, "full" has the challenge's matrix sizes and slice counts.
      traps: plant the data set's known traps in some studies, see `truth/manifest.json`.
      progress: called with (done, total) after every study.

    Raises:
      InputError: a count is negative or zero in sum, the preset is unknown, or `out` already holds a data set.
    """
    _check(out, studies, test_studies, preset)
    for left_over in out.glob(".partial-*"):  # of a call that was killed
        shutil.rmtree(left_over, ignore_errors=True)
    partial = out / f".partial-{os.getpid()}"
    (partial / "data").mkdir(parents=True)
    (partial / "truth").mkdir()
    try:
        labels = _labels(seed, studies, test_studies)
        planned = assign_traps(studies, test_studies, seed) if traps else {}
        jobs = _jobs(labels, partial / "data", planned, studies=studies, preset=preset, seed=seed)
        for part in ("train_images", "test_images"):
            (partial / "data" / part).mkdir()
        records = []
        for record in _run(jobs, workers):
            records.append(record)
            if progress is not None:
                progress(len(records), len(jobs))
        _write_data(partial / "data", records, studies)
        _write_truth(partial / "truth", labels, records, studies)
        _write_manifest(partial / "truth", records, preset=preset, seed=seed, studies=studies)
        # The data set counts as written once `data` is there.
        shutil.rmtree(out / "truth", ignore_errors=True)
        for name in ("truth", "data"):
            (partial / name).rename(out / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check(out: Path, studies: int, test_studies: int, preset: str) -> None:
    if studies < 0 or test_studies < 0 or studies + test_studies == 0:
        raise InputError(f"expected at least one study, got {studies} training and {test_studies} test studies")
    if preset not in RESOLUTIONS:
        raise InputError(f"unknown preset {preset!r}: expected one of {', '.join(RESOLUTIONS)}")
    if (out / "data").exists():
        raise InputError(f"{out / 'data'} already exists: remove it or choose another folder")


def _labels(seed: int, studies: int, test_studies: int) -> Labels:
    """Labels of the training studies, then of the test studies.

    Each part has a seed of its own: no test patient of one call is a training patient of another with the same seed.
    """
    parts = [sample_labels(n, np.random.SeedSequence([seed, 0, k])) for k, n in enumerate((studies, test_studies))]
    return Labels(
        latent=np.concatenate([p.latent for p in parts]),
        grade=np.concatenate([p.grade for p in parts]),
        degeneration=np.concatenate([p.degeneration for p in parts]),
    )


def _jobs(
    labels: Labels, data: Path, planned: Mapping[int, tuple[str, ...]], *, studies: int, preset: Preset, seed: int
) -> list[StudyJob]:
    """One job per study, training studies first; ids are numeric strings like the challenge's."""
    count = len(labels.latent)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    ids = rng.choice(2**32 - 4 * 10**6, size=count, replace=False) + 4 * 10**6
    return [
        StudyJob(
            plan=StudyPlan(
                study_id=str(ids[n]),
                seed=np.random.SeedSequence([seed, 2, 0, n] if n < studies else [seed, 2, 1, n - studies]),
                latent=labels.latent[n],
                grade=labels.grade[n],
                degeneration=float(labels.degeneration[n]),
                preset=preset,
            ),
            images=data / ("train_images" if n < studies else "test_images"),
            traps=planned.get(n, ()),
        )
        for n in range(count)
    ]


def _run(jobs: Sequence[StudyJob], workers: int) -> Iterator[StudyRecord]:
    """Records in the order of the jobs."""
    if workers <= 1:
        yield from map(simulate_study, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
        yield from pool.map(simulate_study, jobs)


def _one_thread() -> None:
    """The pool already fills the cores."""
    import cv2

    cv2.setNumThreads(1)


def _points_table(records: Iterable[StudyRecord]) -> pd.DataFrame:
    rows = [
        (
            r.study_id,
            p.series_id,
            p.instance_number,
            p.finding.condition_display,
            p.finding.level.display,
            p.x_px,
            p.y_px,
        )
        for r in records
        for p in r.points
    ]
    return pd.DataFrame(rows, columns=["study_id", "series_id", "instance_number", "condition", "level", "x", "y"])


def _series_table(records: Iterable[StudyRecord]) -> pd.DataFrame:
    rows = [(r.study_id, series_id, view.value) for r in records for series_id, view in r.series]
    return pd.DataFrame(rows, columns=["study_id", "series_id", "series_description"])


def _grades_table(records: Sequence[StudyRecord]) -> pd.DataFrame:
    return wide_grades([r.study_id for r in records], [[severity_text(int(g)) for g in r.grade] for r in records])


def _write_data(data: Path, records: Sequence[StudyRecord], studies: int) -> None:
    train, test = slice(0, studies), slice(studies, None)
    write_csv(_grades_table(records[train]), data / "train.csv")
    write_csv(_points_table(records[train]), data / "train_label_coordinates.csv")
    write_csv(_series_table(records[train]), data / "train_series_descriptions.csv")
    write_csv(_series_table(records[test]), data / "test_series_descriptions.csv")
    test_ids = [r.study_id for r in records[test]]
    uniform = np.full((len(test_ids), len(FINDINGS), 3), 1 / 3)
    write_csv(probability_rows(test_ids, uniform), data / "sample_submission.csv")


def _write_truth(truth: Path, labels: Labels, records: Sequence[StudyRecord], studies: int) -> None:
    test = slice(studies, None)
    write_csv(_grades_table(records[test]), truth / "test.csv")
    write_csv(_points_table(records[test]), truth / "test_label_coordinates.csv")
    ids = [r.study_id for r in records]
    write_csv(probability_rows(ids, grade_probabilities(labels.latent)), truth / "oracle.csv")
    rows = [
        (study, f.column, labels.latent[n, f.index], severity_text(int(labels.grade[n, f.index])))
        for n, study in enumerate(ids)
        for f in FINDINGS
    ]
    write_csv(pd.DataFrame(rows, columns=["study_id", "finding", "latent", "grade"]), truth / "latents.csv")


def _write_manifest(truth: Path, records: Sequence[StudyRecord], *, preset: Preset, seed: int, studies: int) -> None:
    manifest: dict[str, Any] = {
        "version": GENERATOR_VERSION,
        "seed": seed,
        "preset": preset,
        "studies": studies,
        "test_studies": len(records) - studies,
        "parameters": {
            "reader_noise": {c.short: noise for c, noise in READER_NOISE.items()},
            "thresholds": list(THRESHOLDS),
            "latent_scale": {f.column: [round(v, 6) for v in latent_scale(f)] for f in FINDINGS},
            "resolution": asdict(RESOLUTIONS[preset]),
        },
        "traps": [{"study_id": r.study_id, "trap": name, "detail": text} for r in records for name, text in r.traps],
        "summaries": [r.summary for r in records],
    }
    (truth / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
