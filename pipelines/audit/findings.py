"""What an audit can find: a stable code each, how grave it is, what it means and what to do about it.

Called issues in the code, because a `Finding` is one of the 25 graded things.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum

import pandas as pd

from shared.labels import Finding


class Gravity(StrEnum):
    """Error: data are wrong or cannot be used. Warning: suspicious, or a part is lacking.

    Note: normal in real data and handled here, but apt to break naive code.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


_E, _W, _N = Gravity.ERROR, Gravity.WARNING, Gravity.NOTE


class Code(Enum):
    """slug, gravity, meaning, what to do. The slugs are stable: scripts may rely on them."""

    # The tables.
    TABLE_UNUSABLE = ("table-unusable", _E, "A table is missing or lacks a column.", "Restore it from the archive.")
    CELL_INVALID = (
        "cell-invalid",
        _E,
        "A row holds an id, name, grade or number that is none.",
        "Correct the row; it is left out.",
    )
    ROW_REPEATED = ("row-repeated", _E, "A study or series is listed twice.", "Keep one row; the first counts here.")
    STUDY_WITHOUT_SERIES = (
        "study-without-series",
        _E,
        "A graded study is missing from the series descriptions.",
        "Add its series or drop the study: without a view no image of it is read.",
    )
    STUDY_WITHOUT_GRADES = (
        "study-without-grades",
        _W,
        "A study with series has no row in the grades.",
        "It trains nothing; add its grades.",
    )
    STUDY_IN_BOTH_PARTS = (
        "study-in-both-parts",
        _E,
        "A study belongs to the training and the test part.",
        "Drop it from one of them.",
    )
    SUBMISSION_ROWS = (
        "submission-rows",
        _W,
        "The sample submission does not name the 25 rows of each test study.",
        "Compare it with the test part's series descriptions.",
    )
    GRADE_MISSING = ("grade-missing", _N, "Findings nobody graded.", "Mask them; they are never Normal/Mild.")
    GRADE_WITHOUT_POINT = (
        "grade-without-point",
        _W,
        "Graded findings without a point.",
        "They train no localizer and no crop at true points; classify train --localizations can place them.",
    )
    POINT_WITHOUT_GRADE = (
        "point-without-grade",
        _N,
        "Points whose finding nobody graded.",
        "They train the localizer only.",
    )
    STUDY_WITHOUT_POINTS = (
        "study-without-points",
        _W,
        "A graded study has no point at all.",
        "Use localizations for its crops.",
    )
    # Files and folders.
    IMAGES_MISSING = (
        "images-missing",
        _E,
        "A listed study, or the whole part, has no folder of images.",
        "Restore the images.",
    )
    SERIES_EMPTY = ("series-empty", _E, "A listed series has no readable slice.", "Restore its files.")
    FOLDER_UNLISTED = (
        "folder-unlisted",
        _W,
        "A folder of images is in no table.",
        "It is not read; list it or remove it.",
    )
    FILE_UNREADABLE = (
        "file-unreadable",
        _E,
        "A file cannot be read as one DICOM image, or a folder not at all.",
        "Restore it or its permissions; it is left out.",
    )
    NO_IMAGE = (
        "no-image",
        _N,
        "A DICOM object without pixels: DICOMDIR, report, presentation state, PDF.",
        "It is passed over.",
    )
    NO_PLANE = ("no-plane", _E, "A header gives no usable plane.", "The slice is left out; restore its geometry tags.")
    PIXELS_UNREADABLE = (
        "pixels-unreadable",
        _E,
        "A header is whole, its pixels are not.",
        "Restore the file; the slice cannot be shown.",
    )
    PIXELS_FLAT = ("pixels-flat", _W, "All pixels of a slice are equal.", "Look at it; nothing can be graded on it.")
    FILE_UNEXPECTED = (
        "file-unexpected",
        _N,
        "A series' folder holds something that is no .dcm file.",
        "It is passed over.",
    )
    NUMBER_DIFFERS = (
        "number-differs",
        _N,
        "File names and InstanceNumber tags disagree.",
        "The file name counts, as in the tables.",
    )
    SERIES_MIXED = (
        "series-mixed",
        _W,
        "One folder holds files of several SeriesInstanceUIDs.",
        "Check that they belong together.",
    )
    SERIES_UNUSED = ("series-unused", _N, "A series of a plain folder has no view.", "It is passed over.")
    # How pixels are stored.
    MONOCHROME1 = (
        "monochrome1",
        _N,
        "Low values are bright.",
        "Read them through shared.dicom, which inverts them.",
    )
    SIGNED_PIXELS = ("signed-pixels", _N, "Stored values are signed.", "Do not read them as unsigned.")
    RESCALED = ("rescaled", _N, "RescaleSlope and RescaleIntercept are not 1 and 0.", "Apply them.")
    TRANSFER_SYNTAX = (
        "transfer-syntax",
        _N,
        "Neither plain little endian nor RLE Lossless.",
        "A decoder or a byte swap is needed.",
    )
    LOSSY = ("lossy", _W, "The pixels went through a lossy encoder.", "Use the original if there is one.")
    SEVERAL_WINDOWS = ("several-windows", _N, "WindowCenter has several values.", "Do not read it as one number.")
    TAGS_MISSING = ("tags-missing", _N, "Tags that other code may rely on are absent.", "Do without them.")
    FRAME_OF_REFERENCE = (
        "frame-of-reference",
        _N,
        "FrameOfReferenceUID differs within a study.",
        "Normal in de-identified data: compare positions across series without requiring it.",
    )
    # Series and stacks.
    VIEW_MISSING = ("view-missing", _W, "A study lacks a view.", "Findings of that view can only get the prior.")
    VIEW_WRONG = (
        "view-wrong",
        _E,
        "A series lies in another plane than its description says.",
        "Correct the description.",
    )
    SEVERAL_SERIES = (
        "several-series",
        _N,
        "A study has several series of one view.",
        "Choose by geometry, or use all.",
    )
    LEVELS_SPLIT = ("levels-split", _N, "Its axial levels are spread over several series.", "Use all of them.")
    FOREIGN_ANATOMY = (
        "foreign-anatomy",
        _E,
        "A series lies elsewhere in the body than the study's others.",
        "Look at it (a neck among lumbar series?) and take it out of the series descriptions.",
    )
    FIELD_DIFFERS = (
        "field-differs",
        _W,
        "A sagittal field of view is much smaller than another of its study.",
        "Look at it: part of the levels, or another part of the spine.",
    )
    FEW_SLICES = ("few-slices", _W, "A series has fewer slices than any diagnostic one.", "Is it a localizer?")
    FEET_FIRST = ("feet-first", _N, "Axial instances run from feet to head.", "Order by position, never by number.")
    NUMBERS_HUGE = ("numbers-huge", _N, "Instance numbers start in the thousands.", "Never use them as an index.")
    NUMBERS_UNORDERED = (
        "numbers-unordered",
        _N,
        "Instance numbers do not follow the positions.",
        "Order by position, never by number.",
    )
    NUMBERS_REPEATED = (
        "numbers-repeated",
        _W,
        "Instance numbers repeat within a series.",
        "Slices are numbered by position instead.",
    )
    TILTS_MIXED = ("tilts-mixed", _N, "One series holds stacks of differing tilt.", "Give every slice its own plane.")
    SIZES_MIXED = ("sizes-mixed", _N, "One series holds slices of differing size.", "Do not stack them as one array.")
    SPACING_MIXED = (
        "spacing-mixed",
        _N,
        "One series holds pixels of differing size.",
        "Measure in mm, slice by slice.",
    )
    POSITIONS_REPEATED = (
        "positions-repeated",
        _N,
        "Slices of one series share a position.",
        "Expect gaps of 0 mm; both are kept.",
    )
    SLICES_LACKING = (
        "slices-lacking",
        _W,
        "A gap between sagittal slices is much wider than the others.",
        "Is a file missing?",
    )
    # Points.
    POINT_WITHOUT_SERIES = (
        "point-without-series",
        _E,
        "A point names a series that is not there.",
        "Correct it; the point is left out.",
    )
    POINT_WITHOUT_SLICE = (
        "point-without-slice",
        _E,
        "A point names a slice that is not there.",
        "Correct it; the point is left out.",
    )
    POINT_OUTSIDE = ("point-outside", _E, "A point lies outside its image.", "Correct it; the point is left out.")
    POINT_IN_CORNER = ("point-in-corner", _E, "A point was left in the picture's corner.", "Correct or drop it.")
    POINT_REPEATED = ("point-repeated", _W, "A finding has several points.", "Keep one; the first counts here.")
    POINT_FAR = (
        "point-far",
        _W,
        "A point lies far from the other points of its level.",
        "Look at it: misplaced, or moved slices?",
    )
    VIEW_OF_POINTS = (
        "view-of-points",
        _E,
        "Points lie on a series of another view than their condition's.",
        "Correct them; they are left out.",
    )
    SIDES_SWAPPED = (
        "sides-swapped",
        _E,
        "Left and right points lie on the wrong sides of the patient.",
        "Swap or drop them.",
    )
    AXIAL_MIRRORED = (
        "axial-mirrored",
        _E,
        "All pairs of an axial series lie on the wrong sides: picture or header is mirrored.",
        "Mirror the pixels, or drop the series.",
    )
    PIXELS_MIRRORED = (
        "pixels-mirrored",
        _W,
        "An axial series fits the sagittal ones better when mirrored.",
        "Look at it (aorta and liver tell the sides). Both stages take its sides from what it shows.",
    )
    FORAMINA_ON_ONE_SLICE = (
        "foramina-on-one-slice",
        _E,
        "Left and right foramen are marked on one sagittal slice.",
        "One of the two is wrong: drop the pair or mark it anew.",
    )
    LEVEL_ORDER = ("level-order", _E, "Points of one condition do not run from head to foot.", "Correct the levels.")
    LEVELS_SHIFTED = (
        "levels-shifted",
        _E,
        "Points of one condition lie a level away from another's.",
        "Count the levels anew. A shift of all conditions together cannot be seen.",
    )
    LEVEL_APART = (
        "level-apart", _W, "At one level the conditions' points lie apart along the spine.", "Look at that level.",
    )  # fmt: skip

    def __init__(self, slug: str, gravity: Gravity, meaning: str, advice: str) -> None:
        self.slug, self.gravity, self.meaning, self.advice = slug, gravity, meaning, advice

    @classmethod
    def from_slug(cls, slug: str) -> "Code":
        return next(code for code in cls if code.slug == slug)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One thing that an audit found.

    Attributes:
      reason: what was expected and what is there, in plain words.
      study_id, series_id, instance_number: where; empty or None for what concerns more than one of them.
      file: below the data folder.
    """

    code: Code
    reason: str
    part: str = ""
    study_id: str = ""
    series_id: str = ""
    instance_number: int | None = None
    file: str = ""


def finding_name(finding: Finding) -> str:
    """As reasons name it: `left subarticular L4/L5`."""
    side = "" if finding.side is None else f"{finding.side.value} "
    return f"{side}{finding.condition.short} {finding.level.display}"


COLUMNS = ("code", "severity", "part", "study_id", "series_id", "instance_number", "file", "reason", "advice")


def sort_issues(issues: Iterable[Issue]) -> list[Issue]:
    """Errors first, then by code in the order of `Code`, then by place."""
    gravities, codes = list(Gravity), {code: n for n, code in enumerate(Code)}
    return sorted(
        issues,
        key=lambda i: (
            gravities.index(i.code.gravity), codes[i.code], i.part, i.study_id, i.series_id, i.instance_number or 0,
            i.file, i.reason,
        ),
    )  # fmt: skip


def count_gravities(issues: Iterable[Issue]) -> dict[Gravity, int]:
    counts = Counter(issue.code.gravity for issue in issues)
    return {gravity: counts[gravity] for gravity in Gravity}


def to_table(issues: Sequence[Issue]) -> pd.DataFrame:
    """findings.csv: one row an issue."""
    rows = [
        (i.code.slug, i.code.gravity.value, i.part, i.study_id, i.series_id,
         "" if i.instance_number is None else str(i.instance_number), i.file, i.reason, i.code.advice)
        for i in issues
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
