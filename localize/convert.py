"""`lumbar localize convert`: a run of an earlier release, whose detectors are pickles, in today's format."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from localize.config import LocalizeConfig
from localize.localizer import KIND, detector_file
from shared.labels import Level, View
from shared.runtime.errors import InputError
from shared.runtime.files import prepare_output, write_json
from shared.runtime.run_folder import RUN_FILE, read_run, sha256_of, trained_folds

if TYPE_CHECKING:
    from localize.detector.checkpoint import Checkpoint

_OF_RUN: Final = ("config.toml", "errors.json", "localizations.csv", "splits.json", "state.json")
_OF_FOLD: Final = (
    "calibration.json", "chain.json", "detections.csv", "localizations.csv", "metrics.json", "numbering.csv",
)  # fmt: skip


def convert(run: Path, out: Path, *, overwrite: bool = False) -> None:
    """Copies a finished run into `out`, with its detectors as safetensors files; the results stay the same.

    Raises:
      InputError: when the run is unfinished, its detectors are no .pt files, or one is damaged or not the one that
        run.json names.
    """
    manifest = read_run(run, expected_kind=KIND)
    architecture = LocalizeConfig.load(run / "config.toml").model.architecture
    detectors = {
        fold: _detectors(run, manifest["folds"][str(fold)]["models"], fold) for fold in trained_folds(run, manifest)
    }
    from localize.detector.weights_file import write_detector
    from localize.detector.yolo.network import load_network

    prepare_output(out, overwrite=overwrite, inputs=[run])
    folds = {}
    for fold, of_views in detectors.items():
        target = out / f"fold{fold}"
        _copy(run / target.name, target, _OF_FOLD)
        for view, checkpoint in of_views.items():
            write_detector(detector_file(target, view), architecture, checkpoint.load(checkpoint.tensors))
            load_network(detector_file(target, view))
        folds[str(fold)] = {"models": {view.slug: sha256_of(detector_file(target, view)) for view in of_views}}
    _copy(run, out, _OF_RUN)
    write_json(out / RUN_FILE, {"schema": "run-localize-1", **manifest, "folds": folds})


def _detectors(run: Path, digests: dict[str, str], fold: int) -> "dict[View, Checkpoint]":
    from localize.detector.checkpoint import Checkpoint

    found: dict[View, Checkpoint] = {}
    for slug, digest in digests.items():
        view = View.from_slug(slug)
        path = run / f"fold{fold}" / f"{view.slug}.pt"
        if detector_file(path.parent, view).is_file():
            raise InputError(f"{run}: its detectors have today's format already; use it as it is")
        if sha256_of(path) != digest:
            raise InputError(f"{path}: SHA-256 differs from {run / RUN_FILE}; the file was changed or replaced")
        found[view] = Checkpoint(path)
        if found[view].names != {level.value: level.slug for level in Level}:
            raise InputError(f"{path}: expected a detector of {len(Level)} levels")
        found[view].load(found[view].tensors)  # raises before OUT is emptied
    return found


def _copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
