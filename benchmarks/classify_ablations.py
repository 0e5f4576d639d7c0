"""What each choice in the grader is worth: variants trained on the demo's studies, scored on unseen ones.

    make demo && python benchmarks/classify_ablations.py demo      # writes results/classify_ablations.json
    python benchmarks/classify_ablations.py demo OUT.json --only "one slice" "no jitter"

Every variant changes one thing of the demo's grader, trains with the same data, fold, steps and seed, and grades the
unseen studies end to end at the points that stage 1 found there. Gains are of the demo's grader over the variant, so a
positive one says that the choice pays. The intervals are of the drawn studies alone: "another seed" changes nothing but
the training's random numbers, and gains within its spread mean nothing. The file is written after each variant and a
stopped run continues; what is trained stays in `--work` (default: DEMO/ablations) for as long as code, demo and options
are the same. `--only` adds to a file of the same stamp.
"""

import argparse
import math
import shutil
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from demo_folder import Demo, add_arguments, demo_stamp, header, paired_gains

from classify.calibrate import IDENTITY, Calibration, Method, fit_calibration
from classify.checkpoint import ModelCard, load_card, load_model
from classify.config import ClassifyConfig
from classify.device import pick_device, use_all_cores
from classify.evaluate import describe
from classify.predict import Grader, trained_folds
from classify.train import train
from pipelines.demo import DEMO_FOLD
from shared.detections import Localizations, read_localizations
from shared.files import read_json, write_json
from shared.jitter import Jitter, read_jitter
from shared.labels import Condition, findings_of
from shared.manifest import read_run
from shared.metric import bootstrap, interval, score, study_losses
from shared.probabilities import ProbabilityTable, read_probabilities, write_probabilities

BASE = "the demo's grader"
FOLD = f"fold{DEMO_FOLD}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One change. Either `grader` makes it of the trained demo, or it is trained anew.

    Attributes:
      overrides: config values that differ, as for `--set`.
      exact: train on crops at exact true points.
      share_of_epochs: of the demo's epochs, for variants whose steps cost more.
    """

    note: str
    overrides: tuple[str, ...] = ()
    exact: bool = False
    share_of_epochs: float = 1.0
    grader: Callable[[Demo, str], Grader] | None = None


def base_grader(demo: Demo, device: str, *, tta: bool = False) -> Grader:
    return Grader.load(demo.folder / "classifier", folds=[DEMO_FOLD], device=device, tta=tta)


def ensemble(demo: Demo, device: str) -> Grader:
    return Grader.load(demo.folder / "classifier", device=device)


def recalibrated(method: Method) -> Callable[[Demo, str], Grader]:
    """The demo's network with another calibration, fitted on the same held-out studies."""

    def grader(demo: Demo, device: str) -> Grader:
        folder = demo.folder / "classifier" / FOLD
        card = load_card(folder)
        calibration = {c: _refitted(demo, folder, card, c, method) for c in card.families}
        model = load_model(folder, card, pick_device(device))
        return Grader([(replace(card, calibration=calibration), model)], pick_device(device))

    return grader


def _refitted(demo: Demo, folder: Path, card: ModelCard, condition: Condition, method: Method) -> Calibration:
    if method == "none":
        return IDENTITY
    table = read_probabilities(folder / "probabilities.csv")
    columns = [f.index for f in findings_of(condition)]
    rows = table.from_model[:, columns]
    logits = card.calibration[condition].undo(table.values[:, columns][rows])
    return fit_calibration(logits, demo.training.grades_of(table.study_ids)[:, columns][rows], method)


VARIANTS: Mapping[str, Variant] = {
    "another seed": Variant(note="train.seed = 1: what chance alone changes", overrides=("train.seed=1",)),
    "no calibration": Variant(note="temperatures of 1", grader=recalibrated("none")),
    "temperature": Variant(note="one temperature a family", grader=recalibrated("temperature")),
    "vector scaling": Variant(note="a temperature and two biases a family", grader=recalibrated("vector")),
    "views at prediction": Variant(
        note="--tta: the mean over 10 views", grader=lambda demo, device: base_grader(demo, device, tta=True)
    ),
    "no jitter": Variant(note="training crops at exact true points", exact=True),
    "any-severe term": Variant(
        note="in the loss, batches by study, instead of 1.5 times the canal's loss",
        overrides=("train.any_severe=1.0", "train.canal_emphasis=1.0"),
    ),
    "one slice": Variant(note="the localized slice alone", overrides=("crop.slices=1",)),
    "canal not mirrored": Variant(note="no reversed slices", overrides=("augment.mirror_canal=false",)),
    "sides not mirrored": Variant(note="right sides as they lie", overrides=("crop.mirror_right=false",)),
    "no averaged weights": Variant(note="the last weights themselves", overrides=("train.ema_decay=0.0",)),
    "attention over slices": Variant(
        note="slices one by one; as many epochs fewer as there are slices",
        overrides=('model.slices_as="attention"',), share_of_epochs=1 / 3,
    ),
}  # fmt: skip


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("out", type=Path, nargs="?", default=Path("results/classify_ablations.json"))
    parser.add_argument("--only", nargs="+", choices=tuple(VARIANTS), metavar="VARIANT", help=", ".join(VARIANTS))
    parser.add_argument("--epochs", type=int, help="of every variant, the base included (default: as the demo)")
    parser.add_argument("--work", type=Path, help="folder for what is trained (default: DEMO/ablations)")
    return parser.parse_args()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The demo, and where and how its variants are trained."""

    demo: Demo
    work: Path
    device: str
    epochs: int | None
    stamp: dict[str, Any]

    def grade(self, name: str, variant: Variant) -> tuple[ProbabilityTable, float | None]:
        """The variant's answers for the unseen studies and its training seconds; kept, so that a second call reads."""
        stored = self.work / f"{_slug(name)}-{len(self.demo.study_ids)}.csv"
        run = self.work / _slug(name)
        self._drop_stale(run, variant)
        if not stored.is_file():
            if variant.grader is not None:
                grader = variant.grader(self.demo, self.device)
            else:
                if not (run / "run.json").is_file():
                    self._train(run, variant)
                grader = Grader.load(run, device=self.device)
            write_probabilities(stored, self.demo.grade(grader, self.demo.detected_points()))
        seconds = None if variant.grader is not None else _training_seconds(run)
        return read_probabilities(stored), seconds

    def _drop_stale(self, run: Path, variant: Variant) -> None:
        """What other code, another demo or other options left of this variant is deleted."""
        path = self.work / f"{run.name}.stamp.json"
        stamp = {**self.stamp, "overrides": list(variant.overrides), "exact": variant.exact,
                 "share_of_epochs": variant.share_of_epochs}  # fmt: skip
        if not path.is_file() or read_json(path) != stamp:
            shutil.rmtree(run, ignore_errors=True)
            for old in self.work.glob(f"{run.name}-[0-9]*.csv"):
                old.unlink()
            write_json(path, stamp)

    def _train(self, run: Path, variant: Variant) -> None:
        demo, stage1 = self.demo, self.demo.folder / "localizer"
        config = ClassifyConfig.load(demo.folder / "classifier" / "config.toml", variant.overrides)
        epochs = max(math.ceil((self.epochs or config.train.epochs) * variant.share_of_epochs), 1)
        config = config.model_copy(update={"train": config.train.model_copy(update={"epochs": epochs})})
        points: Localizations = read_localizations(stage1 / "localizations.csv")
        jitter = read_jitter(stage1 / "errors.json")
        if variant.exact:
            held_out = set(demo.splits.held_out(DEMO_FOLD))
            points = {s: of_study for s, of_study in points.items() if s in held_out}
            jitter = {c: Jitter(in_plane_sd_mm=0.0, slice_offsets={0: 1.0}) for c in Condition}
        run.mkdir(parents=True, exist_ok=True)
        train(
            demo.training, run, config, folds=[DEMO_FOLD], splits=demo.splits, localizations=points, jitter=jitter,
            device=self.device, resume=True,
        )  # fmt: skip


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)


def _training_seconds(run: Path) -> float:
    facts = read_run(run, expected_kind="classify")
    return float(facts["seconds"]) + float(facts["earlier_seconds"])


def command(options: argparse.Namespace, variants: Collection[str], wanted: Collection[str]) -> str:
    """What gives the file: every option that is not the default, and the variants where they are not all."""
    words = ["python benchmarks/classify_ablations.py", options.demo.name, "--studies", str(options.studies)]
    words += ["--epochs", str(options.epochs)] if options.epochs else []
    if not set(wanted) <= set(variants):
        words += ["--only", *(f'"{name}"' for name in variants if name in VARIANTS)]
    return " ".join(words)


def line(demo: Demo, table: ProbabilityTable, seconds: float | None, note: str) -> dict[str, Any]:
    values = table.select(demo.study_ids)
    result = score(values.values, demo.grades)
    bounds = interval(bootstrap(study_losses(values.values, demo.grades)))
    conditions = describe(values, demo.grades)["conditions"]
    return {
        "note": note,
        "score": result.score,
        "low": bounds.low,
        "high": bounds.high,
        "terms": result.terms,
        "ece": {c: row.get("ece") for c, row in conditions.items()},
        "ece_if_calibrated": {c: row.get("ece_if_calibrated") for c, row in conditions.items()},
        "training_seconds": seconds,
    }


def main() -> None:
    options = arguments()
    demo = Demo.open(options.demo, studies=options.studies, device=options.device)
    work = options.work or options.demo / "ablations"
    stamp = {**demo_stamp(options.demo, options.device), "epochs": options.epochs}
    work.mkdir(parents=True, exist_ok=True)
    use_all_cores()
    bench = Bench(demo=demo, work=work, device=options.device, epochs=options.epochs, stamp=stamp)
    base = Variant(note="as `make demo` trains it", grader=None if options.epochs else base_grader)
    # With other epochs than the demo's the base is trained anew, and what only re-reads the demo's grader is left out.
    possible = {name: v for name, v in VARIANTS.items() if not (options.epochs and v.grader)}
    chosen = {BASE: base} | {name: v for name, v in possible.items() if not options.only or name in options.only}
    if len(trained_folds(options.demo / "classifier")) > 1 and not options.epochs:
        chosen["mean of all folds"] = Variant(note="the ensemble of the trained folds", grader=ensemble)
    result = header("") | {"stamp": stamp, "epochs": options.epochs, "unseen_studies": len(demo.study_ids)}
    earlier = read_json(options.out) if options.only and options.out.is_file() else {}
    if any(earlier.get(key) != result[key] for key in ("stamp", "unseen_studies")):
        earlier = {}
    result |= {key: earlier.get(key, {}) for key in ("variants", "gain_of_base_over")}
    tables: dict[str, ProbabilityTable] = {}
    for name, variant in chosen.items():
        started = time.monotonic()
        tables[name], seconds = bench.grade(name, variant)
        result["variants"][name] = line(demo, tables[name], seconds, variant.note)
        result["gain_of_base_over"] |= paired_gains(demo, tables, BASE)
        result["command"] = command(options, result["variants"], possible)
        write_json(options.out, result)
        row, gain = result["variants"][name], result["gain_of_base_over"].get(name)
        text = "" if gain is None else f"  base gains {gain['gain']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
        worst = max(v for v in row["ece"].values() if v is not None)
        took = time.monotonic() - started
        sys.stdout.write(f"{name:<24} {row['score']:.3f}  worst ECE {worst:.3f}{text}  ({took:.0f} s)\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
