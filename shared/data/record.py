"""The schema of a store's records, `studies/<part>/<name>.json`; `shared.data.store` writes and reads them."""

from typing import Annotated

from pydantic import Field

from shared.dicom.header import MAX_SIDE_PX
from shared.runtime.documents import Document

_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Side = Annotated[int, Field(gt=0, le=MAX_SIDE_PX)]
_Number = Annotated[int, Field(ge=-(2**63), lt=2**63)]
_Time = float | None


class _Acquisition(Document):
    """`shared.dicom.views.Acquisition`."""

    modality: str
    sop_class: str
    image_type: list[str]
    sequence: list[str]
    times: tuple[_Time, _Time, _Time, _Time]
    terms: list[str]
    protocol_terms: list[str]


class _Entry(Document):
    """One slice: its header and the place of its pixels, or `problem`, why it cannot be read."""

    name: str
    frame: _Count
    instance_number: _Number
    study_uid: str | None
    series_uid: str | None
    acquisition: _Acquisition
    compared: tuple[str | None, str | None, str, str]
    moment: tuple[_Time, _Number | None, _Number | None]
    thickness_mm: float | None
    direction_error: float
    plane: Annotated[list[float], Field(min_length=11, max_length=11)]
    shape: tuple[_Side, _Side]
    pixels: tuple[_Count, Annotated[int, Field(ge=0, lt=2**32)], str]


class _Unreadable(Document):
    name: str
    problem: str


class RecordFile(Document):
    """A whole record."""

    checksum: str
    folder: str
    exists: bool
    series: list[str]
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    pixel_bytes: _Count
    files: list[_Entry | _Unreadable]
