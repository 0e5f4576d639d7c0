"""What prediction needs of a trained run, without anything of its studies or of the machine that trained it.

Packed are the weights, what was fitted beside them, and the resolved config. Left out are the splits and the state,
which list the training studies, every table of points and probabilities, logs, and what run.json says beyond the facts
that are named here. Starting weights that were given as a file are a path; the config then says `file`.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import tomlkit

from classify.config import ClassifyConfig
from localize.config import LocalizeConfig
from localize.localizer import CALIBRATION_FILE, CONFIG_FILE, PRIOR_FILE, read_folds
from pipelines.pack.archive import Content
from shared.runtime.run_folder import FAST_FOLDER, RUN_FILE, read_run, trained_folds

_FACTS: Final = (
    "kind", "version", "git_commit", "data_fingerprint", "seed", "seeds", "unmirror", "points", "families", "folds"
)  # fmt: skip
_NAMED_WEIGHTS: Final = ("none", "imagenet", "coco")
_FROM_FILE: Final = "file"

C = TypeVar("C", LocalizeConfig, ClassifyConfig)


def localizer_files(run: Path) -> dict[str, Content]:
    """The files of a finished run of stage 1 by their path within it; raises `InputError` as `read_folds` does."""
    files: dict[str, Content] = {}
    for number, fold in read_folds(run).items():
        for path in (*fold.models.values(), *(run / f"fold{number}" / name for name in (PRIOR_FILE, CALIBRATION_FILE))):
            files[f"fold{number}/{path.name}"] = path
    config = _without_paths(LocalizeConfig.load(run / CONFIG_FILE))
    return files | {RUN_FILE: _facts(run, "localize"), CONFIG_FILE: _toml(config)}


def classifier_files(run: Path, *, fast: bool = False) -> dict[str, Content]:
    """The files of a finished run of stage 2 by their path within it; its fast grader is among them if it has one.

    Args:
      fast: leaves out the folds, which the fast grader stands for.

    Raises:
      InputError: when the run is missing or unfinished, or a model card is damaged.
    """
    from classify.network.checkpoint import MODEL_FILE, WEIGHTS_FILE, ModelCard, load_card, save_card
    from classify.network.fast import load_fast_card, save_fast_card

    files: dict[str, Content] = {}

    def add(part: str, card: ModelCard, save: Callable[[Path, ModelCard], None]) -> None:
        config = _without_paths(card.config)
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder), replace(card, config=config))
            files[f"{part}/{MODEL_FILE}"] = (Path(folder) / MODEL_FILE).read_bytes()
        files[f"{part}/{WEIGHTS_FILE}"] = run / part / WEIGHTS_FILE
        files[CONFIG_FILE] = _toml(config)

    if fast or (run / FAST_FOLDER / MODEL_FILE).is_file():
        own = load_fast_card(run)
        add(FAST_FOLDER, own.network, lambda folder, card: save_fast_card(folder, replace(own, network=card)))
    for number in trained_folds(run, read_run(run, expected_kind="classify")) if not fast else ():
        add(f"fold{number}", load_card(run / f"fold{number}"), save_card)
    return files | {RUN_FILE: _facts(run, "classify")}


def _without_paths(config: C) -> C:
    if config.model.weights in _NAMED_WEIGHTS:
        return config
    return config.model_copy(update={"model": config.model.model_copy(update={"weights": _FROM_FILE})})


def _toml(config: LocalizeConfig | ClassifyConfig) -> bytes:
    return tomlkit.dumps(config.model_dump(mode="json", exclude_none=True)).encode()


def _facts(run: Path, kind: str) -> bytes:
    facts: Mapping[str, Any] = read_run(run, expected_kind=kind)
    return (json.dumps({key: facts[key] for key in _FACTS if key in facts}, indent=2) + "\n").encode()
