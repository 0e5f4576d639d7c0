"""Fits what a localizer says of its own certainty, on studies that it has not seen and that bad scans show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np

from localize.calibrate import Calibration, fit_calibration
from localize.config import LocalizeConfig
from localize.decoding.chain import decode_chain
from localize.decoding.decode import decode_study
from localize.decoding.lift import lift
from localize.decoding.prior import ChainPrior
from localize.measures import FindingError, study_errors
from localize.predict import Predictions
from shared.annotations import annotated_localizations
from shared.data.challenge import Challenge
from shared.detections import Detection, Localization
from shared.labels import Condition, Finding
from shared.mirror.correct import as_shown
from shared.runtime.progress import track
from shared.study import Study

NAMING_WEIGHTS: Final = (0.02, 0.05, 0.1, 0.2, 0.35, 0.6, 1.0)
SHIFT_PRIORS: Final = (0.02, 0.05, 0.1, 0.2, 0.3)
# Fewer points than this say nothing of a numbering, and no certainty counts as less than this.
_FEWEST: Final = 3
_LEAST: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One corrupted study, as its pixels show it: what the detectors saw in it, and what is true."""

    study: Study
    detections: tuple[Detection, ...]
    truth: Mapping[Finding, Localization]

    def errors(self, prior: ChainPrior, config: LocalizeConfig) -> list[FindingError]:
        """The errors of the decoded points."""
        return study_errors(
            self.study, self.truth, decode_study(self.study, self.detections, prior, config).localizations
        )


def cases_of(data: Challenge, predictions: Predictions, *, unmirror: bool) -> list[Case]:
    """The studies that were localized."""
    cases = []
    for study_id in predictions.localizations:
        study = as_shown(data.load_study(study_id).study, look=unmirror).study
        cases.append(
            Case(
                study=study,
                detections=tuple(d for d in predictions.detections if d.study_id == study_id),
                truth=annotated_localizations(study, data.points.get(study_id, ())),
            )
        )
    return cases


def named_right(errors: Sequence[FindingError]) -> bool | None:
    """Whether every point of the canal, else of the foramina, is nearest to its own level; None for under three."""
    for condition in (Condition.CANAL, Condition.FORAMINAL):
        compared = [e for e in errors if e.finding.condition is condition and e.nearest_level is not None]
        if len(compared) >= _FEWEST:
            return all(e.nearest_level is e.finding.level for e in compared)
    return None


def fit_doubt(
    cases: Sequence[Case], prior: ChainPrior, config: LocalizeConfig
) -> tuple[LocalizeConfig, Calibration, dict[str, float]]:
    """Chooses the weight of names and the prior of shifts by likelihood, then fits the calibration of the scores.

    Returns:
      The config with both, the calibration, and what was tried: the mean negative log likelihood of each pair.
    """
    told = [(case, named_right(case.errors(prior, config))) for case in cases]
    lifted = [(lift(c.study, c.detections, prior), right) for c, right in told if right is not None]
    hit = np.array([right for _, right in lifted])
    tried = {}
    for pair in track(list(product(NAMING_WEIGHTS, SHIFT_PRIORS)), "fitting the doubt"):
        chain = _with(config, *pair).chain
        decoded = [decode_chain(seen, prior, chain).numbering for seen, _ in lifted]
        named = np.array([0.0 if numbering is None else numbering.as_named for numbering in decoded])
        tried[pair] = float(-np.log(np.clip(np.where(hit, named, 1 - named), _LEAST, 1)).mean())
    best = min(tried, key=lambda pair: tried[pair])
    chosen = _with(config, *best)
    errors = [e for case in cases for e in case.errors(prior, chosen)]
    found = [(e.raw_score, e.right) for e in errors if e.raw_score is not None]
    calibration = fit_calibration([score for score, _ in found], [right for _, right in found])
    return chosen, calibration, {f"naming_weight {w}, shift_prior {s}": round(v, 4) for (w, s), v in tried.items()}


def _with(config: LocalizeConfig, naming_weight: float, shift_prior: float) -> LocalizeConfig:
    chain = config.chain.model_copy(update={"naming_weight": naming_weight, "shift_prior": shift_prior})
    return config.model_copy(update={"chain": chain})
