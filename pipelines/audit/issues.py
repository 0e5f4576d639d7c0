"""What an audit can report: each kind of issue with a stable code, a category, its meaning and what to do about it.

The word is issue, because a `Finding` is one of the 25 graded things. Only findings.csv keeps its older name.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Final

import pandas as pd
from pydantic import PlainSerializer, PlainValidator

from shared.labels import Condition, Finding, Level, Side
from shared.runtime.errors import InputError
from shared.runtime.tables import Kind, read_csv


class Category(StrEnum):
    """How serious an issue is, the most serious first."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


LEGEND: Final = (
    "Error: data are wrong or cannot be used. Warning: data are suspicious or incomplete. "
    "Note: normal in real data and handled here, but likely to break naive code."
)
_E, _W, _N = Category.ERROR, Category.WARNING, Category.NOTE


# fmt: off
class Code(Enum):
    """The codes, each with its category, its meaning and what to do. Scripts rely on the slugs: never change one."""

    # Tables.
    TABLE_UNUSABLE = (_E, "A table is missing or lacks a column.", "Restore it from the archive.")
    CELL_INVALID = (_E, "A cell holds an invalid id, name, grade or number.", "Correct it; the row is skipped.")
    ROW_REPEATED = (_E, "A study or series is listed twice.", "Keep one row; the first one is used.")
    STUDY_WITHOUT_SERIES = (_E, "A graded study is missing from the series descriptions.",
                            "Add its series or drop the study: without a view, none of its images is read.")
    STUDY_WITHOUT_GRADES = (_W, "A study with series has no row in the grades.",
                            "Add its grades; without them it cannot be used for training.")
    STUDY_IN_BOTH_PARTS = (_E, "A study belongs to both the training and the test part.", "Drop it from one of them.")
    SUBMISSION_ROWS = (_W, "The sample submission does not name the 25 rows of each test study.",
                       "Compare it with the test part's series descriptions.")
    GRADE_MISSING = (_N, "Some findings have no grade.", "Mask them; a missing grade never means Normal/Mild.")
    GRADE_WITHOUT_POINT = (_W, "Some graded findings have no point.",
                           "They train neither the localizer nor crops at true points; classify train --localizations "
                           "can place them.")
    POINT_WITHOUT_GRADE = (_N, "Some points belong to findings without a grade.", "They train the localizer only.")
    STUDY_WITHOUT_POINTS = (_W, "A graded study has no points.", "Use localizations for its crops.")
    # Files and folders.
    IMAGES_MISSING = (_E, "A listed study, or the whole part, has no image folder.", "Restore the images.")
    SERIES_EMPTY = (_E, "A listed series has no readable slice.", "Restore its files.")
    FOLDER_UNLISTED = (_W, "An image folder is listed in no table.", "It is not read; list it or remove it.")
    FILE_UNREADABLE = (_E, "A file cannot be read as a DICOM image, or a folder cannot be read.",
                       "Restore it or its permissions; it is skipped.")
    NO_IMAGE = (_N, "A DICOM object has no pixels: DICOMDIR, report, presentation state or PDF.", "It is skipped.")
    NO_PLANE = (_E, "A header does not define a usable plane.", "Restore its geometry tags; the slice is skipped.")
    PIXELS_UNREADABLE = (_E, "A file's header can be read, but its pixels cannot.",
                         "Restore the file; the slice cannot be shown.")
    PIXELS_FLAT = (_W, "All pixels of a slice are equal.", "Look at it; nothing can be graded on it.")
    FILE_UNEXPECTED = (_N, "A series folder holds something other than .dcm files.", "It is skipped.")
    NUMBER_DIFFERS = (_N, "File names and InstanceNumber tags disagree.", "The file name is used, as in the tables.")
    SERIES_MIXED = (_W, "One folder holds files with different SeriesInstanceUIDs.", "Check that they belong together.")
    SERIES_UNUSED = (_N, "A series of a plain folder shows none of the three views.", "It is skipped.")
    # How pixels are stored.
    MONOCHROME1 = (_N, "Low values are bright.", "Read them through shared.dicom.reader, which inverts them.")
    SIGNED_PIXELS = (_N, "Stored values are signed.", "Do not read them as unsigned.")
    RESCALED = (_N, "RescaleSlope and RescaleIntercept are not 1 and 0.", "Apply them.")
    TRANSFER_SYNTAX = (_N, "The transfer syntax is neither plain little endian nor RLE Lossless.",
                       "Use a reader with the right decoder or byte order.")
    LOSSY = (_W, "The pixels went through a lossy encoder.", "Use the original if there is one.")
    SEVERAL_WINDOWS = (_N, "WindowCenter has several values.", "Do not read it as one number.")
    TAGS_MISSING = (_N, "Tags that other code may rely on are absent.", "Do without them.")
    FRAME_OF_REFERENCE = (_N, "FrameOfReferenceUID differs within a study.",
                          "Normal in de-identified data: compare positions across series without requiring it.")
    # Series and stacks.
    VIEW_MISSING = (_W, "A study lacks a view.", "Findings of that view can only get the prior.")
    VIEW_WRONG = (_E, "A series lies in another plane than its description says.", "Correct the description.")
    SEVERAL_SERIES = (_N, "A study has several series of one view.", "Choose by geometry, or use all.")
    LEVELS_SPLIT = (_N, "A study's axial levels are spread over several series.", "Use all of them.")
    FOREIGN_ANATOMY = (_E, "A series lies elsewhere in the body than the study's others.",
                       "Look at it (a neck among lumbar series?) and take it out of the series descriptions.")
    FIELD_DIFFERS = (_W, "A sagittal field of view is much smaller than another one of its study.",
                     "Look at it: it may show only some levels, or another part of the spine.")
    FEW_SLICES = (_W, "A series has fewer slices than any diagnostic one.", "Check whether it is a localizer.")
    FEET_FIRST = (_N, "Axial instance numbers run from feet to head.", "Order by position, never by number.")
    NUMBERS_HUGE = (_N, "Instance numbers start in the thousands.", "Never use them as an index.")
    NUMBERS_UNORDERED = (_N, "Instance numbers do not follow the positions.", "Order by position, never by number.")
    NUMBERS_REPEATED = (_W, "Instance numbers repeat within a series.", "Slices are numbered by position instead.")
    TILTS_MIXED = (_N, "One series holds stacks of different tilt.", "Give every slice its own plane.")
    SIZES_MIXED = (_N, "One series holds slices of different size.", "Do not stack them as one array.")
    SPACING_MIXED = (_N, "One series holds slices of different pixel size.", "Measure in mm, slice by slice.")
    POSITIONS_REPEATED = (_N, "Slices of one series share a position.", "Expect gaps of 0 mm; all are kept.")
    SLICES_LACKING = (_W, "A gap between sagittal slices is much wider than the others.",
                      "Check whether a file is missing.")
    # Points.
    POINT_WITHOUT_SERIES = (_E, "A point names a series that does not exist.", "Correct it; the point is skipped.")
    POINT_WITHOUT_SLICE = (_E, "A point names a slice that does not exist.", "Correct it; the point is skipped.")
    POINT_OUTSIDE = (_E, "A point lies outside its image.", "Correct it; the point is skipped.")
    POINT_IN_CORNER = (_E, "A point was left in the corner of its image.", "Correct it or drop it.")
    POINT_REPEATED = (_W, "A finding has several points.", "Keep one; the first one is used.")
    POINT_FAR = (_W, "A point lies far from the other points of its level.",
                 "Look at it: the point may be misplaced, or the slices shifted.")
    VIEW_OF_POINTS = (_E, "Points lie on a series of another view than their condition's.",
                      "Correct them; they are skipped.")
    SIDES_SWAPPED = (_E, "Left and right points lie on the wrong sides of the patient.", "Swap them or drop them.")
    AXIAL_MIRRORED = (_E, "All left-right pairs of an axial series are swapped: its pixels or headers are mirrored.",
                      "Mirror the pixels, or drop the series.")
    PIXELS_MIRRORED = (_W, "An axial series fits the sagittal ones better when mirrored.",
                       "Look at it (aorta and liver tell the sides). Both stages trust the pixels, not the header.")
    FORAMINA_ON_ONE_SLICE = (_E, "Left and right foramen are marked on one sagittal slice.",
                             "One of the two is wrong: drop the pair or mark it again.")
    LEVEL_ORDER = (_E, "Points of one condition do not run from head to foot.", "Correct the levels.")
    LEVELS_SHIFTED = (_E, "Points of one condition lie a level away from another's.",
                      "Count the levels again. A shift of all conditions together cannot be seen.")
    LEVEL_APART = (_W, "At one level the conditions' points lie apart along the spine.", "Look at that level.")

    def __init__(self, category: Category, meaning: str, advice: str) -> None:
        self.category, self.meaning, self.advice = category, meaning, advice

    @property
    def slug(self) -> str:
        """As files and pages spell the code, for example `point-outside`."""
        return self.name.lower().replace("_", "-")
# fmt: on


# How a kept result spells a code.
_CodeBySlug = Annotated[
    Code,
    PlainSerializer(lambda code: code.slug),
    PlainValidator(lambda slug: next(code for code in Code if slug in (code, code.slug))),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One thing that an audit reports.

    Attributes:
      reason: what was expected and what was found, in plain words.
      part, study_id, series_id, instance_number: where; empty or None for an issue that concerns several of them.
      file: path below the data folder.
    """

    code: _CodeBySlug
    reason: str
    part: str = ""
    study_id: str = ""
    series_id: str = ""
    instance_number: int | None = None
    file: str = ""


def name_findings(*findings: Finding) -> str:
    """Short names, with the levels of one condition and side together: `left subarticular L1/L2 L2/L3; canal L5/S1`."""
    groups: dict[tuple[Condition, Side | None], list[Level]] = {}
    for f in findings:
        groups.setdefault((f.condition, f.side), []).append(f.level)
    return "; ".join(
        f"{f'{side.value} ' if side else ''}{condition.short} {' '.join(level.display for level in levels)}"
        for (condition, side), levels in groups.items()
    )


def sort_issues(issues: Iterable[Issue]) -> list[Issue]:
    """The most serious first, then by code in the order of `Code`, then by place."""
    categories, codes = list(Category), {code: n for n, code in enumerate(Code)}
    return sorted(
        issues,
        key=lambda i: (
            categories.index(i.code.category), codes[i.code], i.part, i.study_id, i.series_id, i.instance_number or 0,
            i.file, i.reason,
        ),
    )  # fmt: skip


def count_categories(issues: Iterable[Issue]) -> dict[Category, int]:
    counts = Counter(issue.code.category for issue in issues)
    return {category: counts[category] for category in Category}


def to_table(issues: Sequence[Issue]) -> pd.DataFrame:
    """The table of findings.csv, one row per issue. Its column `severity` holds the category."""
    columns = ["code", "severity", "part", "study_id", "series_id", "instance_number", "file", "reason", "advice"]
    rows = [
        (i.code.slug, i.code.category.value, i.part, i.study_id, i.series_id,
         "" if i.instance_number is None else str(i.instance_number), i.file, i.reason, i.code.advice)
        for i in issues
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns, dtype=object)


def read_issues(path: Path) -> list[Issue]:
    """Reads findings.csv; raises `InputError` where it is missing or damaged."""
    columns: dict[str, Kind] = dict.fromkeys(
        ("code", "part", "study_id", "series_id", "instance_number", "file", "reason"), "string"
    )
    codes, issues = {code.slug: code for code in Code}, []
    for line, *texts in read_csv(path, columns).fillna("").itertuples(name=None):
        code, part, study_id, series_id, number, file, reason = map(str, texts)
        if code not in codes or not (number or "0").isdecimal():
            raise InputError(f"{path} line {line}: is no issue of an audit; restore the file")
        issues.append(
            Issue(code=codes[code], part=part, study_id=study_id, series_id=series_id, file=file, reason=reason,
                  instance_number=int(number) if number else None)
        )  # fmt: skip
    return issues
