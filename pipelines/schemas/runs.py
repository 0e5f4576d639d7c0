"""run.json: what a command did, with which version, data and models, and in how long."""

from typing import Annotated, Any, Literal

from pydantic import Field

from pipelines.schemas.base import Count, Digest, Part, of_schema
from pipelines.schemas.scores import Family
from shared.backends.exported import Name
from shared.dicom.discover import FileCounts
from shared.runtime.run_folder import FastRecord, RunScore

Seconds = Annotated[float, Field(ge=0)]


class Run(Part):
    """What every run.json holds."""

    command: str
    version: str
    """Of the package."""
    git_commit: str | None
    python: str
    machine: str
    started: str
    """UTC, as 2026-11-25T12:34:56Z."""
    seconds: Seconds


class Member(Part):
    """One run that answered."""

    run_sha256: Digest
    """Of its run.json."""
    models_sha256: Digest
    """Of its models, config and splits together, or of its fast grader where that answered."""
    shipped: bool


class PredictRun(Run):
    """run.json of `lumbar predict`."""

    schema_: Literal["run-predict-1"] = of_schema("run-predict-1")
    kind: Literal["predict"]
    studies: Count
    rows: Count
    prior_rows: Count
    prior_reasons: dict[str, Count]
    """Reason -> number of prior rows; docs/output.md explains the reasons."""
    localization_sources: dict[str, Count]
    numbering_uncertain: list[str]
    """Studies whose levels may all be one disc off."""
    problems: list[str]
    input: Literal["challenge", "folder"]
    device: str
    backend: Name = "torch"
    """What computed the networks."""
    tta: bool
    out_of_fold: bool
    """Whether the studies are training studies, each answered by the fold that held it out."""
    localizers: list[Member]
    classifiers: list[Member]
    shipped_localizer: bool
    """Whether only the detectors that ship with the package were used."""
    mixed_data: bool
    """Whether runs of different training data were allowed."""
    fast: bool = False
    """Whether each classifier's fast grader answered in place of its folds; earlier versions had none."""
    blend: str | None
    """Digest of the weights of the classifiers; null for a plain mean."""
    files: FileCounts | None = None
    """What became of the files of a folder."""
    chosen_series: dict[str, str] | None = None
    """Series -> the view that --series gave it."""
    shard: str | None = None
    """Which part of the studies this is, such as 3/16."""
    merged_shards: Count | None = None
    """How many shards were joined; the seconds are those of all together."""


class LocalizePredictRun(Run):
    """run.json of `lumbar localize predict`."""

    schema_: Literal["run-localize-prediction-1"] = of_schema("run-localize-prediction-1")
    kind: Literal["localize-prediction"]
    studies: Count
    data_fingerprint: str
    """Of the tables; empty for DICOM files without tables."""
    localizer: Digest
    shipped: bool
    trained_on: str
    """Fingerprint of the data that the localizer was trained on."""
    out_of_fold: bool
    unmirror: bool
    device: str
    backend: Name = "torch"
    """What computed the networks."""
    localizations_sha256: Digest
    numbering_uncertain: list[str]
    problems: list[str]


class ClassifyPredictRun(Run):
    """run.json of `lumbar classify predict`."""

    schema_: Literal["run-classify-prediction-1"] = of_schema("run-classify-prediction-1")
    kind: Literal["classify-prediction"]
    studies: Count
    prior_rows: Count
    prior_reasons: dict[str, Count]
    problems: list[str]
    classifier: str
    fast: bool = False
    """Whether the fast grader answered in place of the folds."""
    backend: Name = "torch"
    """What computed the networks."""


class FoldModels(Part):
    """SHA-256 of a fold's detectors, by view."""

    models: dict[str, Digest]


class LocalizeRun(Run):
    """run.json of `lumbar localize train`, written when a fold is finished."""

    schema_: Literal["run-localize-1"] = of_schema("run-localize-1")
    kind: Literal["localize"]
    earlier_seconds: Seconds
    """Of earlier calls that trained other folds."""
    data_fingerprint: str
    seeds: dict[Literal["splits", "training"], int]
    device: str
    unmirror: bool
    localizations_sha256: Digest
    folds: dict[str, FoldModels]
    score: RunScore | None
    """Of the held-out studies; null where none has points."""


class ClassifyRun(Run):
    """run.json of `lumbar classify train`, written when a fold is finished."""

    schema_: Literal["run-classify-1"] = of_schema("run-classify-1")
    kind: Literal["classify"]
    earlier_seconds: Seconds
    data_fingerprint: str
    seed: int
    device: str
    folds: list[Count]
    families: list[Family]
    points: Literal["localized", "annotated"]
    unmirror: bool
    noisy_labels: Count
    left_out_labels: Count
    problems: list[str]
    score: RunScore | None
    """Of the held-out studies; null where none has grades."""
    fast: FastRecord | None = None
    """The fast grader that `lumbar classify distill` made of these folds."""


class PrepareRun(Run):
    """run.json of `lumbar prepare`."""

    schema_: Literal["run-prepare-1"] = of_schema("run-prepare-1")
    kind: Literal["prepare"]
    input: Literal["challenge", "folder"]
    parts: list[str]
    decoded: Count
    unchanged: Count
    removed: Count
    slices: Count
    pixel_bytes: Count
    problems: list[str]
    shard: str | None = None
    """Which part of the studies this is, such as 3/16."""
    studies_digest: Digest | None = None
    """Of the names of all studies, those of the other shards too."""
    merged_shards: Count | None = None
    """How many shards were joined; the seconds are those of all together."""


class DemoRun(Run):
    """run.json of `lumbar demo`."""

    schema_: Literal["run-demo-1"] = of_schema("run-demo-1")
    kind: Literal["demo"]
    studies: Count
    test_studies: Count
    preset: Literal["demo", "full"]
    seed: int
    fold: str
    device: str
    step_seconds: dict[str, Seconds]
    localize_config: str
    classify_config: str
    submission_sha256: Digest


class CombineRun(Run):
    """run.json of `lumbar combine`."""

    schema_: Literal["run-combine-1"] = of_schema("run-combine-1")
    kind: Literal["combine"]
    studies: Count
    members: dict[str, Digest]
    """Name -> digest of the run's models."""


class ListedRun(Part):
    """One run of a training."""

    path: str
    """From the folder that was searched."""
    stage: Literal["localize", "classify"]
    finished: bool
    folds: Count
    of_folds: int | None
    seed: int | None
    score: RunScore | None
    hours: float | None
    started: str
    version: str
    commit: str
    settings: dict[str, Any]
    """What its config changes of the default, by dotted key."""


class RunList(Part):
    """What `lumbar runs --json` prints."""

    schema_: Literal["runs-1"] = of_schema("runs-1")
    version: int
    runs: list[ListedRun]
    problems: list[str]
