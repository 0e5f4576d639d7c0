"""`lumbar show`: a contact sheet of one study with its points, boxes and grades, as one PNG."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from shared.data.challenge import Part, read_grades, read_points
from shared.data.source import StudySource, open_parts
from shared.detections import Localization, read_detections, read_localizations
from shared.dicom.pixels import slice_pixels
from shared.figures.marks import Marks
from shared.figures.page import png_bytes
from shared.figures.sheet import draw_sheet
from shared.figures.study_sheet import level_sheet, overview_sheet
from shared.labels import Finding, Level
from shared.probabilities.files import read_probabilities
from shared.runtime.errors import InputError
from shared.runtime.files import written_beside
from shared.runtime.problems import counted
from shared.runtime.progress import log
from shared.study import LoadedStudy

_NAMED_IDS: Final = 5
_PNG: Final = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowOptions:
    """What to draw besides the slices and the data's own points and grades.

    Attributes:
      part: of a challenge directory; both are searched by default.
      series: id of the only series to draw, larger.
      level: the only level to draw.
      localizations: a localizations.csv.
      prediction: output folder of `lumbar predict` or `lumbar localize predict`.
      truth: folder with test.csv and test_label_coordinates.csv, for studies whose own tables have neither.
    """

    part: Part | None = None
    series: str | None = None
    level: Level | None = None
    localizations: Path | None = None
    prediction: Path | None = None
    truth: Path | None = None


def show(data: Path, study_id: str | None, out: Path | None, options: ShowOptions, *, overwrite: bool = False) -> str:
    """Writes the sheet and returns a one-line summary.

    A slice that cannot be read becomes a tile that says so, and is named on standard error.

    Raises:
      InputError: for a study, series or level that is not there, tables that do not fit, or an unusable `out`.
    """
    if out is not None:
        _check_target(out, overwrite)
    source, loaded = _find(data, study_id, out, options.part)
    if out is None:
        raise InputError(f"OUT.png is missing: lumbar show {data} {study_id} OUT.png")
    for problem in loaded.problems:
        log(problem)
    study = loaded.study
    marks = _with_prediction(_marks(source, study.study_id, options.truth), study.study_id, options)
    if options.level is not None:
        sheet = level_sheet(study, marks, options.level, options.series)
    else:
        sheet = overview_sheet(study, marks, options.series)
    image, unreadable = draw_sheet(sheet, slice_pixels)
    with written_beside(out) as temporary:
        temporary.write_bytes(png_bytes(image))
    for problem in unreadable:
        log(problem)
    tiles = sum(len(s.tiles) for s in sheet.sections)
    remark = f", {len(unreadable)} unreadable" if unreadable else ""
    return f"{out}: {counted(tiles, 'slice')} of {len(sheet.sections)} series{remark}"


def _check_target(out: Path, overwrite: bool) -> None:
    if out.suffix.lower() != ".png":
        raise InputError(f"{out}: expected a file name that ends in .png; other formats are not written")
    if out.is_dir() or out.is_symlink():
        raise InputError(f"{out}: is a folder or a link; expected a .png file to write")
    if out.exists() and not overwrite:
        raise InputError(f"{out}: exists already; choose another name or pass --overwrite")
    if out.exists():
        with out.open("rb") as file:
            if file.read(len(_PNG)) != _PNG:
                raise InputError(f"{out}: is no PNG picture, so --overwrite does not replace it; choose another name")


def _find(data: Path, study_id: str | None, out: Path | None, part: Part | None) -> tuple[StudySource, LoadedStudy]:
    """The study from whichever part holds it."""
    sources = open_parts(data, part)
    for source in sources:
        if study_id in source.study_ids:
            return source, source.load(str(study_id))
    ids = [s for source in sources for s in source.study_ids]
    some = ", ".join(ids[:_NAMED_IDS]) + (f" and {len(ids) - _NAMED_IDS} more" if len(ids) > _NAMED_IDS else "")
    # When one argument is missing, the name of the picture is in the place of the study's id.
    left_out = study_id is None or (out is None and study_id.lower().endswith(".png"))
    what = "STUDY_ID is missing" if left_out else f"no study {study_id!r}"
    raise InputError(f"{data}: {what}; expected one of {some or 'its studies, but there are none'}")


def _marks(source: StudySource, study_id: str, truth: Path | None) -> Marks:
    """Points and grades of the data's own tables, or of `truth` where that is given."""
    if truth is not None:
        grades, points = read_grades(truth / "test.csv"), read_points(truth / "test_label_coordinates.csv")
        if study_id not in grades and study_id not in points:
            raise InputError(f"{truth}: its tables do not hold study {study_id}; they belong to other data")
        return Marks(points=points.get(study_id, ()), grades=grades.get(study_id))
    data = source.challenge
    if data is None:
        return Marks()
    grades_row = None if data.grades is None else data.grades_of([study_id])[0]
    return Marks(points=data.points.get(study_id, ()), grades=grades_row)


def _with_prediction(marks: Marks, study_id: str, options: ShowOptions) -> Marks:
    """Adds what was predicted for the study."""
    if options.localizations is not None:
        return replace(marks, localizations=_of_study(options.localizations, study_id))
    folder = options.prediction
    if folder is None:
        return marks
    points = _of_study(folder / "localizations.csv", study_id)
    boxes_path, table_path = folder / "detections.csv", folder / "probabilities.csv"
    boxes = [b for b in read_detections(boxes_path) if b.study_id == study_id] if boxes_path.is_file() else []
    table = read_probabilities(table_path) if table_path.is_file() else None
    known = table is not None and study_id in table.study_ids
    return replace(
        marks,
        localizations=points,
        detections=tuple(boxes),
        probabilities=table.select([study_id]).probabilities[0] if table is not None and known else None,
    )


def _of_study(path: Path, study_id: str) -> tuple[Localization, ...]:
    by_study: dict[str, dict[Finding, Localization]] = read_localizations(path)
    if study_id not in by_study:
        log(f"{path}: holds no point of study {study_id}; nothing predicted is drawn")
    return tuple(by_study.get(study_id, {}).values())
