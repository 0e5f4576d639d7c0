"""Reads damaged inputs of every kind and counts how each was answered.

    python -m benchmarks.fuzz [--cases N] [--seed S] [--only KIND] [--out OUT.json]
    python -m benchmarks.fuzz --replay N [--keep FOLDER]

Sound synthetic inputs (DICOM files in all encodings, folders, archives, tables, JSON, TOML, runs, checkpoints) are
damaged by chance, and read as the commands read them, each case in a child with 10 s and 2 GiB of memory beyond what
its imports take. A case must be read or be told with an `InputError`. Death by a signal, a hang, any other exception,
or memory beyond 1.5 times that of the sound input and 64 MiB fail the run. Seed and number make a case: --replay runs
one alone and shows it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from benchmarks.results import header, parser, save

# A pool of threads in the parent would not survive the fork.
_ONE_THREAD: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_LIGHT: Final = ("dicom", "folder", "archive", "table", "json", "toml")
_HEAVY: Final = ("run", "checkpoint")


def main() -> int:
    a = _arguments()
    if any(os.environ.get(name) != value for name, value in _ONE_THREAD.items()):
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.fuzz", *sys.argv[1:]], os.environ | _ONE_THREAD)
    if a.replay is not None:
        return _replay(a)
    if a.share is not None:
        return _serve(a)
    return _run(a)


def _arguments() -> argparse.Namespace:
    arguments = parser(__doc__)
    arguments.add_argument("--cases", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--first", type=int, default=0, metavar="N", help="number of the first case")
    arguments.add_argument("--only", action="append", default=[], choices=(*_LIGHT, *_HEAVY), help="only this kind")
    arguments.add_argument("--out", type=Path, default=Path("results/fuzz.json"))
    arguments.add_argument("--workers", type=int, default=2, metavar="N")
    arguments.add_argument("--replay", type=int, metavar="N", help="run this case alone")
    arguments.add_argument("--keep", type=Path, metavar="FOLDER", help="where to leave the files of the replayed case")
    arguments.add_argument("--share", help=argparse.SUPPRESS)  # which part of the cases a worker runs, I/N
    return arguments.parse_args()


def _inputs(kinds: Sequence[str]) -> Mapping[Any, Sequence[Any]]:
    """The sound inputs of these kinds."""
    from benchmarks.fuzz.inputs import dicom, folders, settings, tables

    makers: dict[str, Any] = {
        "dicom": dicom.sound_files, "folder": folders.sound_folders, "archive": folders.sound_archives,
        "table": tables.sound_tables, "json": settings.sound_json, "toml": settings.sound_toml,
    }  # fmt: skip
    if set(kinds) & set(_HEAVY):
        from benchmarks.fuzz.inputs import models

        makers |= {"run": models.sound_runs, "checkpoint": models.sound_checkpoints}
    inputs = {kind: list(makers[kind]()) for kind in kinds}
    if "dicom" in inputs:
        from benchmarks.fuzz.inputs import clinic

        inputs["dicom"] += clinic.sound_objects()
    return inputs


def _replay(a: argparse.Namespace) -> int:
    from benchmarks.fuzz.case import kind_of, make_case
    from benchmarks.fuzz.server import run_case

    case = make_case(a.seed, a.replay, _inputs([kind_of(a.replay)]))
    if a.keep is not None:
        case.sound.write(a.keep, case.changed)
    result = run_case(case).to_json()
    print(json.dumps(result | {"changed": {name: len(content) for name, content in case.changed.items()}}, indent=1))
    return 0 if result["outcome"] in ("read", "told") else 1


def _serve(a: argparse.Namespace) -> int:
    """Runs one part of the cases and writes a line for each, and before it one for a sound input that is new."""
    from benchmarks.fuzz.case import kind_of, make_case
    from benchmarks.fuzz.server import run_case, run_sound
    from benchmarks.fuzz.tally import numbers_of

    index, count = map(int, a.share.split("/"))
    numbers = numbers_of(a.cases, a.first, a.only)
    # The last worker, which imports torch, has all cases that need it; the others share the rest.
    heavy = [n for n in numbers if kind_of(n) in _HEAVY]
    light = [n for n in numbers if kind_of(n) in _LIGHT]
    mine = heavy if index == count - 1 else light[index :: count - 1]
    kinds = sorted({kind_of(n) for n in mine})
    inputs = _inputs(kinds)
    seen: set[tuple[str, str]] = set()
    for number in mine:
        case = make_case(a.seed, number, inputs)
        name = case.sound.kind, case.sound.name
        if name not in seen:
            seen.add(name)
            print(json.dumps(run_sound(case.sound).to_json()))
        print(json.dumps(run_case(case).to_json()), flush=True)
    return 0


def _run(a: argparse.Namespace) -> int:
    from benchmarks.fuzz.server import MEMORY_BYTES, SECONDS, Result
    from benchmarks.fuzz.tally import tally

    began = time.monotonic()
    sound: dict[str, Result] = {}
    results: list[Result] = []
    for line in _lines(a):
        value = json.loads(line)
        result = Result(**value | {name: tuple(value[name]) for name in ("damage", "said")})
        if result.number < 0:
            sound.setdefault(f"{result.kind}/{result.name}", result)
        else:
            results.append(result)
    results.sort(key=lambda r: r.number)
    found = tally(results, sound)
    command = f"python -m benchmarks.fuzz --cases {a.cases} --seed {a.seed}" + "".join(f" --only {k}" for k in a.only)
    about = {"seed": a.seed, "memory_mib": MEMORY_BYTES >> 20, "seconds_a_case": SECONDS}
    seconds = {"whole_run": round(time.monotonic() - began, 1)}
    save(a.out, header(command) | about | found | {"seconds": found["seconds"] | seconds})
    untold = sum(found["untold"].values())
    print(f"{len(results)} of {a.cases} cases, {untold} not told, {seconds['whole_run']} s: {a.out}", file=sys.stderr)
    return 0 if untold == 0 and len(results) == a.cases else 1


def _lines(a: argparse.Namespace) -> Iterator[str]:
    """What the workers write, each in a process of its own: the forks of a process run one after another."""
    command = [sys.executable, "-m", "benchmarks.fuzz", *sys.argv[1:]]
    count = a.workers + 1
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8")) for _ in range(count)]
        workers = [
            stack.enter_context(subprocess.Popen([*command, "--share", f"{n}/{count}"], stdout=files[n]))
            for n in range(count)
        ]
        for worker, file in zip(workers, files, strict=True):
            worker.wait()
            file.seek(0)
            yield from file


if __name__ == "__main__":
    sys.exit(main())
