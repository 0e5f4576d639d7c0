"""The baseline ladder: every simpler way to answer, and the best possible one, on the same unseen studies.

    make demo && python benchmarks/ladder.py demo          # writes results/ladder.json
    python benchmarks/ladder.py demo OUT.json --seconds 300 --size 96

Same training studies, same held-out fold, same unseen studies for all. The study-level network gets as many seconds of
training as ours took for localizer and classifier together, measured by the demo, unless `--budget classifier` or
`--seconds` says otherwise; its reading of images is not counted, ours is.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.demo_folder import Demo, add_arguments, paired_gains
from benchmarks.results import header, parser
from benchmarks.study_network import (
    DIFFERENCES,
    StudyNetworkOptions,
    Trained,
    predict_study_network,
    study_images,
    train_study_network,
)
from classify.device import pick_device, use_all_cores
from classify.network.checkpoint import run_folder
from classify.predict import Classifier
from pipelines.demo import DEMO_FOLD
from shared.probabilities.table import ProbabilityTable
from shared.runtime.files import write_json
from shared.runtime.run_folder import read_run
from shared.scores import ORACLE, as_text, baselines, compare

# "filled": missing grades count as Normal/Mild, as in the notebook; "masked": they do not count, as in ours.
OURS = "ours, end to end"
OURS_TRUE_POINTS = "ours, true points"
STUDY_NETWORK = {True: "study network, filled", False: "study network, masked"}


def read_arguments() -> argparse.Namespace:
    arguments = parser(__doc__)
    add_arguments(arguments)
    arguments.add_argument("out", type=Path, nargs="?", default=Path("results/ladder.json"))
    arguments.add_argument(
        "--budget", choices=("both", "classifier"), default="both", help="whose training time it gets"
    )
    arguments.add_argument("--seconds", type=float, help="training time of the study-level network instead")
    arguments.add_argument("--size", type=int, default=128, help="side of its images in pixels (default %(default)s)")
    arguments.add_argument("--seed", type=int, default=0)
    return arguments.parse_args()


def study_network_rungs(
    demo: Demo, options: argparse.Namespace, seconds: float
) -> tuple[dict[str, ProbabilityTable], dict[str, Any]]:
    """Both variants of the study-level network: their answers for the unseen studies, and how they were trained."""
    device = pick_device(options.device)
    use_all_cores()
    parts = {"training": demo.splits.training(DEMO_FOLD), "held_out": demo.splits.held_out(DEMO_FOLD)}
    images = {name: study_images(demo.training, ids, options.size) for name, ids in parts.items()}
    grades = {name: demo.training.grades_of(ids) for name, ids in parts.items()}
    unseen = study_images(demo.unseen, demo.study_ids, options.size)
    tables, facts = {}, {}
    for fill_missing, name in STUDY_NETWORK.items():
        network = StudyNetworkOptions(
            seconds=seconds, fill_missing=fill_missing, size_px=options.size, seed=options.seed
        )
        trained = train_study_network(
            (images["training"], grades["training"]), (images["held_out"], grades["held_out"]), network, device
        )
        values = predict_study_network(trained, unseen, device)
        answered = np.ones(values.shape[:2], bool)
        tables[name] = ProbabilityTable(study_ids=demo.study_ids, submission=values, from_model=answered)
        facts[name] = asdict(network) | _history(trained)
    return tables, facts


def _history(trained: Trained) -> dict[str, Any]:
    return {
        "temperatures": {c.short: round(x.temperature, 3) for c, x in trained.calibration.items()},
        "epochs": trained.epochs,
        "kept_epoch": trained.kept_epoch,
        "trained_seconds": round(trained.seconds, 1),
        "held_out_scores": [round(s, 4) for s in trained.held_out_scores],
    }


def check_one_fold(folder: Path) -> None:
    """All rungs learn from the same studies: what the demo answered must come of its own fold alone."""
    for stage, folds in {
        "localizer": sorted(int(k) for k in read_run(folder / "localizer", expected_kind="localize")["folds"]),
        "classifier": run_folder(folder / "classifier").finished_folds(),
    }.items():
        if folds != [DEMO_FOLD]:
            sys.exit(f"error: {folder / stage} has trained folds {folds}; the ladder wants fold {DEMO_FOLD} alone")


def command(options: argparse.Namespace) -> str:
    """What reproduces the file: the demo and every option that is not the default."""
    given = {"--studies": options.studies, "--budget": options.budget, "--seconds": options.seconds,
             "--size": options.size, "--seed": options.seed}  # fmt: skip
    usual = {"--studies": 100, "--budget": "both", "--seconds": None, "--size": 128, "--seed": 0}
    flags = [f"{name} {value}" for name, value in given.items() if name == "--studies" or value != usual[name]]
    return " ".join(["python benchmarks/ladder.py", options.demo.name, *flags])


def main() -> None:
    options = read_arguments()
    check_one_fold(options.demo)
    demo = Demo.open(options.demo, studies=options.studies, device=options.device)
    spent = demo.training_seconds()
    seconds = options.seconds or (sum(spent.values()) if options.budget == "both" else spent["classifier"])
    tables = baselines(demo.study_ids, demo.training.grades_of(demo.training.study_ids))
    networks, facts = study_network_rungs(demo, options, seconds)
    classifier = Classifier.load(options.demo / "classifier", folds=[DEMO_FOLD], device=options.device)
    ours = {OURS_TRUE_POINTS: demo.grade(classifier, demo.true_points()), OURS: demo.end_to_end}
    tables = tables | networks | ours | {ORACLE: demo.oracle}
    comparison = compare(tables, demo.study_ids, demo.grades)
    budget = f"--seconds {seconds:g}" if options.seconds else f"measured training time of {options.budget}"
    result = header(command(options), device=str(pick_device(options.device))) | {
        "training_seconds": spent,
        "study_network_seconds": round(seconds, 1),
        "study_network_budget": budget,
        "study_networks": facts,
        "study_networks_differ_from_ours": list(DIFFERENCES),
        "gain_of_ours_over": paired_gains(demo, tables, OURS),
        "scores": comparison.to_json(),
    }
    write_json(options.out, result)
    sys.stdout.write(as_text(comparison) + "\n\n" + json.dumps(result["gain_of_ours_over"], indent=1) + "\n")


if __name__ == "__main__":
    main()
