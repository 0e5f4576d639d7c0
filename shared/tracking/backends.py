"""What writes the curves: TensorBoard's event files, and MLflow's file store. Both are extras, imported when needed."""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

# The longest value of a parameter that MLflow takes.
_MOST_CHARACTERS: Final = 500
_EXPERIMENT: Final = "lumbar"


class Backend(Protocol):
    """Writes the curves of one network."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a point to each named curve."""

    def close(self) -> None:
        """Ends the curves; a later backend of the same name continues them."""


class TensorBoard:
    """Event files in a folder of the network's name. The writer is TensorBoard's own, which needs no torch."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        (folder / name).mkdir(parents=True, exist_ok=True)
        self._writer = EventFileWriter(str(folder / name))
        text = "\n".join(f"{key} = {value}" for key, value in settings.items())
        (folder / name / "settings.txt").write_text(text + "\n", encoding="utf-8")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=points)))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Mlflow:
    """A run of the network's name in a store of files. Nothing is sent anywhere, whatever the environment says."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        # Before the import. The small package has no database, so the store of files is chosen on purpose.
        os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_ALLOW_FILE_STORE": "true"}
        from mlflow import MlflowClient

        folder.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(tracking_uri=folder.resolve().as_uri())
        experiment = self._experiment()
        earlier = self._client.search_runs([experiment], f"tags.mlflow.runName = '{name}'")
        self._run: str = (earlier[0] if earlier else self._client.create_run(experiment, run_name=name)).info.run_id
        self._client.update_run(self._run, status="RUNNING")
        for key, value in settings.items():
            self._client.log_param(self._run, key, str(value)[:_MOST_CHARACTERS])

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        with suppress(MlflowException):  # it is there, or another process was faster
            return str(self._client.create_experiment(_EXPERIMENT))
        found = self._client.get_experiment_by_name(_EXPERIMENT)
        if found is None:
            raise RuntimeError("the store of files holds no experiment and takes none")
        return str(found.experiment_id)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._run)


BACKENDS: Final[Mapping[str, Callable[[Path, str, Mapping[str, Any]], Backend]]] = {
    "tensorboard": TensorBoard, "mlflow": Mlflow,
}  # fmt: skip
