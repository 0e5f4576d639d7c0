"""Curves for TensorBoard and MLflow: written locally, without effect on the training, and never its end."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.runtime.errors import InputError
from shared.runtime.ownership import foreign_entries
from shared.tracking import backends
from shared.tracking.tracker import Tracking

SETTINGS = {"train": {"epochs": 3, "note": "x" * 2000}, "none": None}


def random_states() -> tuple[Any, ...]:
    import torch

    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


def write(run: Path, *kinds: str, epochs: Mapping[int, float]) -> None:
    with Tracking(kinds=kinds, run=run).curves("fold0", SETTINGS) as curves:
        for epoch, loss in epochs.items():
            curves(epoch, {"loss/training": loss, "broken": float("nan")})


def test_tensorboard_reads_what_was_written_and_no_random_number_was_taken(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    before = random_states()
    write(tmp_path, "tensorboard", epochs={1: 0.5, 2: 0.25})
    assert random_states() == before
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(tmp_path / "tracking" / "tensorboard" / "fold0"))
    read.Reload()
    assert [(e.step, e.value) for e in read.Scalars("loss/training")] == [(1, 0.5), (2, 0.25)]
    assert read.Tags()["scalars"] == ["loss/training"]
    (tmp_path / "run.json").touch()
    assert foreign_entries(tmp_path) == []


def test_mlflow_continues_a_run_and_ignores_servers_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.invalid:5000")
    before = random_states()
    write(tmp_path, "mlflow", epochs={1: 0.5})
    write(tmp_path, "mlflow", epochs={2: 0.25})
    assert random_states() == before
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=(tmp_path / "tracking" / "mlflow").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("lumbar").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "fold0"
    assert run.data.params["train.epochs"] == "3"
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "loss/training")] == [
        (1, 0.5),
        (2, 0.25),
    ]
    assert foreign_entries(tmp_path) == []


class Failing:
    """A backend that takes random numbers and fails, at the start or later."""

    starts = True

    def __init__(self, *_: object) -> None:
        random.random()
        np.random.rand()
        if not self.starts:
            raise RuntimeError("no space\nleft")

    def log(self, *_: object) -> None:
        random.random()
        raise OSError("disk full")

    def close(self) -> None:
        raise AssertionError("is not called after a failure")


@pytest.mark.parametrize("starts", [True, False])
def test_a_logger_that_fails_is_told_once_and_ends_nothing(
    starts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Failing, "starts", starts)
    monkeypatch.setitem(backends.BACKENDS, "tensorboard", Failing)  # type: ignore[arg-type]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    before = random_states()
    write(tmp_path, "tensorboard", epochs={1: 0.5, 2: 0.25})
    assert random_states() == before
    told = [line for line in capsys.readouterr().err.splitlines() if "--track" in line]
    assert len(told) == 1
    assert "training goes on" in told[0]
    assert ("disk full" if starts else "no space") in told[0]


def test_an_error_of_the_training_is_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(KeyError), Tracking().curves("fold0", {}):
        raise KeyError("of the training")


def test_a_package_that_is_absent_is_named_with_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'lumbar-severity\[mlflow\]'"):
        Tracking(kinds=("mlflow",))
    Tracking()
