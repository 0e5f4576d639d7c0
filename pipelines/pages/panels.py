"""Where everything on a picture stands: the part of the slice that is shown, marks, and labels in the margin.

Lengths are units of the panel's own SVG, about pixels of the screen. Labels stand beside the anatomy, never on it, and
a line leads from each to its mark.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from pipelines.pages.pictures import Picture
from pipelines.pages.readings import Reading, percent
from shared.figures.tiles import scale_bar_mm
from shared.labels import Level

_LINE: Final = 15.0  # height of a line of text
Margin = Literal["left", "right"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle: left, top, width and height."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """Text in the margin; `tone` is the column of a grade, or empty.

    Attributes:
      y: middle of the text.
      target: where its line ends; None for text that belongs to a height, such as the name of a level.
      radius: of the ring around the target; 0 where there is none.
    """

    lines: tuple[str, ...]
    tone: str
    margin: Margin
    y: float
    target: tuple[float, float] | None = None
    radius: float = 0.0
    doubtful: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The measures of a kind of panel: the image between its margins."""

    width: float
    height: float
    left: float = 0.0
    right: float = 0.0

    @property
    def image(self) -> Box:
        return Box(x=self.left, y=0, width=self.width - self.left - self.right, height=self.height)

    def around(self, center_mm: tuple[float, float], width_mm: float) -> Box:
        """The part of a slice, `width_mm` wide, with this point in the middle of the image."""
        height_mm = width_mm * self.image.height / self.image.width
        return Box(x=center_mm[0] - width_mm / 2, y=center_mm[1] - height_mm / 2, width=width_mm, height=height_mm)

    def whole(self, picture: Picture) -> Box:
        """The whole slice, in the middle of the image."""
        (width, height), (x, y) = picture.size_mm, picture.corner_mm
        scale = max(width / self.image.width, height / self.image.height)
        wide, high = self.image.width * scale, self.image.height * scale
        return Box(x=x + (width - wide) / 2, y=y + (height - high) / 2, width=wide, height=high)

    def at(self, point_mm: tuple[float, float], crop: Box) -> tuple[float, float]:
        """A point of the slice on the panel, whose image shows `crop`."""
        image = self.image
        return (
            image.x + (point_mm[0] - crop.x) * image.width / crop.width,
            image.y + (point_mm[1] - crop.y) * image.height / crop.height,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A picture with its marks.

    Attributes:
      crop: the part of the slice that `frame.image` shows, in mm of the slice.
      series: name of the series on the page.
      readings: the findings that are marked.
      level: that an axial slice passes through.
    """

    picture: Picture
    frame: Frame
    crop: Box
    labels: tuple[Label, ...]
    series: str
    readings: tuple[Reading, ...]
    level: Level | None

    @property
    def place(self) -> str:
        """Which slice it is."""
        near = f", at {self.level.display}" if self.level is not None else ""
        return f"{self.series}, slice {self.picture.item.instance_number}{near}"

    @property
    def said(self) -> str:
        """What its marks say."""
        return "; ".join(f"{r.name}: {r.said}" for r in self.readings)

    @property
    def bar(self) -> tuple[int, float]:
        """Length of the scale bar in mm and in units of the panel."""
        scale = self.frame.image.width / self.crop.width
        mm = scale_bar_mm(scale, self.frame.image.width / 3)
        return mm, mm * scale


def grade_lines(reading: Reading, name: str = "", *, narrow: bool = False) -> tuple[str, ...]:
    """A name if any, the grade and its probability, as short lines; narrower ones for a narrow margin."""
    named = (name,) if name else ()
    if reading.grade is None:
        return (*named, "not read")
    grade = reading.grade.display
    words = grade.replace("/", "/ ").split() if narrow else [grade]
    return (*named, *words, percent(reading.probability) + (" ?" if reading.doubts else ""))


def tone_of(reading: Reading) -> str:
    return "" if reading.grade is None else reading.grade.column


def level_labels(heights: Iterable[tuple[Level, float]], frame: Frame) -> list[Label]:
    """Names of levels in the left margin; those beyond the picture are left out."""
    return [
        Label(lines=(level.display,), tone="", margin="left", y=y) for level, y in heights if 0 <= y <= frame.height
    ]


def apart(labels: Sequence[Label], frame: Frame) -> tuple[Label, ...]:
    """The labels of each margin moved as little as keeps them apart and on the panel."""
    result: list[Label] = []
    for margin in ("left", "right"):
        own = sorted((label for label in labels if label.margin == margin), key=lambda label: label.y)
        heights = [len(label.lines) * _LINE + 2 for label in own]
        ys = _spread([label.y for label in own], heights, frame.height)
        result += [replace(label, y=y) for label, y in zip(own, ys, strict=True)]
    return tuple(result)


def _spread(middles: Sequence[float], heights: Sequence[float], bottom: float) -> list[float]:
    """Middles of texts of these heights, from top to bottom: first pushed down, then up where they would go below."""
    ys = list(middles)
    for k, height in enumerate(heights):
        ys[k] = max(ys[k], height / 2, ys[k - 1] + (heights[k - 1] + height) / 2 if k else 0)
    for k in range(len(ys) - 1, -1, -1):
        lowest = bottom - heights[k] / 2 if k == len(ys) - 1 else ys[k + 1] - (heights[k + 1] + heights[k]) / 2
        ys[k] = min(ys[k], lowest)
    return ys
