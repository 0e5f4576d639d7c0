"""The coded concepts of the structured report: standard codes where there is one, else the private scheme 99LUMBAR.

Sources: DICOM PS3.16, CID 1003 (levels of the discs), 244 (laterality) and 3832 (stenosis grade); SNOMED CT. No code of
SNOMED CT or RadLex names a neural foraminal narrowing or a subarticular stenosis of the lumbar spine, or a grade that
covers normal and mild.
"""

from collections.abc import Mapping
from typing import Final

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from shared.labels import Condition, Level, Severity, Side
from shared.probabilities.reasons import PriorReason, ProbabilitySource

PRIVATE: Final = "99LUMBAR"


def _private(value: str, meaning: str) -> Code:
    return Code(value, PRIVATE, meaning)


# The levels of the discs, not the discs: a stenosis lies behind or beside them (CID 7604 holds the discs themselves).
LEVELS: Final[Mapping[Level, Code]] = {
    Level.L1_L2: codes.SCT.LevelOfL1L2IntervertebralDisc,
    Level.L2_L3: codes.SCT.LevelOfL2L3IntervertebralDisc,
    Level.L3_L4: codes.SCT.LevelOfL3L4IntervertebralDisc,
    Level.L4_L5: codes.SCT.LevelOfL4L5IntervertebralDisc,
    Level.L5_S1: codes.SCT.LevelOfL5S1IntervertebralDisc,
}
SIDES: Final[Mapping[Side, Code]] = {Side.LEFT: codes.SCT.Left, Side.RIGHT: codes.SCT.Right}
CONDITIONS: Final[Mapping[Condition, Code]] = {
    Condition.CANAL: Code("18347007", "SCT", "Spinal stenosis of lumbar region"),
    Condition.FORAMINAL: _private("foraminal", "Neural foraminal narrowing"),
    Condition.SUBARTICULAR: _private("subarticular", "Subarticular (lateral recess) stenosis"),
}
GRADES: Final[Mapping[Severity, Code]] = {
    Severity.NORMAL_MILD: _private("normal_mild", "Normal or mild"),
    Severity.MODERATE: codes.SCT.Moderate,
    Severity.SEVERE: codes.SCT.Severe,
}
PROBABILITIES: Final[Mapping[Severity, Code]] = {
    s: _private(f"p_{s.column}", f"Probability of {GRADES[s].meaning}") for s in Severity
}
SOURCES: Final[Mapping[ProbabilitySource, Code]] = {
    ProbabilitySource.MODEL: _private("model", "Graded by the model"),
    ProbabilitySource.PRIOR: _private("prior", "Not graded: frequencies in the training data"),
}
REASONS: Final[Mapping[PriorReason, Code]] = {
    reason: _private(reason.value, f"Not graded: {reason.value.replace('_', ' ')}") for reason in PriorReason
}

SEVERITY: Final = codes.SCT.Severity
SOURCE: Final = _private("source", "Source of the grade")
REASON: Final = _private("reason", "Reason for not grading")
POINT_SCORE: Final = _private("point_score", "Probability that the point and its level are right")
DOUBT: Final = _private("doubt", "Doubt about the grade")
NUMBERING: Final = _private("numbering", "Numbering of the lumbar levels")
# How certain the numbering of the levels is, by the names of `shared.numbering.Numbering`.
NUMBERING_PARTS: Final[Mapping[str, Code]] = {
    "as_named": _private("as_named", "Probability that all levels are named correctly"),
    "one_higher": _private("one_higher", "Probability that all are one disc higher"),
    "one_lower": _private("one_lower", "Probability that all are one disc lower"),
    "disc_above": _private("disc_above", "Probability of another disc above L1/L2"),
    "disc_below": _private("disc_below", "Probability of another disc below L5/S1"),
}
NO_UNITS: Final = codes.UCUM.NoUnits
# Of CID 100, which has none for the spine; the finding sites say the region.
PROCEDURE: Final = Code("25056-3", "LN", "MRI unspecified body region")
COMMENT: Final = codes.DCM.Comment
