"""Makes the detectors that ship with the package.

    python -m benchmarks.shipped SPIDER WORK [--patients first|second|all] [--out localize/weights]

SPIDER is the challenge directory of 20 SPIDER patients (CC BY 4.0). Synthetic studies are made, copies of each patient
are added, and the three detectors are trained on both (configs/localize/shipped.toml). What they say of their own
certainty is fitted on corrupted copies of further synthetic studies. With `--patients first` or `second` only that half
of the patients is trained on, so that the others can test the recipe. Every step is kept in WORK, and an interrupted
call goes on where it stopped.
"""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.results import parser
from benchmarks.shipped.corruption import write_corrupted
from benchmarks.shipped.mixture import held_out, patients_of, write_mixture
from localize.calibrate import IDENTITY, fit_calibration, write_calibration
from localize.config import LocalizeConfig
from localize.detector.weights_file import write_detector
from localize.detector.yolo.network import load_network
from localize.localizer import (
    CALIBRATION_FILE,
    CONFIG_FILE,
    KIND,
    PRIOR_FILE,
    FoldFiles,
    Localizer,
    detector_file,
    read_config,
    read_folds,
)
from localize.measures import collect
from localize.predict import predict_studies
from localize.train.request import TrainingResources, TrainRequest
from localize.train.run import train
from pipelines.synth import synth
from pipelines.synthetic import SynthOptions
from shared.data.challenge import Challenge
from shared.data.source import challenge_source
from shared.runtime.errors import exit_code
from shared.runtime.files import write_json
from shared.runtime.hardware.cores import let_threads_sleep, usable_cores
from shared.runtime.progress import log
from shared.runtime.run_folder import RUN_FILE, read_run, sha256_of
from shared.splits import Splits

CONFIG: Final = Path("configs/localize/shipped.toml")
WEIGHTS: Final = Path("localize/weights")
TRAINING: Final = SynthOptions(studies=440, test_studies=60, preset="full", seed=1501)
DOUBT: Final = SynthOptions(studies=40, test_studies=24, preset="full", seed=77)
_HELD_OUT: Final = 12
_CORRUPTIONS: Final = 3


def make(spider: Path, work: Path, patients: Sequence[str], resources: TrainingResources, out: Path) -> None:
    """Runs all steps that `work` does not hold yet."""
    for name, options in (("synthetic", TRAINING), ("doubt", DOUBT)):
        if not (work / name / "data").is_dir():
            synth(work / name, options, workers=resources.workers, resume=(work / name).is_dir())
    data = work / "mixture"
    write_mixture(work / "synthetic" / "data", spider, patients, data)
    challenge = Challenge.open(data)
    first = tuple(held_out(work / "synthetic" / "data", _HELD_OUT))
    splits = Splits(seed=0, folds=(first, tuple(s for s in challenge.study_ids if s not in first)))
    run = work / "run"
    request = TrainRequest(data=challenge, config=LocalizeConfig.load(CONFIG), splits=splits, folds=(0,))
    train(request, run, resources)
    pack(run, work / "doubt" / "data", work / "corrupted", out, device=resources.device)


def pack(run: Path, doubt: Path, work: Path, out: Path, *, device: str) -> None:
    """Writes what prediction needs of a finished run to `out`: detectors in 8 bits, and their calibration."""
    started = time.time()
    fold, config = read_folds(run)[0], read_config(run)
    target = out / "fold0"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for view, model in fold.models.items():
        tensors = load_network(model).state_dict()
        write_detector(detector_file(target, view), config.model.architecture, tensors, kernel_bits=8)
    models = {view: detector_file(target, view) for view in fold.models}
    files = FoldFiles(models=models, prior=fold.prior, calibration=IDENTITY)
    localizer = Localizer.of_folds([files], config, device=device)
    calibration = fit_calibration(*_scores(localizer, doubt, work))
    log(f"calibration: {calibration.failures} of {calibration.samples} corrupted points are wrong")
    write_calibration(target / CALIBRATION_FILE, calibration)
    shutil.copyfile(run / "fold0" / PRIOR_FILE, target / PRIOR_FILE)
    config.save(out / CONFIG_FILE)
    facts = read_run(run, expected_kind=KIND)
    folds = {"0": {"models": {view.slug: sha256_of(path) for view, path in models.items()}}}
    write_json(out / RUN_FILE, {**facts, "command": "python -m benchmarks.shipped", "folds": folds})
    log(f"packed in {time.time() - started:.0f} s: {out}")


def _scores(localizer: Localizer, doubt: Path, work: Path) -> tuple[list[float], list[bool]]:
    """The raw scores of all points in corrupted copies of the studies in `doubt`, and whether each is right."""
    scores, right = [], []
    for seed in range(_CORRUPTIONS):
        folder = work / str(seed)
        if not (folder / "train.csv").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            write_corrupted(Challenge.open(doubt), folder, seed)
        data = Challenge.open(folder)
        source = challenge_source(data)
        predictions = predict_studies(lambda _: localizer, source, data.study_ids, name=f"corruption {seed}")
        for error in collect(data, predictions.localizations).errors:
            if error.raw_score is not None:
                scores.append(error.raw_score)
                right.append(error.right)
    return scores, right


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("spider", type=Path, metavar="SPIDER", help="challenge directory of SPIDER's patients")
    arguments.add_argument("work", type=Path, metavar="WORK", help="folder for the steps, about 6 GB")
    arguments.add_argument("--patients", choices=("first", "second", "all"), default="all", help="whom to train on")
    arguments.add_argument("--out", type=Path, default=WEIGHTS, help="folder to write (default: %(default)s)")
    arguments.add_argument("--device", default="auto", help="device to compute on (default: %(default)s)")
    arguments.add_argument("--workers", type=int, default=usable_cores(), help="processes (default: %(default)s)")
    a = arguments.parse_args()
    every = patients_of(a.spider)
    chosen = {"all": every, "first": every[::2], "second": every[1::2]}[a.patients]
    resources = TrainingResources(device=a.device, workers=a.workers, resume=(a.work / "run").is_dir())
    make(a.spider, a.work, chosen, resources, a.out)
    return 0


if __name__ == "__main__":
    let_threads_sleep()
    raise SystemExit(exit_code(main, resumable=True))
