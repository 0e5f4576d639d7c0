"""The connection to a Ray cluster: the one that RAY_ADDRESS names, or one of this machine alone for the time of a run.

Processes of a cluster send each other pickles, so whoever can reach a cluster can run any program on it. Only trust a
cluster that is yours. That is why nothing but RAY_ADDRESS leads to one: a running cluster that Ray would find by itself
may be another user's. The cluster of this machine listens on the loopback interface, asks for a token, and ends with
the command.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from shared.runtime.errors import InputError, first_line
from shared.runtime.hardware.cores import usable_cores
from shared.runtime.progress import log

EXTRA: Final = "install the extra `cluster`: pip install 'lumbar-severity[cluster]', or ray itself"
# Results are small, and larger ones go to files; by default Ray takes a third of the memory.
_STORE_BYTES: Final = 512 << 20
# Ray's head process asks the metadata service of every cloud where it runs, whatever its settings say. It asks a closed
# port of this machine instead.
_NOBODY: Final = "http://127.0.0.1:9"
# The path of a socket may have 107 bytes, of which Ray's own names take about 70.
_LONGEST_FOLDER: Final = 24
_ROOT: Final = Path(__file__).resolve().parents[3]


def load_ray() -> Any:
    """The library, with its reports to its makers switched off.

    Raises:
      InputError: when it is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_USAGE_STATS_REPORT_URL"] = _NOBODY  # or Ray reports that it does not report
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")  # a cluster that is not there is told after a minute
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if not os.environ.get("RAY_ADDRESS"):
        os.environ.setdefault(
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0"
        )  # its name apart: stay on the loopback interface
    try:
        import ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise InputError(f"--engine ray: Ray is not installed; {EXTRA}") from error
    return ray


@contextmanager
def connected(*, tell: bool = False) -> Iterator[None]:
    """Connects this process to a cluster for a block; does nothing where it is connected already.

    Args:
      tell: whether what the cluster's processes write to standard error is shown here.

    Raises:
      InputError: when Ray is not installed, the cluster cannot be reached, or none can be started.
    """
    ray = load_ray()
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    log(f"connecting to the Ray cluster {address}" if address else "starting Ray on this machine")
    with contextlib.ExitStack() as after:
        # Ray lets its processes import what lies in the driver's current folder, which may be anybody's.
        with contextlib.chdir(_ROOT):
            if address:
                _join(ray, address, tell=tell)
            else:
                _start(ray, after, tell=tell)
        after.callback(ray.shutdown)
        nodes = [node for node in ray.nodes() if node["Alive"]]
        cores, gpus = (int(sum(node["Resources"].get(name, 0) for node in nodes)) for name in ("CPU", "GPU"))
        log(f"Ray {ray.__version__}: {len(nodes)} nodes, {cores} cores, {gpus} GPUs")
        yield


def _join(ray: Any, address: str, *, tell: bool) -> None:
    try:
        ray.init(address=address, log_to_driver=tell, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise InputError(
            f"RAY_ADDRESS {address}: no Ray cluster can be reached there ({first_line(error)}); start one with `ray "
            "start --head`, or unset RAY_ADDRESS to use this machine alone"
        ) from error


def _start(ray: Any, after: contextlib.ExitStack, *, tell: bool) -> None:
    wanted = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="lumbar-", dir=wanted if len(wanted) <= _LONGEST_FOLDER else "/tmp"))
    before = {name: os.environ.get(name) for name in ("HTTP_PROXY", "http_proxy")}
    if not any(before.values()):
        os.environ["HTTP_PROXY"] = _NOBODY
    try:
        ray.init(
            address="local", num_cpus=usable_cores(), include_dashboard=False, _node_ip_address="127.0.0.1",
            _temp_dir=str(folder), object_store_memory=_STORE_BYTES, log_to_driver=tell, logging_level="ERROR",
        )  # fmt: skip
    except Exception as error:  # Ray raises a bare Exception for a start that takes too long
        raise InputError(
            f"--engine ray: Ray did not start on this machine ({first_line(error)}); its logs lie in {folder}. On a "
            "busy machine try again later, or start it beforehand with `ray start --head` and set RAY_ADDRESS=auto"
        ) from error
    finally:
        if not any(before.values()):
            del os.environ["HTTP_PROXY"]
    after.callback(shutil.rmtree, folder, ignore_errors=True)


def without_proxy() -> None:
    """Lets a process of the cluster reach the network as its user would."""
    if os.environ.get("HTTP_PROXY") == _NOBODY:
        del os.environ["HTTP_PROXY"]
