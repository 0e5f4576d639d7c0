"""The program of the child process that decodes compressed frames: one request after another, until its input ends.

It runs by itself, isolated (`python -I`), and imports nothing of this project: only numpy and the decoder of the frame
at hand. `shared.dicom.decoding.process` starts it and speaks with it; the two structures below are all they exchange.
"""

import os
import signal
import struct
import sys
from typing import BinaryIO

# Decoder, bits allocated, bits stored, signed; rows, columns, most MiB; length of the frame.
REQUEST = struct.Struct("<BBBBIIIQ")
# Outcome, length of what follows: the samples, or the type of the decoder's error.
REPLY = struct.Struct("<BQ")
OPENJPEG, CHARLS, GDCM_LOSSLESS, GDCM_LOSSY, GDCM_JPEG_LS = range(5)
_GDCM_SYNTAXES = {GDCM_LOSSLESS: "70", GDCM_LOSSY: "50", GDCM_JPEG_LS: "80"}
READY, DECODED, FAILED, TOO_LARGE = range(4)
_MIB = 2**20


def main() -> None:
    """Serves requests on standard input. Whatever decoders print is dropped."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    _end_with_parent(int(sys.argv[1]))
    sys.path += sys.argv[2:]
    import numpy as np

    _reply(replies, READY, np.__version__.encode())
    while len(head := requests.read(REQUEST.size)) == REQUEST.size:
        *what, most_mib, length = REQUEST.unpack(head)
        frame = requests.read(length)
        if len(frame) < length:
            return
        try:
            _load(what[0])
            _limit_memory(most_mib)
            outcome, content = DECODED, _decoded(frame, what)
        except MemoryError:
            outcome, content = TOO_LARGE, b""
        except BaseException as error:  # noqa: BLE001 - decoders raise anything
            outcome, content = FAILED, type(error).__name__.encode()[:64]
        _limit_memory(None)
        _reply(replies, outcome, content)


def _reply(replies: BinaryIO, outcome: int, content: bytes) -> None:
    replies.write(REPLY.pack(outcome, len(content)))
    replies.write(content)
    replies.flush()


def _end_with_parent(parent: int) -> None:
    """The end of standard input ends an idle child; Linux also ends a busy one. Only the parent may stop it."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must not leave a patient's pixels behind
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    except (ImportError, OSError, ValueError):
        pass
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)


def _load(decoder: int) -> None:
    if decoder == OPENJPEG:
        pass
    elif decoder == CHARLS:
        import jpeg_ls  # type: ignore[import-untyped]  # noqa: F401
    else:
        import gdcm  # noqa: F401


def _limit_memory(most_mib: int | None) -> None:
    """Bounds the address space to what it is now and so much more; None lifts the bound."""
    try:
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        soft = hard
        if most_mib is not None:
            with open("/proc/self/statm", "rb") as file:  # noqa: PTH123
                soft = int(file.read().split()[0]) * resource.getpagesize() + most_mib * _MIB
            soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    except (ImportError, OSError, ValueError):  # not on this system
        pass


def _decoded(frame: bytes, what: list[int]) -> bytes:
    decoder, allocated, stored, signed, rows, columns = what
    if decoder == OPENJPEG:
        from openjpeg.utils import decode_pixel_data

        return bytes(decode_pixel_data(frame, version=2))
    if decoder == CHARLS:
        import jpeg_ls

        return jpeg_ls.decode_pixel_data(frame)[0]
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    grey = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    syntax = f"1.2.840.10008.1.2.4.{_GDCM_SYNTAXES[decoder]}"
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    image.SetPixelFormat(gdcm.PixelFormat(1, allocated, stored, stored - 1, signed))
    return image.GetBuffer().encode("utf-8", "surrogateescape")  # GDCM gives bytes as text


if __name__ == "__main__":
    main()
