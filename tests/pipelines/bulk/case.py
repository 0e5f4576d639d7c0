"""A prediction by stand-ins for both stages, as `lumbar predict` makes it, for one process, for shards and for Ray."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines.bulk.merge import merge
from pipelines.cli import main
from pipelines.grader import Grader
from pipelines.predict import PredictRequest, predict
from pipelines.predict import run as predict_run
from shared.data.source import open_source
from shared.out_of_fold import FoldModels
from shared.runtime.bulk.shards import Shard
from shared.runtime.ownership import outputs_released
from tests.dicom_files import write_dicom
from tests.pipelines.stand_ins import CanalLocalizer, ConstantClassifier, grader_of


@dataclass(frozen=True)
class StandInMembers:
    """In place of `Members`, whose runs must exist."""

    name: str = "one"
    runs: tuple[Path, ...] = ()
    localizers: tuple[Path, ...] = ()
    classifiers: tuple[Path, ...] = ()
    weights: None = None

    @property
    def state(self) -> dict[str, Any]:
        return {"localizer": [self.name], "classifier": [self.name], "blend": None, "mixed data": False}

    def to_json(self) -> dict[str, Any]:
        return {"localizers": [self.name], "classifiers": [self.name], "shipped_localizer": False}


class _Cpu:
    """In place of torch's device: torch takes longer to import than all else here, in each process."""

    type = "cpu"

    def __str__(self) -> str:
        return self.type


def load(_: Sequence[int] | None) -> Grader:
    return grader_of(CanalLocalizer(), ConstantClassifier())


def write_studies(root: Path, count: int = 5) -> Path:
    """A test part: one study has lost its files, another has a broken one."""
    names = [str(n) for n in range(100, 100 + count)]
    rows = [(study, f"{study}1", "Sagittal T2/STIR") for study in names]
    root.mkdir(parents=True, exist_ok=True)
    columns = ["study_id", "series_id", "series_description"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "test_series_descriptions.csv", index=False)
    for study, series, _ in rows[:-1]:
        for number in (1, 2, 3):
            write_dicom(root / "test_images" / study / series / f"{number}.dcm", ImagePositionPatient=[number, 0, 0])
    (root / "test_images" / names[1] / f"{names[1]}1" / "2.dcm").write_bytes(b"broken")
    return root


def request_of(data: Path, **changes: Any) -> PredictRequest:
    members: Any = StandInMembers()
    return replace(PredictRequest(data=data, members=members, device="cpu"), **changes)


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_run, "source_and_models", lambda r: (open_source(r.data), FoldModels(load)))
    monkeypatch.setattr("classify.device.pick_device", lambda _: _Cpu())


def predicted(request: PredictRequest, out: Path, **how: Any) -> Path:
    with outputs_released():
        predict(request, out, **how)
    return out


def shards_of(request: PredictRequest, out: Path, count: int) -> list[Path]:
    """OUT of each shard; not in the order of their numbers."""
    numbers = [*range(2, count + 1), 1]
    return [predicted(replace(request, shard=Shard(number=n, of=count)), out / f"shard{n}") for n in numbers]


def merged(shards: Sequence[Path], out: Path) -> Path:
    with outputs_released():
        merge(shards, out)
    return out


def lumbar() -> int:
    """The command line with stand-ins for both stages."""
    patch = pytest.MonkeyPatch()
    stand_in(patch)
    patch.setattr("pipelines.commands.predict.members_of", lambda _: StandInMembers())
    return main()
