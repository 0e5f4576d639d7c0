"""Where the probabilities of a finding come from, and why the training prior answers some in place of the model."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.labels import FINDINGS, Finding


class ProbabilitySource(StrEnum):
    """Where a row's probabilities come from: the model saw a crop, or the training prior stands in."""

    MODEL = "model"
    PRIOR = "prior"


class PriorReason(StrEnum):
    """Why the training prior stands in for the model. docs/output.md lists the values for readers of the files."""

    STAGE_FAILED = "stage_failed"
    NOT_LUMBAR = "not_lumbar"
    NOT_TRAINED = "not_trained"
    NO_SERIES = "no_series"
    SERIES_UNREADABLE = "series_unreadable"
    LEVEL_NOT_SEEN = "level_not_seen"
    NOT_COVERED = "not_covered"
    WRONG_PLANE = "wrong_plane"
    SLICE_DAMAGED = "slice_damaged"

    @property
    def is_error(self) -> bool:
        """Whether something is broken; all other reasons say that something is not there or was not seen."""
        return self in (PriorReason.STAGE_FAILED, PriorReason.SERIES_UNREADABLE, PriorReason.SLICE_DAMAGED)

    @property
    def text(self) -> str:
        """The reason as the end of a sentence."""
        return _REASON_TEXTS[self]


_REASON_TEXTS: Final = {
    PriorReason.NO_SERIES: "the study has no usable series of their view",
    PriorReason.SERIES_UNREADABLE: "no slice of their view can be read",
    PriorReason.NOT_COVERED: "no slice of their view passes through their level",
    PriorReason.LEVEL_NOT_SEEN: "their level was not seen, or its place is more likely wrong than right",
    PriorReason.SLICE_DAMAGED: "the slice that shows them is missing or cannot be read",
    PriorReason.WRONG_PLANE: "the series does not lie in the plane of its view",
    PriorReason.NOT_LUMBAR: "the study shows no lumbar spine",
    PriorReason.NOT_TRAINED: "the classifier was not trained for their condition",
    PriorReason.STAGE_FAILED: "a stage stopped with an error",
}
PriorReasons = Mapping[Finding, PriorReason]  # of one study: the findings that the prior answers, each with its reason


def is_from_model(reasons: PriorReasons) -> NDArray[np.bool_]:  # [25]
    """Which findings the model answers: those that the prior has no reason to answer."""
    return np.array([finding not in reasons for finding in FINDINGS])


def error_behind(reasons: PriorReasons) -> PriorReason | None:
    """The error for which a study has no row of the model; None where it has one, or where nothing was broken."""
    if len(reasons) < len(FINDINGS):
        return None
    return next((r for r in PriorReason if r.is_error and r in reasons.values()), None)
