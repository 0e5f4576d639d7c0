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

from shared.figures.page import png_bytes
from shared.figures.web import render, shortened
from shared.runtime.files import write_json, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LONG: Final = 28  # characters from which a cell may wrap anywhere
_UID: Final = re.compile(r"[0-9.]{25,}")
Tone = Literal["good", "poor", "open"]


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
        self._blocks.append({"kind": "table", "columns": heads, "rows": cells, "caption": caption})

    def figure(self, figure: "Figure", caption: str, *, alt: str = "") -> None:
        """Embeds a matplotlib figure; `alt` describes it to those who cannot see it where the caption does not."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
        self._picture(buffer.getvalue(), caption, alt or caption, "plot")

    def image(self, image: NDArray[np.uint8], caption: str, *, alt: str = "") -> None:
        """Embeds an RGB image, [height, width, 3], pixel for pixel."""
        self._picture(png_bytes(image), caption, alt or caption, "picture")

    def _picture(self, png: bytes, caption: str, alt: str, look: str) -> None:
        width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
        self._blocks.append(
            {"kind": "figure", "look": look, "image": base64.b64encode(png).decode(), "width": width, "height": height,
             "caption": caption, "alt": alt}
        )  # fmt: skip

    def save(self, folder: Path, stem: str = "report") -> Path:
        """Writes `<stem>.html` and `<stem>.json` and returns the path of the page."""
        page = render(
            "report.html.j2", title=self.title, summary=self.summary, verdict=self._verdict, blocks=self._blocks
        )
        write_json(folder / f"{stem}.json", self.data)
        path = folder / f"{stem}.html"
        write_text(path, page)
        return path


def _cell(value: object) -> dict[str, str]:
    """Text, class and, where the text is shortened, the whole of a cell."""
    number = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    form = ".3f" if isinstance(value, float) else "," if number and value is not None else ""
    text = "–" if value is None else format(value, form)
    if number:
        return {"text": text, "kind": "number", "full": ""}
    if _UID.fullmatch(text):
        return {"text": shortened(text), "kind": "id", "full": text}
    return {"text": text, "kind": "text" if len(text) > _LONG else "", "full": ""}
