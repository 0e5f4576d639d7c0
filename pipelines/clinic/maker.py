"""What made a result: the models and the version, and the UIDs and times that follow from them.

A DICOM object with a known SOPInstanceUID must never come back with another content. So the UIDs are digests of what
an object is made from, and its times are not those of the run: the same study and models give the same bytes.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import pydicom
from pydicom.uid import UID

from pipelines.clinic.origin import Origin
from shared.dicom.header import OUR_MODEL_NAME
from shared.runtime.run_folder import package_version, read_run, trained_digest
from shared.runtime.unfinished import digest_of

NAME: Final = OUR_MODEL_NAME
MANUFACTURER: Final = "lumbar-severity project"
NOTICE: Final = "Research use only. Not a medical device, not verified by a physician."
# Any fixed UUID: names are unique below it.
_NAMESPACE: Final = uuid.UUID("6b0f7e0a-7c0f-5f0e-9d55-3d5b9a3f2c11")


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """The system that made a result.

    Attributes:
      version: of the package.
      models: SHA-256 digests of the trained models, by the stage and number of each.
      options: whatever else changes the answer, for example test-time augmentation.
      trained: when the last of the models was trained.
    """

    version: str
    models: tuple[tuple[str, str], ...]
    options: tuple[str, ...] = ()
    trained: datetime

    @classmethod
    def of_runs(
        cls, localizers: Sequence[Path], classifiers: Sequence[Path], options: Sequence[str] = (), *, fast: bool = False
    ) -> "Maker":
        """Reads what made the answers of some runs.

        Args:
          fast: whether the fast grader of each classifier answers in place of its folds.

        Raises:
          InputError: when a run is missing or unfinished.
        """
        runs = [("localize", run) for run in localizers] + [("classify", run) for run in classifiers]
        stages = {"localize": "localizer", "classify": "classifier"}
        return cls(
            version=package_version(),
            models=tuple((stages[kind], trained_digest(run, fast=fast and kind == "classify")) for kind, run in runs),
            options=tuple(options),
            trained=max(_moment(str(read_run(run, expected_kind=kind).get("started", ""))) for kind, run in runs),
        )

    def uid(self, origin: Origin, what: str) -> UID:
        """The UID of one thing that this system makes of a study."""
        images = sorted((image.sop_uid, image.frame or 0, image.view.slug) for image in origin.images.values())
        name = digest_of(self.version, self.models, self.options, origin.study_uid, images, what)
        return UID(f"2.25.{uuid.uuid5(_NAMESPACE, name).int}")

    @property
    def device_uid(self) -> UID:
        """The UID of this system with these models, as an observer."""
        return UID(f"2.25.{uuid.uuid5(_NAMESPACE, digest_of(self.version, self.models, self.options)).int}")

    @property
    def serial(self) -> str:
        """What tells these models from others, short enough for DeviceSerialNumber."""
        return digest_of(self.models, self.options)[:16]

    def earliest(self, origin: Origin) -> datetime:
        """The earliest moment at which the result can have been made: when study and models both existed."""
        return max(self.trained, origin.performed or self.trained)


def forget_creation_time(dataset: pydicom.Dataset) -> None:
    """Deletes the optional times of this moment, so that a repeated run gives the same bytes."""
    for keyword in ("InstanceCreationDate", "InstanceCreationTime", "DateOfSecondaryCapture", "TimeOfSecondaryCapture"):
        if keyword in dataset:
            delattr(dataset, keyword)
    for item in dataset.get("ContributingEquipmentSequence", ()):
        if "ContributionDateTime" in item:
            del item.ContributionDateTime


def _moment(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:  # a run of another version; nothing depends on it but a date
        return datetime(2000, 1, 1)
