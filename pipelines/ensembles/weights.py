"""Weights of the members of a blend: fitted per condition family, and their JSON file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shared.labels import FINDINGS, SEVERITY_WEIGHTS, Condition, Severity, findings_of
from shared.probabilities.table import unweighted
from shared.runtime.documents import Document, kind_of, read_document
from shared.runtime.errors import InputError, quoted
from shared.runtime.files import write_json

VERSION: Final = 1
FloatArray = NDArray[np.float64]
_AGAIN: Final = "make it again with `lumbar combine`"
_SUM_TOLERANCE: Final = 1e-6
# Weight, in graded rows, of the pull towards equal weights. It decides between members that say the same.
_RIDGE: Final = 1.0
# A smaller weight is taken for none.
_LEAST: Final = 1e-3
_TINY: Final = 1e-15
_MOST_TOLD: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One of the models that are blended.

    Attributes:
      name: of its run's folder.
      digest: of its run's models (`shared.runtime.run_folder.trained_digest`).
    """

    name: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlendWeights:
    """How much each member of a blend counts, per condition family.

    Attributes:
      members: in the order of the weights.
      weights: of each family, one number per member; not negative, summing to 1.
    """

    members: tuple[Member, ...]
    weights: Mapping[Condition, tuple[float, ...]]

    def __post_init__(self) -> None:
        for condition in Condition:
            given = self.weights.get(condition, ())
            if len(given) != len(self.members) or min(given, default=-1) < 0 or abs(sum(given) - 1) > _SUM_TOLERANCE:
                raise ValueError(
                    f"{condition.short}: expected {len(self.members)} weights that are not negative and sum to 1, "
                    f"got {kind_of(list(given))}"
                )

    @property
    def names(self) -> str:
        """The members' names for a message."""
        told = ", ".join(quoted(member.name, marks=False) for member in self.members[:_MOST_TOLD])
        return told + (", ..." if len(self.members) > _MOST_TOLD else "")

    def per_finding(self) -> FloatArray:
        """Weights of the members for each finding. [members, 25]"""
        return np.array([self.weights[f.condition] for f in FINDINGS]).T


class _MemberFile(Document):
    name: str
    digest: str


class WeightsFile(Document):
    """weights.json of `lumbar combine`."""

    version: Literal[1]
    mean: Literal["arithmetic"]
    members: Annotated[list[_MemberFile], Field(min_length=2, max_length=1000)]
    weights: dict[Literal["canal", "foraminal", "subarticular"], list[float]]
    studies: Annotated[int, Field(ge=0)]
    data_fingerprint: str


def write_weights(path: Path, blend: BlendWeights, *, studies: int, data_fingerprint: str) -> None:
    """Writes weights.json: the weights, the members' digests, and what the weights were fitted on."""
    members = [{"name": m.name, "digest": m.digest} for m in blend.members]
    weights = {c.short: [round(w, 9) for w in blend.weights[c]] for c in Condition}
    write_json(
        path,
        {
            "version": VERSION, "mean": "arithmetic", "members": members, "weights": weights, "studies": studies,
            "data_fingerprint": data_fingerprint,
        },
    )  # fmt: skip


def read_weights_file(path: Path) -> BlendWeights:
    """Reads weights.json; raises `InputError` for a file that `write_weights` did not write."""
    file = read_document(path, WeightsFile, advice=_AGAIN)
    by_name = {c.short: c for c in Condition}
    try:
        return BlendWeights(
            members=tuple(Member(name=m.name, digest=m.digest) for m in file.members),
            weights={by_name[name]: tuple(values) for name, values in file.weights.items()},
        )
    except ValueError as error:
        raise InputError(f"{path}: {error}; {_AGAIN}") from error


def fit_weights(submissions: FloatArray, grades: NDArray[np.int8]) -> FloatArray:
    """The weights of the members' mean probabilities with the lowest metric, family by family.

    The canal's weights minimise the canal's term and the any-severe term together, the others their own.

    Args:
      submissions: of each member. # [members, n, 25, 3]
      grades: -1 where not graded. # [n, 25]

    Returns:
      [members, 25]; equal weights for a family without graded rows.
    """
    fitted = np.full((len(submissions), len(FINDINGS)), 1 / len(submissions))
    probabilities = unweighted(submissions)
    for condition in Condition:
        columns = [f.index for f in findings_of(condition)]
        if (grades[:, columns] >= 0).any():
            terms = [_family_term(probabilities[:, :, columns], grades[:, columns])]
            if condition is Condition.CANAL:
                terms.append(_any_severe_term(probabilities[:, :, columns], grades[:, columns]))
            rows = int((grades[:, columns] >= 0).sum())
            fitted[:, columns] = _lowest(terms, len(submissions), rows)[:, None]
    return fitted


def _lowest(terms: "Sequence[_Term]", members: int, rows: int) -> FloatArray:
    """The weights, not negative and summing to 1, with the lowest sum of terms."""
    from scipy.optimize import minimize  # only fitting needs it

    equal = np.full(members, 1 / members)

    def loss(w: FloatArray) -> tuple[float, FloatArray]:
        values = [term(w) for term in terms]
        pull = _RIDGE / rows
        total = sum(v for v, _ in values) + pull * float(((w - equal) ** 2).sum())
        return total, np.sum([g for _, g in values], axis=0) + 2 * pull * (w - equal)

    sums_to_one = {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones_like(w)}
    # The loss is not convex, so it is followed down from the middle and from near each corner.
    found = [
        minimize(
            loss, start, jac=True, method="SLSQP", bounds=[(0, 1)] * members, constraints=[sums_to_one],
            options={"ftol": 1e-10, "maxiter": 300},
        ).x
        for start in (equal, *(0.9 * np.eye(members) + 0.1 * equal))
    ]  # fmt: skip
    best = np.clip(min(found, key=lambda w: loss(w)[0]), 0, 1)
    best[best < _LEAST] = 0.0
    return best / best.sum()


_Term = Callable[[FloatArray], tuple[float, FloatArray]]  # weights [members] -> a loss and its gradient


def _log_ratios(w: FloatArray, above: FloatArray, below: FloatArray, cost: FloatArray) -> tuple[float, FloatArray]:
    """Mean over rows, weighted by cost, of -log(w @ above / w @ below), and its gradient.

    Args:
      above, below: [members, rows].
      cost: [rows].
    """
    share = cost / cost.sum()
    over, under = np.maximum(w @ above, _TINY), np.maximum(w @ below, _TINY)
    return float(share @ (np.log(under) - np.log(over))), (below / under - above / over) @ share


def _family_term(probabilities: FloatArray, grades: NDArray[np.int8]) -> _Term:
    """The family's weighted log loss, up to a constant. [members, n, findings, 3] and [n, findings]

    A submission is each probability times its grade's weight, divided by their sum: a ratio of sums over the members.
    """
    study, finding = np.nonzero(grades >= 0)
    true, cost = grades[study, finding].astype(np.intp), np.asarray(SEVERITY_WEIGHTS)
    rows = probabilities[:, study, finding]  # [members, rows, 3]
    above = rows[:, np.arange(len(true)), true]
    return lambda w: _log_ratios(w, above, rows @ cost, cost[true])


def _any_severe_term(probabilities: FloatArray, grades: NDArray[np.int8]) -> _Term:
    """The metric's any-severe term, up to a constant: of each study the row that is most surely severe."""
    some = (grades >= 0).any(1)
    grades, probabilities = grades[some], probabilities[:, some]
    cost = np.asarray(SEVERITY_WEIGHTS)
    weighted = probabilities * cost
    below = weighted.sum(-1)  # [members, n, findings]
    severe = weighted[..., Severity.SEVERE]
    happened = (grades == Severity.SEVERE).any(1)
    above = np.where(happened[:, None], severe, below - severe)
    weight = np.where(grades >= 0, cost[np.where(grades >= 0, grades, 0)], 0.0).max(1)
    each = np.arange(len(grades))

    def term(w: FloatArray) -> tuple[float, FloatArray]:
        sure = np.tensordot(w, severe, 1) / np.maximum(np.tensordot(w, below, 1), _TINY)
        row = np.where(grades >= 0, sure, -1.0).argmax(1)
        return _log_ratios(w, above[:, each, row], below[:, each, row], weight)

    return term
