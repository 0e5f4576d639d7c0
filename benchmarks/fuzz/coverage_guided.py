"""Damages DICOM files where that reaches new lines of pydicom or of this project's reader.

    PYTHONPATH=ATHERIS python -m benchmarks.fuzz.coverage_guided [--minutes M] [--folder FOLDER]

Needs atheris, which is no dependency of this project: `pip install --target ATHERIS atheris`. Files that reach new
lines are kept in FOLDER/corpus, which the next call starts from; those that end in anything but an `InputError` in
FOLDER/found, one of each kind. A death of the process is found too: the next one goes on without that file.
"""

import argparse
import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final

from benchmarks.results import parser
from shared.runtime.errors import InputError

_INSTRUMENTED: Final = ["pydicom", "shared.dicom"]
_TABLES: Final = ["pydicom._dicom_dict", "pydicom._private_dict", "pydicom._uid_dict", "shared.dicom.vocabulary"]
_LONGEST_BYTES: Final = 200_000
_OURS_SHARE: Final = 0.5


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--minutes", type=float, default=10.0)
    arguments.add_argument("--folder", type=Path, default=Path("fuzz"))
    arguments.add_argument("--until", type=float, help=argparse.SUPPRESS)  # a worker: when to end
    a = arguments.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed; `pip install --target ATHERIS atheris`, then PYTHONPATH=ATHERIS")
        return 1
    if a.until is not None:
        return _work(a.folder, a.until)
    return _watch(a.folder, time.time() + 60 * a.minutes)


def _watch(folder: Path, until: float) -> int:
    """Starts a worker again whenever one dies, until the time is up."""
    for name in ("corpus", "found"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.fuzz.coverage_guided", "--folder", str(folder), "--until", str(until)]
    deaths = 0
    while until - time.time() > 5:
        ended = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")
        print(*[line for line in ended.stderr.splitlines() if "cov:" in line][-1:], flush=True)
        if ended.returncode:
            deaths += 1
            print(f"a worker died with {ended.returncode}: {ended.stderr[-2000:]}", flush=True)
    found = sorted(path.name for path in (folder / "found").iterdir())
    print(
        f"{len(list((folder / 'corpus').iterdir()))} files of the corpus, {deaths} deaths, found: {found or 'nothing'}"
    )
    return 1 if found or deaths else 0


def _work(folder: Path, until: float) -> int:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=_INSTRUMENTED, exclude=_TABLES):
        from benchmarks.fuzz.damage.elements import ELEMENTS
        from benchmarks.fuzz.damage.streams import STREAMS
        from benchmarks.fuzz.inputs.dicom import read_slice, sound_files

    sound = [next(iter(s.files.values())) for s in sound_files()]
    for n, content in enumerate(sound):
        (folder / "corpus" / f"sound{n}").write_bytes(content)
    structured = [*ELEMENTS.values(), *STREAMS.values()]

    def mutated(content: bytes, longest: int, seed: int) -> bytes:
        rng = Random(seed)
        if rng.random() < _OURS_SHARE:
            content = rng.choice(structured)(content, rng, sound)
        return bytes(atheris.Mutate(content[:longest], longest))

    options = [
        "benchmarks.fuzz", str(folder / "corpus"), f"-max_total_time={max(int(until - time.time()), 1)}", "-timeout=10",
        "-rss_limit_mb=2048", f"-max_len={_LONGEST_BYTES}", f"-artifact_prefix={folder / 'found'}/",
    ]  # fmt: skip
    atheris.Setup(options, _reading(folder, read_slice), custom_mutator=mutated)
    atheris.Fuzz()
    return 0


def _reading(folder: Path, read: Callable[[Path], object]) -> Callable[[bytes], None]:
    """Reads one input; what is neither read nor told is kept under its kind and place."""
    scratch = Path(tempfile.mkdtemp(prefix="lumbar-fuzz-"))

    def one(content: bytes) -> None:
        (scratch / "slice.dcm").write_bytes(content)
        try:
            read(scratch)
        except InputError:
            return
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            last = traceback.extract_tb(error.__traceback__)[-1]
            kept = folder / "found" / f"{type(error).__name__}-{Path(last.filename).stem}-{last.lineno}"
            if not kept.exists():
                kept.write_bytes(content)

    return one


if __name__ == "__main__":
    sys.exit(main())
