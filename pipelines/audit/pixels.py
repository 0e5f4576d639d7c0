"""Checks that decode pixels: can they be read at all, and do axial pictures fit the sagittal ones side by side."""

from enum import StrEnum
from pathlib import Path

import numpy as np

from pipelines.audit.files import FileRead, StudyRead
from pipelines.audit.findings import Code, Issue
from shared.dicom.intensity import scale_to_8bit
from shared.dicom.reader import read_raw_pixels
from shared.labels import View
from shared.mirror.correct import fit_study, quick_look
from shared.mirror.fit import Picture
from shared.runtime.errors import InputError
from shared.study import Series, Slice


class Pixels(StrEnum):
    """Which pixels an audit decodes."""

    NONE = "none"
    SAMPLE = "sample"
    ALL = "all"


def check_pixels(root: Path, read: StudyRead, mode: Pixels) -> list[Issue]:
    """Decodes some slices of each series (SAMPLE) or all, and compares some axial pictures with sagittal ones.

    Args:
      root: the data folder, which paths in reasons start below.
    """
    issues: list[Issue] = []
    # In 8 bit and of some slices only: a whole study of the scanner's values is half a gigabyte.
    pictures: dict[str, list[tuple[Slice, Picture]]] = {}
    for item in read.series if mode is not Pixels.NONE else ():
        whole = [f for f in item.files if f.encoding.damage is None]
        compared = set(quick_look(len(whole), item.series.view)) if whole else set()
        sample = {len(whole) // 2, *compared}
        pictures[item.series.series_id] = kept = []
        for k, file in enumerate(whole):
            if k not in sample and mode is Pixels.SAMPLE:
                continue
            picture = _decode(root, read, item.series, file, issues)
            if picture is not None and k in compared:
                kept.append((file.slice, scale_to_8bit(picture)))
    return issues if mode is Pixels.NONE else issues + _mirrored(read, pictures)


def _decode(root: Path, read: StudyRead, series: Series, file: FileRead, issues: list[Issue]) -> Picture | None:
    path = file.slice.path

    def tell(code: Code, reason: str) -> None:
        issues.append(
            Issue(
                code=code, part=read.part, study_id=read.study_id, series_id=series.series_id,
                instance_number=file.slice.instance_number, file=str(path.relative_to(root)), reason=reason,
            )
        )  # fmt: skip

    try:
        picture = read_raw_pixels(path)
    except InputError as error:
        tell(Code.PIXELS_UNREADABLE, str(error).removeprefix(f"{path}: "))
        return None
    if np.ptp(picture) == 0:
        tell(Code.PIXELS_FLAT, f"all pixels are {float(picture.flat[0]):g}")
    return picture


def _mirrored(read: StudyRead, pictures: dict[str, list[tuple[Slice, Picture]]]) -> list[Issue]:
    study = read.study
    issues = []
    for series in study.of_view(View.AXIAL_T2):
        fit = fit_study(study, series, lambda s: pictures[s.series_id])
        if fit.is_mirrored:
            worse, better = float(fit.direct.mean()), float(fit.mirrored.mean())
            reason = (
                f"sagittal slices explain {worse:.0%} of its variance, {better:.0%} of the mirrored ones'; "
                f"{len(fit.direct)} slices"
            )
            issues.append(
                Issue(code=Code.PIXELS_MIRRORED, part=read.part, study_id=read.study_id, series_id=series.series_id,
                      reason=reason)
            )  # fmt: skip
    return issues
