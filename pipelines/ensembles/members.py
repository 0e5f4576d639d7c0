"""Which runs answer together, whether they go together, and which fold of each may see which study."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from classify.network.fast import check_fast, seen_by_fast
from localize.localizer import is_shipped
from pipelines.ensembles.weights import read_weights_file
from shared.data.source import StudySource
from shared.out_of_fold import fold_by_study
from shared.runtime.errors import InputError
from shared.runtime.problems import counted
from shared.runtime.progress import log
from shared.runtime.run_folder import read_run, sha256_of, trained_digest, trained_folds
from shared.splits import Splits, read_splits

# The fold of each run that answers, in the order of `Members.runs`; None for all of its folds.
Team = tuple[int | None, ...]
# Of a study that a run was trained on, but no trained fold of it held out.
_NO_FOLD: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """The runs that answer together.

    Attributes:
      localizers: of `lumbar localize train`, or the one that ships.
      classifiers: of `lumbar classify train`.
      mixed_data: allows runs that were trained on different data. A study then counts as seen by a run if the run's
        splits name its id; the same study under another id goes unnoticed.
      weights: weights.json of `lumbar combine` for these classifiers, in any order; without it all count alike.
      fast: whether the fast grader of each classifier answers in place of its folds.

    Raises:
      InputError: for a run that is missing, unfinished or given twice, runs that were trained on different data without
        `mixed_data`, weights of other runs, or a classifier that has no fast grader where one is to answer.
    """

    localizers: tuple[Path, ...]
    classifiers: tuple[Path, ...]
    mixed_data: bool = False
    weights: Path | None = None
    fast: bool = False
    _facts: tuple[Mapping[str, Any], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for runs, option in ((self.localizers, "--localizer"), (self.classifiers, "--classifier")):
            if not runs:
                raise InputError(f"{option}: expected at least one run")
            twice = [r for n, r in enumerate(runs) if r.resolve() in {q.resolve() for q in runs[:n]}]
            if twice:
                raise InputError(f"{option} {twice[0]}: is given twice; give each run once")
        kinds = ["localize"] * len(self.localizers) + ["classify"] * len(self.classifiers)
        facts = tuple(read_run(run, expected_kind=kind) for run, kind in zip(self.runs, kinds, strict=True))
        object.__setattr__(self, "_facts", facts)
        for run in self.classifiers if self.fast else ():
            check_fast(run)
        self._check_same_data()
        self.per_finding()

    @property
    def runs(self) -> tuple[Path, ...]:
        """All localizers, then all classifiers."""
        return (*self.localizers, *self.classifiers)

    def _trained(self) -> Iterator[tuple[int, Path, Mapping[str, Any]]]:
        """The runs that have seen studies of the user's: all but the one that ships; with their place among `runs`."""
        for n, (run, facts) in enumerate(zip(self.runs, self._facts, strict=True)):
            if not is_shipped(run):
                yield n, run, facts

    def _check_same_data(self) -> None:
        named = [(run, str(facts["data_fingerprint"])) for _, run, facts in self._trained()]
        other = next(((r, f) for r, f in named if f != named[0][1]), None)
        if other is not None and not self.mixed_data:
            raise InputError(
                f"{named[0][0]} and {other[0]} were trained on different data (fingerprints {named[0][1][:12]} and "
                f"{other[1][:12]}); train all on one data set, or read what --mixed-data gives up"
            )

    def per_finding(self) -> NDArray[np.float64] | None:
        """Weights of the classifiers for each finding, [classifiers, 25]; None where all count alike."""
        if self.weights is None:
            return None
        fitted = read_weights_file(self.weights)
        place = {m.digest: n for n, m in enumerate(fitted.members)}
        digests = [trained_digest(run) for run in self.classifiers]
        if sorted(digests) != sorted(place):
            raise InputError(
                f"--blend {self.weights}: was fitted for the classifiers {fitted.names}, as they were then; give "
                "just these with --classifier, or fit new weights with `lumbar combine`"
            )
        return fitted.per_finding()[[place[d] for d in digests]]

    @property
    def blend_digest(self) -> str | None:
        """Digest of the weights; None where all classifiers count alike."""
        return None if self.weights is None else sha256_of(self.weights)

    @property
    def classifier_digests(self) -> list[str]:
        """Digests of the networks that grade: of each classifier's folds, or of its fast grader."""
        return [trained_digest(run, fast=self.fast) for run in self.classifiers]

    @property
    def state(self) -> dict[str, Any]:
        """What answers depend on, JSON-ready, by the names under which a refusal to resume mentions them."""
        return {
            "localizer": [trained_digest(run) for run in self.localizers],
            "classifier": self.classifier_digests,
            "blend": self.blend_digest,
            "mixed data": self.mixed_data,
        }

    def to_json(self) -> dict[str, Any]:
        """For run.json: the digests of every run's run.json, and of its models."""

        def described(runs: Sequence[Path], digests: Sequence[str]) -> list[dict[str, Any]]:
            return [
                {"run_sha256": sha256_of(run / "run.json"), "models_sha256": digest, "shipped": is_shipped(run)}
                for run, digest in zip(runs, digests, strict=True)
            ]

        return {
            "localizers": described(self.localizers, [trained_digest(run) for run in self.localizers]),
            "classifiers": described(self.classifiers, self.classifier_digests), "fast": self.fast,
            "shipped_localizer": all(map(is_shipped, self.localizers)), "mixed_data": self.mixed_data,
            "blend": self.blend_digest,
        }  # fmt: skip

    def teams(self, source: StudySource) -> tuple[StudySource, dict[str, Team] | None]:
        """The studies that may be predicted, and which fold of each run answers each of them.

        A run answers a study that it was trained on by the fold that held the study out, and any other study by all of
        its folds. Studies that a run was trained on, but has no trained fold for, are left out.

        Returns:
          The source with these studies, and their teams; the source itself and None where no run has seen any study.

        Raises:
          InputError: when no study is left, or when a fast grader is to answer studies that its run was trained on.
        """
        seen: dict[int, dict[str, int]] = {}
        for n, run, facts in self._trained():
            if not self.mixed_data and (source.fingerprint is None or source.fingerprint != facts["data_fingerprint"]):
                _warn_of_known_ids(run, source)
                continue
            splits = read_splits(run / "splits.json")
            if set(splits.study_ids) & set(source.study_ids):
                seen[n] = _folds(splits, trained_folds(run, facts))
        learned = [self.runs[n] for n in seen if n >= len(self.localizers)]
        if self.fast and learned:
            raise InputError(seen_by_fast(learned[0]))
        if not seen:
            return source, None
        teams = {
            s: tuple(seen[n].get(s) if n in seen else None for n in range(len(self.runs))) for s in source.study_ids
        }
        teams = {s: team for s, team in teams.items() if _NO_FOLD not in team}
        if not teams:
            named = " and ".join(str(self.runs[n]) for n in seen)
            raise InputError(
                f"{named} have no trained fold in common, so no study was held out by all; train more folds"
            )
        order = list(dict.fromkeys(s for folds in seen.values() for s in folds))
        place = {s: n for n, s in enumerate(order)}
        ids = sorted(
            teams, key=lambda s: ([-1 if fold is None else fold for fold in teams[s]], place.get(s, len(order)))
        )
        return replace(source, study_ids=tuple(ids), row_ids=None), {s: teams[s] for s in ids}


def _warn_of_known_ids(run: Path, source: StudySource) -> None:
    """Warns where a run's splits name studies of other tables: perhaps its own, in tables that were edited since."""
    path = run / "splits.json"
    known = set(read_splits(path).study_ids) & set(source.study_ids) if path.is_file() else set()
    if known:
        log(
            f"warning: {run}: was trained on {counted(len(known), 'study')} of the same id, but on other tables than "
            "these; they are taken for new and graded by all its folds. If they are the same studies, give "
            "--mixed-data, which goes by the id"
        )


def _folds(splits: Splits, trained: Sequence[int]) -> dict[str, int]:
    """Study -> the trained fold that held it out, fold by fold; `_NO_FOLD` for the others."""
    return fold_by_study(splits, trained) | {
        s: _NO_FOLD for k in range(len(splits.folds)) if k not in trained for s in splits.held_out(k)
    }
