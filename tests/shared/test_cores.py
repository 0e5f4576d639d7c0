"""Cores that a process may use: its affinity and the quotas of both versions of cgroups."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.runtime.hardware import cores
from shared.runtime.hardware.cores import let_threads_sleep, usable_cores
from tests.dicom_files import write_multiframe
from tests.shared.test_frames import frame, stack


@pytest.mark.parametrize(
    ("mine", "files", "expected"),
    [
        ("0::/", {"cpu.max": "250000 100000\n"}, 2),
        ("0::/", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/", {"cpu.max": "max 100000\n"}, 64),
        ("0::/user/job", {"cpu.max": "max 1", "user/cpu.max": "300000 100000\n", "user/job/cpu.max": "max 1"}, 3),
        ("0::/user/job", {"user/cpu.max": "300000 100000\n", "user/job/cpu.max": "400000 100000"}, 3),
        ("4:cpu,x:/d/1", {"cpu,x/cpu.cfs_quota_us": "400000", "cpu,x/cpu.cfs_period_us": "100000"}, 4),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        ("0::/../x", {"cpu.max": "no number"}, 64),
        ("", {}, 64),
    ],
)  # fmt: skip
def test_quotas_limit_the_cores(
    mine: str, files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").write_text(mine + "\n9:name=systemd:/\n")
    for name, text in files.items():
        path = tmp_path / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(cores, "_MINE", tmp_path / "mine")
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path / "mount")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))
    assert usable_cores() == expected
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(1))
    assert usable_cores() == 1


def test_threads_sleep_unless_the_user_says_otherwise_or_torch_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "torch", object())
    let_threads_sleep()
    assert "OMP_WAIT_POLICY" not in os.environ
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setenv("GOMP_SPINCOUNT", "100")
    let_threads_sleep()
    assert "OMP_WAIT_POLICY" not in os.environ
    monkeypatch.delenv("GOMP_SPINCOUNT")
    let_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


ENTRIES = """
import os, sys
from contextlib import suppress

seen = []

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            seen.append(os.environ.get("OMP_WAIT_POLICY"))
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoTorch())
from classify.train.command import main as train_classifier
from localize.train.command import main as train_localizer
from pipelines.api import load
from pipelines.cli import main

for enter in (
    lambda: main(["info"]), lambda: train_localizer(["x", "y"]), lambda: train_classifier(["x", "y", "--oracle"]),
    lambda: load("x", "y"), lambda: main(["localize", "predict", sys.argv[1], sys.argv[1] + "/out"]),
):
    os.environ.pop("OMP_WAIT_POLICY", None)
    with suppress(Exception, SystemExit):
        enter()
    assert os.environ.get("OMP_WAIT_POLICY") == "PASSIVE", enter
assert seen and set(seen) == {"PASSIVE"}, seen
"""


def test_every_entry_sets_the_policy_before_torch(tmp_path: Path) -> None:
    write_multiframe(tmp_path / "1.dcm", [frame(n) for n in range(6)], stack(6))
    policies = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    environment = {name: value for name, value in os.environ.items() if name not in policies}
    done = subprocess.run(
        [sys.executable, "-c", ENTRIES, str(tmp_path)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
