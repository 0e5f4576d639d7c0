"""What the benchmarks read from a finished `lumbar demo` folder, and how they compare answers on its unseen studies."""

import argparse
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import classify
import localize
import pipelines
import shared
from classify.device import pick_device
from classify.predict import Classifier, predict_studies
from pipelines.demo import DemoOptions
from pipelines.ensembles.members import Members
from pipelines.predict import PredictRequest, predict
from pipelines.synthetic import SynthOptions, generate
from shared.agreement import describe
from shared.annotations import annotated_localizations
from shared.data.challenge import Challenge, read_grades, read_points
from shared.detections import Localizations, read_localizations
from shared.metric import StudyLosses, bootstrap, interval, score, study_losses
from shared.probabilities.files import read_probabilities
from shared.probabilities.table import ProbabilityTable
from shared.runtime.documents import read_json
from shared.runtime.files import write_json
from shared.runtime.run_folder import read_run, sha256_of
from shared.scores import read_oracle
from shared.splits import Splits, read_splits

# Of further unseen studies; no other part of the project uses it.
UNSEEN_SEED: Final = 270_001
# The demo's folder of each stage, and its kind of run.
STAGES: Final = {"localizer": "localize", "classifier": "classify"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The demo and the studies to score on."""
    parser.add_argument("demo", type=Path, help="folder of a finished `lumbar demo`")
    parser.add_argument("--studies", type=int, default=100, metavar="N",
        help="score on N further unseen studies, made and predicted in DEMO/unseen-N at the first call; 0: on the "
        "demo's own (default %(default)s)")  # fmt: skip
    parser.add_argument("--device", default="auto")


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """A finished demo, and unseen studies with their true grades and what its pipeline said of them.

    Attributes:
      folder: of the demo.
      scored: folder with data/, truth/ and prediction/ of the unseen studies; the demo's own, or of further ones.
    """

    folder: Path
    scored: Path
    training: Challenge
    unseen: Challenge
    splits: Splits
    study_ids: tuple[str, ...]
    grades: NDArray[np.int8]

    @classmethod
    def open(cls, folder: Path, *, studies: int = 0, device: str = "auto") -> "Demo":
        """With `studies`, that many further ones are made and predicted end to end, unless they are there."""
        read_run(folder, expected_kind="demo")
        scored = _further_studies(folder, studies, device) if studies else folder
        truth = read_grades(scored / "truth" / "test.csv")
        unseen = Challenge.open(scored / "data", "test")
        study_ids = tuple(s for s in unseen.study_ids if s in truth)
        return cls(
            folder=folder, scored=scored, training=Challenge.open(folder / "data", "train"), unseen=unseen,
            splits=read_splits(folder / "splits.json"), study_ids=study_ids,
            grades=np.stack([truth[s] for s in study_ids]),
        )  # fmt: skip

    @property
    def oracle(self) -> ProbabilityTable:
        return read_oracle(self.scored / "truth" / "oracle.csv")

    @property
    def end_to_end(self) -> ProbabilityTable:
        """What the demo's two stages answered."""
        return read_probabilities(self.scored / "prediction" / "probabilities.csv")

    def detected_points(self) -> Localizations:
        """Where stage 1 found the unseen studies' findings."""
        return read_localizations(self.scored / "prediction" / "localizations.csv")

    def true_points(self) -> Localizations:
        points = read_points(self.scored / "truth" / "test_label_coordinates.csv")
        return {s: annotated_localizations(self.unseen.load_study(s).study, points.get(s, ())) for s in self.study_ids}

    def grade(self, classifier: Classifier, points: Localizations) -> ProbabilityTable:
        return predict_studies(lambda _: classifier, self.unseen, self.study_ids, points)[0]

    def training_seconds(self) -> dict[str, float]:
        """Measured training time of each stage, the reading of images and earlier calls that were resumed included."""
        runs = {n: read_run(self.folder / n, expected_kind=k) for n, k in STAGES.items()}
        return {name: float(run["seconds"]) + float(run.get("earlier_seconds", 0.0)) for name, run in runs.items()}


def _further_studies(folder: Path, studies: int, device: str) -> Path:
    scored = folder / f"unseen-{studies}"
    if not (scored / "data").is_dir():
        preset = read_run(folder, expected_kind="demo").get("preset", "demo")
        made = SynthOptions(studies=0, test_studies=studies, preset=preset, seed=UNSEEN_SEED)
        generate(scored, made, workers=os.cpu_count() or 1)
    stamp, stamp_file = demo_stamp(folder, device), scored / "prediction" / "stamp.json"
    if not stamp_file.is_file() or read_json(stamp_file) != stamp:
        request = PredictRequest(
            data=scored / "data", part="test", device=device,
            members=Members(localizers=(folder / "localizer",), classifiers=(folder / "classifier",)),
        )  # fmt: skip
        predict(request, scored / "prediction", overwrite=True)
        write_json(stamp_file, stamp)
    return scored


def demo_stamp(folder: Path, device: str) -> dict[str, Any]:
    """What answers depend on: the code, both trained stages and the device. Answers of another are stale."""
    digests = {name: sha256_of(folder / name / "run.json") for name in STAGES}
    return {"code": _code_digest(), "device": str(pick_device(device)), **digests}


def _code_digest() -> str:
    """Of the four packages' sources as they lie there."""
    digest = hashlib.sha256()
    for package in (shared, localize, classify, pipelines):
        folder = Path(package.__path__[0])
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{folder.name}/{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def demo_command(run: Mapping[str, Any]) -> str:
    """What gives the demo that `run` (its run.json) describes."""
    usual, named = DemoOptions(), ("studies", "test_studies", "preset", "seed", "fold")
    flags = [f"--{k.replace('_', '-')} {run[k]}" for k in named if run[k] != getattr(usual, k)]
    for stage in ("localize", "classify"):
        config = run[f"{stage}_config"]
        flags += [f"--{stage}-config {config}"] if config != f"configs/{stage}/demo.toml" else []
    return " ".join(["lumbar demo DEMO", *flags]) if flags else "make demo"


def mean_losses(tables: Sequence[ProbabilityTable], grades: NDArray[np.int8]) -> StudyLosses:
    """Losses whose metric is the mean of several networks' metrics: the networks share the studies' weights."""
    each = [study_losses(t.submission, grades) for t in tables]
    return StudyLosses(losses=np.mean([x.losses for x in each], axis=0), weights=each[0].weights)


def score_line(tables: Sequence[ProbabilityTable], grades: NDArray[np.int8]) -> dict[str, Any]:
    """Mean score of one or more networks with its 95% interval over studies, its terms and its calibration."""
    bounds = interval(bootstrap(mean_losses(tables, grades)))
    results = [score(t.submission, grades) for t in tables]
    conditions = [describe(t, grades)["conditions"] for t in tables]

    def mean_of(key: str) -> dict[str, float]:
        return {c: float(np.mean([of[c][key] for of in conditions])) for c in conditions[0]}

    return {
        "score": float(np.mean([r.score for r in results])),
        "low": bounds.low,
        "high": bounds.high,
        "of_each_seed": [r.score for r in results],
        "terms": {name: float(np.mean([r.terms[name] for r in results])) for name in results[0].terms},
        "ece": mean_of("ece"),
        "ece_if_calibrated": mean_of("ece_if_calibrated"),
    }


def paired_gains(
    demo: Demo, tables: Mapping[str, ProbabilityTable], ours: str, *, resamples: int = 2000
) -> dict[str, dict[str, float]]:
    """How much lower `ours` scores than each other table: mean and 95% interval over the same resampled studies."""
    losses = {name: study_losses(t.select(demo.study_ids).submission, demo.grades) for name, t in tables.items()}
    samples = {name: bootstrap(item, resamples=resamples) for name, item in losses.items()}
    values = {name: score(t.select(demo.study_ids).submission, demo.grades).score for name, t in tables.items()}
    gains = {}
    for name in tables:
        if name != ours:
            bounds = interval(samples[name] - samples[ours])
            gains[name] = {"gain": values[name] - values[ours], "low": bounds.low, "high": bounds.high}
    return gains
