"""How a localizer fares on real sagittal T1 slices that it was not trained on.

    python -m benchmarks.shipped.foramina DATA RUN [--compare RUN] [--studies N] [--out OUT.json]

DATA is a challenge directory of real sagittal T1 slices with foraminal points. In the one that was measured only
annotated slices exist and millimetres are approximate. RUN is a localizer that saw none of them, for example
localize/weights. No pixel is kept.
"""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import header, parser, save
from localize.localizer import Localizer
from localize.measures import collect, level_confusion, measures_of
from localize.predict import predict_studies
from shared.data.challenge import Challenge
from shared.data.source import challenge_source
from shared.numbering import CERTAIN


def measure(localizer: Localizer, data: Challenge, studies: int) -> dict[str, Any]:
    """Errors of the points of every so many-th study, and how many studies have all their points at the right level."""
    chosen = data.study_ids[:: max(1, len(data.study_ids) // studies)][:studies]
    predictions = predict_studies(lambda _: localizer, challenge_source(data), chosen)
    errors = [e for e in collect(data, predictions.localizations).errors if e.study_id in set(chosen)]
    wrong = {e.study_id for e in errors if e.nearest_level is not e.finding.level}
    named = {s: n.as_named for s, n in predictions.numbering.items()}
    sure = {s for s, value in named.items() if value >= CERTAIN}
    return {
        "studies": len(chosen), "all levels right": len(set(chosen) - wrong),
        "sure": len(sure), "right of the sure": len(sure - wrong),
        "mean as_named": round(float(np.mean(list(named.values()))), 4), "points": measures_of(errors),
        "level confusion": level_confusion(errors).tolist(),
    }  # fmt: skip


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("data", type=Path, metavar="DATA")
    arguments.add_argument("run", type=Path, metavar="RUN")
    arguments.add_argument("--studies", type=int, default=300, metavar="N")
    arguments.add_argument("--compare", type=Path, metavar="RUN", help="another run that saw none of the studies")
    arguments.add_argument("--out", type=Path, default=Path("results/shipped_foramina.json"))
    arguments.add_argument("--device", default="cpu")
    a = arguments.parse_args()
    data = Challenge.open(a.data)
    measured = measure(Localizer.load(a.run, device=a.device), data, a.studies)
    if a.compare:
        measured["compared"] = measure(Localizer.load(a.compare, device=a.device), data, a.studies)
    about = {"data": "sagittal T1 slices of RSNA studies, which neither trained nor chose the localizer"}
    command = f"python -m benchmarks.shipped.foramina DATA RUN --studies {a.studies}"
    save(a.out, header(command, device=a.device) | about | measured)


if __name__ == "__main__":
    main()
