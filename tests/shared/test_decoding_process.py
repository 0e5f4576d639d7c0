"""The child process that decodes: whatever happens to it is one message about one file."""

import importlib.util
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jpeg_ls  # type: ignore[import-untyped]
import numpy as np
import pytest
from pydicom.uid import JPEGLSLossless

from shared.dicom.decoding import decoder, process
from shared.dicom.reader import read_pixels, read_raw_pixels
from shared.runtime.errors import InputError
from tests.dicom_files import write_dicom
from tests.shared.test_decoding import PIXELS, write_encoded

ROOT = Path(__file__).parents[2]


@pytest.fixture
def slice_path(tmp_path: Path) -> Path:
    return write_encoded(tmp_path / "a.dcm", bytes(jpeg_ls.encode_array(PIXELS)), JPEGLSLossless)


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A program in the decoder's place: it begins as the decoder does, then runs what is written to it."""
    program = tmp_path / "child.py"
    monkeypatch.setattr(decoder, "__file__", str(program))
    process._DECODERS.end()
    yield program
    process._DECODERS.end()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", r"crashed \(SIGSEGV\)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", r"crashed \(SIGKILL\)"),
        ("os.abort()", r"crashed \(SIGABRT\)"),
        ("os._exit(3)", r"ended unexpectedly \(3\)"),
        ("time.sleep(60)", "took over 1 s"),
        ("say(1, 2**60)", "ended unexpectedly"),
        ("say(1, 5, b'12345')", "gave 5 bytes, expected 4800"),
        ("say(2, 4, b'a b ')", "unknown error"),
        ("say(2, 19, b'ModuleNotFoundError')", "decoder is not installed; pip install pyjpegls"),
        ("say(3, 0)", "needed over 128 MiB"),
    ],
)
def test_what_happens_to_the_child_is_told_of_the_file(
    code: str, message: str, slice_path: Path, child: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "FRAME_SECONDS", 1.0)
    child.write_text(
        textwrap.dedent(f"""\
        import os, signal, struct, sys, time
        def say(outcome, length, content=b""):
            os.write(1, struct.pack("<BQ", outcome, length) + content)
        say(0, 0)
        os.read(0, 65536)
        {code}
        """)
    )
    with pytest.raises(InputError, match=rf"a\.dcm: pixels cannot be decoded \(.*{message}"):
        read_pixels(slice_path)


@pytest.mark.parametrize("code", ["import sys; sys.exit(1)", "print('no decoder', flush=True); input()"])
def test_a_child_that_does_not_start_is_told_of_the_file(code: str, slice_path: Path, child: Path) -> None:
    child.write_text(code)
    with pytest.raises(InputError, match=r"a\.dcm: .*decodes compressed pixels"):
        read_pixels(slice_path)


@pytest.mark.usefixtures("child")
def test_a_package_that_cannot_be_found_is_told_of_the_file(slice_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> None:
        raise ValueError(f"{name}.__spec__ is None")

    monkeypatch.setattr(importlib.util, "find_spec", find)
    with pytest.raises(InputError, match=r"a\.dcm: .*cannot be started"):
        read_pixels(slice_path)


def test_a_child_that_somebody_killed_is_replaced(slice_path: Path) -> None:
    np.testing.assert_array_equal(read_raw_pixels(slice_path), PIXELS)
    first = process._DECODERS._child
    first._process.kill()
    first._process.wait()
    np.testing.assert_array_equal(read_raw_pixels(slice_path), PIXELS)
    assert process._DECODERS._child is not first


def test_threads_share_the_child(slice_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        for pixels in pool.map(read_raw_pixels, [slice_path] * 16):
            np.testing.assert_array_equal(pixels, PIXELS)
    first = process._DECODERS._child
    read_pixels(slice_path)  # the threads have ended, the child has not
    assert process._DECODERS._child is first


def test_the_child_ends_with_its_parent_and_runs_nothing_of_the_current_folder(
    slice_path: Path, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for name in ("numpy", "struct", "jpeg_ls", "decoder", "openjpeg"):
        (here / f"{name}.py").write_text(f"open('{here}/ran', 'w'); raise SystemExit")
    code = f"""\
        import os, sys
        from pathlib import Path
        from shared.dicom.reader import read_pixels
        from shared.dicom.decoding import process
        read_pixels(Path({str(slice_path)!r}))
        print(process._DECODERS._child._process.pid, flush=True)
        os.kill(os.getpid(), 9)
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        cwd=here, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    pid = int(done.stdout)
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.02)
    else:
        pytest.fail("the child lives on")
    assert not (here / "ran").exists()


def test_colour_and_excess_frames_are_refused_before_they_are_decoded(slice_path: Path, tmp_path: Path) -> None:
    colour = write_encoded(tmp_path / "b.dcm", b"1234", JPEGLSLossless, SamplesPerPixel=3, PlanarConfiguration=0)
    with pytest.raises(InputError, match="3 samples a pixel"):
        read_pixels(colour)
    excess = write_dicom(tmp_path / "c.dcm", PIXELS, PixelData=PIXELS.tobytes() * 3)
    with pytest.raises(InputError, match="expected one frame"):
        read_pixels(excess)
