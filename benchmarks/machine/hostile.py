"""Runs the commands on machines that lack something: disk, memory, a home, an encoding, cores, rights.

Each run must end with the same bytes as the run on a sound machine, or with one line that begins with "error:" and exit
code 1; never with a traceback or half a file. Linux only. Example:

    python -m benchmarks.machine.hostile DEMO results/hostile_machine.json
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.results import header, parser, save

ROOT: Final = Path(__file__).parents[2]
_LIMIT_SECONDS: Final = 180
# Files that hold times.
_TIMED: Final = re.compile(r"run\.json|report\.html")
_PAYLOADS: Final = ("pickle", "json", "numpy", "torch", "sitecustomize", "shared", "pipelines", "multiprocessing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One kind of machine.

    Attributes:
      prefix: what stands before the command, a shell that sets limits for example.
      environment: variables that are set.
      name: the output's name.
      prepare: changes the folder in which the command runs.
    """

    prefix: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    name: str = "out"
    prepare: Callable[[Path], None] = lambda _folder: None


def _limited(limits: str) -> tuple[str, ...]:
    return ("bash", "-c", f'{limits}; exec "$@"', "bash")


def _with_payloads(folder: Path) -> None:
    for name in _PAYLOADS:
        (folder / f"{name}.py").write_text(f"open({str(folder / 'payload')!r}, 'a').write({name!r})\n")


_NOWHERE: Final = "/proc/nowhere"
MACHINES: Final = {
    "sound": Machine(),
    "output in a file system that is read only": Machine(name="/proc/out"),
    "file size limit of 64 KiB": Machine(prefix=_limited("ulimit -f 64")),
    "file size limit of 1 KiB": Machine(prefix=_limited("ulimit -f 1")),
    "HOME that cannot be written": Machine(environment={"HOME": _NOWHERE}),
    "TMPDIR that cannot be written": Machine(environment={"TMPDIR": _NOWHERE}),
    "LANG=C without UTF-8": Machine(
        environment={"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ),
    "output with blanks, Chinese and a newline": Machine(name="my 脊柱\nfolder"),
    "output with bytes that are no UTF-8": Machine(name=os.fsdecode(b"out\xff\xfe")),
    "the same, with LANG=C": Machine(
        name="脊柱\nfolder", environment={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ),
    "memory limit of 1.5 GB": Machine(prefix=_limited("ulimit -v 1500000")),
    "memory limit of 3 GB": Machine(prefix=_limited("ulimit -v 3000000")),
    "16 open files": Machine(prefix=_limited("ulimit -n 16")),
    "one core": Machine(prefix=("taskset", "-c", "0")),
    "modules of the same names in the current folder": Machine(prepare=_with_payloads),
    "no /dev/shm": Machine(
        prefix=("unshare", "-m", "-r", "bash", "-c", 'mount --bind /proc /dev/shm && exec "$@"', "bash")
    ),
}  # fmt: skip


def commands(demo: Path, data: Path, study: str) -> dict[str, list[str]]:
    """Command lines by name, without the output, which stands for OUT."""
    models = ["--localizer", str(demo / "localizer"), "--classifier", str(demo / "classifier"), "--device", "cpu"]
    return {
        "synth": ["synth", "OUT", "--studies", "2", "--test-studies", "1", "--workers", "2"],
        "audit": ["audit", str(data), "OUT", "--workers", "2"],
        "prepare": ["prepare", str(data), "OUT", "--workers", "2"],
        "show": ["show", str(data), study, "OUT.png"],
        "predict": ["predict", str(data), "OUT", *models],
        "localize predict": ["localize", "predict", str(data), str(demo / "localizer"), "OUT", "--device", "cpu"],
    }


def digest(path: Path) -> str:
    """Of all bytes below a path that a repetition must give again; empty if there is nothing."""
    files = sorted(p for p in (path.rglob("*") if path.is_dir() else (path,)) if p.is_file())
    timed = [p for p in files if _TIMED.fullmatch(p.name)]
    found = [(os.fsencode(p.relative_to(path)), p.read_bytes()) for p in files if p not in timed]
    return hashlib.sha256(repr(found).encode()).hexdigest() if found else ""


def run(machine: Machine, line: list[str], folder: Path) -> tuple[Path, subprocess.CompletedProcess[bytes]]:
    """Runs one command in an empty folder; returns where its output is."""
    folder.mkdir(parents=True)
    machine.prepare(folder)
    out = folder / machine.name
    if "OUT.png" in line:
        out = out.with_name(out.name + ".png")
    words = [os.fspath(out) if word in ("OUT", "OUT.png") else word for word in line]
    program = "import sys; from pipelines.cli import main; sys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **machine.environment}
    call = [*machine.prefix, sys.executable, "-P", "-c", program, *words]
    try:
        done = subprocess.run(
            call, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LIMIT_SECONDS,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        done = subprocess.CompletedProcess(call, -1, b"", f"no end within {_LIMIT_SECONDS} s".encode())
    return out, done


def judged(out: Path, done: subprocess.CompletedProcess[bytes], expected: str, folder: Path) -> str:
    """What came of a run: "same bytes", "one clear error: ...", or what is wrong with it."""
    text = done.stderr.decode(errors="replace")
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    if "unshare: " in text or "mount: " in text:
        return "not tried: this machine does not allow it"
    if (folder / "payload").exists():
        return "WRONG: code of the current folder ran"
    if "Traceback" in text:
        return f"WRONG: traceback ({text.strip().splitlines()[-1][:200]})"
    if list(folder.rglob("*.tmp")):
        return "WRONG: a temporary file was left"
    if done.returncode == 0:
        return "same bytes" if digest(out) == expected else "WRONG: other bytes"
    if done.returncode == 1 and len(errors) == 1 and text.strip().endswith(errors[0]):
        said = errors[0].replace(str(folder), ".").replace(sys.prefix, "PYTHON").removeprefix("error: ")
        return f"one clear error: {said[:200]}"
    return f"WRONG: exit code {done.returncode} ({text.strip()[-200:]})"


def trial(demo: Path, only: list[str]) -> dict[str, Any]:
    """All commands on all machines: command -> machine -> what came of it."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        made, _ = run(MACHINES["sound"], ["synth", "OUT", "--studies", "1", "--test-studies", "1"], work / "made")
        data = made / "data"
        study = next((data / "test_images").iterdir()).name
        results: dict[str, Any] = {}
        for command, line in commands(demo, data, study).items():
            if only and command not in only:
                continue
            out, _ = run(MACHINES["sound"], line, work / "run")
            expected, results[command] = digest(out), {}
            for label, machine in MACHINES.items():
                shutil.rmtree(work / "run")
                out, done = run(machine, line, work / "run")
                results[command][label] = judged(out, done, expected, work / "run")
                sys.stderr.write(f"{command}, {label}: {results[command][label]}\n")
            shutil.rmtree(work / "run")
    return results


if __name__ == "__main__":
    p = parser(__doc__)
    p.add_argument("demo", type=Path, help="OUT of `lumbar demo`")
    p.add_argument("out", type=Path, help="JSON file to write")
    p.add_argument("--command", action="append", default=[], help="only this command; may be repeated")
    a = p.parse_args()
    trials = trial(a.demo.absolute(), a.command)
    told = [text for of in trials.values() for text in of.values()]
    counts = {
        "runs": len(told), "same_bytes": told.count("same bytes"), "wrong": sum(t.startswith("WRONG") for t in told),
        "one_clear_error": sum(t.startswith("one clear error") for t in told),
    }  # fmt: skip
    save(a.out, header("python -m benchmarks.machine.hostile DEMO") | {"counts": counts, "trials": trials})
