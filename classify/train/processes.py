"""Training one run with several processes, as `torchrun` starts them: one process per GPU, each with its own folds.

Networks of this size gain more from one fold per GPU than from spreading a fold over several GPUs, as nnU-Net advises.
The result of a fold does not depend on the number of processes.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from shared.runtime.errors import InputError
from shared.runtime.problems import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """Place of this process in the launch: `rank` of `world` overall, `local_rank` of `local_world` on its machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] | None = None) -> "Processes":
        """Reads what `torchrun` sets: RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE. Without it, `ALONE`."""
        given = os.environ if environment is None else environment
        if "TORCHELASTIC_RUN_ID" not in given:
            return ALONE
        return cls(
            rank=int(given["RANK"]), world=int(given["WORLD_SIZE"]), local_rank=int(given["LOCAL_RANK"]),
            local_world=int(given["LOCAL_WORLD_SIZE"]),
        )  # fmt: skip

    def share(self, folds: Sequence[int]) -> list[int]:
        """The folds that this process trains."""
        return list(folds)[self.rank :: self.world]

    def check(self, folds: Sequence[int]) -> None:
        """Raises `InputError` when there are more processes than folds."""
        if self.world > len(folds):
            raise InputError(
                f"{counted(self.world, 'process')} for {counted(len(folds), 'fold')}, but each process trains "
                "whole folds; "
                f"start torchrun with --nproc-per-node {len(folds)} at most"
            )

    def device(self, name: str) -> str:
        """Gives this process its own GPU for `auto`, if there is one."""
        if self.world == 1 or name != "auto":
            return name
        import torch

        return f"cuda:{self.local_rank}" if torch.cuda.is_available() else "cpu"

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Runs the block in the first process before any other process enters it."""
        if self.rank > 0:
            self._meet()
        yield
        if self.rank == 0:
            self._meet()

    def _meet(self) -> None:
        if self.world > 1:
            import torch.distributed as dist

            if not dist.is_initialized():
                dist.init_process_group("gloo")
            dist.barrier()


ALONE: Final = Processes()
