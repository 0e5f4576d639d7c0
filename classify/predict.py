"""Grades studies with the trained folds: crops at localizations in, 25 rows of probabilities per study out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from classify.crop_cache import cut_crops
from classify.crops import CropSpec
from classify.device import pick_device, use_all_cores, use_bf16, use_deterministic
from classify.network.checkpoint import ModelCard, load_card, load_model, run_folder
from classify.network.fast import check_fast, load_fast_card, seen_by_fast
from classify.reasons import prior_reasons
from shared.backends.backend import TORCH, Backend
from shared.data.challenge import Challenge
from shared.data.identity import study_key
from shared.data.unpack import open_input
from shared.detections import Localization, Localizations
from shared.labels import FINDINGS, Condition, Finding
from shared.mirror.correct import as_shown
from shared.out_of_fold import FoldModels, OutOfFold, fold_by_study
from shared.probabilities.files import write_probabilities, write_submission
from shared.probabilities.reasons import PriorReason, PriorReasons, error_behind, is_from_model
from shared.probabilities.table import ProbabilityTable, floored
from shared.runtime.errors import InputError
from shared.runtime.problems import unreadable, write_failures
from shared.runtime.progress import log, track
from shared.runtime.run_folder import FAST_FOLDER, RunFolder, trained_digest, write_run
from shared.runtime.unfinished import Results, digest_of
from shared.splits import read_splits
from shared.study import LoadedStudy, Study

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from classify.network.model import SeverityNet

    # Crops, families and levels to logits, as `classify.network.model.SeverityNet.forward`.
    Network = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyGrades:
    """The answer for one study.

    Attributes:
      submission: [25, 3], with the metric's weights.
      reasons: the findings that the training prior answers, each with the reason.
      problems: one message for each crop that could not be cut.
    """

    submission: NDArray[np.float64]
    reasons: PriorReasons
    problems: tuple[str, ...] = ()

    @property
    def from_model(self) -> NDArray[np.bool_]:
        """Which findings the model answers. [25]"""
        return is_from_model(self.reasons)


class Classifier:
    """The trained folds of a run. Probabilities are the mean over folds, each with its own calibration.

    With `tta` they are also averaged over variants of each crop (`classify.network.tta`).
    """

    def __init__(
        self, members: "Sequence[tuple[ModelCard, Network]]", device: "torch.device", *, tta: bool = False
    ) -> None:
        if not members:
            raise ValueError("a classifier needs at least one fold")
        self._members, self._device, self._tta = tuple(members), device, tta
        first = members[0][0]
        # Shifted and rotated variants need the border in pixels. Nothing here needs the margin in slices.
        self._crop = first.config.crop.model_copy(update={"margin_slices": 0} | ({} if tta else {"margin_px": 0}))
        self._bf16 = use_bf16(first.config.train.amp, device)
        for card, _ in members[1:]:
            if (card.config.crop, card.unmirror, card.data_fingerprint) != (
                first.config.crop, first.unmirror, first.data_fingerprint,
            ):  # fmt: skip
                raise InputError(
                    f"folds {first.fold} and {card.fold} were trained on different data or crops; train them in one run"
                )
        self.prior: NDArray[np.float64] = floored(np.mean([card.prior for card, _ in members], axis=0))  # [25, 3]
        self.families: frozenset[Condition] = frozenset(first.families)
        self.unmirror: bool = first.unmirror

    @classmethod
    def load(
        cls, run: Path, *, folds: Sequence[int] | None = None, device: str = "auto", tta: bool = False,
        backend: Backend = TORCH, fast: bool = False,
    ) -> Self:  # fmt: skip
        """Loads the given folds of a run, or all trained folds.

        Args:
          backend: what computes the networks.
          fast: loads the network that `lumbar classify distill` made of all folds, in place of any of them.

        Raises:
          InputError: for a missing, empty or unfinished run, a missing fold, or a checkpoint of another version; for a
            missing fast grader, or one that was made of other folds; and as `Backend.place` and `Backend.network`.
        """
        folder = run_folder(run)
        folder.facts()
        chosen = pick_device(device)
        use_all_cores()
        use_deterministic(chosen)
        if fast:
            cards = [(run / FAST_FOLDER, load_fast_card(run).network)]
        else:
            cards = [(folder.fold(k), load_card(folder.fold(k))) for k in _loadable(folder, folds)]
        if not backend.is_torch:
            from classify.network.exported import HOST, load_exported

            place = backend.place(device, str(chosen))
            return cls([(card, load_exported(path, backend, place)) for path, card in cards], HOST, tta=tta)
        bf16 = use_bf16(cards[0][1].config.train.amp, chosen)
        return cls([(card, load_predicting(path, card, chosen, bf16=bf16)) for path, card in cards], chosen, tta=tta)

    def grade(self, study: Study, localizations: Mapping[Finding, Localization]) -> StudyGrades:
        """Probabilities of the 25 findings, none below `shared.probabilities.table.FLOOR`.

        A finding gets the training prior if it has no localization, its family is not trained, or its crop cannot be
        cut. Crops are cut by the planes of `study`; pass it through `shared.mirror.correct.as_shown` if `unmirror`.
        """
        points = {f: point for f, point in localizations.items() if f.condition in self.families}
        cut = cut_crops(study, points, lambda f: CropSpec.cached(self._crop, f))
        submission = self.prior.copy()
        if cut.crops:
            findings = np.array([f.index for f in cut.crops], dtype=np.intp)
            submission[findings] = floored(self._predict(np.stack(list(cut.crops.values())), findings))
        reasons = prior_reasons(study, localizations, cut.uncut, self.families)
        return StudyGrades(submission=submission, reasons=reasons, problems=cut.problems)

    def _predict(self, crops: NDArray[np.uint8], findings: NDArray[np.intp]) -> NDArray[np.float64]:
        """Mean probabilities [b, 3] over folds and variants of crops [b, cached channels, cached px, cached px]."""
        import torch

        from classify.network.tta import network_inputs
        from classify.samples import family_and_level

        inputs = network_inputs(torch.from_numpy(crops).to(self._device), findings, self._crop, tta=self._tta)
        family, level = family_and_level(findings, self._device)
        total = np.zeros((len(crops), 3))
        for card, model in self._members:
            for x in inputs:
                with torch.no_grad(), torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
                    logits = model(x, family, level).cpu().double().numpy()
                total += [card.calibration[FINDINGS[f].condition](row) for f, row in zip(findings, logits, strict=True)]
        return total / (len(self._members) * len(inputs))


def load_predicting(folder: Path, card: ModelCard, device: "torch.device", *, bf16: bool = False) -> "SeverityNet":
    """A fold's network as torch predicts with it; `bf16` as in `classify.network.model.for_prediction`."""
    from classify.network.model import for_prediction

    return for_prediction(load_model(folder, card, device), bf16=bf16)


def _loadable(folder: RunFolder, folds: Sequence[int] | None) -> Sequence[int]:
    """The folds to load, all of which are trained; all trained folds for None."""
    trained = folder.finished_folds()
    missing = sorted(set(folds or ()) - set(trained))
    if not trained and (folder.path / FAST_FOLDER).is_dir():
        raise InputError(f"{folder.path}: holds only the fast grader of the run, not its folds; give --fast")
    if missing or not trained:
        raise InputError(
            f"{folder.path}: fold {missing[0] if missing else 0} is not trained; trained: {trained or 'none'}"
        )
    return trained if folds is None else folds


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictRequest:
    """Studies to grade with a run.

    Training studies are graded by the fold that held them out, at out-of-fold points; studies of untrained folds are
    left out. Other studies are graded by the mean of all folds.

    Attributes:
      data: the part of a challenge directory to grade.
      run: of `lumbar classify train`.
      points: localizations of the studies; `OutOfFold` for the training part.
      device: any form of `--device`.
      tta: whether to average over variants of each crop.
      fast: whether the run's fast grader answers in place of its folds; not for the training part.
      backend: what computes the networks.
      fold_of: the fold that held each training study out; None when the studies are new.

    Raises:
      InputError: for an unfinished run, points of other data, or training studies of other splits.
      TypeError: for points of the training part that are not `OutOfFold`.
    """

    data: Challenge
    run: Path
    points: Localizations | OutOfFold
    device: str = "auto"
    tta: bool = False
    fast: bool = False
    backend: Backend = TORCH
    fold_of: Mapping[str, int] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        folder, fold_of = run_folder(self.run), None
        folder.facts()
        if self.fast:
            check_fast(self.run)
            if self.data.part == "train":
                raise InputError(seen_by_fast(self.run))
        if self.data.part == "train":
            if not isinstance(self.points, OutOfFold):
                raise TypeError(f"points of training studies: expected OutOfFold, got {type(self.points).__name__}")
            splits = read_splits(self.run / "splits.json")
            splits.check_covers(self.data.study_ids)
            self.points.check_fits(self.data, splits)
            fold_of = fold_by_study(splits, folder.finished_folds())
        object.__setattr__(self, "fold_of", fold_of)
        if not set(self.data.study_ids) & set(self.localizations):
            raise InputError(
                f"--localizations: none of the {len(self.data.study_ids)} {self.data.part} studies of {self.data.root} "
                "has any; they are of other data"
            )
        if not self.fast and not folder.finished_folds():
            raise InputError(f"{self.run}: no fold is trained; train one with `lumbar classify train`")

    @property
    def localizations(self) -> Localizations:
        return self.points.localizations if isinstance(self.points, OutOfFold) else self.points

    @property
    def study_ids(self) -> tuple[str, ...]:
        return self.data.study_ids if self.fold_of is None else tuple(self.fold_of)

    @property
    def state(self) -> dict[str, Any]:
        """What a resumed call must agree with. The files of each study are compared one by one."""
        points = [
            [study_id, *((f.column, astuple(x)) for f, x in found.items())]
            for study_id, found in sorted(self.localizations.items())
        ]
        return {
            "data": digest_of(self.data.part, self.study_ids, self.data.fingerprint, self.data.submission_row_ids),
            "classifier": trained_digest(self.run, fast=self.fast),
            "localizations": digest_of(points),
            "device": str(pick_device(self.device)),
            "tta": self.tta,
            "backend": self.backend.name,
        }

    def models(self) -> FoldModels[Classifier]:
        """The classifier for each study."""
        return FoldModels(self._load, self.fold_of)

    def _load(self, folds: Sequence[int] | None) -> Classifier:
        log(
            "loading the fast grader"
            if self.fast
            else "loading the networks" + ("" if folds is None else f" of fold {', '.join(map(str, folds))}")
        )
        return Classifier.load(
            self.run, folds=folds, device=self.device, tta=self.tta, fast=self.fast, backend=self.backend
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeRecord:
    """What is kept of a graded study while a command runs: the answer of `predict_studies`, in types that JSON has."""

    submission: tuple[tuple[float, float, float], ...]
    reasons: tuple[tuple[Finding, PriorReason], ...]
    problems: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.submission) != len(FINDINGS):
            raise ValueError(f"expected {len(FINDINGS)} rows, got {len(self.submission)}")


def predict_studies(
    models: Callable[[str], Classifier], data: Challenge, study_ids: Iterable[str], localizations: Localizations,
    kept: Results[GradeRecord] | None = None,
) -> tuple[ProbabilityTable, tuple[str, ...]]:  # fmt: skip
    """Grades studies, each by `models(study_id)`; returns their probabilities and what could not be read.

    Args:
      kept: studies that an interrupted call has graded; all others are added.
    """
    ids = tuple(study_ids)
    graded: list[GradeRecord] = []
    for study_id in track(ids, "grading"):
        loaded = data.load_study(study_id)
        grade = partial(_graded, models, loaded, localizations.get(study_id, {}))
        graded.append(
            grade() if kept is None else kept.fetch(study_id, study_key(loaded, open_input(data.root)), grade)
        )
    reasons = {s: dict(g.reasons) for s, g in zip(ids, graded, strict=True)}
    table = ProbabilityTable(
        study_ids=ids,
        submission=np.array([g.submission for g in graded]).reshape(-1, len(FINDINGS), 3),
        from_model=np.array([is_from_model(r) for r in reasons.values()], dtype=bool).reshape(-1, len(FINDINGS)),
        reasons=reasons,
    )
    return table, tuple(text for g in graded for text in g.problems)


def _graded(
    models: Callable[[str], Classifier], loaded: LoadedStudy, points: Mapping[Finding, Localization]
) -> GradeRecord:
    classifier = models(loaded.study.study_id)
    shown = as_shown(loaded.study, look=classifier.unmirror)
    result = classifier.grade(shown.study, points)
    return GradeRecord(
        submission=tuple((float(a), float(b), float(c)) for a, b, c in result.submission),
        reasons=tuple(result.reasons.items()),
        problems=(*loaded.problems, *shown.problems, *result.problems),
    )


def write_predictions(
    request: PredictRequest, out: Path, table: ProbabilityTable, problems: Sequence[str], *, started: float
) -> None:
    """Writes OUT/{probabilities.csv, submission.csv, failures.csv, run.json}."""
    write_probabilities(out / "probabilities.csv", table)
    write_failures(out, [unreadable(s) for s, reasons in table.reasons.items() if error_behind(reasons) is not None])
    write_submission(
        out / "submission.csv", table, request.data.submission_row_ids if request.fold_of is None else None
    )
    write_run(
        out, command="classify predict", started=started, kind="classify-prediction", studies=len(table.study_ids),
        prior_rows=table.prior_rows, prior_reasons=table.reason_counts, problems=list(problems),
        classifier=request.run.name, fast=request.fast, backend=request.backend.name,
    )  # fmt: skip
