"""Self-contained HTML reports: text, tables and figures in one file, with the same numbers as JSON beside it."""

import base64
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from shared.figures.page import WEBP_PX, png_bytes, webp_bytes
from shared.figures.web import render, shortened
from shared.runtime.files import write_json, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LONG: Final = 28  # characters from which a cell may wrap anywhere
_UID: Final = re.compile(r"[0-9.]{25,}")
_NUMBER: Final = re.compile(r"–|[+-]?[0-9]+(\.[0-9]+%?|%)")  # no id is written so
Tone = Literal["good", "poor", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A cell of a table that leads to another page, by its path relative to this one."""

    text: str
    href: str


@dataclass(slots=True)
class Report:
    """A page that is built from top to bottom; `save` writes it.

    Attributes:
      title: the heading of the page.
      summary: one or two sentences below the heading: what was measured, on which data.
      data: content of the JSON file.
    """

    title: str
    summary: str
    data: dict[str, Any] = field(default_factory=dict)
    _verdict: dict[str, Any] | None = None
    _blocks: list[dict[str, Any]] = field(default_factory=list)

    def verdict(self, lines: Sequence[str], tone: Tone = "open") -> None:
        """States above everything else, in plain words, what the numbers mean; the first line is the verdict itself."""
        self._verdict = {"lines": list(lines), "tone": tone}

    def heading(self, text: str) -> None:
        """Begins a section, which the list of contents names."""
        number = sum(block["kind"] == "heading" for block in self._blocks) + 1
        self._blocks.append({"kind": "heading", "text": text, "id": f"part-{number}"})

    def text(self, text: str) -> None:
        self._blocks.append({"kind": "text", "text": text})

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> None:
        """Adds a table. Numbers are right-aligned, floats have three decimals, None is a dash, UIDs are shortened.

        Raises:
          ValueError: for a row that has more or fewer cells than there are columns.
        """
        cells = [[_cell(value) for value in row] for row in rows]
        if any(len(row) != len(columns) for row in cells):
            raise ValueError(f"table {caption!r}: a row does not have {len(columns)} cells")
        # The heading of a column of numbers stands above them, at the right.
        numbers = [bool(cells) and all(row[i]["kind"] == "number" for row in cells) for i in range(len(columns))]
        heads = [{"text": c, "number": n} for c, n in zip(columns, numbers, strict=True)]
        for row in cells:  # a number among words stands at the left, as they do
            for cell, number in zip(row, numbers, strict=True):
                cell["kind"] = "" if cell["kind"] == "number" and not number else cell["kind"]
        words = any(cell["kind"] == "text" for row in cells for cell in row)
        self._blocks.append({"kind": "table", "columns": heads, "rows": cells, "caption": caption, "words": words})

    def figure(self, figure: "Figure", caption: str, *, alt: str = "") -> None:
        """Embeds a matplotlib figure; `alt` describes it to those who cannot see it where the caption does not."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
        content = buffer.getvalue()
        width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
        picture = {"look": "plot", "kind_of_image": "png", "image": content, "width": width, "height": height}
        self._add_figure(picture, caption, alt)

    def image(self, image: NDArray[np.uint8], caption: str, *, alt: str = "") -> None:
        """Embeds an RGB image, [height, width, 3], slightly compressed: a fifth of the bytes of a PNG."""
        height, width = image.shape[:2]
        kind, content = ("webp", webp_bytes(image)) if max(width, height) <= WEBP_PX else ("png", png_bytes(image))
        picture = {"look": "picture", "kind_of_image": kind, "image": content, "width": width, "height": height}
        self._add_figure(picture, caption, alt)

    def _add_figure(self, picture: dict[str, Any], caption: str, alt: str) -> None:
        encoded = base64.b64encode(picture["image"]).decode()
        self._blocks.append({"kind": "figure", **picture, "image": encoded, "caption": caption, "alt": alt or caption})

    def save(self, folder: Path) -> Path:
        """Writes `report.html` and `report.json` and returns the path of the page."""
        page = self.page()
        write_json(folder / "report.json", self.data)
        path = folder / "report.html"
        write_text(path, page)
        return path

    def page(self) -> str:
        """The page as HTML."""
        return render(
            "report.html.j2", title=self.title, summary=self.summary, verdict=self._verdict, blocks=self._blocks
        )


def _cell(value: object) -> dict[str, str]:
    """Text, class, where a link leads and, where the text is shortened, the whole of a cell."""
    if isinstance(value, Link):
        return {"text": value.text, "kind": "", "full": "", "href": value.href}
    return {**_plain_cell(value), "href": ""}


def _plain_cell(value: object) -> dict[str, str]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    form = ".3f" if isinstance(value, float) else "," if number else ""
    text = "–" if value is None else format(value, form)
    if number or _NUMBER.fullmatch(text):
        return {"text": text, "kind": "number", "full": ""}
    if _UID.fullmatch(text):
        return {"text": shortened(text), "kind": "id", "full": text}
    return {"text": text, "kind": "text" if len(text) > _LONG else "", "full": ""}
