"""Writes a YOLO data set to disk: 8-bit PNG slices at a fixed mm per pixel, labels and our own data.yaml.

    <folder>/images/{train,val}/NNNNNN.png   grey, image_px
    <folder>/labels/{train,val}/NNNNNN.txt   class x y w h, relative to the image; empty for a slice without levels
    <folder>/data.yaml, export.json          export.json is written last: without it, a folder is unfinished

File names are running numbers, so that nothing from the data becomes part of a path.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from localize.config import LocalizeConfig, ViewConfig
from localize.detector.boxes import LabelledSlice, Role, label_series
from localize.detector.canvas import Canvas, fit_canvas, render
from shared.annotations import annotated_localizations
from shared.data.challenge import Challenge
from shared.dicom.pixels import slice_pixels
from shared.geometry import FloatArray
from shared.labels import Level, View
from shared.runtime.documents import read_document
from shared.runtime.errors import InputError
from shared.runtime.files import write_json, write_text, written_beside
from shared.runtime.problems import counted, folded
from shared.runtime.progress import track

EXPORT_FILE: Final = "export.json"
_PIXELS_FILE: Final = "{part}.npy"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """The data set of one view's detector: its training studies (`train`) and held-out studies (`val`).

    Without `train` the data set serves only to measure a detector.
    """

    data: Challenge
    view: View
    config: LocalizeConfig
    train: Sequence[str] = ()
    val: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportCounts:
    """The numbers of training and held-out images in a data set, and what could not be used."""

    train: int
    val: int
    problems: Sequence[str]


def export_view(request: ExportRequest, folder: Path, *, workers: int = 1) -> ExportCounts:
    """Writes the data set of one view's detector, unless a finished one is there already.

    Raises:
      InputError: when no slice of a part shows a level.
    """
    if (folder / EXPORT_FILE).is_file():
        return read_document(folder / EXPORT_FILE, ExportCounts, advice="delete its folder and go on with --resume")
    if folder.exists():
        shutil.rmtree(folder)
    problems: list[str] = []
    images = {"train": 0, "val": 0}
    for part, study_ids in (("train", request.train), ("val", request.val)):
        if part == "train" and not study_ids:
            continue
        images[part], found = _export_part(request, part, folder, workers)
        problems.extend(found)
        if not images[part]:
            raise InputError(
                f"{request.data.root}: no usable {request.view.value} slice with an annotated level in "
                f"{counted(len(study_ids), 'study')} to {'train' if part == 'train' else 'measure'} on; check "
                f"{request.data.part}_label_coordinates.csv"
            )
    write_text(folder / "data.yaml", _data_yaml(folder, "train" if request.train else "val"))
    counts = ExportCounts(**images, problems=problems)
    write_json(folder / EXPORT_FILE, asdict(counts))
    return counts


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledImages:
    """The images of one part of a data set.

    Attributes:
      pixels: [n, rows, columns], a mapped file, so that a data set may be larger than the memory.
      boxes_xyxy: one [m, 4] per image in pixels, whose centres are whole numbers.
      levels: one [m] per image.
    """

    pixels: NDArray[np.uint8]
    boxes_xyxy: Sequence[FloatArray]
    levels: Sequence[NDArray[np.intp]]


def read_images(folder: Path, part: str) -> LabelledImages:
    """Reads one part of a finished data set, and keeps its pixels in one file from then on."""
    files = sorted((folder / "images" / part).iterdir())
    path = folder / _PIXELS_FILE.format(part=part)
    if not path.is_file():
        shape = (len(files), *_picture(files[0]).shape)
        with written_beside(path) as temporary:
            target = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
            for row, file in enumerate(files):
                target[row] = _picture(file)
            target.flush()
    pixels = np.load(path, mmap_mode="r")
    rows, columns = pixels.shape[1:]
    levels, boxes = [], []
    for file in files:
        text = (folder / "labels" / part / f"{file.stem}.txt").read_text(encoding="ascii")
        lines = np.array([line.split() for line in text.splitlines()], np.float64).reshape(-1, 5)
        center, half = lines[:, 1:3] * (columns, rows) - 0.5, lines[:, 3:] * (columns, rows) / 2
        levels.append(lines[:, 0].astype(np.intp))
        boxes.append(np.concatenate([center - half, center + half], axis=1))
    return LabelledImages(pixels=pixels, boxes_xyxy=boxes, levels=levels)


def _picture(path: Path) -> NDArray[np.uint8]:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise InputError(f"{path}: cannot be read; delete its data set and go on with --resume")
    return np.asarray(picture, np.uint8)


def _data_yaml(folder: Path, training_part: str) -> str:
    """The data set's description. It is always our own: Ultralytics would execute a `download` key in a foreign one."""
    names = "".join(f"  {level.value}: {level.slug}\n" for level in Level)
    # Any JSON string is a YAML string, whatever the folder is called.
    path = '"' + str(folder.resolve()).replace("\\", "\\\\").replace('"', '\\"') + '"'
    return (
        f"path: {path}\ntrain: images/{training_part}\nval: images/val\nchannels: 1\nnc: {len(Level)}\nnames:\n{names}"
    )


def _export_part(request: ExportRequest, part: str, folder: Path, workers: int) -> tuple[int, list[str]]:
    """Writes the images and labels of one part; returns the number of images, 0 when none shows a level."""
    study_ids = request.train if part == "train" else request.val
    images, labels = folder / "images" / part, folder / "labels" / part
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    problems: list[str] = []
    written = positives = 0
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        images_of = pool.map(partial(_study_images, request), study_ids)
        results = track(images_of, f"exporting {request.view.slug} {part}", total=len(study_ids))
        for pictures, found in results:
            problems.extend(found)
            for image, text in pictures:
                path = images / f"{written:06d}.png"
                if not cv2.imwrite(str(path), image):
                    raise InputError(f"{path}: cannot be written; is the disk full?")
                (labels / f"{written:06d}.txt").write_text(text, encoding="ascii")
                written += 1
                positives += bool(text)
    return (written if positives else 0), problems


def _study_images(request: ExportRequest, study_id: str) -> tuple[list[tuple[np.ndarray, str]], list[str]]:
    """A study's images with their labels, and the slices that could not be read."""
    loaded = request.data.load_study(study_id)
    truth = annotated_localizations(loaded.study, request.data.points.get(study_id, ()))
    section = request.config.of_view(request.view)
    pictures, problems = [], list(loaded.problems)
    for series in loaded.study.upright().of_view(request.view):
        errors: list[InputError] = []
        every = label_series(series, truth, section)
        for labelled in choose_slices(every, section.negatives, study_id, request.config.optim.seed):
            try:
                pixels = slice_pixels(labelled.item)
            except InputError as error:
                errors.append(error)
                continue
            canvas, boxes = place(labelled, section)
            pictures.append((render(pixels, canvas), _label_text(boxes, labelled, section.image_px)))
        what = f"of {counted(len(series.slices), 'slice')} cannot be read"
        problems += folded(f"study {study_id} series {series.series_id}", errors, what)
    return pictures, problems


def choose_slices(
    labelled: Iterable[LabelledSlice], negatives: float, study_id: str, seed: int
) -> Iterator[LabelledSlice]:
    """Yields all positives and, per positive, `negatives` of the empty slices, drawn by study id and seed."""
    slices = list(labelled)
    positive = [item for item in slices if item.role is Role.POSITIVE]
    empty = [item for item in slices if item.role is Role.NEGATIVE]
    rng = np.random.default_rng([seed, *study_id.encode()])
    wanted = min(len(empty), round(negatives * len(positive)))
    yield from positive
    yield from (empty[i] for i in sorted(rng.permutation(len(empty))[:wanted]))


def place(labelled: LabelledSlice, section: ViewConfig) -> tuple[Canvas, FloatArray]:
    """Returns the training canvas of a slice and its boxes on the canvas, [n, 4]."""
    boxes_px = np.array([box.box_xyxy_px for box in labelled.boxes], np.float64).reshape(-1, 4)
    center = None
    if len(boxes_px):
        x, y = ((boxes_px[:, :2] + boxes_px[:, 2:]) / 2).mean(0)
        center = (float(x), float(y))
    canvas = fit_canvas(labelled.item, section.mm_per_px, section.image_px, crop=True, center_px=center)
    return canvas, canvas.boxes_to_canvas(boxes_px)


def _label_text(boxes_xyxy: FloatArray, labelled: LabelledSlice, shape: tuple[int, int]) -> str:
    """A YOLO label file. Half a pixel is added, because pixel centres are whole numbers here and halves in YOLO."""
    lines = []
    rows, columns = shape
    clipped = np.clip(boxes_xyxy + 0.5, 0, [columns, rows, columns, rows])
    for level_box, (left, top, right, bottom) in zip(labelled.boxes, clipped, strict=True):
        if right - left < 2 or bottom - top < 2:
            continue
        values = (
            (left + right) / 2 / columns, (top + bottom) / 2 / rows, (right - left) / columns, (bottom - top) / rows,
        )  # fmt: skip
        lines.append(f"{level_box.level.value} " + " ".join(f"{v:.6f}" for v in values))
    return "\n".join(lines) + ("\n" if lines else "")
