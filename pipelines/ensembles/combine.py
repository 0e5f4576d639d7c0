"""`lumbar combine`: how much each of several classifiers should count, fitted on their out-of-fold probabilities.

OUT/weights.json      weights per condition family, for `lumbar predict --blend` and `lumbar blend --weights`
OUT/out_of_fold.csv   the blend of each study, with weights that its own grades had no part in
OUT/report.json       scores of the members, of their plain mean and of that blend, with intervals
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from classify.evaluate import EvaluateRequest, held_out_table
from pipelines.ensembles.blend import blend
from pipelines.ensembles.weights import BlendWeights, Member, fit_weights, write_weights
from shared.data.challenge import Challenge
from shared.labels import Condition, findings_of
from shared.metric import bootstrap, interval, score, study_losses
from shared.probabilities.files import write_probabilities
from shared.probabilities.table import ProbabilityTable
from shared.runtime.errors import InputError
from shared.runtime.files import prepare_output, write_json
from shared.runtime.problems import counted
from shared.runtime.progress import log
from shared.runtime.run_folder import trained_digest, write_run
from shared.scores import RESAMPLES, Comparison, as_text, compare, out_of_fold_baselines
from shared.splits import Splits, read_splits

WEIGHTS_FILE: Final = "weights.json"
MEAN: Final = "plain mean"
BLEND: Final = "fitted weights, cross-fitted"
_GROUPS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CombineRequest:
    """Runs whose weights are to be fitted.

    Attributes:
      data: what all of them were trained on.
      runs: two or more, of `lumbar classify train`.

    Raises:
      InputError: for fewer than two runs, one that is given twice, is unfinished or was trained on other data.
    """

    data: Challenge
    runs: tuple[Path, ...]
    _checked: tuple[EvaluateRequest, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.runs) < 2:
            raise InputError("there is nothing to combine: give two or more runs of `lumbar classify train`")
        if len({run.resolve() for run in self.runs}) < len(self.runs):
            raise InputError("a run is given twice; give each run once")
        digests = [trained_digest(run) for run in self.runs]
        same = next((n for n, digest in enumerate(digests) if digest in digests[:n]), None)
        if same is not None:
            raise InputError(f"{self.runs[same]}: holds the same models as {self.runs[digests.index(digests[same])]}")
        object.__setattr__(self, "_checked", tuple(EvaluateRequest(data=self.data, run=run) for run in self.runs))

    @property
    def names(self) -> list[str]:
        """Names of the runs' folders; their paths where names repeat."""
        names = [run.resolve().name for run in self.runs]
        return names if len(set(names)) == len(names) else [str(run) for run in self.runs]

    def tables(self) -> list[ProbabilityTable]:
        """Out-of-fold probabilities of each run, of the studies that every run held out.

        Raises:
          InputError: when there are no such studies.
        """
        tables = [held_out_table(request)[0] for request in self._checked]
        common = [s for s in tables[0].study_ids if all(s in set(t.study_ids) for t in tables[1:])]
        if not common:
            raise InputError(
                f"{self.runs[0]} and {self.runs[1]} have held out no study in common; train the same folds"
            )
        most = max(len(t.study_ids) for t in tables)
        if len(common) < most:
            log(f"left out: {counted(most - len(common), 'study')} that not every run has held out")
        return [t.select(common) for t in tables]


def combine_runs(request: CombineRequest, out: Path, *, overwrite: bool = False) -> str:
    """Fits the weights, writes OUT and returns the table of scores as text.

    Raises:
      InputError: as `CombineRequest.tables`, or for an OUT that is not empty.
    """
    started = time.time()
    log(f"reading the out-of-fold probabilities of {len(request.runs)} runs")
    data, names, tables = request.data, request.names, request.tables()
    study_ids = tables[0].study_ids
    grades, splits = data.grades_of(study_ids), read_splits(request.runs[0] / "splits.json")
    submissions = np.stack([t.submission for t in tables])
    log("fitting the weights")
    fitted = fit_weights(submissions, grades)
    own = cross_fit(submissions, grades, groups_of(study_ids, splits))
    blended = mixed(submissions, own)
    from_model = np.any([t.from_model for t in tables], axis=0)
    plain = blend(list(submissions), np.ones(fitted.shape), "arithmetic")
    every = dict(zip(data.study_ids, data.grades_of(data.study_ids), strict=True))
    ours = {
        name: ProbabilityTable(study_ids=study_ids, submission=values, from_model=from_model)
        for name, values in {MEAN: plain, BLEND: blended}.items()
    }
    comparison = compare(
        out_of_fold_baselines(study_ids, every, splits) | dict(zip(names, tables, strict=True)) | ours,
        study_ids,
        grades,
    )
    prepare_output(out, overwrite=overwrite, inputs=[data.root, *request.runs])
    weights = BlendWeights(
        members=tuple(Member(name=n, digest=trained_digest(r)) for n, r in zip(names, request.runs, strict=True)),
        weights={c: tuple(float(w) for w in fitted[:, findings_of(c)[0].index]) for c in Condition},
    )
    write_probabilities(out / "out_of_fold.csv", ours[BLEND])
    write_weights(out / WEIGHTS_FILE, weights, studies=len(study_ids), data_fingerprint=data.fingerprint)
    gain = _gain(plain, blended, grades)
    report = {"comparison": comparison.to_json(), "gain_over_the_mean": gain}
    write_json(out / "report.json", {"schema": "combine-report-1", **report})
    write_run(
        out, command="combine", started=started, kind="combine", studies=len(study_ids),
        members={m.name: m.digest for m in weights.members},
    )  # fmt: skip
    return _text(comparison, weights, gain)


def groups_of(study_ids: Sequence[str], splits: Splits) -> NDArray[np.intp]:
    """The fold of each study, or where one fold alone is trained, one of five groups that are dealt from seed 0. [n]"""
    folds = np.array([splits.fold_of(s) for s in study_ids])
    if len(np.unique(folds)) > 1:
        return folds
    rank = np.empty(len(study_ids), np.intp)
    rank[np.argsort(study_ids)] = np.random.default_rng(0).permutation(len(study_ids))
    return rank % _GROUPS


def cross_fit(
    submissions: NDArray[np.float64], grades: NDArray[np.int8], groups: NDArray[np.intp]
) -> NDArray[np.float64]:
    """The weights of each study, fitted on the studies of the other groups.

    Args:
      submissions: of each member. # [members, n, 25, 3]
      grades: -1 where not graded. # [n, 25]
      groups: which group each study belongs to. # [n]

    Returns:
      [n, members, 25]
    """
    weights = np.empty((len(groups), len(submissions), grades.shape[1]))
    for group in np.unique(groups):
        own = groups == group
        weights[own] = fit_weights(submissions[:, ~own], grades[~own])
    return weights


def mixed(submissions: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The blend of each study under weights of its own. [members, n, 25, 3] and [n, members, 25] -> [n, 25, 3]"""
    rows = [blend(list(submissions[:, [n]]), own, "arithmetic")[0] for n, own in enumerate(weights)]
    return np.stack(rows)


def _gain(plain: NDArray[np.float64], blended: NDArray[np.float64], grades: NDArray[np.int8]) -> dict[str, float]:
    """How much lower the cross-fitted blend scores than the plain mean, with the paired 95% interval."""
    samples = [bootstrap(study_losses(values, grades), resamples=RESAMPLES) for values in (plain, blended)]
    return {
        "mean": score(plain, grades).score - score(blended, grades).score,
        **asdict(interval(samples[0] - samples[1])),
    }


def _text(comparison: Comparison, weights: BlendWeights, gain: dict[str, Any]) -> str:
    width = max(len(m.name) for m in weights.members)
    rows = [
        f"{m.name:<{width}}  " + "  ".join(f"{c.short} {weights.weights[c][n]:.3f}" for c in Condition)
        for n, m in enumerate(weights.members)
    ]
    surely = gain["low"] > 0
    verdict = (
        "The fitted weights score better than the plain mean on studies that they were not fitted on"
        if surely
        else "The fitted weights are not surely better than the plain mean; take the plain mean"
    )
    return "\n".join(
        [
            as_text(comparison), "", "weights, fitted on all of these studies:", *rows, "",
            f"{verdict}: {gain['mean']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}], paired.",
        ]
    )  # fmt: skip
