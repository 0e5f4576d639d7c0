"""All folds of a run: what their mean gains, how they spread, and whether out-of-fold and unseen scores agree.

    lumbar demo DEMO --preset full --fold all ... && python benchmarks/folds.py DEMO      # writes results/full.json

Scored on the demo's own unseen studies, which no fold and no choice has seen. Out of fold every training study is
graded by the one network that has not trained on it, at the points of the one detector that has not either; an unseen
study by the mean of all folds. What compares with the former is therefore a single fold on the unseen studies (at the
points of all detectors' mean, where out of fold there is one detector), and because two samples of studies differ in
difficulty, shares of the gap from weighted prior to oracle are compared, with intervals that resample both samples.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.demo_folder import Demo, demo_command, paired_gains, score_line
from benchmarks.results import header, parser
from classify.calibrate import IDENTITY, cross_calibrated
from classify.device import pick_device, use_all_cores
from classify.evaluate import evaluate
from classify.network.checkpoint import ModelCard, load_card, run_folder
from classify.predict import Classifier
from pipelines.demo import AT_TRUE_POINTS
from shared.labels import Condition, findings_of
from shared.metric import Interval, bootstrap, interval, score, study_losses
from shared.probabilities.files import read_probabilities
from shared.probabilities.table import ProbabilityTable
from shared.runtime.documents import read_json
from shared.runtime.files import write_json
from shared.runtime.run_folder import read_run
from shared.scores import ORACLE, PRIOR, baselines, out_of_fold_baselines, read_oracle

ENSEMBLE: Final = "mean of all folds"


def read_arguments() -> argparse.Namespace:
    arguments = parser(__doc__)
    arguments.add_argument("demo", type=Path, help="folder of a finished `lumbar demo --fold all`")
    arguments.add_argument("out", type=Path, nargs="?", default=Path("results/full.json"))
    arguments.add_argument("--device", default="auto")
    return arguments.parse_args()


def unseen_answers(demo: Demo, device: str) -> dict[str, ProbabilityTable]:
    """Answers for the unseen studies, at the points that stage 1 found there."""
    run, points = demo.folder / "classifier", demo.detected_points()
    alone = {
        k: demo.grade(Classifier.load(run, folds=[k], device=device), points) for k in run_folder(run).finished_folds()
    }
    raw = np.mean([uncalibrated(table, load_card(run / f"fold{k}")) for k, table in alone.items()], axis=0)
    prior = baselines(demo.study_ids, demo.training.grades_of(demo.training.study_ids))[PRIOR]
    return {
        ENSEMBLE: demo.end_to_end.select(demo.study_ids),
        **{_alone(k): table for k, table in alone.items()},
        "no calibration": replace(alone[min(alone)], submission=raw),
        PRIOR: prior,
        ORACLE: demo.oracle,
    }


def uncalibrated(table: ProbabilityTable, card: ModelCard) -> NDArray[np.float64]:  # [n, 25, 3]
    """One fold's answers as they were before its calibration."""
    values = table.submission.copy()
    for condition in Condition:
        columns = np.array([f.index for f in findings_of(condition)])
        study, place = np.nonzero(table.from_model[:, columns])
        rows = (study, columns[place])
        values[rows] = IDENTITY(card.calibration[condition].undo(values[rows]))
    return values


def _alone(fold: int) -> str:
    return f"fold {fold} alone"


def closed(
    values: list[NDArray[np.float64]], prior: NDArray[np.float64], oracle: NDArray[np.float64],
    grades: NDArray[np.int8], *, seed: int,
) -> tuple[float, NDArray[np.float64]]:  # fmt: skip
    """Share of the gap from prior to oracle that several answers close on average: here, and on resampled studies."""
    base, best = (score(v, grades).score for v in (prior, oracle))
    here = float(np.mean([base - score(v, grades).score for v in values])) / (base - best)
    many = [bootstrap(study_losses(v, grades), seed=seed) for v in (prior, oracle, *values)]
    return here, (many[0] - np.mean(many[2:], axis=0)) / (many[0] - many[1])


def out_of_fold(demo: Demo) -> tuple[dict[str, Any], tuple[float, NDArray[np.float64]]]:
    """Figures of the pooled held-out studies, their calibration cross-fitted; and the share of the gap they close."""
    run = demo.folder / "classifier"
    written = read_probabilities(run / "out_of_fold.csv")
    truth = demo.training.grades_of(written.study_ids)
    calibrations = {k: load_card(run / f"fold{k}").calibration for k in run_folder(run).finished_folds()}
    table = cross_calibrated(written, truth, demo.splits, calibrations)
    grades = dict(zip(demo.training.study_ids, demo.training.grades_of(demo.training.study_ids), strict=True))
    report = evaluate(table, grades, demo.splits, written=written)
    oracle = read_oracle(demo.folder / "truth" / "oracle.csv").select(table.study_ids).submission
    prior = out_of_fold_baselines(table.study_ids, grades, demo.splits)[PRIOR].submission
    figures = {key: report[key] for key in ("studies", "graded_rows", "comparison", "folds", "fold_spread")}
    figures["oracle"] = score(oracle, truth).score
    figures["ece"] = {c: row["ece"] for c, row in report["conditions"].items()}
    return figures, closed([table.submission], prior, oracle, truth, seed=1)


def main() -> None:
    options = read_arguments()
    use_all_cores()
    demo = Demo.open(options.demo, device=options.device)
    folds = run_folder(options.demo / "classifier").finished_folds()
    if len(folds) < 2:
        sys.exit(f"error: {options.demo} has trained fold {folds} alone; run the demo with --fold all")
    tables = unseen_answers(demo, options.device)
    lines = {name: score_line([table.select(demo.study_ids)], demo.grades) for name, table in tables.items()}
    held_out, (held_out_share, held_out_samples) = out_of_fold(demo)
    values = {name: table.select(demo.study_ids).submission for name, table in tables.items()}
    prior, oracle = values[PRIOR], values[ORACLE]
    shares = {
        name: closed(chosen, prior, oracle, demo.grades, seed=0)
        for name, chosen in {
            ENSEMBLE: [values[ENSEMBLE]],
            "a fold alone, mean": [values[_alone(k)] for k in folds],
        }.items()
    }
    optimism = held_out_samples - shares["a fold alone, mean"][1]
    run = read_run(options.demo, expected_kind="demo")
    scores = read_json(options.demo / "reports" / "scores.json")["lines"]
    command = f"{demo_command(run)} && python benchmarks/folds.py DEMO"
    result = header(command, device=str(pick_device(options.device))) | {
        "demo_commit": run["git_commit"],
        "demo_seconds": run["step_seconds"],
        "training_seconds": demo.training_seconds(),
        "training_studies": run["studies"],
        "unseen_studies": len(demo.study_ids),
        "unseen": lines,
        "gain_of_mean_over": paired_gains(demo, tables, ENSEMBLE),
        "out_of_fold": held_out,
        "gap_closed": {
            "out of fold": _bounded(held_out_share, held_out_samples),
            **{name: _bounded(*share) for name, share in shares.items()},
            "out of fold minus a fold alone": _bounded(held_out_share - shares["a fold alone, mean"][0], optimism),
        },
        "at_true_points": next(item for item in scores if item["name"] == AT_TRUE_POINTS),
        "localization": read_json(options.demo / "reports" / "localize" / "report.json"),
    }
    write_json(options.out, result)
    for name, row in lines.items():
        gain = result["gain_of_mean_over"].get(name)
        text = "" if gain is None else f"  mean gains {gain['gain']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
        sys.stdout.write(
            f"{name:<24} {row['score']:.3f} [{row['low']:.3f}, {row['high']:.3f}]{text}  ECE {row['ece']}\n"
        )
    sys.stdout.write(json.dumps(result["gap_closed"], indent=1) + "\n")
    sys.stdout.write(json.dumps(held_out, indent=1) + "\n")


def _bounded(value: float, samples: NDArray[np.float64]) -> dict[str, float]:
    bounds: Interval = interval(samples)
    return {"value": value, "low": bounds.low, "high": bounds.high}


if __name__ == "__main__":
    main()
