"""Training one run with several processes, as `torchrun` starts them: one process per GPU.

Each process trains whole folds ("folds"), or all of them train each fold together and share its batches ("data").
Networks of this size gain more from one fold per GPU than from spreading a fold over several GPUs, as nnU-Net advises.
The result of a fold does not depend on the number of processes, except for rounding where they share batches.
"""

import functools
import itertools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal

from shared.runtime.errors import InputError
from shared.runtime.problems import counted

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]  # torch does not list it

Spread = Literal["folds", "data"]
SPREADS: Final[tuple[Spread, ...]] = ("folds", "data")
_FAILED: Final = "lumbar failed"
_MEETINGS: Final = itertools.count()
# What the errors of collective operations say when another process has gone.
_LOST: Final = ("gloo", "nccl", "onnection", "Broken pipe")


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """Place of this process in the launch: `rank` of `world` overall, `local_rank` of `local_world` on its machine.

    Attributes:
      spread: what is dealt to the processes: whole folds, or the crops of each batch.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    spread: Spread = "folds"

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] | None = None, *, spread: Spread = "folds") -> "Processes":
        """Reads what `torchrun` sets: RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE. Without it, `ALONE`.

        Raises:
          InputError: when batches are to be shared and there is no `torchrun`.
        """
        given = os.environ if environment is None else environment
        if "TORCHELASTIC_RUN_ID" not in given:
            if spread == "data":
                raise InputError(
                    "--spread data: there is only this process to share batches; start "
                    "`torchrun --nproc-per-node N -m classify.train ... --spread data`"
                )
            return ALONE
        return cls(
            rank=int(given["RANK"]), world=int(given["WORLD_SIZE"]), local_rank=int(given["LOCAL_RANK"]),
            local_world=int(given["LOCAL_WORLD_SIZE"]), spread=spread,
        )  # fmt: skip

    @property
    def team(self) -> "Processes":
        """The processes that share this one's batches."""
        return self if self.spread == "data" else ALONE

    @property
    def writes(self) -> bool:
        """Whether this process writes what it trains, and speaks of it: of a team, the first does."""
        return self.team.rank == 0

    def share(self, folds: Sequence[int]) -> list[int]:
        """The folds that this process trains."""
        return list(folds) if self.spread == "data" else list(folds)[self.rank :: self.world]

    def check(self, folds: Sequence[int]) -> None:
        """Raises `InputError` when there are more processes than whole folds to deal."""
        if self.spread == "folds" and self.world > len(folds):
            raise InputError(
                f"{counted(self.world, 'process')} for {counted(len(folds), 'fold')}, but each process trains "
                f"whole folds; start torchrun with --nproc-per-node {len(folds)} at most, or add --spread data, so "
                "that all processes train each fold together"
            )

    def device(self, name: str) -> str:
        """Gives this process its own GPU for `auto`, if there is one.

        Raises:
          InputError: for a GPU that several processes would have to share.
        """
        if self.world == 1 or name == "cpu":
            return name
        if name != "auto":
            if self.team.local_world > 1:
                raise InputError(
                    f"--device {name}: processes that share batches need a device each; leave --device out, or give cpu"
                )
            return name
        import torch

        return f"cuda:{self.local_rank}" if torch.cuda.is_available() else "cpu"

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Runs the block in the first process before any other process enters it."""
        self._meet()  # what all of them check before may depend on what the block does
        if self.rank > 0:
            self._meet()
        yield
        if self.rank == 0:
            self._meet()

    @contextmanager
    def one_message(self) -> Iterator[None]:
        """Leaves it to the first process that fails to tell why; the others end with exit code 1 and say nothing."""
        try:
            yield
        except BaseException as error:
            if self.world == 1 or isinstance(error, SystemExit):
                raise
            lost = isinstance(error, RuntimeError) and any(word in str(error) for word in _LOST)
            if _first_to_fail(self.rank):
                if lost:
                    raise InputError(
                        "another process of this training has ended without a word; finished parts are kept, start "
                        "all of them again with --resume"
                    ) from error
                raise
            if lost or isinstance(error, (InputError, KeyboardInterrupt)):
                raise SystemExit(1) from None
            raise

    def _meet(self) -> None:
        """Waits for all processes; ends this one if another has failed."""
        if self.world == 1:
            return
        here = f"lumbar meeting {next(_MEETINGS)}"
        store().add(here, 1)
        while store().add(here, 0) < self.world:
            if store().check([_FAILED]):
                raise SystemExit(1)
            time.sleep(0.05)


@functools.cache
def store() -> "Store":
    """What all processes of the launch can read and write."""
    from torch.distributed.rendezvous import rendezvous

    found: Store = next(iter(rendezvous("env://", timeout=timedelta(minutes=10))))[0]
    return found


def _first_to_fail(rank: int) -> bool:
    try:
        return bool(store().compare_set(_FAILED, "", str(rank)) == str(rank).encode())
    except (RuntimeError, ValueError, OSError):  # the process that kept the store has gone
        return True


ALONE: Final = Processes()
