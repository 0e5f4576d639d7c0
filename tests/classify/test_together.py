"""Two processes that train one network together learn what one process learns alone."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

import classify.network.model as model_module
import classify.train.loop as loop_module
from classify.train import processes as processes_module
from classify.train.held_out import predict_logits
from classify.train.loop import Trainer
from classify.train.processes import ALONE, Processes
from classify.train.together import leave
from shared.runtime.errors import InputError
from tests.classify.test_steps import config_of, trainer_of, weights_of

ROOT = Path(__file__).resolve().parents[2]
# Batches of 21 crops are divided into 11 and 10; two of them make a step.
CONFIG = ("train.batch=21", "train.accumulate=2", "train.any_severe=1", "train.learning_rate=0.001")


def small_trunk(_: str, channels: int) -> tuple[nn.Module, int]:
    """Two layers with batch normalisation: processes wait for each other at every one."""
    layers = [nn.Conv2d(channels, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2)]
    return nn.Sequential(*layers, nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 16


def trained(team: Processes, folder: Path) -> dict[str, Any]:
    """What a process sees of a training: losses, weights, the weights after a kill, and held-out logits."""
    torch.set_num_threads(1)
    config = config_of(*CONFIG)
    trainer = trainer_of(config)
    trainer.join(team)
    losses = [trainer.run_epoch(0)[0]]
    killed = trainer_of(config)
    killed.join(team)
    killed.run_epoch(0, save=lambda state: killed.save(folder, [], state))
    if team.world > 1:
        dist.barrier()
    resumed = trainer_of(config)
    resumed.join(team)
    _, partial = resumed.resume(folder)
    assert partial is not None
    assert partial.step == 1  # of two
    resumed.run_epoch(0, partial=partial)
    logits = predict_logits(trainer.averaged, trainer.feed, config.crop, bf16=False, team=team)
    return {"losses": losses, "trainer": trainer, "resumed": weights_of(resumed), "logits": logits}


def second(folder: str) -> None:
    """The other process."""
    loop_module.SAVE_EVERY_SECONDS = -1.0  # type: ignore[misc]
    model_module.make_trunk = small_trunk  # type: ignore[attr-defined, assignment]
    seen = trained(Processes.of_environment(spread="data"), Path(folder))
    torch.save([weights_of(seen["trainer"]), seen["losses"], seen["logits"]], Path(folder) / "second.pt")
    leave()


def test_two_processes_learn_what_one_learns(tmp_path, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launch = {
        "TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "RANK": "0", "LOCAL_RANK": "0",
    }  # fmt: skip
    code = f"from tests.classify.test_together import second; second({str(tmp_path)!r})"
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    other = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True,
        env=os.environ | launch | {"RANK": "1", "LOCAL_RANK": "1", "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    threads = torch.get_num_threads()
    monkeypatch.setattr(loop_module, "SAVE_EVERY_SECONDS", -1.0)
    monkeypatch.setattr(model_module, "make_trunk", small_trunk)
    alone = trained(ALONE, tmp_path / "alone")
    for name, value in launch.items():
        monkeypatch.setenv(name, value)
    try:
        both = trained(Processes.of_environment(spread="data"), tmp_path)
        assert other.wait(timeout=120) == 0, other.stderr and other.stderr.read()
    finally:
        other.kill()
        leave()
        processes_module.store.cache_clear()
        torch.set_num_threads(threads)
    assert both["losses"] == pytest.approx(alone["losses"], rel=1e-3)
    start, mine = weights_of(trainer_of(config_of(*CONFIG))), weights_of(both["trainer"])
    one = weights_of(alone["trainer"])
    assert (mine - one).norm() < 0.1 * (one - start).norm()
    for name, tensor in alone["trainer"].model.state_dict().items():
        if "running" in name:  # batch statistics are those of the whole batch
            assert torch.allclose(both["trainer"].model.state_dict()[name], tensor, rtol=1e-2, atol=1e-3), name
    assert torch.equal(both["resumed"], mine)  # to the bit
    assert both["logits"] == pytest.approx(alone["logits"], abs=0.05)
    weights, losses, logits = torch.load(tmp_path / "second.pt", weights_only=False)
    assert torch.equal(weights, mine)
    assert losses == both["losses"]
    assert np.array_equal(logits, both["logits"])


def test_a_batch_smaller_than_the_team_is_refused():
    trainer: Trainer = trainer_of(config_of())
    trainer.team = Processes(rank=0, world=21, spread="data")
    with pytest.raises(InputError, match=r"a batch of 20 crops cannot be shared by 21 processes"):
        trainer.plan(0)


def fails(process: Processes, error: Exception) -> None:
    with process.one_message():
        raise error


def test_the_first_process_that_fails_speaks_for_all(monkeypatch):
    kept = dist.HashStore()  # type: ignore[attr-defined]
    monkeypatch.setattr(processes_module, "store", lambda: kept)
    first, other = (Processes(rank=k, world=2, spread="data") for k in (0, 1))
    with pytest.raises(InputError, match="disk is full"):
        fails(other, InputError("disk is full"))
    for error in (InputError("disk is full"), RuntimeError("[gloo/tcp] Connection closed by peer")):
        with pytest.raises(SystemExit) as silent:
            fails(first, error)
        assert silent.value.code == 1
    with pytest.raises(ValueError, match="a bug"):  # is not hidden
        fails(first, ValueError("a bug"))
    with pytest.raises(SystemExit), first.first_alone():  # does not wait for who has gone
        pass
    kept = dist.HashStore()  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"ended without a word.*--resume"):
        fails(first, RuntimeError("[gloo/tcp] Connection closed by peer"))
    with pytest.raises(ValueError, match="alone"):
        fails(ALONE, ValueError("alone"))


def test_who_trains_and_writes_what():
    told = {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    folds, data = (Processes.of_environment(told, spread=spread) for spread in ("folds", "data"))
    assert (folds.share([0, 1, 2]), folds.team, folds.writes) == ([1], ALONE, True)
    assert (data.share([0, 1, 2]), data.team, data.writes) == ([0, 1, 2], data, False)
    data.check([0])
    with pytest.raises(InputError, match="--spread data"):
        folds.check([0])
    with pytest.raises(InputError, match="torchrun"):
        Processes.of_environment({}, spread="data")
    assert folds.device("cuda:1") == "cuda:1"
    with pytest.raises(InputError, match="a device each"):
        data.device("cuda:1")
