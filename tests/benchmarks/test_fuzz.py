"""A fixed sample of `make fuzz`, and that its harness sees deaths, hangs, foreign exceptions and greed."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.fuzz.case import WHEEL, kind_of, make_case
from benchmarks.fuzz.inputs.dicom import sound_files
from benchmarks.fuzz.inputs.sound import Kind, Sound

# Inputs that misbehave in every way; a process of its own, because this one has threads and cannot be forked.
_MISBEHAVING = """
import os, signal, sys, time
from benchmarks.fuzz import server
from benchmarks.fuzz.inputs.sound import Sound
from benchmarks.fuzz.tally import judged
from shared.runtime.errors import InputError

def refuse(folder): raise InputError(f"{folder / 'file'}: no")
def exhaust(folder): bytearray(8 << 30)
def fill(folder): return [] if bytearray(200 << 20).strip(b"x") else ["empty"]
def panic(folder): raise type("PanicException", (BaseException,), {})("out of bounds")

ways = {"read": lambda folder: [], "told": refuse, "part": lambda folder: ["said"], "value": lambda folder: int("x"),
        "panic": panic, "exit": lambda folder: sys.exit(3), "leave": lambda folder: os._exit(3),
        "die": lambda folder: os.kill(os.getpid(), signal.SIGSEGV), "hang": lambda folder: time.sleep(60),
        "exhaust": exhaust, "fill": fill}
sound = {"dicom/x": server.run_sound(Sound(kind="dicom", name="x", files={}, targets={}, read=ways["read"]))}
for way, read in ways.items():
    server.SECONDS = 0.2 if way == "hang" else 60
    result = server.run_sound(Sound(kind="dicom", name="x", files={"file": b""}, targets={}, read=read))
    print(way, judged(result, sound))
"""


def fuzz(out: Path, *options: str) -> dict:
    command = [sys.executable, "-m", "benchmarks.fuzz", *options, "--workers", "1", "--out", str(out)]
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    return json.loads(out.read_text())


def test_damaged_inputs_are_read_or_told(tmp_path: Path) -> None:
    found = fuzz(tmp_path / "fuzz.json", "--cases", str(2 * len(WHEEL)))
    assert found["untold_cases"] == []
    assert found["cases"] == sum(found["outcomes"].values()) == 2 * len(WHEEL)
    assert set(found["by_kind"]) == set(WHEEL)
    assert all(of_kind.get("told") for of_kind in found["by_kind"].values())  # the damage reaches the readers


def test_the_harness_sees_every_way_to_misbehave() -> None:
    done = subprocess.run([sys.executable, "-c", _MISBEHAVING], check=True, capture_output=True, text=True)
    assert dict(line.split() for line in done.stdout.splitlines()) == {
        "read": "read", "told": "told", "part": "told", "value": "exception", "panic": "exception",
        "exit": "exception", "leave": "exception", "die": "signal", "hang": "timeout", "exhaust": "exception",
        "fill": "memory",
    }  # fmt: skip


def test_seed_and_number_make_a_case_and_its_damage_differs_from_the_next() -> None:
    numbers = [n for n in range(400) if kind_of(n) == "dicom"]
    inputs: dict[Kind, list[Sound]] = {"dicom": list(sound_files())}
    cases = [make_case(1, n, inputs) for n in numbers]
    again: dict[Kind, list[Sound]] = {"dicom": list(sound_files())}
    assert cases[49::-1] == [make_case(1, n, again) for n in numbers[49::-1]]  # whatever was made before
    assert {case.sound.name for case in cases} == {sound.name for sound in inputs["dicom"]}
    changed = [case for case in cases if any(case.sound.files[n] != new for n, new in case.changed.items())]
    assert len(changed) > 0.9 * len(cases)
    assert len({tuple(case.changed.items()) for case in changed}) == len(changed)
