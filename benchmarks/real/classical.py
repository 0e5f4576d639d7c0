"""The classical rung on real foramina: hand-made features of each crop, and a support vector machine.

    python -m benchmarks.real.classical DATA SPLITS OUT.csv

DATA is a challenge directory with real sagittal T1 slices and foraminal grades, SPLITS its splits.json. Crops lie at
the annotated points and have the size of those of configs/classify/two_cores.toml. Features are histograms of oriented
gradients (Dalal 2005), uniform local binary patterns (Ojala 2002), texture measures of grey-level co-occurrence
(Haralick 1973) and the level. The machine has radial basis functions. Its decision values become probabilities by a
logistic regression on training studies that it did not see. OUT.csv has the answers for fold 0, for
`benchmarks.real.grades`. No pixel is kept.
"""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from benchmarks.results import parser
from classify.config import ClassifyConfig
from classify.crops import CropSpec, crop
from shared.annotations import annotated_localizations
from shared.data.challenge import Challenge
from shared.dicom.pixels import slice_pixels
from shared.labels import FINDINGS, SEVERITY_WEIGHTS, Condition, Severity, findings_of
from shared.probabilities.files import write_probabilities
from shared.probabilities.table import ProbabilityTable, weighted_prior
from shared.runtime.config import shipped_config
from shared.runtime.progress import track
from shared.splits import read_splits

_COMPONENTS: Final = 150  # of the principal component analysis; not tuned, as nothing else of this rung is
_GREY_LEVELS: Final = 16

Rows = tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.intp]]


def features(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Hand-made features of one crop [64, 64]."""
    return np.concatenate([gradients(image), binary_patterns(image), co_occurrence(image)]).astype(np.float32)


def gradients(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Histograms of nine directions in cells of 8 x 8 px, normalised over blocks of 2 x 2 cells."""
    dy, dx = np.gradient(image.astype(np.float64))
    place = (np.arctan2(dy, dx) % np.pi) / np.pi * 9
    low, share = np.floor(place).astype(np.intp) % 9, place - np.floor(place)
    cells = np.array([c // 8 for c in np.indices(image.shape)])
    histogram = np.zeros((image.shape[0] // 8, image.shape[1] // 8, 9))
    size = np.hypot(dx, dy)
    np.add.at(histogram, (*cells, low), size * (1 - share))
    np.add.at(histogram, (*cells, (low + 1) % 9), size * share)
    rows, columns = histogram.shape[0] - 1, histogram.shape[1] - 1
    blocks = np.concatenate([histogram[y : y + rows, x : x + columns] for y in (0, 1) for x in (0, 1)], axis=-1)
    return (blocks / np.sqrt((blocks**2).sum(axis=-1, keepdims=True) + 1.0)).ravel()


def binary_patterns(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Histograms of the ten rotation-invariant uniform patterns in each of 4 x 4 cells, as shares."""
    middle = image[1:-1, 1:-1]
    around = [(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0)]
    bits = np.stack([image[y : y + middle.shape[0], x : x + middle.shape[1]] >= middle for y, x in around])
    changes = (bits != np.roll(bits, 1, axis=0)).sum(axis=0)
    pattern = np.where(changes <= 2, bits.sum(axis=0), 9)
    cells = [
        np.bincount(c.ravel(), minlength=10) / c.size
        for r in np.array_split(pattern, 4)
        for c in np.array_split(r, 4, axis=1)
    ]
    return np.concatenate(cells)


def co_occurrence(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Contrast, homogeneity, energy and correlation of pairs of pixels 1 and 3 px apart in four directions."""
    grey = np.minimum(image // (256 // _GREY_LEVELS), _GREY_LEVELS - 1).astype(np.intp)
    i, j = np.indices((_GREY_LEVELS, _GREY_LEVELS))
    found: list[float] = []
    for far in (1, 3):
        for dy, dx in ((0, far), (far, 0), (far, far), (far, -far)):
            first = grey[: grey.shape[0] - dy, max(0, -dx) : grey.shape[1] - max(0, dx)]
            second = grey[dy:, max(0, dx) : grey.shape[1] + min(0, dx)]
            pairs = np.bincount((first * _GREY_LEVELS + second).ravel(), minlength=_GREY_LEVELS**2)
            p = (pairs / pairs.sum()).reshape(_GREY_LEVELS, _GREY_LEVELS)
            p = (p + p.T) / 2
            mean = float((p * i).sum())
            variance = float((p * (i - mean) ** 2).sum())
            correlation = float((p * (i - mean) * (j - mean)).sum()) / variance if variance > 0 else 1.0
            found += [
                float((p * (i - j) ** 2).sum()),
                float((p / (1 + (i - j) ** 2)).sum()),
                float((p**2).sum()),
                correlation,
            ]
    return np.array(found)


def read_rows(data: Challenge, study_ids: list[str], name: str) -> Rows:
    """Features [n, f], index of the study [n] and of the finding [n] of every foramen with a point."""
    config = ClassifyConfig.load(shipped_config("classify", "two_cores")).crop
    rows, studies, findings = [], [], []
    for index, study_id in enumerate(track(study_ids, name)):
        study = data.load_study(study_id).study
        points = annotated_localizations(study, data.points.get(study_id, ()))
        for finding in findings_of(Condition.FORAMINAL):
            if finding not in points:
                continue
            spec = CropSpec.final(config, finding)
            middle = crop(study, points[finding], spec, slice_pixels)[spec.slices // 2]
            level = np.eye(5)[finding.level.value]
            rows.append(np.concatenate([features(middle), level]))
            studies.append(index)
            findings.append(finding.index)
    return np.array(rows, np.float32), np.array(studies, np.intp), np.array(findings, np.intp)


def machine() -> Pipeline:
    svm = SVC(C=4.0, class_weight={s.value: SEVERITY_WEIGHTS[s] for s in Severity}, decision_function_shape="ovr")
    return make_pipeline(StandardScaler(), PCA(_COMPONENTS, random_state=0), svm)


def answer(
    x: NDArray[np.float32], y: NDArray[np.int8], group: NDArray[np.intp], new: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Probabilities [n, 3] under the metric's weights for new rows."""
    values = np.empty((len(x), 3))
    for seen, unseen in GroupKFold(3).split(x, y, group):
        values[unseen] = machine().fit(x[seen], y[seen]).decision_function(x[unseen])
    weights = np.asarray([SEVERITY_WEIGHTS[Severity(v)] for v in y], dtype=np.float64)
    calibration = LogisticRegression(C=1.0, max_iter=1000).fit(values, y, sample_weight=weights)
    return np.asarray(calibration.predict_proba(machine().fit(x, y).decision_function(new)))


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("data", type=Path, metavar="DATA")
    arguments.add_argument("splits", type=Path, metavar="SPLITS")
    arguments.add_argument("out", type=Path, metavar="OUT.csv")
    a = arguments.parse_args()
    data, splits = Challenge.open(a.data), read_splits(a.splits)
    training_ids, held_out_ids = list(splits.training(0)), list(splits.held_out(0))
    x, study, finding = read_rows(data, training_ids, "training crops")
    y = data.grades_of(training_ids)[study, finding]
    graded = y >= 0
    new, new_study, new_finding = read_rows(data, held_out_ids, "held-out crops")
    prior = weighted_prior(data.grades_of(training_ids))
    values = np.repeat(prior[None], len(held_out_ids), axis=0)
    values[new_study, new_finding] = answer(x[graded], y[graded], study[graded], new)
    from_model = np.zeros((len(held_out_ids), len(FINDINGS)), bool)
    from_model[new_study, new_finding] = True
    table = ProbabilityTable(study_ids=tuple(held_out_ids), submission=values, from_model=from_model)
    write_probabilities(a.out, table)


if __name__ == "__main__":
    main()
