"""Does a localizer trained on synthetic studies number the levels of a real one, and of that one in disguise?

    python benchmarks/real_study.py FOLDER RUN [OUT.json]

FOLDER holds one real lumbar study as DICOM whose sagittal T2 series has the discs where `TRUE_PX` says (read off by
eye); RUN is a finished `lumbar localize train`. Each disguise is written as DICOM and localized from there, from the T2
series alone, from the T1 series alone, and from everything. No pixel of FOLDER is kept.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import pydicom
from numpy.typing import NDArray

from benchmarks.results import header, parser, save
from localize.localizer import Localizer
from shared.dicom.discover import discover_studies
from shared.geometry import Plane
from shared.labels import Condition, Level, View
from shared.study import Slice, Study

# Canal points (x, y) on the middle slice of the sagittal T2 series, 512 x 512 pixels.
TRUE_PX: Final[Mapping[Level, tuple[float, float]]] = {
    Level.L1_L2: (331, 169), Level.L2_L3: (306, 227), Level.L3_L4: (279, 285),
    Level.L4_L5: (266, 344), Level.L5_S1: (284, 401),
}  # fmt: skip
# A third of the distance between two discs: nearer to the right one than to any other, beyond doubt.
TOLERANCE_MM: Final = 11.0

Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Disguise:
    """A change of every slice.

    Attributes:
      pixels: [rows, columns] to the same or another size; 0..1.
      crop_px: left and top rows that `pixels` cut away.
      spacing: factor on the pixel spacing that the header claims: a patient of another size.
      turn_deg: the patient leans by this much; applied after `pixels`.
    """

    name: str
    pixels: Callable[[Image], Image] = lambda image: image
    crop_px: tuple[int, int] = (0, 0)
    spacing: float = 1.0
    turn_deg: float = 0.0


def _noise(image: Image) -> Image:
    return image + 0.05 * np.random.default_rng(0).standard_normal(image.shape, dtype=np.float32)


def _even(image: Image) -> Image:
    return image * np.linspace(3.0, 0.8, image.shape[1], dtype=np.float32)


DISGUISES: Final = (
    Disguise(name="as it is"),
    Disguise(name="top 8% cut", pixels=lambda i: i[40:], crop_px=(0, 40)),
    Disguise(name="top 18% cut", pixels=lambda i: i[90:], crop_px=(0, 90)),
    Disguise(name="bottom 10% cut", pixels=lambda i: i[:-50]),
    Disguise(name="front 23% cut", pixels=lambda i: i[:, 120:], crop_px=(120, 0)),
    Disguise(name="back 12% cut", pixels=lambda i: i[:, :-60]),
    Disguise(name="front 35% and bottom 6% cut", pixels=lambda i: i[:-30, 180:], crop_px=(180, 0)),
    Disguise(name="brighter, gamma .6", pixels=lambda i: i**0.6),
    Disguise(name="darker, gamma 1.6", pixels=lambda i: i**1.6),
    Disguise(name="blurred by 1.6 mm", pixels=lambda i: np.asarray(cv2.GaussianBlur(i, (0, 0), 3), np.float32)),
    Disguise(name="noisy", pixels=_noise),
    Disguise(name="without the coil's fall-off", pixels=_even),
    Disguise(name="25% smaller", spacing=0.75),
    Disguise(name="15% smaller", spacing=0.85),
    Disguise(name="15% larger", spacing=1.15),
    Disguise(name="30% larger", spacing=1.3),
    Disguise(name="leaning 8 degrees forward", turn_deg=8.0),
    Disguise(name="leaning 8 degrees back", turn_deg=-8.0),
)


def _turn(shape: Sequence[int], degrees: float) -> NDArray[np.float64]:  # [2, 3]
    """Rotation about the image's centre as an affine pixel map."""
    center = ((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    return np.asarray(cv2.getRotationMatrix2D(center, degrees, 1.0), np.float64)


def write_disguised(item: Slice, disguise: Disguise, path: Path) -> None:
    """One slice as a DICOM file with its new pixels and plane."""
    dataset = pydicom.dcmread(item.path)
    pixels = dataset.pixel_array.astype(np.float32)
    high = float(np.percentile(pixels, 99.8))
    image = disguise.pixels(np.clip(pixels / high, 0, 1, dtype=np.float32))
    image = np.asarray(cv2.warpAffine(image, _turn(image.shape, disguise.turn_deg), image.shape[::-1]), np.float32)
    stored = np.clip(np.rint(image * 1000), 0, 4095).astype(np.uint16)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.PixelData = stored.tobytes()
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.ImagePositionPatient = [round(float(v), 4) for v in item.plane.to_patient(disguise.crop_px)]
    dataset.PixelSpacing = [s * disguise.spacing for s in item.plane.spacing_mm]
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def true_heights(study: Study, disguise: Disguise) -> dict[Level, float]:
    """Where the levels lie in the disguised study: z of the canal points, mm."""
    slices = study.of_view(View.SAGITTAL_T2)[0].slices
    item = slices[len(slices) // 2]
    plane = Plane.from_arrays(
        origin_mm=item.plane.to_patient(disguise.crop_px), row_dir=item.plane.row_dir, col_dir=item.plane.col_dir,
        spacing_mm=[s * disguise.spacing for s in item.plane.spacing_mm],
    )  # fmt: skip
    shape = disguise.pixels(np.zeros(item.shape, np.float32)).shape
    turn = _turn(shape, disguise.turn_deg)
    heights = {}
    for level, point in TRUE_PX.items():
        moved = turn[:, :2] @ (np.array(point) - disguise.crop_px) + turn[:, 2]
        heights[level] = float(plane.to_patient(moved)[2])
    return heights


def outcome(
    localizer: Localizer, study: Study, views: Sequence[View], truth: Mapping[Level, float], *, middle: bool = False
) -> dict[str, Any]:
    """Errors in mm of the levels that some views show, or only the middle slice of each."""
    series = [s for s in study.series if s.view in views]
    if middle:
        series = [replace(s, slices=s.slices[len(s.slices) // 2 :][:1]) for s in series]
    study = replace(study, series=tuple(series))
    found = localizer.localize(study).localizations
    condition = Condition.CANAL if View.SAGITTAL_T2 in views else Condition.FORAMINAL
    errors: dict[str, float | None] = {}
    for level, height in truth.items():
        heights = [x.point_mm[2] for f, x in found.items() if f.condition is condition and f.level is level]
        errors[level.display] = round(float(np.mean(heights)) - height, 1) if heights else None
    right = all(error is not None and abs(error) <= TOLERANCE_MM for error in errors.values())
    return {"all five right": right, "error_mm": errors}


def measure(folder: Path, run: Path) -> dict[str, Any]:
    """Every disguise from every set of views."""
    study = next(loaded.study for loaded in discover_studies(folder).studies if loaded.study.of_view(View.SAGITTAL_T2))
    localizer = Localizer.load(run)
    sets = {"sagittal T2 alone": (View.SAGITTAL_T2,), "sagittal T1 alone": (View.SAGITTAL_T1,), "all": tuple(View)}
    cases: dict[str, dict[str, Any]] = {}
    middle = "middle slice of sagittal T2"
    for disguise in DISGUISES:
        with tempfile.TemporaryDirectory() as name:
            for series in study.series:
                changed = disguise if series.view.is_sagittal else Disguise(name="")
                for number, item in enumerate(series.slices):
                    write_disguised(item, changed, Path(name) / series.series_id / f"{number}.dcm")
            truth = true_heights(study, disguise)
            # Axial slices do not follow a patient who changes size or leans.
            usable = [k for k in sets if k != "all" or (disguise.spacing == 1.0 and not disguise.turn_deg)]
            written = discover_studies(Path(name)).studies[0].study
            cases[disguise.name] = {k: outcome(localizer, written, sets[k], truth) for k in usable}
            cases[disguise.name][middle] = outcome(localizer, written, [View.SAGITTAL_T2], truth, middle=True)
        print(disguise.name, {k: v["all five right"] for k, v in cases[disguise.name].items()}, flush=True)
    right = {k: [c[k]["all five right"] for c in cases.values() if k in c] for k in (*sets, middle)}
    return {"all five right": {k: f"{sum(v)} of {len(v)}" for k, v in right.items()}, "cases": cases}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("folder", type=Path, metavar="FOLDER", help="one real lumbar study as DICOM files")
    arguments.add_argument("run", type=Path, metavar="RUN", help="run of `lumbar localize train`")
    arguments.add_argument("out", type=Path, nargs="?", default=Path("results/real_study.json"))
    a = arguments.parse_args()
    about = {
        "data": "one real lumbar study (1.5 T, five series), which no training saw; the generator, the augmentation "
        "and the chain were developed against it and its altered copies, so this is no test result",
    }
    save(a.out, header("python benchmarks/real_study.py FOLDER RUN") | about | measure(a.folder, a.run))


if __name__ == "__main__":
    main()
