"""One synthetic study from its seed to its files; runs in a worker process."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.synthetic.dicom_files import write_series
from pipelines.synthetic.scanner.scan import StudyPlan, scan_study
from pipelines.synthetic.scanner.series import Point
from pipelines.synthetic.traps.assign import TRAPS
from shared.labels import View


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyJob:
    """What one worker needs to make one study.

    Attributes:
      images: folder that gets `<study_id>/<series_id>/`.
      traps: names of the traps to plant.
    """

    plan: StudyPlan
    images: Path
    traps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRecord:
    """What the tables need to know of a written study.

    Attributes:
      grade: what `train.csv` records, after traps.
      traps: name and detail of what was planted.
    """

    study_id: str
    points: tuple[Point, ...]
    grade: NDArray[np.int64]  # [25]
    series: tuple[tuple[str, View], ...]
    traps: tuple[tuple[str, str], ...]
    summary: dict[str, Any]


def simulate_study(job: StudyJob) -> StudyRecord:
    """Makes and writes one study."""
    rng = np.random.default_rng(job.plan.seed)
    scan = scan_study(job.plan, rng)
    planted = []
    for name in job.traps:
        changed = TRAPS[name](scan, rng)
        if changed is not None:
            scan, detail = changed
            planted.append((name, detail))
    folder = job.images / job.plan.study_id
    folder.mkdir(parents=True)
    for series in scan.series:
        write_series(series, folder / series.series_id, rng)
    return StudyRecord(
        study_id=job.plan.study_id,
        points=scan.points,
        grade=scan.grade,
        series=tuple((s.series_id, s.view) for s in scan.series),
        traps=tuple(planted),
        summary=scan.summary,
    )
