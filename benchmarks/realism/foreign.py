"""How many studies of other anatomy are told from lumbar ones, and how many lumbar ones are accused.

    python -m benchmarks.realism.foreign RUN WORK [--studies 20] [--lumbar 200] [--real FOLDER ...]

RUN is a run of `lumbar localize train`. WORK gets the synthetic studies: necks and chests, each with sagittal T1,
sagittal T2 or STIR and axial T2, and lumbar ones. --real names folders of real lumbar studies.

A neck is a spine of about half the size with little lordosis; a chest is a spine of three quarters of the size with a
kyphosis. In both the cord fills the canal, and the field of view ends above the last disc, so that no sacrum is seen. A
`low_chest` is the real thoracic part (T6 to T12) of a patient whose lumbar spine lies below the field."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np

from benchmarks.results import header, parser, save
from localize.localizer import Localizer
from pipelines.synthetic import SynthOptions, generate
from pipelines.synthetic.anatomy.patient import Case, draw_case
from pipelines.synthetic.anatomy.profiles import build_profiles
from pipelines.synthetic.anatomy.spine import Spine
from pipelines.synthetic.dicom_files import write_series
from pipelines.synthetic.painting.contrast import Weighting, draw_palette
from pipelines.synthetic.scanner.scan import scan_stack
from pipelines.synthetic.scanner.series import StoredSeries, StoredSlice
from pipelines.synthetic.scanner.stack import Stack, axial_stack, sagittal_stack
from shared.data.source import StudySource, open_source
from shared.geometry import Plane
from shared.labels import FINDINGS, Level, View
from shared.mirror.correct import as_shown
from shared.runtime.documents import read_json
from shared.runtime.files import write_text
from shared.runtime.progress import track

Region = Literal["neck", "chest", "low_chest"]
REGIONS: Final[tuple[Region, ...]] = get_args(Region)
SERIES_IDS: Final = {View.SAGITTAL_T1: "1", View.SAGITTAL_T2: "2", View.AXIAL_T2: "3"}
_LOW_CHEST_MM: Final = 220.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """What a sagittal picture shows: the upper edge, the middle from front to back, and the height, in patient mm."""

    top_mm: float
    middle_mm: float
    height_mm: float


def write_foreign(out: Path, *, studies: int, seed: int) -> dict[str, Region]:
    """Writes `studies` studies of each region; returns the region of each study id."""
    regions: dict[str, Region] = {
        str(9_000_000 + 1000 * r + k): region for r, region in enumerate(REGIONS) for k in range(studies)
    }
    lines = ["study_id,series_id,series_description"]
    for study_id, region in track(list(regions.items()), "foreign studies"):
        rng = np.random.default_rng([seed, int(study_id)])
        for series in foreign_study(study_id, region, rng):
            write_series(series, out / "test_images" / study_id / series.series_id, rng)
            lines.append(f"{study_id},{series.series_id},{series.view.value}")
    write_text(out / "test_series_descriptions.csv", "\n".join(lines) + "\n")
    return regions


def foreign_study(study_id: str, region: Region, rng: np.random.Generator) -> list[StoredSeries]:
    """The three series of a study that shows another region."""
    case = _case(region, rng)
    sagittal, axial = sagittal_stack(case.spine, rng, "demo"), axial_stack(case.spine, rng, "demo")
    window = _window(case.spine, region, rng)
    sagittal = replace(sagittal, planes=tuple(_shown(p, sagittal.shape, window) for p in sagittal.planes))
    if region == "low_chest":
        up = case.spine.to_patient(case.spine.segments.disc_s[3], 0, 0) - _at(case.spine, Level.L3_L4)
        axial = replace(axial, planes=tuple(_moved(p, float(up[2])) for p in axial.planes))
    fluid = Weighting.STIR if rng.random() < 0.12 else Weighting.T2
    series = []
    for stack, weightings, views in (
        (sagittal, (Weighting.T1, fluid), (View.SAGITTAL_T1, View.SAGITTAL_T2)),
        (axial, (Weighting.T2,), (View.AXIAL_T2,)),
    ):
        pictures = scan_stack(case, stack, draw_palette(rng, weightings, case.patient.age), rng)
        series += [_stored(study_id, view, stack, px) for view, px in zip(views, pictures, strict=True)]
    return series


def _case(region: Region, rng: np.random.Generator) -> Case:
    case = draw_case(rng.normal(-2.0, 0.7, len(FINDINGS)), float(rng.normal(-0.3, 0.8)), rng)
    if region == "low_chest":
        return case
    size = float(rng.uniform(0.48, 0.62) if region == "neck" else rng.uniform(0.66, 0.84))
    bend = float(rng.uniform(10, 30) if region == "neck" else rng.uniform(-5, 12))
    shape = replace(
        case.spine.shape, scale=size, sacral_slope_deg=float(rng.uniform(2, 12)), lordosis_deg=bend,
        slip_mm=(0.0,) * len(Level), scoliosis_mm=0.0, lumbar_count=5,
    )  # fmt: skip
    spine = Spine(shape)
    patient = replace(case.patient, conus_s=float(spine.s[-1]) + 100.0, canal_size=1.05)
    build = replace(case.build, back_mm=float(rng.uniform(34, 50)), back_fat_mm=10.0, sacral_fat_mm=10.0, bowel=0.1)
    if region == "neck":
        build = replace(build, half_width_mm=float(rng.uniform(58, 75)), front_mm=float(rng.uniform(40, 60)))
    return Case(spine=spine, patient=patient, build=build, profiles=build_profiles(spine, patient))


def _at(spine: Spine, level: Level) -> np.ndarray:  # [3]
    return spine.to_patient(spine.segments.level_s(level), 0, 0)


def _window(spine: Spine, region: Region, rng: np.random.Generator) -> _Window:
    if region == "low_chest":
        first, middle = (spine.to_patient(spine.segments.disc_s[k], 0, 0) for k in (0, 3))
        return _Window(top_mm=float(first[2]) + 8.0, middle_mm=float(middle[1]), height_mm=_LOW_CHEST_MM)
    height = float(rng.uniform(190, 260) if region == "neck" else rng.uniform(220, 320))
    end = float(_at(spine, Level.L5_S1)[2]) + float(rng.uniform(4, 18)) * spine.shape.scale
    return _Window(top_mm=end + height, middle_mm=float(_at(spine, Level.L2_L3)[1]), height_mm=height)


def _shown(plane: Plane, shape: tuple[int, int], window: _Window) -> Plane:
    spacing_mm = window.height_mm / shape[0]
    left_mm = window.middle_mm - shape[1] * spacing_mm / 2
    return replace(plane, origin_mm=(plane.origin_mm[0], left_mm, window.top_mm), spacing_mm=(spacing_mm, spacing_mm))


def _moved(plane: Plane, up_mm: float) -> Plane:
    x, y, z = plane.origin_mm
    return replace(plane, origin_mm=(x, y, z + up_mm))


def _stored(study_id: str, view: View, stack: Stack, pixels: np.ndarray) -> StoredSeries:
    bright = float(np.percentile(pixels, 99))
    slices = tuple(
        StoredSlice(instance_number=k, plane=plane, pixels=image)
        for k, (plane, image) in enumerate(zip(stack.planes, pixels, strict=True), start=1)
    )
    return StoredSeries(
        study_id=study_id, series_id=SERIES_IDS[view], view=view, slices=slices, thickness_mm=stack.thickness_mm,
        gap_mm=stack.gap_mm, window=(round(bright / 2), round(bright)),
    )  # fmt: skip


def told(localizer: Localizer, source: StudySource) -> dict[str, str]:
    """Study id -> why the study shows no lumbar spine; empty where it may."""
    return {
        study_id: localizer.localize(as_shown(source.load(study_id).study).study).not_lumbar
        for study_id in track(source.study_ids, "localizing")
    }


def main() -> None:
    """Makes the studies, localizes them and writes the counts."""
    p = parser(__doc__)
    p.add_argument("run", type=Path)
    p.add_argument("work", type=Path)
    p.add_argument("--studies", type=int, default=20, help="of each region")
    p.add_argument("--lumbar", type=int, default=200)
    p.add_argument("--real", type=Path, nargs="*", default=[])
    p.add_argument("--seed", type=int, default=5)
    p.add_argument("--out", type=Path, default=Path("results/foreign.json"))
    a = p.parse_args()
    localizer = Localizer.load(a.run, device="cpu")
    regions = write_foreign(a.work / "foreign", studies=a.studies, seed=a.seed)
    generate(
        a.work / "lumbar", SynthOptions(studies=0, test_studies=a.lumbar, seed=a.seed), workers=os.cpu_count() or 1
    )
    reasons = told(localizer, open_source(a.work / "foreign"))
    lumbar = {"synthetic": told(localizer, open_source(a.work / "lumbar" / "data"))}
    lumbar |= {folder.name: told(localizer, open_source(folder)) for folder in a.real}
    save(
        a.out,
        header(
            f"python -m benchmarks.realism.foreign RUN WORK --studies {a.studies} --lumbar {a.lumbar} --seed {a.seed} "
            f"--real {' '.join(folder.name for folder in a.real)}",
            device="cpu",
        )
        | {
            "run": {"commit": read_json(a.run / "run.json")["git_commit"]},
            "foreign": {
                region: {"studies": a.studies, "told": sum(bool(reasons[s]) for s, r in regions.items() if r == region)}
                for region in REGIONS
            },
            "lumbar": {n: {"studies": len(of), "accused": sum(map(bool, of.values()))} for n, of in lumbar.items()},
        },
    )


if __name__ == "__main__":
    main()
