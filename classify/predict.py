"""Grades studies with the trained folds: crops at localizations in, 25 probability rows out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from classify.crop_cache import cut_crops
from classify.crops import CropSpec
from classify.device import pick_device, use_all_cores, use_bf16, use_deterministic
from classify.network.checkpoint import MODEL_FILE, ModelCard, load_card, load_model
from classify.network.model import SeverityNet
from classify.network.tta import network_inputs
from classify.samples import family_and_level
from shared.data.challenge import Challenge
from shared.detections import Localization, Localizations
from shared.labels import FINDINGS, Condition, Finding
from shared.mirror.correct import as_shown
from shared.probabilities import ProbabilityTable, floored, write_probabilities, write_submission
from shared.runtime.errors import InputError
from shared.runtime.progress import track
from shared.runtime.run import read_run, write_run
from shared.splits import read_splits
from shared.study import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """One study's probabilities.

    Attributes:
      values: [25, 3].
      from_model: [25]; False where the training prior stands in.
      problems: crops that could not be cut, one message each.
    """

    values: NDArray[np.float64]
    from_model: NDArray[np.bool_]
    problems: tuple[str, ...] = ()


class Grader:
    """The trained folds of a run. Probabilities are the mean over folds, each with its own calibration.

    With `tta` they are also the mean over views of each crop (`classify.network.tta`).
    """

    def __init__(
        self, members: Sequence[tuple[ModelCard, SeverityNet]], device: torch.device, *, tta: bool = False
    ) -> None:
        if not members:
            raise ValueError("a grader needs at least one fold")
        self._members = tuple(members)
        self._device = device
        self._tta = tta
        first = members[0][0]
        # Shifted and turned views need a border, slices beyond the crop's own none of them.
        self._crop = first.config.crop.model_copy(update={"margin_slices": 0} | ({} if tta else {"margin_px": 0}))
        self._bf16 = use_bf16(first.config.train.amp, device)
        for card, _ in members[1:]:
            if card.config.crop != first.config.crop or card.data_fingerprint != first.data_fingerprint:
                raise InputError(
                    f"folds {first.fold} and {card.fold} were trained on other data or crops; train them in one run"
                )
        self.prior: NDArray[np.float64] = floored(np.mean([card.prior for card, _ in members], axis=0))  # [25, 3]
        self.families: frozenset[Condition] = frozenset(first.families)

    @classmethod
    def load(cls, run: Path, *, folds: Sequence[int] | None = None, device: str = "auto", tta: bool = False) -> Self:
        """Loads the given folds of a run, or all that are trained.

        Raises:
          InputError: for a missing, empty or unfinished run, a missing fold, or a checkpoint of another version.
        """
        read_run(run, expected_kind="classify")
        there = trained_folds(run)
        missing = sorted(set(folds or ()) - set(there))
        if missing or not there:
            raise InputError(f"{run}: fold {missing[0] if missing else 0} is not trained; trained: {there or 'none'}")
        chosen = pick_device(device)
        use_all_cores()
        use_deterministic(chosen)
        members = []
        for k in there if folds is None else folds:
            card = load_card(run / f"fold{k}")
            members.append((card, load_model(run / f"fold{k}", card, chosen)))
        return cls(members, chosen, tta=tta)

    @property
    def data_fingerprint(self) -> str:
        """Of the data the folds were trained on."""
        return self._members[0][0].data_fingerprint

    @property
    def unmirror(self) -> bool:
        """Whether crops show what an axial series' picture shows, or what its header says."""
        return self._crop.unmirror

    @property
    def folds(self) -> tuple[int, ...]:
        return tuple(card.fold for card, _ in self._members)

    def grade(self, study: Study, localizations: Mapping[Finding, Localization]) -> Graded:
        """Probabilities of the 25 findings, none below `shared.probabilities.FLOOR`.

        The crops believe the planes of `study`; `shared.mirror` corrects them unless `unmirror` is off.
        A finding without a localization, of an untrained family, or whose crop cannot be cut gets the training prior.
        """
        points = {f: point for f, point in localizations.items() if f.condition in self.families}
        crops, problems = cut_crops(study, points, lambda f: CropSpec.cached(self._crop, f))
        values, from_model = self.prior.copy(), np.zeros(len(FINDINGS), bool)
        if crops:
            findings = np.array([f.index for f in crops], dtype=np.intp)
            values[findings] = floored(self._predict(np.stack(list(crops.values())), findings))
            from_model[findings] = True
        return Graded(values=values, from_model=from_model, problems=tuple(problems))

    @torch.no_grad()
    def _predict(self, crops: NDArray[np.uint8], findings: NDArray[np.intp]) -> NDArray[np.float64]:
        """Mean probabilities over folds and views. # [b, cached channels, cached px, cached px], [b] -> [b, 3]"""
        inputs = network_inputs(torch.from_numpy(crops).to(self._device), findings, self._crop, tta=self._tta)
        family, level = family_and_level(findings, self._device)
        total = np.zeros((len(crops), 3))
        for card, model in self._members:
            for x in inputs:
                with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
                    logits = model(x, family, level).double().cpu().numpy()
                total += [card.calibration[FINDINGS[f].condition](row) for f, row in zip(findings, logits, strict=True)]
        return total / (len(self._members) * len(inputs))


def trained_folds(run: Path) -> list[int]:
    """Folds of a run that have finished training, ascending."""
    return sorted(int(p.parent.name.removeprefix("fold")) for p in run.glob(f"fold[0-9]*/{MODEL_FILE}"))


def predict_studies(
    grader: Grader, data: Challenge, study_ids: Iterable[str], localizations: Localizations
) -> tuple[ProbabilityTable, tuple[str, ...]]:
    """Probabilities of many studies, and what could not be read of them. A bad study never stops the others."""
    ids = tuple(study_ids)
    graded: list[Graded] = []
    problems: list[str] = []
    for study_id in track(ids, "grading"):
        loaded = data.load_study(study_id)
        shown = as_shown(loaded.study, look=grader.unmirror)
        result = grader.grade(shown.study, localizations.get(study_id, {}))
        graded.append(result)
        problems += [*loaded.problems, *shown.problems, *result.problems]
    table = ProbabilityTable(
        study_ids=ids,
        values=np.array([g.values for g in graded]).reshape(-1, len(FINDINGS), 3),
        from_model=np.array([g.from_model for g in graded], dtype=bool).reshape(-1, len(FINDINGS)),
    )
    return table, tuple(problems)


def predict_out_of_fold(
    run: Path, data: Challenge, localizations: Localizations, *, device: str = "auto", tta: bool = False
) -> tuple[ProbabilityTable, tuple[str, ...]]:
    """Probabilities of training studies, each by the fold that held it out; studies of untrained folds are left out.

    Raises:
      InputError: when the run's splits are not of these data, or as `Grader.load`.
    """
    splits = read_splits(run / "splits.json")
    splits.check_covers(data.study_ids)
    tables: list[ProbabilityTable] = []
    problems: list[str] = []
    for k in trained_folds(run):
        grader = Grader.load(run, folds=[k], device=device, tta=tta)
        table, bad = predict_studies(grader, data, splits.held_out(k), localizations)
        tables.append(table)
        problems += bad
    if not tables:
        raise InputError(f"{run}: no fold is trained")
    pooled = ProbabilityTable(
        study_ids=tuple(s for t in tables for s in t.study_ids),
        values=np.concatenate([t.values for t in tables]),
        from_model=np.concatenate([t.from_model for t in tables]),
    )
    return pooled, tuple(problems)


def write_predictions(
    out: Path,
    table: ProbabilityTable,
    problems: Sequence[str],
    *,
    row_ids: Sequence[str] | None,
    started: float,
    run: Path,
) -> None:
    """Writes OUT/{probabilities.csv, submission.csv, run.json}."""
    write_probabilities(out / "probabilities.csv", table)
    write_submission(out / "submission.csv", table, row_ids)
    write_run(
        out, command="classify predict", started=started, kind="classify-prediction", studies=len(table.study_ids),
        prior_rows=int((~table.from_model).sum()), problems=list(problems), classifier=run.name,
    )  # fmt: skip
