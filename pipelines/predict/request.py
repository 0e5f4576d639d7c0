"""What to predict, with which models, and what an answer depends on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipelines.ensembles.members import Members, Team
from pipelines.grader import Grader
from shared.backends.backend import TORCH, Backend
from shared.data.challenge import Part
from shared.data.source import StudySource, open_source
from shared.data.store import Store
from shared.labels import View
from shared.out_of_fold import FoldModels
from shared.runtime.bulk.engine import Engine
from shared.runtime.bulk.shards import Shard
from shared.runtime.errors import InputError
from shared.runtime.hardware.cores import usable_cores
from shared.runtime.progress import log
from shared.runtime.unfinished import digest_of
from shared.storage.address import Address

if TYPE_CHECKING:
    from pipelines.clinic.export import DicomExport

DICOM_EXTRA: Final = "install the extra `dicom`: pip install 'lumbar-severity[dicom]', or highdicom itself"
# A process takes some seconds to start and to load the models, as long as a few studies take.
_FEWEST_STUDIES: Final = 4
# Processes share one GPU, which holds the models of each.
MOST_ON_GPU: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictRequest:
    """What to predict, and with which models.

    Attributes:
      data: challenge directory, prepared store, or DICOM files: any folder, archive, DICOMDIR or single file; or the
        address of one in an object store.
      members: the runs of both stages.
      part: of a challenge directory; without it the test part where there is one.
      device: auto, cpu, mps, cuda, cuda:N or N.
      tta: whether the classifier averages over shifted, turned and scaled copies of each crop.
      chosen: series id -> the view that the user wants it for, in a folder of DICOM files.
      dicom: whether to write OUT/dicom/, the results as DICOM objects.
      pages: whether to write a page per study and their index.
      workers: most processes that answer studies side by side. The answers do not depend on it.
      engine: what the processes belong to; a cluster has its own number of them.
      shard: the part of all studies to predict.
      backend: what computes the networks of both stages.
    """

    data: Path | Address
    members: Members
    part: Part | None = None
    device: str = "auto"
    tta: bool = False
    chosen: Mapping[str, View] = field(default_factory=dict)
    dicom: bool = False
    pages: bool = True
    workers: int = 1
    engine: Engine = Engine.LOCAL
    shard: Shard | None = None
    backend: Backend = TORCH

    @property
    def folder(self) -> Path:
        """The data, which must be on a disk."""
        if isinstance(self.data, Address):
            raise InputError(f"{self.data}: expected a folder on a disk, got an address")
        return self.data

    def anywhere(self) -> "PredictRequest":
        """The same request for processes of other machines, which have other current folders."""
        members, weights = self.members, self.members.weights
        named = replace(
            members, localizers=tuple(run.absolute() for run in members.localizers),
            classifiers=tuple(run.absolute() for run in members.classifiers),
            weights=None if weights is None else weights.absolute(),
        )  # fmt: skip
        backend = replace(self.backend, exported=tuple(folder.absolute() for folder in self.backend.exported))
        return replace(self, data=self.data.absolute(), members=named, backend=backend)

    def may_spread(self, studies: int) -> bool:
        """Whether so many studies are worth more than one process. Light: it does not look at the device."""
        return self._most(studies) > 1

    def processes(self, studies: int) -> int:
        """How many processes answer so many studies."""
        from classify.device import pick_device

        most = self._most(studies)
        return most if pick_device(self.device).type == "cpu" else min(most, MOST_ON_GPU)

    def _most(self, studies: int) -> int:
        return min(self.workers, usable_cores(), max(studies // _FEWEST_STUDIES, 1))


def load_grader(request: PredictRequest, team: Team | None = None) -> Grader:
    """Loads the models of a request: those of a team, or of all trained folds."""
    return Grader.load(request.members, team=team, device=request.device, tta=request.tta, backend=request.backend)


def loader(request: PredictRequest, teams: Sequence[Team] = ()) -> "partial[Grader]":
    """Loads the models of a request in whichever process calls it, with the number of a team or with None."""
    return partial(_load_team, request, tuple(teams))


def _load_team(request: PredictRequest, teams: Sequence[Team], chosen: Sequence[int] | None) -> Grader:
    return load_grader(request, None if chosen is None else teams[chosen[0]])


def source_and_models(request: PredictRequest) -> tuple[StudySource, FoldModels[Grader]]:
    """The studies to predict, and the models that may predict each of them.

    Raises:
      InputError: for an unusable data folder, or when no study was held out by every run.
    """
    given = open_source(request.data, request.part, request.chosen)
    source, team_of = request.members.teams(given)
    if team_of is None:
        return source, FoldModels(loader(request))
    left_out = len(given.study_ids) - len(source.study_ids)
    log(f"training studies: predicted out of fold ({left_out} of untrained folds are left out)")
    teams = list(dict.fromkeys(team_of.values()))
    return source, FoldModels(loader(request, teams), {s: teams.index(team) for s, team in team_of.items()})


def state_of(request: PredictRequest, source: StudySource) -> dict[str, Any]:
    """What a resumed call must agree with. The files of each study are compared one by one."""
    return {
        "data": digest_of(source.kind, source.study_ids, source.fingerprint, source.row_ids),
        **models_of(request),
        "pages": request.pages,
        "shard": None if request.shard is None else str(request.shard),
    }


def models_of(request: PredictRequest) -> dict[str, Any]:
    """What an answer depends on beside its study, as JSON-ready values."""
    from classify.device import pick_device

    return {
        **request.members.state,
        "device": str(pick_device(request.device)),
        "tta": request.tta,
        "backend": request.backend.name,
        "series": {uid: view.slug for uid, view in request.chosen.items()},
        "dicom": request.dicom,
    }


def exporter(request: PredictRequest, source: StudySource | None = None) -> "DicomExport | None":
    """What writes the DICOM objects; None where none are asked for.

    Raises:
      InputError: when the extra `dicom` is not installed, or the source is a prepared store, which has no headers.
    """
    if not request.dicom:
        return None
    try:
        from pipelines.clinic.export import DicomExport
    except ModuleNotFoundError as error:
        if error.name != "highdicom":
            raise
        raise InputError(f"--dicom: highdicom is not installed; {DICOM_EXTRA}") from error
    if source is not None and Store.find(source.given.folder) is not None:
        raise InputError(
            f"{request.data}: is a prepared store, which keeps no patient and study of a DICOM header; give --dicom "
            "the DICOM files themselves"
        )
    members = request.members
    options = [
        *(["tta"] if request.tta else []), *(["fast"] if members.fast else []),
        *([f"blend {members.blend_digest}"] if members.weights else []),
    ]  # fmt: skip
    return DicomExport.of_runs(members.localizers, members.classifiers, options=options, fast=members.fast)
