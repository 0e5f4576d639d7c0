"""The pixels of a slice, wherever they lie: in its DICOM file, or decoded in a prepared store."""

import zlib

import numpy as np
from numpy.typing import NDArray

from shared.dicom.reader import read_pixels
from shared.runtime.errors import InputError
from shared.study import Slice, StoredPixels


def slice_pixels(item: Slice) -> NDArray[np.uint8]:
    """The slice's pixels in 8 bit, the same bytes from either place. # [rows, columns]

    Raises:
      InputError: when the file cannot be decoded or could not be when the store was made, or the store is damaged.
    """
    pixels = read_pixels(item.path) if item.stored is None else _stored_pixels(item.stored, item.stored_shape)
    return item.orientation.turn(pixels)


def _stored_pixels(stored: StoredPixels, shape: tuple[int, int]) -> NDArray[np.uint8]:
    if stored.problem:
        raise InputError(stored.problem)
    # Read, not mapped: a file cut short under a mapping kills the process, under a read it is an error.
    try:
        pixels = np.fromfile(stored.path, np.uint8, shape[0] * shape[1], offset=stored.offset)
    except OSError as error:
        raise InputError(f"{stored.path}: cannot be read ({error.strerror or error})") from error
    if pixels.size != shape[0] * shape[1] or zlib.crc32(pixels.data) != stored.crc32:
        raise InputError(
            f"{stored.path}: is damaged (the slice at byte {stored.offset} is not what was written); delete this file "
            "and run `lumbar prepare` again with --resume"
        )
    return pixels.reshape(shape)
