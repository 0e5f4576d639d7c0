"""The stored pixels of one slice, decoded as pydicom does but faster in the usual case."""

import math
from typing import Any, Final

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from shared.dicom.decoding import decoder
from shared.dicom.decoding.code_stream import JPEG_FRAMES, JPEG_LOSSLESS, JPEG_LS, CodeStream, jpeg, jpeg_2000
from shared.dicom.decoding.encapsulation import encapsulated_frame
from shared.dicom.decoding.process import decode_apart
from shared.dicom.decoding.rle import decode_rle
from shared.dicom.tags import DicomFaultError, tag_value, whole_number

_BITS: Final = 16


def stored_pixels(dataset: pydicom.Dataset) -> NDArray[Any]:
    """`pydicom.pixels.pixel_array` for grey slices, with a shorter path for 16 bits uncompressed or RLE encoded.

    The challenge's slices are of this kind. Other compressed slices are decoded in a child process, each by the one
    decoder of its transfer syntax. pydicom handles every other slice, which takes no decoder.

    Raises:
      DicomFaultError: when the pixels are not what the header says. pydicom raises anything else.
    """
    pixels = _plain_or_rle(dataset)
    if pixels is not None:
        return pixels
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    if syntax.is_encapsulated:
        return _compressed(dataset, syntax)
    _refuse_excess(dataset)
    return pixel_array(dataset)


def _refuse_excess(dataset: pydicom.Dataset) -> None:
    """pydicom copies all frames that the pixels could hold."""
    content = dataset.get("PixelData")
    tags = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")
    frame_bytes = math.prod(whole_number(dataset, tag) for tag in tags) // 8
    if content and frame_bytes and len(content) >= 2 * frame_bytes:
        raise DicomFaultError(f"{len(content)} bytes of pixels, expected one frame of {frame_bytes}")


def _compressed(dataset: pydicom.Dataset, syntax: UID) -> NDArray[Any]:  # [rows, columns]
    shape = (whole_number(dataset, "Rows"), whole_number(dataset, "Columns"))
    allocated, stored = whole_number(dataset, "BitsAllocated"), whole_number(dataset, "BitsStored")
    signed, samples = whole_number(dataset, "PixelRepresentation"), whole_number(dataset, "SamplesPerPixel")
    if samples != 1:
        raise DicomFaultError(f"{samples} samples a pixel, expected one grey image")
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated or signed not in (0, 1):
        raise DicomFaultError(f"{stored} bits stored of {allocated} allocated, expected 8, 16 or 32 allocated")
    content = tag_value(dataset, "PixelData")
    if not isinstance(content, bytes):
        raise DicomFaultError("no compressed pixels")
    frame = encapsulated_frame(content)
    if syntax == RLELossless:
        pixels = decode_rle(frame, shape, allocated // 8)
        return _without_unused_bits(pixels.view(f"<{'ui'[signed]}{pixels.itemsize}"), stored)
    name, stream = _decoder_of(frame, syntax)
    stream.check(shape, allocated)
    # A JPEG-LS code stream knows its own depth, as pydicom tells GDCM.
    bits = (8 if stream.bits <= 8 else 16, stream.bits) if stream.kind == JPEG_LS else (allocated, stored)
    raw = decode_apart(frame, name, shape, bits=bits, signed=bool(signed))
    return _as_stored(raw, stream, name, dataset)


def _decoder_of(frame: bytes, syntax: UID) -> tuple[int, CodeStream]:
    """The one decoder that reads a frame, and what the frame says of itself."""
    if syntax in JPEG2000TransferSyntaxes:
        return decoder.OPENJPEG, jpeg_2000(frame)
    stream = jpeg(frame)
    if syntax in JPEGLSTransferSyntaxes and stream.kind == JPEG_LS:
        # CharLS misreads 16 bits with parameters of their own, as NEMA's sample has them.
        return (decoder.GDCM_JPEG_LS if stream.preset else decoder.CHARLS), stream
    if syntax in JPEGTransferSyntaxes and stream.kind == JPEG_LOSSLESS:
        return decoder.GDCM_LOSSLESS, stream
    if syntax in JPEGTransferSyntaxes and stream.kind != JPEG_LS and stream.bits == 8:
        return decoder.GDCM_LOSSY, stream
    raise DicomFaultError("a compression that is not supported; decompress the file, for example with dcmdjpeg")


def _as_stored(raw: bytes, stream: CodeStream, name: int, dataset: pydicom.Dataset) -> NDArray[Any]:
    """The samples in the type that the header announces, with the sign where the code stream does not know it."""
    allocated, stored = whole_number(dataset, "BitsAllocated"), whole_number(dataset, "BitsStored")
    signed = whole_number(dataset, "PixelRepresentation")
    kind, count = "ui"[signed], math.prod(stream.shape)
    itemsize = allocated // 8 if stream.kind in JPEG_FRAMES else next(n for n in (1, 2, 4) if stream.bits <= 8 * n)
    if len(raw) != count * itemsize:
        raise DicomFaultError(f"the decoder gave {len(raw)} bytes, expected {count * itemsize}")
    pixels = np.frombuffer(raw, f"<{kind}{itemsize}").astype(f"<{kind}{allocated // 8}").reshape(stream.shape)
    if stream.kind == JPEG_LS:
        return _without_unused_bits(pixels, stream.bits) if signed else pixels
    if name == decoder.OPENJPEG:
        grey = str(tag_value(dataset, "PhotometricInterpretation")).startswith("MONOCHROME")
        return _without_unused_bits(pixels, stream.bits) if grey and stream.signed != bool(signed) else pixels
    return _without_unused_bits(pixels, stored)


def _without_unused_bits(pixels: NDArray[Any], bits: int) -> NDArray[Any]:
    """Bits above the used ones do not belong to the image; the highest used one is the sign."""
    unused = 8 * pixels.itemsize - bits
    return (pixels << unused) >> unused if unused else pixels


def _plain_or_rle(dataset: pydicom.Dataset) -> NDArray[Any] | None:  # [rows, columns]
    """The pixels of a usual file, None for any other."""
    bits, signed = tag_value(dataset, "BitsStored"), tag_value(dataset, "PixelRepresentation")
    high = tag_value(dataset, "HighBit")
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
    stored = _samples(dataset, content, shape)
    if stored is None:
        return None
    # Bits above the stored ones do not belong to the image (PS3.5, 8.1.1); the highest stored bit is the sign.
    # Some old files keep the stored bits at the top.
    below = high + 1 - bits if isinstance(high, int) and bits <= high < _BITS else 0
    if bits == _BITS:
        return stored.view("<i2") if signed else stored
    if signed:
        return (stored.view("<i2") << (_BITS - bits - below)) >> (_BITS - bits)
    if not below and stored.size and stored.max() < 1 << bits:
        return stored
    shifted = stored >> below if below else stored
    # In place where the pixels are not the file's own bytes. Numpy shifts thirty times as slowly as it masks.
    return np.bitwise_and(shifted, (1 << bits) - 1, out=shifted if shifted.flags.writeable else None)


def _samples(dataset: pydicom.Dataset, content: bytes, shape: tuple[int, int]) -> NDArray[Any] | None:
    """The unsigned samples, None where pydicom has to read them."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        whole = len(content) == shape[0] * shape[1] * _BITS // 8
        return np.frombuffer(content, "<u2").reshape(shape) if whole else None
    view = memoryview(content)  # a slice of bytes is a copy
    return decode_rle(encapsulated_frame(view), shape, _BITS // 8) if syntax == RLELossless else None
