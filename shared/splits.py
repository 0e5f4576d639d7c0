"""The folds of both stages, in one splits.json: by study, seeded, stratified, written once."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from shared.data.challenge import Challenge
from shared.labels import Condition, Severity, findings_of
from shared.runtime.documents import Document, read_document
from shared.runtime.errors import InputError
from shared.runtime.files import write_json
from shared.runtime.problems import counted
from shared.runtime.tables import check_identifier

VERSION: Final = 1
_AGAIN: Final = "write it anew with `lumbar splits`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """`folds[k]` are the studies that fold k holds out; every study is held out exactly once."""

    seed: int
    folds: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if len(self.folds) < 2 or not all(self.folds):
            raise ValueError("expected at least two folds, none of them empty")
        every = [s for fold in self.folds for s in fold]
        if len(set(every)) != len(every):
            twice = next(s for s, count in Counter(every).items() if count > 1)
            raise ValueError(f"study {twice} is held out by more than one fold")

    @property
    def study_ids(self) -> tuple[str, ...]:
        return tuple(sorted(s for fold in self.folds for s in fold))

    def held_out(self, fold: int) -> tuple[str, ...]:
        """Studies that fold `fold` validates on; raises `InputError` for an unknown fold."""
        if not 0 <= fold < len(self.folds):
            raise InputError(f"fold {fold}: expected 0 to {len(self.folds) - 1}")
        return self.folds[fold]

    def training(self, fold: int) -> tuple[str, ...]:
        """Studies that fold `fold` trains on."""
        held_out = set(self.held_out(fold))
        return tuple(s for s in self.study_ids if s not in held_out)

    def fold_of(self, study_id: str) -> int:
        """The fold that holds the study out; raises `InputError` for a study in none."""
        for k, fold in enumerate(self.folds):
            if study_id in fold:
                return k
        raise InputError(f"study {study_id} is in no fold of the splits")

    def check_covers(self, study_ids: Sequence[str]) -> None:
        """Raises `InputError` unless the splits hold exactly these studies."""
        difference = sorted(set(study_ids) ^ set(self.study_ids))
        if difference:
            where = "only in the data" if difference[0] in set(study_ids) else "only in the splits"
            raise InputError(
                f"splits and data differ in {counted(len(difference), 'study')}: for example, study "
                f"{difference[0]} is {where}; "
                "write new splits with `lumbar splits`"
            )


def make_splits(study_ids: Sequence[str], grades: NDArray[np.int8], *, folds: int = 5, seed: int = 0) -> Splits:
    """Stratified folds over sorted study ids; raises `InputError` when there are fewer studies than folds.

    A stratum is: any severe canal grade or none, crossed with the study's number of moderate-or-worse grades
    in three equal groups. Both drive the metric.
    """
    from sklearn.model_selection import (
        StratifiedKFold,
    )  # half a second that prediction, which only reads splits, spares

    if not 2 <= folds <= len(study_ids):
        raise InputError(
            f"{folds} folds of {counted(len(study_ids), 'study')}: expected at least 2 folds and at least one "
            "study per fold"
        )
    order = np.argsort(np.asarray(study_ids))
    ids, grades = [study_ids[i] for i in order], grades[order]
    canal = [f.index for f in findings_of(Condition.CANAL)]
    any_severe = (grades[:, canal] == Severity.SEVERE).any(1).astype(int)
    burden = (grades >= Severity.MODERATE).sum(1)
    third = np.searchsorted(np.quantile(burden, [1 / 3, 2 / 3]), burden, side="left")
    # A stratum with fewer studies than folds cannot be spread: it joins the other thirds, then all others.
    stratum = _merged(any_severe * 4 + third, any_severe * 4 + 3, folds)
    stratum = _merged(stratum, np.full_like(stratum, 8), folds)
    splitter = StratifiedKFold(n_splits=folds, shuffle=True, random_state=seed)
    held_out = [tuple(sorted(ids[i] for i in test)) for _, test in splitter.split(ids, stratum)]
    return Splits(seed=seed, folds=tuple(held_out))


def chosen_splits(data: Challenge, run: Path, given: Path | None, *, resume: bool) -> Splits:
    """The splits of a training command: the given file, else those of the resumed run, else the data's seeded default.

    Both stages follow this rule, so that they hold out the same studies even without a file.
    """
    if given is not None:
        return read_splits(given)
    if resume and (run / "splits.json").is_file():
        return read_splits(run / "splits.json")
    return make_splits(data.study_ids, data.grades_of(data.study_ids))


def parse_folds(given: str | Sequence[str] | None, splits: Splits) -> list[int]:
    """The folds that one or several `--fold` name, all of them for None.

    Raises:
      InputError: unless each is `all` or one of the folds.
    """
    count = len(splits.folds)
    folds: set[int] = set()
    for text in ["all"] if given is None else [given] if isinstance(given, str) else given:
        if text != "all" and not (text.isdigit() and int(text) < count):
            raise InputError(f"--fold {text!r}: expected all or a number from 0 to {count - 1}")
        folds |= set(range(count)) if text == "all" else {int(text)}
    return sorted(folds)


def _merged(stratum: NDArray[np.intp], wider: NDArray[np.intp], folds: int) -> NDArray[np.intp]:
    """Replaces every wider group that contains a too small stratum by one stratum."""
    counts = np.bincount(stratum, minlength=9)
    too_small = np.isin(wider, wider[counts[stratum] < folds])
    return np.where(too_small, wider, stratum)


class SplitsFile(Document):
    """splits.json: the ids of the studies that each fold holds out."""

    version: Literal[1]
    seed: int
    folds: list[list[str | int | float]]  # a float is refused as an id, in the words that say how it came about


def write_splits(path: Path, splits: Splits) -> None:
    write_json(path, {"version": VERSION, "seed": splits.seed, "folds": [list(f) for f in splits.folds]})


def read_splits(path: Path) -> Splits:
    """Raises `InputError` for a file that is missing, or is not a valid splits.json."""
    if not path.exists():
        raise InputError(
            f"{path}: no such file; runs of `lumbar pack` have no splits, so they answer only studies that they were "
            "not trained on: use the run itself for those"
        )
    file = read_document(path, SplitsFile, advice=_AGAIN)
    try:
        folds = [
            tuple(check_identifier(f"{path}: fold {k}: study id", s) for s in fold) for k, fold in enumerate(file.folds)
        ]
        return Splits(seed=file.seed, folds=tuple(folds))
    except ValueError as error:
        raise InputError(f"{path}: {error}; {_AGAIN}") from error
