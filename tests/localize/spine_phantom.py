"""Crude studies with known points: bright discs on a dark ground, written as uncompressed DICOM."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from shared.data.challenge import write_grades
from shared.detections import Detection, Localization, Source
from shared.geometry import Plane
from shared.labels import FINDINGS, Condition, Finding, Level, Side, View
from shared.study import Series, Slice, Study, order_slices

# Canal points of a model spine (x, y, z), head to foot, and the offsets of the sided findings from them.
CANAL_MM = {level: np.array([2.0, 3.0 * level, -34.0 * level]) for level in Level}
LATERAL_MM = {Condition.FORAMINAL: 17.0, Condition.SUBARTICULAR: 9.0}


def true_point(finding: Finding) -> NDArray[np.float64]:
    point = CANAL_MM[finding.level].copy()
    if finding.side is not None:
        lateral = LATERAL_MM[finding.condition]
        point += [lateral if finding.side is Side.LEFT else -lateral, -4.0, 0.0]
    return point


def sagittal_series(view: View, *, series_id: str, mirrored: bool = False, step_mm: float = 4.0) -> Series:
    """13 slices across the spine. Mirrored: the pixel rows run from back to front."""
    row_dir = (0.0, -1.0, 0.0) if mirrored else (0.0, 1.0, 0.0)
    start_y = 107.0 if mirrored else -84.0
    slices = [
        Slice(
            path=Path(f"{series_id}_{k}"),
            instance_number=k + 1,
            plane=Plane(origin_mm=(2.0 + step_mm * (k - 6), start_y, 60.0), row_dir=row_dir, col_dir=(0.0, 0.0, -1.0),
                        spacing_mm=(2.0, 2.0)),
            shape=(128, 96),
        )
        for k in range(13)
    ]  # fmt: skip
    return Series(series_id=series_id, view=view, slices=order_slices(slices, view))


def axial_series(*, series_id: str = "3", mirrored: bool = False, levels: Sequence[Level] = tuple(Level)) -> Series:
    """Three slices 4 mm apart around each level's subarticular points. Mirrored: the patient's left is on the left."""
    slices = []
    for level in levels:
        _, y, z = true_point(Finding(condition=Condition.SUBARTICULAR, side=Side.LEFT, level=level))
        for k in (-1, 0, 1):
            plane = Plane(
                origin_mm=((98.0 if mirrored else -94.0), y - 96.0, z - 4.0 * k),
                row_dir=(-1.0, 0.0, 0.0) if mirrored else (1.0, 0.0, 0.0),
                col_dir=(0.0, 1.0, 0.0),
                spacing_mm=(2.0, 2.0),
            )
            number = len(slices) + 1
            slices.append(
                Slice(path=Path(f"{series_id}_{number}"), instance_number=number, plane=plane, shape=(96, 96))
            )
    return Series(series_id=series_id, view=View.AXIAL_T2, slices=order_slices(slices, View.AXIAL_T2))


def model_study(*, views: Sequence[View] = tuple(View), mirrored: bool = False) -> Study:
    series = []
    for view in views:
        if view is View.AXIAL_T2:
            series.append(axial_series(mirrored=mirrored))
        else:
            series.append(sagittal_series(view, series_id="1" if view is View.SAGITTAL_T1 else "2", mirrored=mirrored))
    return Study(study_id="100", series=tuple(series))


def truth_of(study: Study) -> dict[Finding, Localization]:
    """True points, each on the nearest slice of the first series of its view."""
    truth = {}
    for finding in FINDINGS:
        series = next(iter(study.of_view(finding.view)), None)
        if series is None:
            continue
        point = true_point(finding)
        item = min(series.slices, key=lambda s: abs(float(s.plane.distance_mm(point))))
        x, y = item.plane.to_pixel(point)
        truth[finding] = Localization(
            study_id=study.study_id, finding=finding, series_id=series.series_id, instance_number=item.instance_number,
            x_px=float(x), y_px=float(y), point_mm=triple(item.plane.to_patient([x, y])),
            source=Source.ANNOTATED, score=1.0,
        )  # fmt: skip
    return truth


def perfect_detections(
    study: Study, *, score: float = 0.9, box_mm: float = 28.0, margin_mm: float = 10.0, reach_mm: float = 5.0
) -> list[Detection]:
    """What faultless detectors would say: boxes on every slice within reach of the point."""
    found = []
    for series in study.series:
        for item in series.slices:
            for level in Level:
                points = [true_point(f) for f in FINDINGS if f.view is series.view and f.level is level]
                groups = [points] if series.view is View.AXIAL_T2 else [[p] for p in points]
                for group in groups:
                    if min(abs(float(item.plane.distance_mm(p))) for p in group) > reach_mm:
                        continue
                    px = item.plane.to_pixel(np.array(group))
                    dy, dx = item.plane.spacing_mm
                    half = margin_mm / dx if series.view is View.AXIAL_T2 else box_mm / 2 / dx
                    box = (px[:, 0].min() - half, px[:, 1].mean() - box_mm / 2 / dy,
                           px[:, 0].max() + half, px[:, 1].mean() + box_mm / 2 / dy)  # fmt: skip
                    found.append(
                        Detection(
                            study_id=study.study_id,
                            series_id=series.series_id,
                            instance_number=item.instance_number,
                            view=series.view,
                            level=level,
                            box_xyxy_px=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
                            score=score,
                        )
                    )
    return found


def jittered_truths(count: int = 40, seed: int = 0) -> list[dict[Finding, Localization]]:
    """Shifted, scaled and jittered copies of the model spine, for fitting a prior."""
    rng = np.random.default_rng(seed)
    truths = []
    for _ in range(count):
        shift, size = rng.normal(0, 10, 3), rng.normal(1, 0.08)
        points = {f: true_point(f) * size + shift + rng.normal(0, 1, 3) for f in FINDINGS}
        truths.append({f: localization(f, p) for f, p in points.items()})
    return truths


def triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z


def localization(finding: Finding, point_mm: NDArray[np.float64]) -> Localization:
    """A true point that lies on no particular slice."""
    return Localization(
        study_id="1", finding=finding, series_id="1", instance_number=1, x_px=0.0, y_px=0.0,
        point_mm=triple(point_mm), source=Source.ANNOTATED, score=1.0,
    )  # fmt: skip


def write_dicom(path: Path, pixels: NDArray[np.uint16], plane: Plane, number: int) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = MRImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.InstanceNumber, data.PixelSpacing = number, list(plane.spacing_mm)
    data.ImagePositionPatient, data.ImageOrientationPatient = list(plane.origin_mm), [*plane.row_dir, *plane.col_dir]
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelData = pixels.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


def _picture(item: Slice, view: View, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Noise with a bright blob at every finding of the view near the slice, larger towards the feet."""
    image = rng.normal(300, 40, item.shape)
    rows, columns = np.mgrid[: item.shape[0], : item.shape[1]]
    for finding in FINDINGS:
        point = true_point(finding)
        if finding.view is view and abs(float(item.plane.distance_mm(point))) < 7:
            x, y = item.plane.to_pixel(point)
            size = 2.0 + 0.7 * finding.level
            image += 1500 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * size**2))
    return np.clip(image, 0, 4095).astype(np.uint16)


def write_challenge(root: Path, count: int) -> None:
    """Writes a challenge directory of crude studies, ids from 100."""
    rng = np.random.default_rng(1)
    grades: dict[str, NDArray[np.int8]] = {}
    coordinates = ["study_id,series_id,instance_number,condition,level,x,y"]
    descriptions = ["study_id,series_id,series_description"]
    for k in range(count):
        study_id, study = str(100 + k), model_study()
        grades[study_id] = rng.integers(0, 3, len(FINDINGS)).astype(np.int8)
        for series in study.series:
            descriptions.append(f"{study_id},{series.series_id},{series.view.value}")
            for item in series.slices:
                path = root / "train_images" / study_id / series.series_id / f"{item.instance_number}.dcm"
                write_dicom(path, _picture(item, series.view, rng), item.plane, item.instance_number)
        coordinates += _coordinate_rows(study_id, truth_of(study))
    write_grades(root / "train.csv", grades)
    (root / "train_label_coordinates.csv").write_text("\n".join(coordinates) + "\n")
    (root / "train_series_descriptions.csv").write_text("\n".join(descriptions) + "\n")


def _coordinate_rows(study_id: str, truth: Mapping[Finding, Localization]) -> list[str]:
    return [
        f"{study_id},{loc.series_id},{loc.instance_number},{f.condition_display},{f.level.display},{loc.x_px},{loc.y_px}"
        for f, loc in truth.items()
    ]
