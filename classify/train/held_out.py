"""A fold's crops out of the cache, and its held-out probabilities."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from classify.calibrate import Calibration, fit_where_it_helps, softmax, weighted_log_loss
from classify.config import CalibrationConfig
from classify.crop_cache import CropCache
from classify.network.model import FAMILIES
from classify.noisy_labels import Flags
from classify.samples import Crops
from shared.data.challenge import Challenge
from shared.labels import FINDINGS, Condition
from shared.probabilities import ProbabilityTable, constant_table, floored


def select_crops(
    cache: CropCache,
    data: Challenge,
    study_ids: Sequence[str],
    *,
    graded_only: bool = False,
    localized_only: bool = False,
    without: Flags = frozenset(),
) -> Crops:
    """Crops of some studies; without a grade only where `graded_only` is off, at annotated points only where
    `localized_only` is off. Findings in `without` are left out."""
    rows = cache.rows_of(study_ids)
    grades = data.grades_of(list(study_ids))
    wanted = cache.present[rows].copy()
    if graded_only:
        wanted &= grades >= 0
    if localized_only:
        wanted &= ~cache.annotated[rows]
    for i, study_id in enumerate(study_ids):
        for finding in FINDINGS:
            if (study_id, finding) in without:
                wanted[i, finding.index] = False
    position, place = np.nonzero(wanted)
    return Crops(
        patches=cache.patches, study=rows[position], finding=place, label=grades[position, place],
        annotated=cache.annotated[rows][position, place],
    )  # fmt: skip


def family_mean_loss(logits: NDArray[np.float64], crops: Crops) -> float:
    """Mean over families of the weighted log loss; NaN when nothing is graded. # [n, 3]"""
    probabilities = softmax(logits)
    losses = [
        weighted_log_loss(probabilities[crops.family == c], crops.label[crops.family == c])
        for c in range(len(FAMILIES))
    ]
    present = [v for v in losses if not np.isnan(v)]
    return float(np.mean(present)) if present else float("nan")


def fit_calibrations(
    logits: NDArray[np.float64], crops: Crops, config: CalibrationConfig
) -> dict[Condition, Calibration]:
    calibrations = {}
    for c, condition in enumerate(FAMILIES):
        own = crops.family == c
        calibrations[condition] = fit_where_it_helps(logits[own], crops.label[own], crops.study[own], config.method)
    return calibrations


def held_out_table(
    logits: NDArray[np.float64],
    crops: Crops,
    calibration: Mapping[Condition, Calibration],
    prior: NDArray[np.float64],
    *,
    study_ids: Sequence[str],
    rows: NDArray[np.intp],
) -> ProbabilityTable:
    """Probabilities of the held-out studies: the model's where there is a crop, the prior elsewhere.

    `rows` says which index of `crops.study` each of `study_ids` has. # [n, 3] logits, [25, 3] prior, [studies] rows
    """
    table = constant_table(study_ids, prior)
    values, from_model = table.values.copy(), table.from_model.copy()
    position = {int(row): i for i, row in enumerate(rows)}
    for i, (study, finding) in enumerate(zip(crops.study, crops.finding, strict=True)):
        place = (position[int(study)], int(finding))
        values[place] = calibration[FINDINGS[finding].condition](logits[i])
        from_model[place] = True
    return ProbabilityTable(study_ids=table.study_ids, values=floored(values), from_model=from_model)
