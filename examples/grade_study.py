"""Grades one study from its DICOM files: prints the findings by probability of Severe and draws the graded slices.

python examples/grade_study.py FOLDER LOCALIZER CLASSIFIER OUT.png
"""

import argparse
from pathlib import Path

from pipelines.api import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with the DICOM files of one study")
    parser.add_argument("localizer", type=Path, help="run folder of `lumbar localize train`")
    parser.add_argument("classifier", type=Path, help="run folder of `lumbar classify train`")
    parser.add_argument("out", type=Path, metavar="OUT.png", help="picture to write")
    arguments = parser.parse_args()

    result = load(arguments.localizer, arguments.classifier).predict(arguments.folder)
    table = result.table().sort_values("p_severe", ascending=False)
    print(table[["condition", "side", "level", "p_severe", "source"]].head(10).to_string(index=False))
    for problem in result.problems:
        print(f"problem: {problem}")
    result.figure().savefig(arguments.out)


if __name__ == "__main__":
    main()
