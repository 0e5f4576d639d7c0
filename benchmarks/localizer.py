"""Stage 1 on unseen synthetic studies: headline figures, planted traps, and what each part of the decoding is worth.

    python benchmarks/localizer.py RUN WORK [--studies 100] [--without-neighbours RUN2] [--out results/localize.json]

RUN is a run of `lumbar localize train`. WORK gets the studies, which are generated here from seeds that nothing was
developed on, and every prediction; a second call with the same arguments goes on where the first one stopped. The
detectors look at each study once, at all its slices. What is compared is decoded from the boxes they kept; only the
comparison of slices, and a second run, look again.
"""

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.results import header, parser
from localize.config import LocalizeConfig
from localize.decoding.decode import decode_study
from localize.decoding.prior import mean_prior
from localize.detector.boxes import side_points_px
from localize.detector.yolo.library import torch_device
from localize.evaluate import measure_maps, read_traps
from localize.localizer import Localizer, read_folds
from localize.measures import (
    ErrorCollection,
    FindingError,
    collect,
    evaluate,
    measures_of,
    missing_series_groups,
    numbering_measures,
    trap_groups,
)
from localize.predict import predict_studies, write_predictions
from pipelines.synthetic import SynthOptions, generate
from pipelines.synthetic.traps.label_traps import LABEL_TRAPS
from shared.data.challenge import Challenge, read_points
from shared.data.source import challenge_source
from shared.detections import Detection, Localization, Source, read_detections, read_localizations
from shared.labels import FINDINGS, Condition, Finding, Side, View
from shared.mirror.correct import as_shown
from shared.numbering import read_numbering
from shared.runtime.documents import read_json
from shared.runtime.files import write_json
from shared.runtime.progress import log
from shared.runtime.run_folder import git_commit, sha256_of
from shared.study import Study

UNSEEN_SEED: Final = 270_001
TRAP_SEED: Final = 270_213
# The generator plants each of its traps once in this many studies.
TRAP_STUDIES: Final = 29
RESAMPLES: Final = 1000
FLIPPED: Final = "flipped_axial"
ALL_SLICES: Final = ("slices.focused=false",)
FIGURES: Final = (
    "within_8_mm", "within_10_mm", "in_plane_median_mm", "in_plane_p95_mm", "level_off_by_one", "slice_exact",
    "slice_exact_or_next",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySet:
    """Generated studies with true points: the test part of unseen ones, the training part where traps are planted."""

    name: str
    root: Path
    data: Challenge
    traps: Mapping[str, set[str]]

    @property
    def study_ids(self) -> list[str]:
        return sorted(self.data.points)


def study_set(work: Path, name: str, *, seed: int, studies: int, traps: bool, workers: int) -> StudySet:
    """Generates the set unless it is there."""
    root = work / name
    if not (root / "data").is_dir():
        log(f"{name}: {studies} synthetic studies, seed {seed}")
        counts = (studies, 0) if traps else (0, studies)
        options = SynthOptions(studies=counts[0], test_studies=counts[1], seed=seed, traps=traps)
        generate(root, options, workers=workers)
    if traps:
        data = Challenge.open(root / "data", "train")
        return StudySet(name=name, root=root, data=data, traps=read_traps(root / "truth" / "manifest.json"))
    test = Challenge.open(root / "data", "test")
    points = read_points(root / "truth" / "test_label_coordinates.csv")
    return StudySet(name=name, root=root, data=replace(test, points=points), traps={})


def predicted(run: Path, studies: StudySet, folder: Path, *, overrides: Sequence[str], device: str) -> dict[str, Any]:
    """Predicts into `folder` unless the same models did already; how many slices and seconds it took."""
    config = LocalizeConfig.load(run / "config.toml", tuple(overrides)).model_dump(mode="json")
    stamp = {"run_json": sha256_of(run / "run.json"), "commit": git_commit(), "config": config}
    done = folder / "done.json"
    if done.is_file() and read_json(done)["stamp"] == stamp and len(studies.study_ids) == read_json(done)["studies"]:
        return dict(read_json(done))
    localizer = Localizer.load(run, overrides=overrides, device=device)
    localizer.localize(studies.data.load_study(studies.study_ids[0]).study)  # the first pass sets the network up
    started, cpu = time.perf_counter(), time.process_time()
    predictions = predict_studies(
        lambda _: localizer, challenge_source(studies.data), studies.study_ids, name=f"{studies.name}, {folder.name}"
    )
    cost = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
    write_predictions(folder, predictions)
    slices = {"slices": predictions.slices, "problems": len(predictions.problems)}
    write_json(done, {"stamp": stamp, "studies": len(studies.study_ids), **slices, **cost})
    return dict(read_json(done))


def intervals(errors: Sequence[FindingError], seed: int = 0) -> dict[str, dict[str, float]]:
    """95% percentile intervals of the figures; what is drawn with replacement is studies."""
    by_study: dict[str, list[FindingError]] = {}
    for error in errors:
        by_study.setdefault(error.study_id, []).append(error)
    rows = [_columns(members) for members in by_study.values()]
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(RESAMPLES):
        sample = np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))])
        draws.append(_figures(sample))
    low, high = np.nanpercentile(np.array(draws), [2.5, 97.5], axis=0)
    return {name: {"low": float(a), "high": float(b)} for name, a, b in zip(FIGURES, low, high, strict=True)}


def _columns(errors: Sequence[FindingError]) -> np.ndarray:  # [n, 4]
    """Each finding's 3-D distance, in-plane distance, slice error and level error; NaN where not found."""
    missing = (np.nan,) * 4
    return np.array([
        missing if not e.found or e.nearest_level is None
        else (e.distance_mm, e.in_plane_mm, e.slices, e.nearest_level - e.finding.level)
        for e in errors
    ], np.float64)  # fmt: skip


def _figures(rows: np.ndarray) -> list[float]:
    distance, in_plane, slices, levels = rows.T
    return [
        float((distance <= 8).mean()), float((distance <= 10).mean()), *np.nanpercentile(in_plane, [50, 95]).tolist(),
        float((np.abs(levels) == 1).mean()), float((slices == 0).mean()), float((np.abs(slices) <= 1).mean()),
    ]  # fmt: skip


def summary(errors: Sequence[FindingError]) -> dict[str, Any]:
    """The figures of one way of decoding with their intervals, and the axial slices by themselves."""
    measures, axial = measures_of(errors), measures_of([e for e in errors if e.finding.view is View.AXIAL_T2])
    ranges = intervals(errors)
    return {
        "expected": measures["expected"],
        "found": measures["found"],
        **{name: {"value": measures[name], **ranges[name]} for name in FIGURES},
        "wrong_side": measures["wrong_side"],
        "axial": {k: axial[k] for k in ("within_8_mm", "level_off_by_one", "slice_exact", "slice_exact_or_next")},
    }


def paired(errors: Sequence[FindingError], reference: Sequence[FindingError]) -> dict[str, float]:
    """Share within 8 mm of one decoding minus the reference's on the same resampled studies."""
    studies = sorted({e.study_id for e in reference})
    index = {s: i for i, s in enumerate(studies)}
    gain, count = np.zeros(len(studies)), np.zeros(len(studies))
    for sign, members in ((1, errors), (-1, reference)):
        for e in members:
            gain[index[e.study_id]] += sign * (e.distance_mm is not None and e.distance_mm <= 8)
    for e in reference:
        count[index[e.study_id]] += 1
    picks = np.random.default_rng(1).integers(len(studies), size=(RESAMPLES, len(studies)))
    draws = gain[picks].sum(1) / count[picks].sum(1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"value": float(gain.sum() / count.sum()), "low": float(low), "high": float(high)}


def best_boxes(study: Study, detections: Sequence[Detection], config: LocalizeConfig) -> dict[Finding, Localization]:
    """The notebooks' way: the best-scoring box of each level on the series, no chain and no geometry between series.

    Foramina: the best box on each half of the slices, the patient's right one first in order.
    """
    planes = {(s.series_id, i.instance_number): i.plane for s in study.series for i in s.slices}
    halves = {}
    for series in study.series:
        for k, item in enumerate(series.slices):
            left = 2 * k >= len(series.slices)
            halves[series.series_id, item.instance_number] = Side.LEFT if left else Side.RIGHT
    found: dict[Finding, Localization] = {}
    for finding in FINDINGS:
        boxes = [d for d in detections if d.view is finding.view and d.level is finding.level]
        if finding.condition is Condition.FORAMINAL:
            boxes = [d for d in boxes if halves[d.series_id, d.instance_number] is finding.side]
        if not boxes:
            continue
        box = max(boxes, key=lambda d: (d.score, d.series_id, -d.instance_number))
        plane = planes[box.series_id, box.instance_number]
        x, y = box.center_px
        if finding.condition is Condition.SUBARTICULAR and finding.side is not None:
            x, y = side_points_px(plane, box.box_xyxy_px, config.axial_t2.margin_mm)[finding.side]
        px, py, pz = (float(v) for v in plane.to_patient([x, y]))
        found[finding] = Localization(
            study_id=study.study_id, finding=finding, series_id=box.series_id, instance_number=box.instance_number,
            x_px=x, y_px=y, point_mm=(px, py, pz), source=Source.DETECTED, score=box.score,
        )  # fmt: skip
    return found


Decode = Callable[[Study, Sequence[Detection]], Mapping[Finding, Localization]]


def decoders(run: Path) -> dict[str, Decode]:
    """Ways of decoding the same boxes, by name; the first is the one that is shipped."""
    prior = mean_prior(fold.prior for fold in read_folds(run).values())

    def chain(*overrides: str) -> Decode:
        config = LocalizeConfig.load(run / "config.toml", overrides)
        return lambda study, boxes: decode_study(study, boxes, prior, config).localizations

    plain = LocalizeConfig.load(run / "config.toml")
    return {
        "chain": chain(),
        "best box of each level": lambda study, boxes: best_boxes(study, boxes, plain),
        "chain without axial evidence": chain("chain.axial_weight=0"),
        "chain without T1 evidence": chain("chain.t1_weight=0"),
        "chain of fixed size and lean": chain("chain.size_sd=0", "chain.lean_sd_deg=0"),
        "axial slices by geometry only": chain("axial.appearance_weight=0"),
        "axial slices by appearance only": chain("axial.geometry=false"),
    }


def ablations(run: Path, studies: StudySet, boxes: Sequence[Detection]) -> dict[str, list[FindingError]]:
    of_study: dict[str, list[Detection]] = {s: [] for s in studies.study_ids}
    for box in boxes:
        of_study[box.study_id].append(box)
    loaded = {s: as_shown(studies.data.load_study(s).study) for s in studies.study_ids}
    result = {}
    for name, decode in decoders(run).items():
        log(f"{studies.name}: decoding, {name}")
        decoded = {s: decode(loaded[s].study, of_study[s]) for s in studies.study_ids}
        points = {s: {f: loaded[s].as_given(x) for f, x in found.items()} for s, found in decoded.items()}
        result[name] = collect(studies.data, points).errors
    return result


def turned_series(studies: Sequence[StudySet], *, flipped: bool) -> dict[str, int]:
    """Axial series of the studies with mirrored pixels, or of the others; and how many are read as mirrored.

    Each of the first should be, none of the others.
    """
    every = [(s.data, i) for s in studies for i in s.study_ids if (i in s.traps.get(FLIPPED, ())) is flipped]
    shown = [as_shown(data.load_study(study_id).study) for data, study_id in every]
    axial = sum(len(s.given.of_view(View.AXIAL_T2)) for s in shown)
    return {"axial_series": axial, "turned": sum(len(s.turned) for s in shown)}


def measured(studies: StudySet, folder: Path) -> ErrorCollection:
    return collect(studies.data, read_localizations(folder / "localizations.csv"))


def by_trap(sets: Sequence[StudySet], folders: Sequence[Path]) -> dict[str, Any]:
    """Measures of each trap over all trap sets, and of studies without a series by the series."""
    in_tables = set(LABEL_TRAPS)
    errors: list[FindingError] = []
    members: dict[str, set[str]] = {}
    lacking: dict[str, set[str]] = {}
    for studies, folder in zip(sets, folders, strict=True):
        collected = measured(studies, folder)
        errors += collected.errors
        for name, found in trap_groups(studies.study_ids, studies.traps).items():
            members.setdefault(name, set()).update(found)
        for name, found in missing_series_groups(collected.views).items():
            lacking.setdefault(name, set()).update(found)
    keys = ("expected", "found", "within_8_mm", "within_10_mm", "level_off_by_one", "slice_exact_or_next", "wrong_side")

    def of(group: set[str]) -> dict[str, Any]:
        values = measures_of([e for e in errors if e.study_id in group])
        return {"studies": len(group), **{k: values[k] for k in keys}}

    # A study may carry a trap of each kind; where the tables are wrong, so is what the points are measured against.
    wrong_truth = {s for name in members if name in in_tables for s in members[name]}
    return {
        "file_traps": of(
            {s for n, group in members.items() if n not in {*in_tables, "none"} for s in group} - wrong_truth
        ),
        "by_trap": {n: {"truth_is_wrong": n in in_tables, **of(g)} for n, g in sorted(members.items()) if g},
        "missing_series": {name: of(group) for name, group in lacking.items()},
    }


def benchmark(args: argparse.Namespace) -> dict[str, Any]:
    started, work, device = time.time(), args.work, args.device
    unseen = study_set(
        work, f"unseen-{args.studies}", seed=UNSEEN_SEED, studies=args.studies, traps=False, workers=args.workers
    )
    trapped = [
        study_set(work, f"traps-{k}", seed=TRAP_SEED + k, studies=TRAP_STUDIES, traps=True, workers=args.workers)
        for k in range(args.trap_rounds)
    ]
    everywhere, focused = work / "predicted" / "all_slices", work / "predicted" / "focused"
    cost = {
        "all slices": predicted(args.run, unseen, everywhere, overrides=ALL_SLICES, device=device),
        "slices that matter": predicted(args.run, unseen, focused, overrides=(), device=device),
    }
    of_all, of_focused = measured(unseen, everywhere), measured(unseen, focused)
    result: dict[str, Any] = {
        "headline": summary(of_focused.errors),
        "reliability": evaluate(of_focused.errors)["reliability"],
        "numbering": numbering_measures(of_focused.errors, read_numbering(focused / "numbering.csv")),
        "by_view": {k: summary([e for e in of_focused.errors if e.finding.view.slug == k]) for k in _slugs(of_focused)},
        "slices": {
            name: {k: cost[name][k] for k in ("slices", "seconds", "cpu_seconds")} | {"figures": summary(errors)}
            for name, errors in (("all slices", of_all.errors), ("slices that matter", of_focused.errors))
        },
    }
    decoded = ablations(args.run, unseen, read_detections(everywhere / "detections.csv"))
    reference = decoded["chain"]
    result["ablations"] = {
        name: {**summary(errors), "gain_within_8_mm": paired(errors, reference)} for name, errors in decoded.items()
    }
    if args.without_neighbours is not None:
        other = work / "predicted" / "without_neighbours"
        predicted(args.without_neighbours, unseen, other, overrides=ALL_SLICES, device=device)
        errors = measured(unseen, other).errors
        result["ablations"]["trained without neighbouring slices"] = {
            **summary(errors), "gain_within_8_mm": paired(errors, reference)
        }  # fmt: skip
    folders = [work / "predicted" / studies.name for studies in trapped]
    for studies, folder in zip(trapped, folders, strict=True):
        predicted(args.run, studies, folder, overrides=(), device=device)
    result["traps"] = by_trap(trapped, folders) if trapped else None
    log("axial series read as mirrored")
    result["axial_series_read_as_mirrored"] = {
        "sound unseen studies": turned_series([unseen], flipped=False),
        "studies with mirrored axial pixels": turned_series(trapped, flipped=True),
        "studies with other traps": turned_series(trapped, flipped=False),
    }
    log("mAP of the detectors")
    result["map"] = measure_maps(unseen.data, args.run, device=device)
    return {**_about(args), **result, "benchmark_seconds": round(time.time() - started, 1)}


def _slugs(collected: ErrorCollection) -> list[str]:
    return sorted({e.finding.view.slug for e in collected.errors})


def _about(args: argparse.Namespace) -> dict[str, Any]:
    run = read_json(args.run / "run.json")
    calibrations = [fold.calibration for fold in read_folds(args.run).values()]
    command = f"python benchmarks/localizer.py RUN WORK --studies {args.studies} --trap-rounds {args.trap_rounds}"
    command += " --without-neighbours RUN2" if args.without_neighbours is not None else ""
    return {
        **header(command, device=torch_device(args.device)),
        "run": {"commit": run["git_commit"], "folds": sorted(run["folds"]), "seconds": run["seconds"],
                "calibration_samples": [c.samples for c in calibrations]},
        "seeds": {"unseen": UNSEEN_SEED, "traps": TRAP_SEED},
        "unseen_studies": args.studies,
        "trap_studies": args.trap_rounds * TRAP_STUDIES,
        "intervals": f"95% percentile, {RESAMPLES} resamples of studies",
    }  # fmt: skip


def markdown(result: Mapping[str, Any]) -> str:
    """The table of ways to decode."""
    lines = [
        "| | within 8 mm | in-plane median, 95% (mm) | level off by one | axial slice exact, or next |",
        "|---|---|---|---|---|",
    ]
    rows = {"shipped": result["headline"], **result["ablations"]}
    for name, row in rows.items():
        near, axial = row["within_8_mm"], row["axial"]
        lines.append(
            f"| {name} | {near['value']:.1%} ({near['low']:.1%} to {near['high']:.1%}) | "
            f"{row['in_plane_median_mm']['value']:.1f}, {row['in_plane_p95_mm']['value']:.1f} | "
            f"{row['level_off_by_one']['value']:.1%} | {axial['slice_exact']:.1%}, {axial['slice_exact_or_next']:.1%} |"
        )
    return "\n".join(lines)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("run", type=Path, metavar="RUN")
    arguments.add_argument("work", type=Path, metavar="WORK")
    arguments.add_argument("--studies", type=int, default=100, help="unseen studies (default %(default)s)")
    arguments.add_argument(
        "--trap-rounds", type=int, default=2, help=f"sets of {TRAP_STUDIES} studies with every trap once (default 2)"
    )
    arguments.add_argument("--without-neighbours", type=Path, metavar="RUN2", help="run trained with neighbours=0")
    arguments.add_argument("--device", default="auto")
    arguments.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments.add_argument("--out", type=Path, default=Path("results/localize.json"))
    args = arguments.parse_args()
    result = benchmark(args)
    write_json(args.out, result)
    print(markdown(result))


if __name__ == "__main__":
    main()
