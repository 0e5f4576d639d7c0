"""The stored pixels of one parsed file, decoded as pydicom does but faster in the usual case."""

from typing import Any, Final

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import get_frame
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from rle.utils import decode_pixel_data

from shared.dicom.tags import tag_value

_BITS: Final = 16


def stored_pixels(dataset: pydicom.Dataset) -> NDArray[Any]:
    """`pydicom.pixels.pixel_array` with a shorter path for 16-bit grey slices, uncompressed or RLE encoded.

    The challenge's slices are of this kind. pydicom handles every other slice and raises all errors.
    """
    pixels = _plain_or_rle(dataset)
    return pixel_array(dataset) if pixels is None else pixels


def _plain_or_rle(dataset: pydicom.Dataset) -> NDArray[Any] | None:  # [rows, columns]
    """The pixels of a usual file, None for any other."""
    bits, signed = tag_value(dataset, "BitsStored"), tag_value(dataset, "PixelRepresentation")
    usual = (
        tag_value(dataset, "BitsAllocated") == _BITS
        and tag_value(dataset, "SamplesPerPixel") == 1
        and str(tag_value(dataset, "PhotometricInterpretation")).startswith("MONOCHROME")
        and tag_value(dataset, "NumberOfFrames") in (None, 1)
        and isinstance(bits, int)
        and 1 <= bits <= _BITS
        and signed in (0, 1)
        and "FloatPixelData" not in dataset
        and "DoubleFloatPixelData" not in dataset
    )
    content = tag_value(dataset, "PixelData") if usual else None
    if not isinstance(content, bytes):
        return None
    shape = (tag_value(dataset, "Rows"), tag_value(dataset, "Columns"))
    frame = _frame(dataset, content, shape)
    if frame is None or len(frame) != shape[0] * shape[1] * _BITS // 8:
        return None
    values = np.frombuffer(frame, "<i2" if signed else "<u2").reshape(shape)
    # Bits above the stored ones do not belong to the image (PS3.5, 8.1.1); the highest stored bit is the sign.
    return values if bits == _BITS else (values << (_BITS - bits)) >> (_BITS - bits)


def _frame(dataset: pydicom.Dataset, content: bytes, shape: tuple[int, int]) -> bytes | None:
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        return content
    if syntax != RLELossless or tag_value(dataset, "ExtendedOffsetTable"):
        return None
    try:
        frame = get_frame(content, 0, number_of_frames=1)
        return bytes(decode_pixel_data(frame, version=2, rows=shape[0], columns=shape[1], bits_allocated=_BITS))
    except Exception:  # noqa: BLE001 - a foreign file; pydicom then says what is wrong
        return None
