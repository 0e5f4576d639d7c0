"""Held-out probabilities under a calibration that has not seen them, for a report without that optimism."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from classify.calibrate import cross_fitted
from classify.network.checkpoint import load_card
from shared.labels import Condition, findings_of
from shared.probabilities import ProbabilityTable, floored
from shared.splits import Splits


def cross_calibrated(table: ProbabilityTable, truth: np.ndarray, run: Path, splits: Splits) -> ProbabilityTable:
    """The table with each fold's calibration taken back and refitted without each study. # truth [n, 25]

    For a run that held out studies at localizations; at annotated points the calibration was fitted on other
    (jittered) crops than the table's. Prior rows stay as they are.
    """
    values = table.values.copy()
    fold = np.array([splits.fold_of(s) for s in table.study_ids])
    for k in np.unique(fold):
        card = load_card(run / f"fold{k}")
        for condition in Condition:
            columns = np.array([f.index for f in findings_of(condition)])
            study, place = np.nonzero((fold == k)[:, None] & table.from_model[:, columns])
            if not len(study):
                continue
            rows = (study, columns[place])
            logits = card.calibration[condition].undo(values[rows])
            values[rows] = cross_fitted(logits, truth[rows], study, card.config.calibration.method)
    return replace(table, values=floored(values))
