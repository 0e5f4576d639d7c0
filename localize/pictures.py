"""The pictures of the localizer's report: example studies, and the points that lie farthest from the true ones."""

from collections.abc import Sequence
from typing import Final

from localize.measures import FindingError
from shared.annotations import annotated_localizations
from shared.data.challenge import Challenge
from shared.detections import Detection, Localizations
from shared.dicom.pixels import slice_pixels
from shared.figures.marks import Marks
from shared.figures.report import Report
from shared.figures.result_sheet import Miss, example_sheet, misses_sheet
from shared.figures.sheet import draw_sheet
from shared.runtime.problems import counted

_EXAMPLES: Final = 2
_WORST: Final = 10
_WORST_PER_STUDY: Final = 3
_LISTED: Final = 20


def add_examples(
    report: Report, data: Challenge, localizations: Localizations, detections: Sequence[Detection]
) -> None:
    """Adds the first studies with true points, with their annotated and localized points and boxes."""
    report.heading("Examples")
    for study_id in sorted(data.points)[:_EXAMPLES]:
        study, points = data.load_study(study_id).study, data.points[study_id]
        marks = Marks(
            points=tuple(points),
            localizations=tuple(localizations.get(study_id, {}).values()),
            detections=tuple(d for d in detections if d.study_id == study_id),
        )
        sheet = example_sheet(study, marks, list(annotated_localizations(study, points).values()))
        report.image(
            draw_sheet(sheet, slice_pixels)[0], f"Study {study_id}: annotated and localized points, and detector boxes."
        )


def add_worst_cases(
    report: Report, data: Challenge, localizations: Localizations, errors: Sequence[FindingError]
) -> None:
    """Adds the largest errors as pictures, and a table of the findings that were not localized."""
    report.heading("Worst cases")
    misses = [_miss(data, localizations, error) for error in _worst(errors)]
    if misses:
        report.image(
            draw_sheet(misses_sheet(misses), slice_pixels)[0],
            f"The largest 3-D errors, at most {_WORST_PER_STUDY} per study.",
        )
    lost = [e for e in errors if not e.found]
    if lost:
        report.table(
            ["not localized", "finding"],
            [[e.study_id, e.finding.column] for e in lost[:_LISTED]],
            f"{counted(len(lost), 'finding')} with a true point, but not localized; at most {_LISTED} are listed.",
        )


def _worst(errors: Sequence[FindingError]) -> list[FindingError]:
    """The largest errors, few per study: one misread study must not fill the page."""
    far: list[FindingError] = []
    for error in sorted((e for e in errors if e.distance_mm is not None), key=lambda e: -(e.distance_mm or 0.0)):
        if len(far) < _WORST and sum(e.study_id == error.study_id for e in far) < _WORST_PER_STUDY:
            far.append(error)
    return far


def _miss(data: Challenge, localizations: Localizations, error: FindingError) -> Miss:
    study, finding = data.load_study(error.study_id).study, error.finding
    found = localizations[error.study_id][finding]
    side = "" if finding.side is None else f"{finding.side.value} "
    return Miss(
        study=study,
        true=annotated_localizations(study, data.points[error.study_id])[finding],
        found=found,
        true_text=f"{error.study_id}\n{finding.condition.short}, {side}{finding.level.display}",
        found_text=f"{error.distance_mm:.1f} mm off, {error.slices:+d} slices\n{found.source.value}, "
        f"score {found.score:.2f}",
    )
