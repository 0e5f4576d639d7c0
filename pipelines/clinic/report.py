"""A result as a DICOM structured report: Comprehensive 3D SR, TID 1500 "Measurement Report" (PS3.16).

Each of the 25 findings is one measurement group (TID 1501): what, where, on which side, its grade, the probability of
each grade, the slice that was graded and the point in the patient. One more group says how certain the numbering of the
levels is. `pipelines.clinic.reading` reads it back.
"""

from typing import Final

import highdicom as hd
import numpy as np
import pydicom
from highdicom import sr
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from pipelines.clinic.codes import (
    COMMENT,
    CONDITIONS,
    DOUBT,
    GRADES,
    LEVELS,
    NO_UNITS,
    NUMBERING,
    NUMBERING_PARTS,
    POINT_SCORE,
    PRIVATE,
    PROBABILITIES,
    PROCEDURE,
    REASON,
    REASONS,
    SEVERITY,
    SIDES,
    SOURCE,
    SOURCES,
)
from pipelines.clinic.maker import MANUFACTURER, NAME, NOTICE, Maker, forget_creation_time
from pipelines.clinic.origin import Image, Origin
from pipelines.pages.readings import Reading, readings_of
from pipelines.result import StudyResult
from shared.labels import Severity
from shared.numbering import Numbering
from shared.probabilities.reasons import ProbabilitySource

SERIES_NUMBER: Final = 9101


def measurement_report(result: StudyResult, origin: Origin, maker: Maker) -> sr.Comprehensive3DSR:
    """The structured report of a study's result. It is complete and unverified, and says that it is for research."""
    groups = [_finding_group(reading, origin, maker) for reading in readings_of(result)]
    if result.numbering is not None:
        groups.append(_numbering_group(result.numbering, origin, maker))
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=_observer(maker)),
        procedure_reported=PROCEDURE,
        imaging_measurements=groups,
    )
    models = ", ".join([f"{stage} {digest}" for stage, digest in maker.models] + list(maker.options))
    for text in (NOTICE, f"Models, by SHA-256: {models}"):
        content[0].ContentSequence.append(_text(COMMENT, text))
    made = maker.earliest(origin)
    report = sr.Comprehensive3DSR(
        evidence=_evidence(origin), content=content[0],
        series_instance_uid=maker.uid(origin, "report series"), series_number=SERIES_NUMBER,
        sop_instance_uid=maker.uid(origin, "report"), instance_number=1,
        is_complete=True, is_final=False, is_verified=False,
        manufacturer=MANUFACTURER, manufacturer_model_name=NAME, software_versions=maker.version,
        device_serial_number=maker.serial, series_description="Lumbar spine grades, research use",
        content_qualification=hd.ContentQualificationValues.RESEARCH, coding_schemes=[_scheme()],
        content_date=made.date(), content_time=made.time(), series_date=made.date(), series_time=made.time(),
    )  # fmt: skip
    forget_creation_time(report)
    return report


def _observer(maker: Maker) -> sr.ObserverContext:
    """The system itself: no person has looked at the result."""
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=maker.device_uid, name=NAME, manufacturer_name=MANUFACTURER, model_name=NAME, serial_number=maker.serial
    )
    return sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)


def _scheme() -> CodingSchemeIdentificationItem:
    return CodingSchemeIdentificationItem(
        designator=PRIVATE, name="Codes of lumbar-severity", version="1", responsible_organization=MANUFACTURER
    )


def _evidence(origin: Origin) -> list[pydicom.Dataset]:
    """All images that were looked at; the first also says whose they are."""
    datasets = []
    for image in origin.images.values():
        dataset = pydicom.Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = image.sop_class, image.sop_uid
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = origin.study_uid, image.series_uid
        datasets.append(dataset)
    datasets[0].update(origin.about)
    return datasets


def _algorithm(maker: Maker) -> sr.AlgorithmIdentification:
    return sr.AlgorithmIdentification(name=NAME, version=maker.version)


def _finding_group(reading: Reading, origin: Origin, maker: Maker) -> sr.MeasurementsAndQualitativeEvaluations:
    """One finding. Where the prior answers there is no grade: frequencies say nothing about this patient."""
    finding, place = reading.finding, reading.place
    image = None if place is None else origin.images.get((place.series_id, place.instance_number))
    evaluations = [] if reading.grade is None else [_evaluation(SEVERITY, GRADES[reading.grade])]
    source = ProbabilitySource.MODEL if reading.reason is None else ProbabilitySource.PRIOR
    evaluations.append(_evaluation(SOURCE, SOURCES[source]))
    if reading.reason is not None:
        evaluations.append(_evaluation(REASON, REASONS[reading.reason]))
    measurements = [_number(PROBABILITIES[s], float(reading.probabilities[s])) for s in Severity]
    if place is not None:
        measurements.append(_number(POINT_SCORE, place.score, image, place.point_mm))
    name = f"{finding.level.display} {finding.condition_display}"
    side = None if finding.side is None else SIDES[finding.side]
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=maker.uid(origin, finding.column), identifier=name),
        finding_type=CONDITIONS[finding.condition],
        finding_sites=[sr.FindingSite(anatomic_location=LEVELS[finding.level], laterality=side)],
        algorithm_id=_algorithm(maker),
        measurements=measurements, qualitative_evaluations=evaluations,
        source_images=None if image is None else [sr.SourceImageForMeasurementGroup(*_reference(image))],
    )  # fmt: skip
    group[0].ContentSequence.extend(_text(DOUBT, doubt) for doubt in reading.doubts)
    return group


def _numbering_group(numbering: Numbering, origin: Origin, maker: Maker) -> sr.MeasurementsAndQualitativeEvaluations:
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=maker.uid(origin, "numbering"), identifier=NUMBERING.meaning),
        finding_type=NUMBERING,
        finding_sites=[sr.FindingSite(anatomic_location=codes.SCT.LumbarSpine)],
        algorithm_id=_algorithm(maker),
        measurements=[_number(code, float(getattr(numbering, part))) for part, code in NUMBERING_PARTS.items()],
    )  # fmt: skip


def _text(name: Code, value: str) -> sr.TextContentItem:
    return sr.TextContentItem(name=name, value=value, relationship_type=sr.RelationshipTypeValues.CONTAINS)


def _evaluation(name: Code, value: Code) -> sr.QualitativeEvaluation:
    return sr.QualitativeEvaluation(name=name, value=value)


def _number(
    name: Code, value: float, image: Image | None = None, point_mm: tuple[float, float, float] | None = None
) -> sr.Measurement:
    """A number, with the image and the point in patient coordinates that it is about."""
    images = None if image is None else [sr.SourceImageForMeasurement(*_reference(image))]
    points = None
    if image is not None and image.frame_of_reference is not None and point_mm is not None:
        point = sr.CoordinatesForMeasurement3D(
            graphic_type=sr.GraphicTypeValues3D.POINT, graphic_data=np.array([point_mm], dtype=float),
            frame_of_reference_uid=image.frame_of_reference,
        )  # fmt: skip
        points = [point]
    return sr.Measurement(
        name=name, value=value, unit=NO_UNITS, referenced_images=images, referenced_coordinates=points
    )


def _reference(image: Image) -> tuple[str, str, list[int] | None]:
    return image.sop_class, image.sop_uid, None if image.frame is None else [image.frame]
