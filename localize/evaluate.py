"""`lumbar localize evaluate`: measures a run and writes report.json and report.html."""

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from localize.config import LocalizeConfig
from localize.detector.export import ExportRequest, export_view
from localize.detector.yolo.library import torch_device
from localize.localizer import KIND, chosen_folds, detector_file
from localize.measures import read_maps
from localize.predict import DETECTIONS_FILE, NUMBERING_FILE, PredictRequest, predict, write_predictions
from localize.report import Evaluation, write_report
from shared.data.challenge import Challenge, read_points
from shared.data.source import challenge_source
from shared.detections import read_detections, read_localizations
from shared.figures.training import read_curves
from shared.labels import View
from shared.numbering import read_numbering
from shared.out_of_fold import LOCALIZATIONS_FILE, fold_by_study
from shared.runtime.documents import OpenDocument, read_document
from shared.runtime.errors import InputError
from shared.runtime.files import prepare_output
from shared.runtime.progress import log
from shared.runtime.run_folder import read_run
from shared.splits import read_splits

MANIFEST_FILE: Final = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRequest:
    """What to measure: the train part of a challenge directory out of fold or, with `truth`, its test part.

    Attributes:
      data: challenge directory.
      run: folder of a finished `lumbar localize train`.
      truth: folder with test_label_coordinates.csv.
      manifest: names the traps that a generator planted; manifest.json in `truth` by default, if it exists.
      folds: the trained folds to measure; all of them by default.
      overrides: changes to how the test part is detected and decoded.
      device: any form of `--device`.

    Raises:
      InputError: for overrides without `truth`.
    """

    data: Path
    run: Path
    truth: Path | None = None
    manifest: Path | None = None
    folds: Collection[int] | None = None
    overrides: Sequence[str] = ()
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.truth is None and self.overrides:
            raise InputError(
                "--set: has no effect on the train part, whose stored localizations are measured; leave it out or "
                "pass --truth to localize and measure a test part"
            )
        if self.manifest is None and self.truth is not None and (self.truth / MANIFEST_FILE).is_file():
            object.__setattr__(self, "manifest", self.truth / MANIFEST_FILE)


def evaluate_run(request: EvaluateRequest, out: Path, *, overwrite: bool = False) -> Path:
    """Measures a run and writes the report; returns the path of its page.

    A study that the train part's folds held out counts whether or not anything was localized in it. OUT is created, or
    emptied with `overwrite`, once the inputs are known to be right.

    Raises:
      InputError: when the run is unfinished or belongs to other data, or true points are missing.
    """
    traps = {} if request.manifest is None else read_traps(request.manifest)
    inputs = [request.data, request.run, request.truth, request.manifest]
    if request.truth is None:
        evaluation = _training_part(request)
        prepare_output(out, overwrite=overwrite, inputs=inputs)
    else:
        data = _test_part(request, request.truth)
        prediction = PredictRequest(
            run=request.run, source=challenge_source(data), folds=request.folds, overrides=request.overrides,
            device=request.device,
        )  # fmt: skip
        prepare_output(out, overwrite=overwrite, inputs=inputs)
        evaluation = _evaluate_test_part(prediction, data, out)
    return write_report(out, replace(evaluation, traps=traps))


def _training_part(request: EvaluateRequest) -> Evaluation:
    """The held-out studies as the run localized them."""
    run, trained = request.run, chosen_folds(request.run, request.folds)
    data = Challenge.open(request.data)
    if data.fingerprint != read_run(run, expected_kind=KIND)["data_fingerprint"]:
        raise InputError(f"{run}: was trained on other data than {request.data}; pass --truth to measure a test part")
    held_out = fold_by_study(read_splits(run / "splits.json"), trained)
    folders = {k: run / f"fold{k}" for k in trained}
    return Evaluation(
        data=replace(data, points={s: p for s, p in data.points.items() if s in held_out}),
        localizations=read_localizations(run / LOCALIZATIONS_FILE),
        detections=[d for folder in folders.values() for d in read_detections(folder / DETECTIONS_FILE)],
        maps={str(k): read_maps(folder / "metrics.json") for k, folder in folders.items()},
        how="Held-out training studies, out of fold",
        numbering={s: n for f in folders.values() for s, n in read_numbering(f / NUMBERING_FILE).items()},
        own_calibration=True,
        curves=read_curves(folders),
    )


def _test_part(request: EvaluateRequest, truth: Path) -> Challenge:
    """The studies of the test part that have true points."""
    data = Challenge.open(request.data, "test")
    points = read_points(truth / "test_label_coordinates.csv")
    stray = sorted(set(points) - set(data.study_ids))
    if stray:
        raise InputError(f"{truth}: has points of study {stray[0]}, which is not in the test part of {request.data}")
    return replace(data, study_ids=tuple(sorted(points)), points=points)


def _evaluate_test_part(request: PredictRequest, data: Challenge, out: Path) -> Evaluation:
    """Localizes the studies and writes the predictions to OUT."""
    predictions = predict(request)
    write_predictions(out, predictions)
    return Evaluation(
        data=data,
        localizations=predictions.localizations,
        detections=predictions.detections,
        maps=measure_maps(data, request.run, folds=request.folds, device=request.device),
        how="Test studies",
        numbering=predictions.numbering,
        curves=read_curves({k: request.run / f"fold{k}" for k in chosen_folds(request.run, request.folds)}),
    )


def measure_maps(
    data: Challenge, run: Path, *, folds: Collection[int] | None = None, device: str = "auto"
) -> dict[str, Any]:
    """Measures each fold's detectors on the studies of `data` that have true points: fold -> view -> mAP.

    A view without any true point is left out.
    """
    from localize.detector.yolo.inference import measure_map

    config = LocalizeConfig.load(run / "config.toml")
    place = torch_device(device)
    maps: dict[str, Any] = {str(k): {} for k in chosen_folds(run, folds)}
    with tempfile.TemporaryDirectory(prefix="lumbar-map-") as scratch:
        for view in View:
            folder = Path(scratch) / view.slug
            try:
                export_view(ExportRequest(data=data, view=view, config=config, val=sorted(data.points)), folder)
            except InputError as error:
                log(f"no mAP for {view.value}: {error}")
                continue
            for fold in maps:
                weights = detector_file(run / f"fold{fold}", view)
                if weights.is_file():
                    maps[fold][view.slug] = measure_map(weights, folder / "data.yaml", config.of_view(view), place)
    return maps


class _Trap(OpenDocument):
    trap: str
    study_id: str


class _Manifest(OpenDocument):
    traps: list[_Trap]


def read_traps(path: Path) -> dict[str, set[str]]:
    """Reads the manifest that `lumbar synth --traps` writes: trap name -> the studies that carry it.

    Raises:
      InputError: for a file that is not such a manifest.
    """
    traps: dict[str, set[str]] = {}
    for item in read_document(path, _Manifest, advice="expected the manifest.json of `lumbar synth`").traps:
        traps.setdefault(item.trap, set()).add(item.study_id)
    return traps
