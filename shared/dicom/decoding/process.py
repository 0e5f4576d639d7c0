"""The child process that decodes compressed frames for this one. It may crash or hang; this one goes on.

The first compressed frame starts it, it serves all that follow, and a new one takes its place when it has failed. What
it sends is taken as bytes of an expected length, never as objects.
"""

import atexit
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final, cast

from shared.dicom.decoding import decoder
from shared.dicom.tags import DicomFaultError

FRAME_SECONDS: Final = 10.0
_START_SECONDS: Final = 60.0
# What a decoder may need beyond the frame and its samples: OpenJPEG keeps four bytes a sample, several times.
_BASE_MIB, _BYTES_PER_PIXEL = 128, 32
_LONGEST_TEXT: Final = 64
_KILLED: Final = -9
_PACKAGES: Final = ("numpy", "openjpeg", "jpeg_ls", "gdcm")
_NOT_INSTALLED: Final = (ImportError.__name__, ModuleNotFoundError.__name__)
# What a user installs to get a decoder.
_WHEELS: Final = {
    decoder.OPENJPEG: "pylibjpeg-openjpeg", decoder.CHARLS: "pyjpegls", decoder.GDCM_LOSSLESS: "python-gdcm",
    decoder.GDCM_LOSSY: "python-gdcm", decoder.GDCM_JPEG_LS: "python-gdcm",
}  # fmt: skip


class _KilledError(DicomFaultError):
    """The child was killed, but not by this process."""


class _Child:
    """One running child. Its thread lives as long as it does: Linux ends a child with the thread that started it."""

    def __init__(self) -> None:
        self.late = False
        self._started = threading.Event()
        self._fault: Exception | None = None
        self._process: subprocess.Popen[bytes]
        threading.Thread(target=self._keep, daemon=True).start()
        self._started.wait()
        if self._fault is not None:
            raise self._fault
        self._requests, self._replies = (cast(BinaryIO, s) for s in (self._process.stdin, self._process.stdout))

    def _keep(self) -> None:
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-B", decoder.__file__, str(os.getpid()), *_folders()],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001 - the thread that waits for the start raises it
            self._fault = error
            return
        finally:
            self._started.set()
        self._process.wait()

    def answer(self, request: Sequence[bytes], most: int, *, seconds: float) -> tuple[int, bytes]:
        """Sends a request and reads the reply. Raises `OSError` or `EOFError` when the child fails."""
        watch = threading.Timer(seconds, self._end_late)
        watch.daemon = True
        watch.start()
        try:
            for part in request:
                self._requests.write(part)
            self._requests.flush()
            outcome, length = decoder.REPLY.unpack(self._read(decoder.REPLY.size))
            if length > (most if outcome == decoder.DECODED else _LONGEST_TEXT):
                raise EOFError
            return outcome, self._read(length)
        finally:
            watch.cancel()

    def _read(self, length: int) -> bytes:
        content = self._replies.read(length)
        if len(content) < length:
            raise EOFError
        return content

    def _end_late(self) -> None:
        self.late = True
        self._process.kill()

    def end(self) -> int:
        """Ends the child and returns how it ended."""
        for stream in (self._requests, self._replies):
            with contextlib.suppress(OSError):
                stream.close()
        try:
            return self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def _folders() -> list[str]:
    """Where the child finds what this process would import, but nothing from the current folder."""
    places = {
        Path(spec.origin).parent for name in _PACKAGES if (spec := importlib.util.find_spec(name)) and spec.origin
    }
    return sorted({str(place.parent if place.name in _PACKAGES else place) for place in places})


class _Decoders:
    """The child of this process, if one runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: _Child | None = None

    def decode(self, request: Sequence[bytes], most_bytes: int) -> tuple[int, bytes]:
        with self._lock:
            try:
                return self._answer(request, most_bytes)
            except _KilledError:  # by somebody else, perhaps long ago, as when memory is short
                return self._answer(request, most_bytes)

    def _answer(self, request: Sequence[bytes], most_bytes: int) -> tuple[int, bytes]:
        child = self._child or self._start()
        try:
            return child.answer(request, most_bytes, seconds=FRAME_SECONDS)
        except (OSError, EOFError) as error:
            self._child = None
            code = child.end()
            kind = _KilledError if code == _KILLED and not child.late else DicomFaultError
            raise kind(_told(code, late=child.late)) from error
        except BaseException:  # interrupted between request and reply
            self.end()
            raise

    def _start(self) -> _Child:
        try:
            child = _Child()
        except Exception as error:
            raise DicomFaultError("the process that decodes compressed pixels cannot be started") from error
        try:
            outcome, _ = child.answer((), 0, seconds=_START_SECONDS)
        except (OSError, EOFError) as error:
            raise DicomFaultError(
                f"the process that decodes compressed pixels ended at its start ({child.end()})"
            ) from error
        if outcome != decoder.READY:
            child.end()
            raise DicomFaultError("the process that decodes compressed pixels gave an unexpected answer")
        self._child = child
        return child

    def end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def forget(self) -> None:
        """A forked copy of this process must not speak with its parent's child."""
        self.__init__()  # type: ignore[misc]


_DECODERS: Final = _Decoders()
atexit.register(_DECODERS.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_DECODERS.forget)


def decode_apart(frame: bytes, name: int, shape: tuple[int, int], *, bits: tuple[int, int], signed: bool) -> bytes:
    """The samples of one grey frame, decoded in the child.

    Args:
      frame: the code stream.
      name: the decoder, one of `shared.dicom.decoding.decoder`.
      shape: rows and columns.
      bits: bits allocated and stored.

    Raises:
      DicomFaultError: when the decoder fails, crashes, takes too long or needs too much memory.
    """
    count = shape[0] * shape[1]
    most_mib = _BASE_MIB + (4 * len(frame) + _BYTES_PER_PIXEL * count) // 2**20
    head = decoder.REQUEST.pack(name, *bits, int(signed), *shape, most_mib, len(frame))
    outcome, content = _DECODERS.decode((head, frame), 8 * count)
    if outcome == decoder.TOO_LARGE:
        raise DicomFaultError(f"the decoder needed over {most_mib} MiB")
    if outcome != decoder.DECODED:
        text = content.decode("ascii", "replace")
        if text in _NOT_INSTALLED:
            raise DicomFaultError(f"their decoder is not installed; pip install {_WHEELS[name]}")
        raise DicomFaultError(f"the decoder refused them: {text if text.isidentifier() else 'unknown error'}")
    return content


def _told(code: int, *, late: bool) -> str:
    if late:
        return f"the decoder took over {FRAME_SECONDS:.0f} s"
    try:
        return f"the decoder crashed ({signal.Signals(-code).name})"
    except ValueError:
        return f"the decoder ended unexpectedly ({code})"
