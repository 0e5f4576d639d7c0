"""Labels that the held-out fold contradicts, and processes that share one run."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from classify.crop_cache import CacheJob, build_cache
from classify.network.checkpoint import load_card
from classify.noisy_labels import read_noisy, write_noisy
from classify.samples import select_crops
from classify.train.processes import ALONE, Processes
from shared.labels import FINDINGS, Condition
from shared.probabilities.files import read_probabilities
from shared.runtime.errors import InputError
from shared.splits import Splits, read_splits, write_splits


def test_grades_that_the_held_out_fold_contradicts_are_listed_and_can_be_left_out(run, challenge, splits, tmp_path):
    table = read_probabilities(run / "out_of_fold.csv")
    grades = challenge.grades_of(table.study_ids)
    values = np.full_like(table.submission, 1 / 3)
    values[0, 0] = np.roll([0.9, 0.05, 0.05], (int(grades[0, 0]) + 1) % 3)  # the true grade gets 0.05
    values[1, 4] = np.roll([0.5, 0.25, 0.25], (int(grades[1, 4]) + 1) % 3)
    path = tmp_path / "noisy_labels.csv"
    assert write_noisy(path, replace(table, submission=values), grades) == 1
    flags = read_noisy(path, challenge)
    assert flags == {(table.study_ids[0], FINDINGS[0])}
    assert write_noisy(tmp_path / "none.csv", replace(table, from_model=np.zeros_like(table.from_model)), grades) == 0

    job = CacheJob(data=challenge, config=load_card(run / "fold0").config.crop, localizations=None,
                   conditions=tuple(Condition))  # fmt: skip
    cache = build_cache(job, run / "cache")
    every, fewer = (
        select_crops(cache, challenge, challenge.study_ids, graded_only=True, without=w) for w in (frozenset(), flags)
    )
    assert len(every) - len(fewer) == 1
    text = path.read_text()
    other = next(g for g in ("normal_mild", "moderate", "severe") if g not in text.splitlines()[1])
    grade = next(g for g in ("normal_mild", "moderate", "severe") if g in text.splitlines()[1])
    path.write_text(text.replace(f",{grade},", f",{other},"))
    with pytest.raises(InputError, match=f"is not graded '{other}'"):
        read_noisy(path, challenge)


def test_processes_share_the_folds():
    alone = Processes.of_environment({})
    assert (alone, alone.share([0, 1, 2])) == (ALONE, [0, 1, 2])
    told = {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "1"}
    second = Processes.of_environment(told)
    assert second.share([0, 1, 2]) == [1]
    assert second.local_world == 1  # alone on its machine: all its cores
    assert second.device("cpu") == "cpu"
    second.check([0, 1])
    with pytest.raises(InputError, match="--nproc-per-node 1 at most"):
        second.check([0])


def test_two_processes_train_two_folds_of_one_run(challenge, run, tmp_path):
    """Started as `torchrun` starts them, on the CPU: each trains a fold, and one run folder holds both."""
    folds = read_splits(run / "splits.json").folds
    write_splits(tmp_path / "two.json", Splits(seed=0, folds=(folds[0] + folds[2], folds[1])))
    words = [sys.executable, "-m", "classify.train", str(challenge.root), str(tmp_path / "run")]
    words += ["--config", str(run / "config.toml"), "--set", "train.epochs=1", "--condition", "canal"]
    words += ["--splits", str(tmp_path / "two.json"), "--device", "cpu", "--workers", "1"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "TORCHELASTIC_RUN_ID": "x",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    started = [
        subprocess.Popen(
            words, env=os.environ | shared | {"RANK": str(k), "LOCAL_RANK": str(k)}, stderr=subprocess.PIPE, text=True
        )
        for k in (0, 1)
    ]
    messages = [process.communicate(timeout=200)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], messages
    assert json.loads((tmp_path / "run" / "run.json").read_text())["folds"] == [0, 1]
    pooled = read_probabilities(tmp_path / "run" / "out_of_fold.csv")
    assert sorted(pooled.study_ids) == list(challenge.study_ids)
    assert not (tmp_path / "run" / "cache").exists()
