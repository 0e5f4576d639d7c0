"""One synthetic study from its seed to its files; runs in a worker process."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.synthetic.dicom_files import write_series
from pipelines.synthetic.scanner.scan import StudyPlan, scan_study
from pipelines.synthetic.scanner.series import Point
from pipelines.synthetic.traps.assign import TRAPS
from shared.labels import View
from shared.runtime.files import remove
from shared.runtime.unfinished import Results


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyJob:
    """What one worker needs to make one study.

    Attributes:
      images: folder that gets `<study_id>/<series_id>/`.
      kept: folder of the records of finished studies.
      key: digest of the generator's version and of the options of the data set, which decide a study.
      traps: names of the traps to plant.
    """

    plan: StudyPlan
    images: Path
    kept: Path
    key: str
    traps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRecord:
    """What the tables need to know of a written study.

    Attributes:
      grade: what `train.csv` records, after traps, in the order of `FINDINGS`.
      traps: name and detail of what was planted.
    """

    study_id: str
    points: tuple[Point, ...]
    grade: tuple[int, ...]
    series: tuple[tuple[str, View], ...]
    traps: tuple[tuple[str, str], ...]
    summary: dict[str, Any]


def simulate_study(job: StudyJob) -> StudyRecord:
    """Makes and writes one study, or returns the record of one that an interrupted call has finished."""
    study_id, folder = job.plan.study_id, job.images / job.plan.study_id
    results = Results(folder=job.kept, kind=StudyRecord)
    kept = results.read(study_id, job.key) if folder.is_dir() else None
    if kept is not None:
        return kept
    unfinished = job.images / f".{study_id}"
    for left_over in (folder, unfinished):
        remove(left_over)
    record = _make(job, unfinished)
    unfinished.rename(folder)
    return results.fetch(study_id, job.key, lambda: record)


def _make(job: StudyJob, folder: Path) -> StudyRecord:
    """Makes one study in a folder that is not there yet."""
    rng = np.random.default_rng(job.plan.seed)
    scan = scan_study(job.plan, rng)
    planted = []
    for name in job.traps:
        changed = TRAPS[name](scan, rng)
        if changed is not None:
            scan, detail = changed
            planted.append((name, detail))
    folder.mkdir(parents=True)
    for series in scan.series:
        write_series(series, folder / series.series_id, rng)
    return StudyRecord(
        study_id=job.plan.study_id,
        points=scan.points,
        grade=tuple(scan.grade.tolist()),
        series=tuple((s.series_id, s.view) for s in scan.series),
        traps=tuple(planted),
        summary=scan.summary,
    )
