"""Trains each fold as a job of the Ray cluster. A fold whose node died goes on elsewhere from its last epoch."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from classify.train.request import TrainingResources, TrainRequest
from classify.train.run import begin, train
from shared.runtime.bulk.crew import crew_of, need_of
from shared.runtime.bulk.ray_cluster import connected
from shared.runtime.hardware.cores import usable_cores
from shared.runtime.progress import log, track


def train_on_cluster(request: TrainRequest, run: Path, how: TrainingResources, *, device: str) -> None:
    """As `classify.train.run.train`, with the folds on the nodes of the cluster and their pooling here.

    Args:
      run: by its absolute path, on a disk that all nodes see.
      device: as it was given, because each node has its own.

    Raises:
      InputError: as `train` does, and when the cluster cannot be reached or a fold ended several processes.
    """
    begin(request, run, resume=how.resume)
    with connected(tell=True):
        need = need_of(device, cpus=how.workers)
        with crew_of(need, advice="continue with --resume", tell=True) as crew:
            work = partial(_train_fold, request, run, how, device)
            for fold in track(crew(work, request.folds), "folds", total=len(request.folds)):
                log(f"fold {fold} is trained")
    train(request, run, replace(how, resume=True))


def _train_fold(request: TrainRequest, run: Path, how: TrainingResources, device: str, fold: int) -> int:
    """Trains one fold on a node; the cached crops stay for the others."""
    here = TrainingResources(
        device=device, workers=usable_cores(), resume=True, keep_cache=True, tracking=how.tracking
    )  # fmt: skip
    train(replace(request, folds=(fold,)), run, here)
    return fold
