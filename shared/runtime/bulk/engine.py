"""What carries out the work of a command: processes of this machine, or actors of a Ray cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from shared.runtime.pool import Spread, processes


class Engine(StrEnum):
    """The value of `--engine`."""

    LOCAL = "local"
    RAY = "ray"


@contextmanager
def spread_over(
    engine: Engine, workers: int, *, advice: str = "try again with --workers 1 to see where"
) -> Iterator[Spread]:
    """One set of processes for all steps of a run.

    Args:
      workers: number of processes on this machine; a cluster gives one process to each of its cores.
      advice: what the user can do when a process dies; ends the error message.

    Raises:
      InputError: as `shared.runtime.pool.processes` and `shared.runtime.bulk.ray_cluster.connected` do.
    """
    if engine is Engine.LOCAL:
        with processes(workers, advice=advice) as spread:
            yield spread
        return
    from shared.runtime.bulk.crew import Need, crew_of

    with crew_of(Need(), advice=advice) as crew:
        yield crew
