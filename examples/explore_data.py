"""Explores a challenge directory: grades per condition and level, and how its series were acquired.

python examples/explore_data.py DATA
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from shared.data.challenge import Challenge
from shared.labels import Condition, Level, Severity, View, findings_of


def prevalence(data: Challenge) -> pd.DataFrame:
    """Share of graded findings that are Moderate or Severe, in percent: one row per condition, one column per level."""
    grades = data.grades_of(data.study_ids)  # [n, 25]
    rows = {}
    for condition in Condition:
        of_level = [[f.index for f in findings_of(condition) if f.level is level] for level in Level]
        graded = [grades[:, columns][grades[:, columns] >= 0] for columns in of_level]
        rows[condition.display] = [100 * np.mean(g >= Severity.MODERATE) if g.size else np.nan for g in graded]
    return pd.DataFrame(rows, index=[level.display for level in Level]).T


def series_of_view(data: Challenge, view: View) -> str:
    """Slices, matrix and pixel spacing of a view's series, medians over the studies."""
    loaded = [series for s in data.study_ids for series in data.load_study(s).study.of_view(view)]
    if not loaded:
        return f"{view.value}: none"
    first = [series.slices[0] for series in loaded]
    shape = Counter(item.shape for item in first).most_common(1)[0][0]
    slices, spacing = np.median([len(s.slices) for s in loaded]), np.median([i.plane.spacing_mm[0] for i in first])
    return f"{view.value}: {len(loaded)} series, {slices:.0f} slices, mostly {shape[0]} x {shape[1]}, {spacing:.2f} mm"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="challenge directory with train.csv and train_images/")
    data = Challenge.open(parser.parse_args().data)
    print(f"{len(data.study_ids)} studies. Moderate or Severe, in percent:")
    print(prevalence(data).round(1).to_string())
    for view in View:
        print(series_of_view(data, view))


if __name__ == "__main__":
    main()
