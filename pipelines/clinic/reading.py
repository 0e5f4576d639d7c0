"""Reads our structured reports back: the 25 findings of a report, and whether they are those of studies/<id>.json.

```python
from pipelines.clinic.reading import read_report

report = read_report("prediction/dicom/1.2.3/report.dcm")
for finding in report.findings:
    print(finding.finding.column, finding.grade, finding.probabilities, finding.source)
```
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numpy as np
from highdicom import sr
from pydicom.sr.coding import Code
from pydicom.uid import Comprehensive3DSRStorage

from pipelines.clinic.codes import (
    CONDITIONS,
    DOUBT,
    GRADES,
    LEVELS,
    POINT_SCORE,
    PROBABILITIES,
    REASON,
    REASONS,
    SEVERITY,
    SIDES,
    SOURCE,
    SOURCES,
)
from shared.dicom.parsing import file_dataset, foreign
from shared.labels import FINDINGS, Finding, Severity
from shared.probabilities.reasons import PriorReason, ProbabilitySource
from shared.runtime.errors import InputError

# A point is stored with the 24 bits of a 32-bit float.
POINT_TOLERANCE_MM: Final = 1e-3
_TOLERANCE: Final = 1e-9

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedFinding:
    """One finding of a structured report.

    Attributes:
      grade: None where nothing was graded.
      probabilities: of the three grades; where nothing was graded, their frequencies in the training data.
      reason: why nothing was graded.
      doubts: why the grade should not be relied on, in words.
      score: probability that the point and its level are right; None without a point.
      sop_uid: of the image that was graded.
      frame: number of its frame, from 1; None in an image of one frame.
      point_mm: in the space that `frame_of_reference` names.
    """

    finding: Finding
    grade: Severity | None
    probabilities: tuple[float, float, float]
    source: ProbabilitySource
    reason: PriorReason | None
    score: float | None
    doubts: tuple[str, ...]
    sop_uid: str | None
    frame: int | None
    point_mm: tuple[float, float, float] | None
    frame_of_reference: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a structured report says of a study; `findings` are in the order of `FINDINGS`."""

    study_uid: str
    findings: tuple[ReportedFinding, ...]


def read_report(path: str | Path) -> Report:
    """Reads a report that `lumbar predict --dicom` wrote, wherever it has been since.

    Raises:
      InputError: for a file that is no such report, or lacks a finding.
    """
    path = Path(path)
    dataset = file_dataset(path, stop_before_pixels=False)
    with foreign(str(path), f"is no report of `lumbar predict --dicom` with {len(FINDINGS)} findings"):
        if dataset.get("SOPClassUID") != Comprehensive3DSRStorage:
            raise InputError(f"{path}: is no Comprehensive 3D SR; expected a report of `lumbar predict --dicom`")
        report = sr.Comprehensive3DSR.from_dataset(dataset, copy=False)
        groups = cast("sr.MeasurementReport", report.content).get_image_measurement_groups()
        found = {f.finding: f for f in map(_finding, groups) if f is not None}
        return Report(study_uid=str(dataset.StudyInstanceUID), findings=tuple(found[f] for f in FINDINGS))


def _finding(group: sr.MeasurementsAndQualitativeEvaluations) -> ReportedFinding | None:
    """The finding of a measurement group; None for a group of another kind."""
    condition = _meant(CONDITIONS, group.finding_type)
    if condition is None:
        return None
    site = group.finding_sites[0]
    finding = Finding(
        condition=condition, side=None if site.laterality is None else _known(SIDES, site.laterality),
        level=_known(LEVELS, site.value),
    )  # fmt: skip
    evaluations: dict[tuple[str, str], Any] = {_code(e.name): e.value for e in group.get_qualitative_evaluations()}
    numbers = {_code(m.name): m for m in group.get_measurements()}
    probabilities = [float(numbers[_code(PROBABILITIES[s])].value) for s in Severity]
    score = numbers.get(_code(POINT_SCORE))
    image = next(iter(group.source_images), None)
    frames = None if image is None else image.referenced_frame_numbers
    point = None if score is None else _point(score)
    return ReportedFinding(
        finding=finding,
        grade=_known(GRADES, evaluations[_code(SEVERITY)]) if _code(SEVERITY) in evaluations else None,
        probabilities=(probabilities[0], probabilities[1], probabilities[2]),
        source=_known(SOURCES, evaluations[_code(SOURCE)]),
        reason=_known(REASONS, evaluations[_code(REASON)]) if _code(REASON) in evaluations else None,
        score=None if score is None else float(score.value),
        doubts=tuple(str(i.TextValue) for i in group[0].ContentSequence if i.ValueType == "TEXT" and i.name == DOUBT),
        sop_uid=None if image is None else str(image.referenced_sop_instance_uid),
        frame=frames[0] if frames else None,
        point_mm=None if point is None else point[0], frame_of_reference=None if point is None else point[1],
    )  # fmt: skip


def _point(score: sr.Measurement) -> tuple[tuple[float, float, float], str] | None:
    """The point that a score is of, and the frame of reference of its coordinates."""
    for item in score[0].get("ContentSequence", ()):
        if item.ValueType == "SCOORD3D":
            x, y, z = (float(v) for v in item.GraphicData)
            return (x, y, z), str(item.ReferencedFrameOfReferenceUID)
    return None


def _code(code: Code | sr.CodedConcept) -> tuple[str, str]:
    return code.scheme_designator, code.value


def _meant(meanings: Mapping[T, Code], code: Code | sr.CodedConcept | None) -> T | None:
    return next((key for key, known in meanings.items() if code is not None and _code(known) == _code(code)), None)


def _known(meanings: Mapping[T, Code], code: Code | sr.CodedConcept) -> T:
    found = _meant(meanings, code)
    if found is None:
        raise ValueError("a code that no report of ours holds")
    return found


def differences(report: Report, answer: Mapping[str, Any]) -> list[str]:
    """Where a report says something else than the content of studies/<id>.json: one line per finding, none if equal."""
    told = {finding["finding"]: finding for finding in answer["findings"]}
    return [
        f"{found.finding.column}: {', '.join(unlike)}"
        for found in report.findings
        if (unlike := _unlike(found, told[found.finding.column]))
    ]


def _unlike(found: ReportedFinding, told: Mapping[str, Any]) -> list[str]:
    """The names of what differs. A point may be absent from the report, where its image has no frame of reference."""
    place = told["localization"] or {}
    expected = [told["probabilities"][s.column] for s in Severity]
    pairs: Sequence[tuple[str, bool]] = (
        ("probabilities", bool(np.allclose(found.probabilities, expected, rtol=0, atol=_TOLERANCE))),
        ("source", found.source.value == told["source"]),
        ("reason", (found.reason and found.reason.value) == told["reason"]),
        ("score", found.score == place.get("score")),
        ("point", found.point_mm is None
         or bool(np.allclose(found.point_mm, place.get("point_mm", np.nan), rtol=0, atol=POINT_TOLERANCE_MM))),
    )  # fmt: skip
    return [name for name, same in pairs if not same]
