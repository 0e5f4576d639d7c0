"""Draws the crops of one study as the grading network sees them: one row per condition and side, one column per level.

python examples/show_crops.py DATA STUDY_ID OUT.png
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from classify.config import CropConfig
from classify.crop_cache import cut_crops
from classify.crops import CropSpec
from shared.annotations import annotated_localizations
from shared.data.challenge import Challenge
from shared.labels import FINDINGS, Level


def montage(data: Challenge, study_id: str, config: CropConfig) -> NDArray[np.uint8]:
    """The middle slice of every crop, black where a finding is not annotated. # [5 * size, 5 * size]"""
    study = data.load_study(study_id).study
    points = annotated_localizations(study, data.points.get(study_id, ()))
    cut = cut_crops(study, points, lambda finding: CropSpec.final(config, finding))
    for problem in cut.problems:
        print(f"problem: {problem}")
    empty = np.zeros((config.size_px, config.size_px), np.uint8)
    tiles = [cut.crops[f][config.slices // 2] if f in cut.crops else empty for f in FINDINGS]
    rows = [np.hstack(tiles[i : i + len(Level)]) for i in range(0, len(tiles), len(Level))]
    return np.vstack(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="challenge directory with train_label_coordinates.csv")
    parser.add_argument("study_id", help="one of its studies")
    parser.add_argument("out", type=Path, metavar="OUT.png", help="picture to write")
    arguments = parser.parse_args()
    picture = montage(Challenge.open(arguments.data), arguments.study_id, CropConfig())
    cv2.imwrite(str(arguments.out), picture)


if __name__ == "__main__":
    main()
