"""Several processes that train one run together, as `torchrun` starts them: one process per GPU, each its own folds.

Networks of this size gain more from a fold per GPU than from one fold spread over several (the advice of nnU-Net), and
a fold's result does not depend on how many processes there are.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from shared.runtime.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """This process's place among all of the launch: `rank` of `world`, `local_rank` of `local_world` on its machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] | None = None) -> "Processes":
        """As `torchrun` tells by RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE; alone without it."""
        given = os.environ if environment is None else environment
        if "TORCHELASTIC_RUN_ID" not in given:
            return ALONE
        return cls(
            rank=int(given["RANK"]), world=int(given["WORLD_SIZE"]), local_rank=int(given["LOCAL_RANK"]),
            local_world=int(given["LOCAL_WORLD_SIZE"]),
        )  # fmt: skip

    def share(self, folds: Sequence[int]) -> list[int]:
        """The folds this process trains: dealt in turn."""
        return list(folds)[self.rank :: self.world]

    def check(self, folds: Sequence[int]) -> None:
        """Raises `InputError` when there are more processes than folds."""
        if self.world > len(folds):
            raise InputError(
                f"{self.world} processes for {len(folds)} folds: each trains whole folds; "
                f"start torchrun with --nproc-per-node {len(folds)} at most"
            )

    def device(self, name: str) -> str:
        """`auto` becomes this process's own GPU where there is one."""
        if self.world == 1 or name != "auto":
            return name
        import torch

        return f"cuda:{self.local_rank}" if torch.cuda.is_available() else "cpu"

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Lets the first process pass the block before any other enters it."""
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
