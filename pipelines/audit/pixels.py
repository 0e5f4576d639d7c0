"""Checks that decode pixels: whether they can be read, and whether axial slices are mirrored against sagittal ones."""

from enum import StrEnum
from pathlib import Path

import numpy as np

from pipelines.audit.files import FileRead, StudyRead
from pipelines.audit.issues import Code, Issue
from shared.dicom.intensity import scale_to_8bit
from shared.dicom.reader import read_raw_pixels
from shared.labels import View
from shared.mirror.correct import fit_study, quick_look
from shared.mirror.fit import Picture
from shared.runtime.errors import InputError, shown
from shared.runtime.names import name_of
from shared.runtime.problems import counted
from shared.study import Slice, Study


class Pixels(StrEnum):
    """Which pixels an audit decodes."""

    NONE = "none"
    SAMPLE = "sample"
    ALL = "all"


def check_pixels(root: Path, read: StudyRead, mode: Pixels) -> list[Issue]:
    """Decodes some slices of each series (SAMPLE) or all of them, and compares axial slices with sagittal ones.

    Args:
      root: the data folder; file names in issues are relative to it.
    """
    if mode is Pixels.NONE:
        return []
    issues: list[Issue] = []
    # In 8 bit and of some slices only: a whole study in the scanner's own values takes half a gigabyte.
    pictures: dict[str, list[tuple[Slice, Picture]]] = {}
    for item in read.series:
        whole = [f for f in item.files if f.encoding.damage is None]
        compared = set(quick_look(len(whole), item.series.view)) if whole else set()
        sample = {len(whole) // 2, *compared}
        pictures[item.series.series_id] = kept = []
        for k, file in enumerate(whole):
            if k not in sample and mode is Pixels.SAMPLE:
                continue
            picture = _decode(root, item.series.series_id, file, issues)
            if picture is not None and k in compared:
                kept.append((file.slice, scale_to_8bit(picture)))
    return issues + _mirrored(read.study, pictures)


def _decode(root: Path, series_id: str, file: FileRead, issues: list[Issue]) -> Picture | None:
    path = file.slice.path

    def add(code: Code, reason: str) -> None:
        issues.append(
            Issue(
                code=code, series_id=series_id, instance_number=file.slice.instance_number,
                file=name_of(path), reason=reason,
            )
        )  # fmt: skip

    try:
        picture = read_raw_pixels(path, file.slice.frame)
    except InputError as error:
        add(Code.PIXELS_UNREADABLE, str(error).removeprefix(shown(f"{path}: ")))
        return None
    if np.ptp(picture) == 0:
        add(Code.PIXELS_FLAT, f"all pixels are {float(picture.flat[0]):g}")
    return picture


def _mirrored(study: Study, pictures: dict[str, list[tuple[Slice, Picture]]]) -> list[Issue]:
    issues = []
    for series in study.of_view(View.AXIAL_T2):
        fit = fit_study(study, series, lambda s: pictures[s.series_id])
        if fit.is_mirrored:
            direct, mirrored = float(fit.direct.mean()), float(fit.mirrored.mean())
            reason = (
                f"over {counted(len(fit.direct), 'slice')}, the sagittal ones explain {direct:.0%} of the "
                "variance as stored and "
                f"{mirrored:.0%} when mirrored"
            )
            issues.append(Issue(code=Code.PIXELS_MIRRORED, series_id=series.series_id, reason=reason))
    return issues
