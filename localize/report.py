"""`lumbar localize evaluate`: measures a run and writes report.json and report.html with pictures."""

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from localize.config import LocalizeConfig
from localize.detector.export import export_view
from localize.device import resolve_device
from localize.evaluate import FindingError, by_study_group, collect, evaluate, missing_series_groups, shifted_studies
from localize.figures import WorstCase, confusion, distributions, reliability_curves, study_figure, worst_figure
from localize.predict import KIND, Localizer, check_run, chosen_folds, predict_studies, write_predictions
from shared.annotations import annotated_localizations
from shared.data.challenge import Challenge, Point, read_points
from shared.detections import Detection, Localization, read_detections, read_localizations
from shared.figures.report import Report
from shared.labels import Condition, Finding, Level, View
from shared.numbering import CERTAIN, Numbering, read_numbering
from shared.runtime.errors import InputError
from shared.runtime.files import prepare_output, read_json
from shared.runtime.progress import log
from shared.runtime.run import read_run
from shared.splits import read_splits

MANIFEST_FILE: Final = "manifest.json"
_EXAMPLES = 2
_WORST = 9
_WORST_PER_STUDY = 3
_LISTED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a report is made of.

    Attributes:
      numbering: how sure the levels' names are, by study.
      traps: studies by the name of the planted trap they carry; empty without a manifest.
      own_calibration: whether the scores were calibrated on these same studies.
    """

    data: Challenge
    points: Mapping[str, Sequence[Point]]
    localizations: Mapping[str, Mapping[Finding, Localization]]
    detections: Sequence[Detection]
    maps: Mapping[str, Any]
    how: str
    numbering: Mapping[str, Numbering] = field(default_factory=dict)
    traps: Mapping[str, Collection[str]] = field(default_factory=dict)
    own_calibration: bool = False


def evaluate_run(
    data_root: Path,
    run: Path,
    out: Path,
    *,
    truth: Path | None = None,
    manifest: Path | None = None,
    folds: Sequence[int] | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
    overwrite: bool = False,
) -> Path:
    """Measures the train part out of fold or, with `truth`, the test part; returns the page's path.

    A study that the train part's folds held out counts whether or not anything was localized in it. A generator's
    `manifest` names the traps it planted; without one, that of `truth` is read where it lies there. `overrides` change
    the decoding of the test part. OUT is made, or emptied with `overwrite`, once the inputs are known to be right.

    Raises:
      InputError: when the run is unfinished or belongs to other data, or true points are missing.
    """
    about = read_run(run, expected_kind=KIND)
    if manifest is None and truth is not None and (truth / MANIFEST_FILE).is_file():
        manifest = truth / MANIFEST_FILE
    traps = {} if manifest is None else read_traps(manifest)
    inputs = [data_root, run, truth, manifest]
    if truth is None and overrides:
        raise InputError("--set: the train part is measured as it was localized; pass --truth to localize a test part")
    if truth is None:
        trained = chosen_folds(run, folds)
        maps = {str(k): read_json(run / f"fold{k}" / "metrics.json")["map"] for k in trained}
        data = Challenge.open(data_root)
        if data.fingerprint != about["data_fingerprint"]:
            raise InputError(f"{run}: was trained on other data than {data_root}; pass --truth to measure a test part")
        splits = read_splits(run / "splits.json")
        held_out = {s for k in trained for s in splits.held_out(k)}
        localizations = read_localizations(run / "localizations.csv")
        detections = [d for k in trained for d in read_detections(run / f"fold{k}" / "detections.csv")]
        tables = [run / f"fold{k}" / "numbering.csv" for k in trained]
        numbering = {s: n for table in tables if table.is_file() for s, n in read_numbering(table).items()}
        points = {s: p for s, p in data.points.items() if s in held_out}
        how = "Held-out training studies, out of fold"
        prepare_output(out, overwrite=overwrite, inputs=inputs)
    else:
        data = Challenge.open(data_root, "test")
        points = dict(read_points(truth / "test_label_coordinates.csv"))
        stray = sorted(set(points) - set(data.study_ids))
        if stray:
            raise InputError(f"{truth}: has points of study {stray[0]}, which is not in the test part of {data_root}")
        check_run(run, data, folds=folds, overrides=overrides, device=device)
        prepare_output(out, overwrite=overwrite, inputs=inputs)
        localizer = Localizer.load(run, folds=folds, overrides=overrides, device=device)
        predictions = predict_studies(localizer, data, sorted(points))
        write_predictions(out, predictions)
        localizations, detections = predictions.localizations, list(predictions.detections)
        numbering = predictions.numbering
        maps = measure_maps(replace(data, points=points), run, folds=folds, device=device)
        how = "Test studies"
    measured = Measured(
        data=data, points=points, localizations=localizations, detections=detections, maps=maps, how=how,
        numbering=numbering, traps=traps, own_calibration=truth is None,
    )  # fmt: skip
    return write_report(out, measured)


def measure_maps(
    data: Challenge, run: Path, *, folds: Sequence[int] | None = None, device: str = "auto"
) -> dict[str, Any]:
    """mAP of each fold's detectors on the studies of `data` that have true points: fold -> view -> measures.

    A view without any true point is left out.
    """
    from localize.detector.yolo import measure_map

    config = LocalizeConfig.load(run / "config.toml")
    place = resolve_device(device)
    maps: dict[str, Any] = {str(k): {} for k in chosen_folds(run, folds)}
    with tempfile.TemporaryDirectory(prefix="lumbar-map-") as scratch:
        for view in View:
            folder = Path(scratch) / view.slug
            try:
                export_view(data, view, folder, config, train=(), val=sorted(data.points))
            except InputError as error:
                log(f"no mAP for {view.value}: {error}")
                continue
            for fold in maps:
                weights = run / f"fold{fold}" / f"{view.slug}.pt"
                if weights.is_file():
                    maps[fold][view.slug] = measure_map(weights, folder / "data.yaml", config.of_view(view), place)
    return maps


def read_traps(path: Path) -> dict[str, set[str]]:
    """Trap name -> the studies that carry it, from the manifest that `lumbar synth --traps` writes.

    Raises:
      InputError: for a file that is no such manifest.
    """
    value = read_json(path)
    traps: dict[str, set[str]] = {}
    try:
        for item in value["traps"]:
            traps.setdefault(str(item["trap"]), set()).add(str(item["study_id"]))
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path}: expected the manifest.json of `lumbar synth`; it names no traps ({error})"
        ) from error
    return traps


def trap_groups(studies: Collection[str], traps: Mapping[str, Collection[str]]) -> dict[str, set[str]]:
    """The given studies by trap, and those with none first; a trap that none of them carries is left out."""
    clean = set(studies) - {s for members in traps.values() for s in members}
    groups = {"none": clean, **{name: set(studies) & set(traps[name]) for name in sorted(traps)}}
    return {name: members for name, members in groups.items() if members or name == "none"}


def write_report(folder: Path, measured: Measured) -> Path:
    """Writes report.json and report.html; returns the page's path."""
    collected = collect(measured.data, measured.points, measured.localizations)
    errors = collected.errors
    measures = evaluate(errors, own_calibration=measured.own_calibration)
    measures["by_missing_series"] = by_study_group(errors, missing_series_groups(collected.views))
    if measured.traps:
        measures["by_trap"] = by_study_group(errors, trap_groups(list(measured.points), measured.traps))
    measures["numbering"] = numbering_measures(errors, measured.numbering)
    overall = measures["overall"]
    summary = f"{measured.how}: {overall['expected']} findings with a true point in {measures['studies']} studies."
    if overall["expected"]:
        summary += f" {overall['within_8_mm']:.1%} are localized within 8 mm in 3-D."
    report = Report(title="Localizer", summary=summary, data={**measures, "map": measured.maps})
    _coverage(report, measures)
    _detectors(report, measured.maps)
    report.heading("Errors")
    report.figure(distributions(errors), "In-plane and slice error by view; the last bar holds everything beyond.")
    report.figure(confusion(measures["level_confusion_by_view"]), "Wanted level against the one truly nearest.")
    _groups(report, measures)
    _confidence(report, measures)
    _numbering(report, measures["numbering"])
    _pictures(report, measured, errors)
    return report.save(folder)


_COLUMNS: Final = {
    "findings": "expected", "≤ 5 mm": "within_5_mm", "≤ 8 mm": "within_8_mm", "≤ 10 mm": "within_10_mm",
    "median mm": "in_plane_median_mm", "95% mm": "in_plane_p95_mm", "slice exact": "slice_exact",
    "or next": "slice_exact_or_next", "level off": "level_off_by_one", "side wrong": "wrong_side",
}  # fmt: skip


def _row(name: str, measures: Mapping[str, Any]) -> list[object]:
    return [name, *(measures[key] for key in _COLUMNS.values())]


def _coverage(report: Report, measures: Mapping[str, Any]) -> None:
    report.heading("Coverage and errors")
    views = [_row(View.from_slug(v).value, m) for v, m in measures["by_view"].items()]
    report.table(
        ["view", *_COLUMNS], [_row("all", measures["overall"]), *views],
        caption="Shares of the findings with a true point by 3-D distance; median and 95% of the in-plane error; level "
        "off: nearest to the next level's true point.",
    )  # fmt: skip
    levels = measures["by_level"]
    report.table(["level", *_COLUMNS], [_row(level.display, levels[level.slug]) for level in Level])
    cells = measures["by_condition_and_level"]
    report.table(
        ["view and level", *_COLUMNS],
        [
            _row(f"{condition.view.value}, {level.display}", cells[condition.short][level.slug])
            for condition in Condition
            for level in Level
        ],
    )


def _detectors(report: Report, maps: Mapping[str, Any]) -> None:
    report.heading("Detectors")
    for key, name in (("map50", "mAP50"), ("map50_95", "mAP50-95")):
        report.table(
            ["fold", "view", name, *(level.display for level in Level)],
            [
                [fold, View.from_slug(view).value, m[key], *(_level_map(m, level, key) for level in Level)]
                for fold, views in maps.items()
                for view, m in views.items()
            ],
            caption=f"{name} on the slices that training would have used, over all levels and of each.",
        )


def _level_map(measured: Mapping[str, Any], level: Level, key: str) -> float | None:
    return measured.get("levels", {}).get(level.slug, {}).get(key)


def _groups(report: Report, measures: Mapping[str, Any]) -> None:
    """Sources, missing series and planted traps: the same columns for each."""
    expected = measures["overall"]["expected"]
    sources = [(name, m) for name, m in measures["by_source"].items() if m["expected"]]
    report.heading("Where points come from")
    report.table(
        ["source", "share", *_COLUMNS], [[n, m["expected"] / expected, *_row(n, m)[1:]] for n, m in sources],
        caption="Detected on the series itself, projected from another series, or interpolated between levels.",
    )  # fmt: skip
    report.heading("Missing series")
    report.table(
        ["without", "studies", *_COLUMNS],
        [
            [n if n == "none" else View.from_slug(n).value, m["studies"], *_row(n, m)[1:]]
            for n, m in measures["by_missing_series"].items()
        ],
        caption="Findings that the remaining series can show; none: the studies with all three views.",
    )
    if "by_trap" not in measures:
        return
    report.heading("Planted traps")
    report.table(
        ["trap", "studies", *_COLUMNS], [[n, m["studies"], *_row(n, m)[1:]] for n, m in measures["by_trap"].items()],
        caption="A study may carry several. Traps in the tables (off_by_one_level, swapped_sides, corner_point, "
        "foramina_on_one_slice and the like) make the true points wrong, not the localized ones.",
    )  # fmt: skip


def _confidence(report: Report, measures: Mapping[str, Any]) -> None:
    report.heading("Confidence")
    measured = measures["reliability"]
    report.table(
        ["score", "ECE", "Brier"],
        [[name, measured[key]["ece"], measured[key]["brier"]] for name, key in _STAGES],
        caption=f"A score is meant to be the probability of: {measured['target']}. The calibration was "
        f"{measured['calibration']}.",
    )
    report.figure(reliability_curves(measured), "Share right against mean score; a dot's area is its count.")


_STAGES: Final = (("before calibration", "raw"), ("after calibration", "calibrated"))


def numbering_measures(errors: Sequence[FindingError], numbering: Mapping[str, Numbering]) -> dict[str, Any]:
    """Studies whose numbering is uncertain beside those in which it is off."""
    shifted = shifted_studies(errors)
    known = {e.study_id for e in errors} & set(numbering)
    uncertain = {s for s in known if not numbering[s].certain}
    listed = sorted(uncertain | (set(shifted) & known), key=lambda s: (numbering[s].as_named, s))
    return {
        "certain_from": CERTAIN,
        "studies": len(known),
        "uncertain": len(uncertain),
        "shifted": len(set(shifted) & known),
        "shifted_and_uncertain": len(set(shifted) & uncertain),
        "listed": [
            {"study_id": s, "true_levels": _SHIFT_NAMES[shifted.get(s, 0)], **numbering[s].to_json()} for s in listed
        ],
    }


_SHIFT_NAMES: Final = {0: "as named", -1: "one higher", 1: "one lower"}


def _numbering(report: Report, measures: Mapping[str, Any]) -> None:
    report.heading("Numbering")
    report.text(
        f"In {measures['uncertain']} of {measures['studies']} studies the names of all levels together are less than "
        f"{measures['certain_from']:.0%} sure. In {measures['shifted']} the chain is a whole level off; "
        f"{measures['shifted_and_uncertain']} of these were marked uncertain."
    )
    if measures["listed"]:
        parts = ("as_named", "one_higher", "one_lower", "disc_above", "disc_below")
        report.table(
            ["study", "truly", *(p.replace("_", " ") for p in parts)],
            [[row["study_id"], row["true_levels"], *(row[p] for p in parts)] for row in measures["listed"][:_LISTED]],
        )


def _pictures(report: Report, measured: Measured, errors: Sequence[FindingError]) -> None:
    report.heading("Examples")
    for study_id in sorted(measured.points)[:_EXAMPLES]:
        study = measured.data.load_study(study_id).study
        report.figure(
            study_figure(
                study, annotated_localizations(study, measured.points[study_id]),
                measured.localizations.get(study_id, {}), [d for d in measured.detections if d.study_id == study_id],
            ),
            f"Study {study_id}: boxes with their scores, true points (circles) and localized points (crosses).",
        )  # fmt: skip
    cases = _worst(measured, errors)
    if cases:
        report.heading("Worst cases")
        report.figure(
            worst_figure(cases),
            "The largest distances in 3-D, at most three of a study: true point (circle) and localized point (cross) "
            "on the true slice, and on the slice that was found.",
        )
    lost = [e for e in errors if not e.found]
    if lost:
        report.table(
            ["not localized", "finding"], [[e.study_id, e.finding.column] for e in lost[:_LISTED]],
            caption=f"{len(lost)} findings with a true point have no localization; the first {_LISTED} at most.",
        )  # fmt: skip


def _worst(measured: Measured, errors: Sequence[FindingError]) -> list[WorstCase]:
    far: list[FindingError] = []
    for error in sorted((e for e in errors if e.distance_mm is not None), key=lambda e: -(e.distance_mm or 0.0)):
        # One misread study must not fill the page.
        if len(far) < _WORST and sum(e.study_id == error.study_id for e in far) < _WORST_PER_STUDY:
            far.append(error)
    cases = []
    for error in far:
        study = measured.data.load_study(error.study_id).study
        true = annotated_localizations(study, measured.points[error.study_id])[error.finding]
        cases.append((study, error, true, measured.localizations[error.study_id][error.finding]))
    return cases
