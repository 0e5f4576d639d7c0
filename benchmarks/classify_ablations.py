"""What each choice in the grader is worth: variants trained on the demo's studies, scored on unseen ones.

    make demo && python benchmarks/classify_ablations.py demo      # writes results/classify_ablations.json
    python benchmarks/classify_ablations.py demo OUT.json --only "one slice" "no jitter"

Every variant changes one thing of the demo's grader, trains with the same data, fold, steps and seeds, and grades the
unseen studies at the points that stage 1 found there, and once more at points moved by the assumed error of
`JitterConfig` (2 mm along each axis, every third one slice off). Gains are of the demo's grader over the variant, so a
positive one says that the choice pays; with several seeds they are of the mean scores. The intervals are of the drawn
studies: what training's own chance adds is seen in the seeds' scores. First every variant is trained from seed 0, then
from the others; the file is written after each and a stopped run continues. What is trained stays in `--work` (default:
DEMO/ablations) for as long as code, demo and options are the same. `--only` adds to a file of the same stamp.
"""

import argparse
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.demo_folder import Demo, add_arguments, demo_stamp, mean_losses, score_line
from benchmarks.results import header, parser
from classify.calibrate import IDENTITY, Calibration, fit_calibration
from classify.config import ClassifyConfig, JitterConfig
from classify.crops import channel_slices
from classify.device import pick_device, use_all_cores
from classify.network.checkpoint import ModelCard, load_card, load_model, run_folder
from classify.predict import Classifier
from classify.train.request import TrainingResources, TrainRequest
from classify.train.run import train
from pipelines.demo import DEMO_FOLD
from shared.detections import Localization, Localizations
from shared.jitter import Jitter
from shared.labels import Condition, Finding, findings_of
from shared.metric import bootstrap, interval, score
from shared.out_of_fold import OutOfFold
from shared.probabilities.files import read_probabilities, write_probabilities
from shared.probabilities.table import ProbabilityTable
from shared.runtime.documents import read_json
from shared.runtime.files import write_json
from shared.study import Study

BASE = "the demo's grader"
FOLD = f"fold{DEMO_FOLD}"
SEEDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One change. Either `classifier` makes it of the trained demo, or it is trained anew, once per seed.

    Attributes:
      seeds: how many of training, from the demo's own.
      overrides: config values that differ, as for `--set`.
      exact: train on crops at exact true points.
      share_of_epochs: of the demo's epochs, for variants whose steps cost more.
    """

    note: str
    overrides: tuple[str, ...] = ()
    exact: bool = False
    share_of_epochs: float = 1.0
    seeds: int = 1
    classifier: Callable[[Demo, str], Classifier] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """One trained network's answers for the unseen studies, at stage 1's points and at displaced ones."""

    found: ProbabilityTable
    displaced: ProbabilityTable


def base_classifier(demo: Demo, device: str) -> Classifier:
    return Classifier.load(demo.folder / "classifier", folds=[DEMO_FOLD], device=device)


def with_tta(demo: Demo, device: str) -> Classifier:
    return Classifier.load(demo.folder / "classifier", folds=[DEMO_FOLD], device=device, tta=True)


def ensemble(demo: Demo, device: str) -> Classifier:
    return Classifier.load(demo.folder / "classifier", device=device)


def recalibrated(refit: Callable[[Demo, Path, ModelCard, Condition], Calibration]) -> Callable[[Demo, str], Classifier]:
    """The demo's network with another calibration."""

    def classifier(demo: Demo, device: str) -> Classifier:
        folder = demo.folder / "classifier" / FOLD
        card = load_card(folder)
        calibration = {c: refit(demo, folder, card, c) for c in card.families}
        model = load_model(folder, card, pick_device(device))
        return Classifier([(replace(card, calibration=calibration), model)], pick_device(device))

    return classifier


def _fitted_always(demo: Demo, folder: Path, card: ModelCard, condition: Condition) -> Calibration:
    """Fitted on the held-out studies, also where that does not help others."""
    table = read_probabilities(folder / "probabilities.csv")
    columns = [f.index for f in findings_of(condition)]
    rows = table.from_model[:, columns]
    logits = card.calibration[condition].undo(table.submission[:, columns][rows])
    label = demo.training.grades_of(table.study_ids)[:, columns][rows]
    return fit_calibration(logits, label)


VARIANTS: Mapping[str, Variant] = {
    "no calibration": Variant(note="temperatures of 1", classifier=recalibrated(lambda *_: IDENTITY)),
    "temperature always": Variant(note="also where it does not help", classifier=recalibrated(_fitted_always)),
    "test-time augmentation": Variant(note="--tta: the mean over 10 variants of each crop", classifier=with_tta),
    "no jitter": Variant(
        note="training crops at exact true points", overrides=("jitter.at_least=false",), exact=True, seeds=SEEDS
    ),
    "measured jitter": Variant(
        note="as far off as this localizer on held-out studies", overrides=("jitter.at_least=false",), seeds=SEEDS
    ),
    "assumed jitter": Variant(
        note="at least 2 mm along each axis, every third one slice off", overrides=("jitter.at_least=true",),
        seeds=SEEDS,
    ),
    "any-severe term": Variant(
        note="in the loss, batches by study, instead of 1.5 times the canal's loss",
        overrides=("train.any_severe=1.0", "train.canal_emphasis=1.0"), seeds=SEEDS,
    ),
    "one slice": Variant(note="the localized slice alone", overrides=("crop.slices=1",), seeds=SEEDS),
    "second view": Variant(
        note="canal also in axial T2, sides also in sagittal T2", overrides=("crop.second_view=true",), seeds=SEEDS
    ),
    "sides not mirrored": Variant(
        note="right sides as they lie", overrides=("crop.mirror_right=false",), seeds=SEEDS
    ),
    "canal not mirrored": Variant(note="no reversed slices", overrides=("augment.mirror_canal=false",)),
    "no averaged weights": Variant(note="the last weights themselves", overrides=("train.ema_decay=0.0",)),
    "attention over slices": Variant(
        note="slices one by one, a third of the epochs: each costs as many passes as there are slices",
        overrides=('model.slices_as="attention"',), share_of_epochs=1 / 3,
    ),
}  # fmt: skip


def read_arguments() -> argparse.Namespace:
    arguments = parser(__doc__)
    add_arguments(arguments)
    arguments.add_argument("out", type=Path, nargs="?", default=Path("results/classify_ablations.json"))
    arguments.add_argument("--only", nargs="+", choices=tuple(VARIANTS), metavar="VARIANT", help=", ".join(VARIANTS))
    arguments.add_argument("--epochs", type=int, help="of every variant, the base included (default: as the demo)")
    arguments.add_argument("--seeds", type=int, choices=range(1, SEEDS + 1), default=SEEDS, metavar="N",
        help="of training, at most (default %(default)s)")  # fmt: skip
    arguments.add_argument("--work", type=Path, help="folder for what is trained (default: DEMO/ablations)")
    return arguments.parse_args()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The demo, and where and how its variants are trained."""

    demo: Demo
    work: Path
    device: str
    epochs: int | None
    stamp: dict[str, Any]

    def grade(self, name: str, variant: Variant, seed: int) -> Answers:
        """The answers of one trained network; kept, so that a second call reads them."""
        run = self.work / f"{_slug(name)}-seed{seed}"
        stored = [self.work / f"{run.name}-{self.demo.scored.name}-{kind}.csv" for kind in ("found", "displaced")]
        self._drop_stale(run, variant)
        given = variant.classifier if seed == 0 else None
        if not all(path.is_file() for path in stored):
            if given is not None:
                classifier = given(self.demo, self.device)
            else:
                if not (run / "run.json").is_file():
                    self._train(run, variant, seed)
                classifier = Classifier.load(run, device=self.device)
            found = self.demo.detected_points()
            for path, points in zip(stored, (found, displaced(self.demo, found)), strict=True):
                write_probabilities(path, self.demo.grade(classifier, points))
        first, second = (read_probabilities(path).select(self.demo.study_ids) for path in stored)
        return Answers(found=first, displaced=second)

    def _drop_stale(self, run: Path, variant: Variant) -> None:
        """What other code, another demo or other options left of this variant is deleted."""
        path = self.work / f"{run.name}.stamp.json"
        stamp = {**self.stamp, "overrides": list(variant.overrides), "exact": variant.exact,
                 "share_of_epochs": variant.share_of_epochs}  # fmt: skip
        if not path.is_file() or read_json(path) != stamp:
            shutil.rmtree(run, ignore_errors=True)
            for old in self.work.glob(f"{run.name}-*.csv"):
                old.unlink()
            write_json(path, stamp)

    def _train(self, run: Path, variant: Variant, seed: int) -> None:
        demo = self.demo
        config = ClassifyConfig.load(demo.folder / "classifier" / "config.toml", variant.overrides)
        epochs = max(math.ceil((self.epochs or config.train.epochs) * variant.share_of_epochs), 1)
        config = config.model_copy(
            update={"train": config.train.model_copy(update={"epochs": epochs, "seed": config.train.seed + seed})}
        )
        points, jitter = OutOfFold(demo.folder / "localizer"), None
        if variant.exact:
            points = points.only(demo.splits.held_out(DEMO_FOLD))
            jitter = {c: Jitter(in_plane_sd_mm=0.0, slice_offsets={0: 1.0}) for c in Condition}
        run.mkdir(parents=True, exist_ok=True)
        request = TrainRequest(
            data=demo.training, config=config, splits=demo.splits, folds=(DEMO_FOLD,), points=points, jitter=jitter
        )
        train(request, run, TrainingResources(device=self.device, workers=os.cpu_count() or 1, resume=True))


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)


def command(options: argparse.Namespace, variants: Collection[str], wanted: Collection[str]) -> str:
    """What gives the file: every option that is not the default, and the variants where they are not all."""
    words = ["python benchmarks/classify_ablations.py", options.demo.name, "--studies", str(options.studies)]
    words += ["--epochs", str(options.epochs)] if options.epochs else []
    words += ["--seeds", str(options.seeds)] if options.seeds != SEEDS else []
    if not set(wanted) <= set(variants):
        words += ["--only", *(f'"{name}"' for name in variants if name in VARIANTS)]
    return " ".join(words)


def displaced(demo: Demo, points: Localizations) -> Localizations:
    """Each point moved by the config's assumed error, drawn from seed 0 in the order of studies and findings."""
    rng, assumed = np.random.default_rng(0), JitterConfig()
    moved: dict[str, dict[Finding, Localization]] = {}
    for study_id in demo.study_ids:
        study = demo.unseen.load_study(study_id).study
        of_study = sorted(points.get(study_id, {}).items(), key=lambda item: item[0].index)
        moved[study_id] = {f: _displaced(study, p, assumed.jitter(f.condition), rng) for f, p in of_study}
    return moved


def _displaced(study: Study, point: Localization, jitter: Jitter, rng: np.random.Generator) -> Localization:
    offset = int(rng.choice(list(jitter.slice_offsets), p=list(jitter.slice_offsets.values())))
    shift_mm = jitter.in_plane_sd_mm * rng.standard_normal(2)
    series = study.get(point.series_id)
    if series is None:
        return point
    # The slices beside it, within its block of slices, as the cropper takes them.
    item = channel_slices(series, point.instance_number, 3, series.view)[1 + offset]
    dy, dx = item.plane.spacing_mm
    return replace(
        point,
        instance_number=item.instance_number,
        x_px=point.x_px + shift_mm[0] / dx,
        y_px=point.y_px + shift_mm[1] / dy,
    )


def mean_score(tables: Sequence[ProbabilityTable], grades: NDArray[np.int8]) -> float:
    return float(np.mean([score(t.submission, grades).score for t in tables]))


def gains(ours: Sequence[Answers], other: Sequence[Answers], grades: NDArray[np.int8]) -> dict[str, Any]:
    """How much lower `ours` score than the other's networks of the same seeds, with 95% intervals over studies."""
    result: dict[str, Any] = {}
    for points in ("found", "displaced"):
        own, its = ([getattr(a, points) for a in answers[: len(other)]] for answers in (ours, other))
        bounds = interval(bootstrap(mean_losses(its, grades)) - bootstrap(mean_losses(own, grades)))
        each = [mean_score([b], grades) - mean_score([a], grades) for a, b in zip(own, its, strict=True)]
        result[points] = {"gain": float(np.mean(each)), "low": bounds.low, "high": bounds.high, "of_each_seed": each}
    return result


def line(demo: Demo, answers: Sequence[Answers], note: str) -> dict[str, Any]:
    displaced_score = mean_score([a.displaced for a in answers], demo.grades)
    return {"note": note, **score_line([a.found for a in answers], demo.grades), "displaced_score": displaced_score}


def main() -> None:
    options = read_arguments()
    demo = Demo.open(options.demo, studies=options.studies, device=options.device)
    work = options.work or options.demo / "ablations"
    stamp = {**demo_stamp(options.demo, options.device), "epochs": options.epochs, "scored": demo.scored.name}
    work.mkdir(parents=True, exist_ok=True)
    use_all_cores()
    bench = Bench(demo=demo, work=work, device=options.device, epochs=options.epochs, stamp=stamp)
    base = Variant(note="as `make demo` trains it", seeds=SEEDS, classifier=None if options.epochs else base_classifier)
    # With other epochs than the demo's the base is trained anew, and what only re-reads the demo's grader is left out.
    possible = {name: v for name, v in VARIANTS.items() if not (options.epochs and v.classifier)}
    chosen = {BASE: base} | {name: v for name, v in possible.items() if not options.only or name in options.only}
    if len(run_folder(options.demo / "classifier").finished_folds()) > 1 and not options.epochs:
        chosen["mean of all folds"] = Variant(note="the ensemble of the trained folds", classifier=ensemble)
    result = header("", device=str(pick_device(options.device))) | {
        "stamp": stamp,
        "epochs": options.epochs,
        "unseen_studies": len(demo.study_ids),
    }
    earlier = read_json(options.out) if options.only and options.out.is_file() else {}
    if any(earlier.get(key) != result[key] for key in ("stamp", "unseen_studies")):
        earlier = {}
    result |= {key: earlier.get(key, {}) for key in ("variants", "gain_of_base_over")}
    answers: dict[str, list[Answers]] = {}
    for seed in range(options.seeds):
        for name, variant in chosen.items():
            if seed >= variant.seeds:
                continue
            started = time.monotonic()
            answers.setdefault(name, []).append(bench.grade(name, variant, seed))
            result["variants"][name] = line(demo, answers[name], variant.note)
            if name != BASE:
                result["gain_of_base_over"][name] = gains(answers[BASE], answers[name], demo.grades)
            result["command"] = command(options, result["variants"], possible)
            write_json(options.out, result)
            sys.stdout.write(f"{as_text(name, result)}  ({time.monotonic() - started:.0f} s)\n")
            sys.stdout.flush()


def as_text(name: str, result: Mapping[str, Any]) -> str:
    row = result["variants"][name]
    seeds = "/".join(f"{v:.3f}" for v in row["of_each_seed"])
    text = f"{name:<22} {row['score']:.3f} ({seeds}), displaced {row['displaced_score']:.3f}"
    for key, x in result["gain_of_base_over"].get(name, {}).items():
        text += f"  {key} {x['gain']:+.3f} [{x['low']:+.3f}, {x['high']:+.3f}]"
    return text


if __name__ == "__main__":
    main()
