"""The picture of a result as a DICOM secondary capture, for viewers that show no structured reports."""

from typing import Final

import highdicom as hd
from pydicom.uid import ExplicitVRLittleEndian

from pipelines.clinic.maker import MANUFACTURER, NAME, NOTICE, Maker, forget_creation_time
from pipelines.clinic.origin import Origin
from pipelines.result import StudyResult

SERIES_NUMBER: Final = 9102


def secondary_capture(result: StudyResult, origin: Origin, maker: Maker) -> hd.sc.SCImage:
    """The graded slices with their marks, as `StudyResult.picture` draws them, in colour and uncompressed."""
    about, made = origin.about, maker.earliest(origin)
    image = hd.sc.SCImage(
        pixel_array=result.picture(), photometric_interpretation="RGB", bits_allocated=8,
        coordinate_system="PATIENT", patient_orientation=("L", "F"),
        study_instance_uid=origin.study_uid,
        series_instance_uid=maker.uid(origin, "picture series"), series_number=SERIES_NUMBER,
        sop_instance_uid=maker.uid(origin, "picture"), instance_number=1,
        manufacturer=MANUFACTURER, manufacturer_model_name=NAME, software_versions=maker.version,
        device_serial_number=maker.serial, series_description="Lumbar spine graded slices, research use",
        content_qualification=hd.ContentQualificationValues.RESEARCH,
        content_date=made.date(), content_time=made.time(), series_date=made.date(), series_time=made.time(),
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )  # fmt: skip
    image.update(about)
    # The picture holds slices of several orientations and of both sides.
    image.PatientOrientation = []
    image.Laterality = ""
    image.BurnedInAnnotation = "NO"
    image.ImageComments = NOTICE
    forget_creation_time(image)
    return image
