"""The fast grader of a run beside its folds: score on unseen studies, time and size.

    lumbar classify distill DATA RUN
    lumbar synth UNSEEN --studies 1 --test-studies 200 --seed 1017
    python -m benchmarks.fast DATA RUN UNSEEN                       # writes results/fast.json

All graders grade the true points of the same studies. `loss` is the score of the fast grader minus that of the folds,
with a 95% interval that resamples studies, the same ones on both sides. The target is an upper end below .01. The mean
of the folds' weights and each fold alone stand beside them. Time is measured study by study, in turns; the target is
2.5 times the folds' speed. The time of a study holds its crops and all networks, but not the decoding of its slices,
which stage 1 has done before.
"""

import argparse
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.fast.answers import Unseen, mean_of
from benchmarks.fast.averages import averaged
from benchmarks.results import header, parser, save
from classify.device import pick_device, use_all_cores
from classify.network.checkpoint import WEIGHTS_FILE, run_folder
from classify.network.fast import load_fast_card
from classify.predict import Classifier
from shared.data.challenge import Challenge
from shared.metric import bootstrap, interval, score, study_losses
from shared.probabilities.table import unweighted
from shared.runtime.run_folder import FAST_FOLDER
from shared.scores import ORACLE, read_oracle

FOLDS: Final = "folds together"
FAST: Final = "fast"
LARGEST_LOSS: Final = 0.01
LEAST_SPEED: Final = 2.5


def read_arguments() -> argparse.Namespace:
    arguments = parser(__doc__)
    arguments.add_argument("data", type=Path, help="what RUN was trained on")
    arguments.add_argument("run", type=Path, help="of `lumbar classify train --fold all`, distilled")
    arguments.add_argument("unseen", type=Path, help="OUT of `lumbar synth` with another seed")
    arguments.add_argument("out", type=Path, nargs="?", default=Path("results/fast.json"))
    arguments.add_argument("--studies", type=int, help="unseen studies to grade (default: all)")
    arguments.add_argument("--timed", type=int, default=25, help="unseen studies to time (default: %(default)s)")
    arguments.add_argument("--rounds", type=int, default=3, help="turns of each side a study (default: %(default)s)")
    arguments.add_argument("--device", default="auto")
    return arguments.parse_args()


def scores(
    said: Mapping[str, NDArray[np.float64]], grades: NDArray[np.int8]
) -> dict[str, dict[str, float | list[float]]]:
    """The score of each answer, and its loss against the folds together, with paired intervals."""
    samples = {name: bootstrap(study_losses(values, grades)) for name, values in said.items()}
    lines: dict[str, dict[str, float | list[float]]] = {}
    for name, values in said.items():
        own, lost = interval(samples[name]), interval(samples[name] - samples[FOLDS])
        lines[name] = {
            "score": score(values, grades).score,
            "interval": [own.low, own.high],
            "loss": score(values, grades).score - score(said[FOLDS], grades).score,
            "loss_interval": [lost.low, lost.high],
        }
    return lines


def divergence(fast: NDArray[np.float64], folds: NDArray[np.float64]) -> float:
    """Mean Kullback-Leibler divergence of the fast grader's answers from those of the folds, in nats."""
    return float((folds * np.log(folds / fast)).sum(-1).mean())


def sizes(run: Path) -> dict[str, int]:
    folder = run_folder(run)
    each = [(folder.fold(k) / WEIGHTS_FILE).stat().st_size for k in folder.finished_folds()]
    return {"folds_bytes": sum(each), "fast_bytes": (run / FAST_FOLDER / WEIGHTS_FILE).stat().st_size}


def speed(unseen: Unseen, run: Path, device: str, rounds: int) -> dict[str, Any]:
    """Time of both sides, and their ratio, which a noisy machine hits less than either time."""
    graders = {FOLDS: Classifier.load(run, device=device), FAST: Classifier.load(run, device=device, fast=True)}
    spent = unseen.seconds(graders, rounds)
    ratios = [folds / fast for folds, fast in zip(spent[FOLDS], spent[FAST], strict=True)]
    low, high = np.quantile(ratios, [0.1, 0.9])
    return {
        "ratio": statistics.median(ratios),
        "ratio_10_to_90_percent": [float(low), float(high)],
        "seconds_per_study": {name: statistics.median(values) for name, values in spent.items()},
        "studies": len(unseen.study_ids) - 1,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "target": LEAST_SPEED,
    }


def main() -> None:
    options = read_arguments()
    device = pick_device(options.device)
    use_all_cores()
    unseen, run = Unseen.open(options.unseen, options.studies), options.run
    folds = {f"fold {k}": Classifier.load(run, folds=[k], device=str(device)) for k in run_folder(run).finished_folds()}
    fast = Classifier.load(run, device=str(device), fast=True)
    means = averaged(run, Challenge.open(options.data, "train"), device)
    said = unseen.answers({**folds, FAST: fast, **means})
    said[FOLDS] = mean_of([said[name] for name in folds])
    said[ORACLE] = read_oracle(unseen.folder / "truth" / "oracle.csv").select(unseen.study_ids).submission
    lines = scores(said, unseen.grades)
    result = header("python -m benchmarks.fast DATA RUN UNSEEN", device=str(device)) | {
        "unseen_studies": len(unseen.study_ids),
        "loss": lines[FAST]["loss"],
        "loss_interval": lines[FAST]["loss_interval"],
        "largest_loss": LARGEST_LOSS,
        "divergence": divergence(unweighted(said[FAST]), unweighted(said[FOLDS])),
        "scores": lines,
        "speed": speed(Unseen.open(options.unseen, options.timed), run, str(device), options.rounds),
        "size": sizes(run),
        "distilled": load_fast_card(run).distilled.model_dump(mode="json"),
    }
    save(options.out, result)


if __name__ == "__main__":
    main()
