"""Trains the grader fold by fold: `python -m classify.train DATA RUN ...` or `lumbar classify train`.

RUN/config.toml  run.json  splits.json  state.json (what a resumed run must agree with)
RUN/out_of_fold.csv  noisy_labels.csv           held-out probabilities, and the grades they contradict
RUN/fold<K>/{model.safetensors, model.json, log.csv, probabilities.csv}
RUN/cache/  RUN/fold<K>/progress/                crops and unfinished folds; gone when training has ended
"""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from classify.config import ClassifyConfig
from classify.crop_cache import CacheJob, CropCache, build_cache, using_cache
from classify.device import pick_device, use_all_cores, use_bf16, use_deterministic
from classify.network.augment import Augmenter
from classify.network.checkpoint import MODEL_FILE, WEIGHTS_FILE, ModelCard, save_card, save_weights
from classify.network.infer import predict_logits
from classify.network.model import SeverityNet, build_model
from classify.noisy_labels import NOISY_FILE, Flags, write_noisy
from classify.predict import trained_folds
from classify.train.held_out import family_mean_loss, fit_calibrations, held_out_table, select_crops
from classify.train.loop import fit
from classify.train.processes import ALONE, Processes
from shared.data.challenge import Challenge
from shared.detections import Localizations
from shared.jitter import Jitter
from shared.labels import Condition
from shared.probabilities import ProbabilityTable, read_probabilities, weighted_prior, write_probabilities
from shared.runtime.errors import InputError
from shared.runtime.files import read_json, write_csv, write_json
from shared.runtime.progress import log
from shared.runtime.run import RUN_FILE, read_run, write_run
from shared.splits import Splits, write_splits

KIND: Final = "classify"
OUT_OF_FOLD_FILE: Final = "out_of_fold.csv"
_STATE_FILE: Final = "state.json"
_PROGRESS: Final = "progress"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldStudies:
    """Studies of one fold; raises `InputError` at construction when one is both trained on and held out."""

    training: tuple[str, ...]
    held_out: tuple[str, ...]

    def __post_init__(self) -> None:
        both = sorted(set(self.training) & set(self.held_out))
        if both:
            raise InputError(f"study {both[0]} is both trained on and held out ({len(both)} such); the splits leak")
        if not self.training or not self.held_out:
            raise InputError(
                f"{len(self.training)} training and {len(self.held_out)} held-out studies: expected some of each"
            )


def train(
    data: Challenge,
    run: Path,
    config: ClassifyConfig,
    *,
    folds: Sequence[int],
    splits: Splits,
    localizations: Localizations | None = None,
    jitter: Mapping[Condition, Jitter] | None = None,
    conditions: tuple[Condition, ...] = tuple(Condition),
    without: Flags = frozenset(),
    device: str = "auto",
    workers: int = 1,
    resume: bool = False,
    keep_cache: bool = False,
    processes: Processes = ALONE,
) -> None:
    """Trains the given folds into `run`, which exists (see `shared.runtime.files.prepare_output`).

    Args:
      localizations: out-of-fold points of stage 1 under the same splits. Held-out studies are scored at these alone;
        training crops without one lie at annotated points. None: annotated points everywhere.
      jitter: measured error of localizations per condition; the config's assumption for those not given, and at least
        that where it says so.
      conditions: families to train; the others stay with the prior.
      without: grades not to train on, of `noisy_labels.csv` of an earlier run; they still count when scoring.
      resume: continue a run of the same data, config, splits and points; finished folds are kept.
      keep_cache: leave the cached crops in `run` for another call.
      processes: all that train this run together; this one trains its share of the folds.

    Raises:
      InputError: as `check_inputs`, for a device that is not there, a run of something else, or a full disk.
    """
    started = time.time()
    studies = check_inputs(data, splits, folds, localizations)
    chosen = pick_device(device)
    use_all_cores(processes.local_world)
    use_deterministic(chosen)
    job = CacheJob(data=data, config=config.crop, localizations=localizations, conditions=conditions)
    with processes.first_alone():
        _claim_run(run, job, config, splits, jitter, without, resume=resume or processes.rank > 0)
    folds = processes.share(folds)
    if localizations is not None:
        _log_coverage(studies, localizations)
    measured = jitter or {}
    jitters = {c: config.jitter.of_annotated(c, measured.get(c)) for c in Condition}
    shares = {c: config.jitter.share_of_detected(c, measured.get(c)) for c in Condition}
    finished = [k for k in folds if resume and (run / f"fold{k}" / MODEL_FILE).is_file()]
    earlier = read_run(run, expected_kind=KIND) if (run / RUN_FILE).is_file() else {}
    problems = list(earlier.get("problems", ()))
    with using_cache(run / "cache", lock=run / _STATE_FILE, keep=keep_cache):
        if len(finished) < len(folds):
            cache = build_cache(job, run / "cache", workers=workers)
            problems += [text for text in cache.problems if text not in problems]
            for k in (k for k in folds if k not in finished):
                folder = run / f"fold{k}"
                fold = _Fold(
                    k=k, studies=studies[k], config=config, jitter=jitters, detected_share=shares, without=without,
                    folder=folder, device=chosen,
                )  # fmt: skip
                _train_fold(fold, data, cache, conditions, localized=localizations is not None)
    if finished:
        log(f"fold {', '.join(map(str, finished))}: finished before, kept")
    for k in finished:  # a kill may have come between the model card and this
        shutil.rmtree(run / f"fold{k}" / _PROGRESS, ignore_errors=True)
    trained: list[int] = []
    while trained != trained_folds(run):  # another process may finish a fold of this run meanwhile
        trained = trained_folds(run)
        table = pool_folds(run, splits, trained)
        write_probabilities(run / OUT_OF_FOLD_FILE, table)
        noisy = write_noisy(run / NOISY_FILE, table, data.grades_of(table.study_ids))
        write_run(
            run, command="classify train", started=started, kind=KIND, data_fingerprint=data.fingerprint,
            seed=config.train.seed, device=str(chosen), folds=trained, families=[c.short for c in conditions],
            points="localized" if localizations is not None else "annotated", noisy_labels=noisy,
            left_out_labels=len(without), problems=problems,
            earlier_seconds=round(earlier.get("earlier_seconds", 0.0) + earlier.get("seconds", 0.0), 1),
        )  # fmt: skip


def check_inputs(
    data: Challenge, splits: Splits, folds: Sequence[int], localizations: Localizations | None
) -> dict[int, FoldStudies]:
    """The studies of each fold to train.

    Raises:
      InputError: for splits that do not cover the data or leak, an unknown fold, localizations of another data set, or
        a fold whose held-out studies have none.
    """
    splits.check_covers(data.study_ids)
    studies = {k: FoldStudies(training=splits.training(k), held_out=splits.held_out(k)) for k in folds}
    if localizations is None:
        return studies
    strange = sorted(set(localizations) - set(data.study_ids))
    if strange:
        raise InputError(
            f"localizations: study {strange[0]} is not in {data.root} ({len(strange)} such); they are of other data"
        )
    for k, of_fold in studies.items():
        if not any(localizations.get(s) for s in of_fold.held_out):
            raise InputError(
                f"fold {k}: none of its {len(of_fold.held_out)} held-out studies has localizations; train fold {k} of "
                f"stage 1 first (`lumbar localize train DATA RUN --fold {k} --resume`)"
            )
    return studies


def _log_coverage(studies: Mapping[int, FoldStudies], localizations: Localizations) -> None:
    for k, of_fold in studies.items():
        held_out, training = (sum(bool(localizations.get(s)) for s in x) for x in (of_fold.held_out, of_fold.training))
        if held_out < len(of_fold.held_out) or training < len(of_fold.training):
            log(
                f"fold {k}: {held_out} of {len(of_fold.held_out)} held-out and {training} of {len(of_fold.training)} "
                "training studies have localizations; the others get the prior and train at annotated points"
            )


def pool_folds(run: Path, splits: Splits, folds: Sequence[int]) -> ProbabilityTable:
    """Held-out probabilities of the given folds, one row per study.

    Raises:
      InputError: when a fold's file is missing or holds other studies than that fold holds out.
    """
    tables = []
    for k in folds:
        path = run / f"fold{k}" / "probabilities.csv"
        table = read_probabilities(path)
        if sorted(table.study_ids) != sorted(splits.held_out(k)):
            raise InputError(f"{path}: holds other studies than fold {k} of the splits holds out")
        tables.append(table)
    return ProbabilityTable(
        study_ids=tuple(s for t in tables for s in t.study_ids),
        values=np.concatenate([t.values for t in tables]),
        from_model=np.concatenate([t.from_model for t in tables]),
    )


def _claim_run(
    run: Path,
    job: CacheJob,
    config: ClassifyConfig,
    splits: Splits,
    jitter: Mapping[Condition, Jitter] | None,
    without: Flags,
    *,
    resume: bool,
) -> None:
    """Writes what the run is, or checks that a resumed one is the same.

    Raises:
      InputError: when it is not, or when there is something else in the folder to resume.
    """
    state = {
        "config": config.model_dump(mode="json"),
        "crops": job.key,
        "splits": [list(f) for f in splits.folds],
        "jitter": {c.short: [j.in_plane_sd_mm, sorted(j.slice_offsets.items())] for c, j in (jitter or {}).items()},
        "left out labels": sorted(f"{study_id} {finding.column}" for study_id, finding in without),
    }
    path = run / _STATE_FILE
    if resume and path.is_file():
        stored = read_json(path)
        # Compared as JSON: tuples and int keys do not survive it.
        differing = [name for name, value in state.items() if repr(stored.get(name)) != repr(_as_json(value))]
        if differing:
            raise InputError(
                f"{run}: cannot resume, {' and '.join(differing)} changed; use --overwrite or another folder"
            )
    elif resume and any(run.iterdir()):
        raise InputError(f"{run}: cannot resume, this is no run of `classify train`; choose another folder")
    else:
        write_json(path, state)
    config.save(run / "config.toml")
    write_splits(run / "splits.json", splits)


def _as_json(value: object) -> object:
    return json.loads(json.dumps(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fold:
    """One fold's job."""

    k: int
    studies: FoldStudies
    config: ClassifyConfig
    jitter: Mapping[Condition, Jitter]
    detected_share: Mapping[Condition, float]
    without: Flags
    folder: Path
    device: torch.device


def _train_fold(
    fold: _Fold, data: Challenge, cache: CropCache, conditions: tuple[Condition, ...], *, localized: bool
) -> None:
    config, studies = fold.config, fold.studies
    prior = weighted_prior(data.grades_of(studies.training))
    training = select_crops(cache, data, studies.training, graded_only=True, without=fold.without)
    held_out = select_crops(cache, data, studies.held_out, localized_only=localized)
    if not len(training):
        raise InputError(f"fold {fold.k}: no graded crop to train on; are the grades of {data.root} empty?")
    torch.manual_seed(config.train.seed * 1000 + fold.k)
    model = build_model(config.model, slices=config.crop.channels, prior=prior)
    augmenter = Augmenter(
        crop=config.crop, augment=config.augment, jitter=fold.jitter, detected_share=fold.detected_share
    )
    bf16 = use_bf16(config.train.amp, fold.device)

    def logits_of(network: SeverityNet, jitter: Augmenter | None = None) -> NDArray[np.float64]:
        return predict_logits(network, held_out, config.crop, device=fold.device, bf16=bf16, augmenter=jitter)

    def evaluate(network: SeverityNet) -> float:
        return family_mean_loss(logits_of(network), held_out)

    network, history = fit(
        model, training, config, augmenter, evaluate, fold=fold.k, progress=fold.folder / _PROGRESS, device=fold.device
    )
    logits = logits_of(network)
    # Prediction has no true points: its confidence is fitted at points as far off as stage 1's.
    off_center = logits if localized else logits_of(network, augmenter.only_jitter())
    calibration = fit_calibrations(off_center, held_out, config.calibration)
    table = held_out_table(
        logits, held_out, calibration, prior, study_ids=studies.held_out, rows=cache.rows_of(studies.held_out)
    )
    write_probabilities(fold.folder / "probabilities.csv", table)
    write_csv(fold.folder / "log.csv", pd.DataFrame([asdict(h) for h in history]).drop(columns="seconds"))
    save_weights(fold.folder / WEIGHTS_FILE, network.state_dict())
    card = ModelCard(
        config=config, families=conditions, prior=prior, calibration=calibration, fold=fold.k,
        data_fingerprint=data.fingerprint, held_out_points="localized" if localized else "annotated",
    )  # fmt: skip
    save_card(fold.folder, card)
    shutil.rmtree(fold.folder / _PROGRESS, ignore_errors=True)
