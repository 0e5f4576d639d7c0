"""Does a study keep its answer when it is exported in another way?

    python -m benchmarks.exports LOCALIZER CLASSIFIER STUDY... [--out OUT.json]

LOCALIZER and CLASSIFIER are finished runs; each STUDY is a folder with the DICOM files of one study. Every copy in
`copies` holds the same slices. The largest difference of its 75 probabilities from those of the study itself is written
for each. No pixel of a study is kept.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.exports.copies import COPIES
from benchmarks.results import header, parser, save
from pipelines.api import load
from shared.runtime.progress import log

# The largest difference of a probability that counts as the same answer.
TOLERANCE: Final = 0.02


def measure(localizer: Path, classifier: Path, studies: Sequence[Path], device: str) -> dict[str, Any]:
    """The largest difference of each copy over all studies, and of each study."""
    grader = load(localizer, classifier, device=device)
    each: dict[str, dict[str, float]] = {}
    for n, study in enumerate(studies, start=1):
        answer = grader.predict(study)
        differences = {}
        for name, copy in COPIES.items():
            with tempfile.TemporaryDirectory() as folder:
                copied = grader.predict(copy(study, Path(folder)))
            differences[name] = float(np.abs(copied.submission - answer.submission).max())
            log(f"study {n}, {name}: {differences[name]:.6f}")
        each[f"study {n}"] = differences
    largest = {name: max(of[name] for of in each.values()) for name in COPIES}
    same = all(v <= TOLERANCE for v in largest.values())
    return {"tolerance": TOLERANCE, "same": same, "largest": largest, "each": each}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("localizer", type=Path, metavar="LOCALIZER", help="run of `lumbar localize train`")
    arguments.add_argument("classifier", type=Path, metavar="CLASSIFIER", help="run of `lumbar classify train`")
    arguments.add_argument("studies", type=Path, nargs="+", metavar="STUDY", help="folder of one study's DICOM files")
    arguments.add_argument("--out", type=Path, default=Path("results/exports.json"))
    arguments.add_argument("--device", default="cpu")
    a = arguments.parse_args()
    command = "python -m benchmarks.exports LOCALIZER CLASSIFIER STUDY..."
    save(a.out, header(command, device=a.device) | measure(a.localizer, a.classifier, a.studies, a.device))


if __name__ == "__main__":
    main()
