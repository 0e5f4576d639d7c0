"""Self-contained HTML reports: text, tables and figures in one file, with the same numbers as JSON beside it."""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from shared.figures.page import png_bytes
from shared.runtime.files import write_json, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DISCLAIMER = "Research software. Not a medical device: no report of it may guide the care of a patient."


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
    _blocks: list[dict[str, Any]] = field(default_factory=list)

    def heading(self, text: str) -> None:
        self._blocks.append({"kind": "heading", "text": text})

    def text(self, text: str) -> None:
        self._blocks.append({"kind": "text", "text": text})

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> None:
        """Adds a table. Numbers are right-aligned, floats have three decimals, None is a dash."""
        cells = [[_cell(value) for value in row] for row in rows]
        # The heading of a column of numbers stands above them, at the right.
        numbers = [bool(cells) and all(row[i]["number"] for row in cells) for i in range(len(columns))]
        heads = [{"text": c, "number": n} for c, n in zip(columns, numbers, strict=True)]
        self._blocks.append({"kind": "table", "columns": heads, "rows": cells, "caption": caption})

    def figure(self, figure: "Figure", caption: str) -> None:
        """Embeds a matplotlib figure."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
        self._picture(buffer.getvalue(), caption)

    def image(self, image: NDArray[np.uint8], caption: str) -> None:
        """Embeds an RGB image, [height, width, 3], pixel for pixel."""
        self._picture(png_bytes(image), caption)

    def _picture(self, png: bytes, caption: str) -> None:
        self._blocks.append({"kind": "figure", "image": base64.b64encode(png).decode(), "caption": caption})

    def save(self, folder: Path, stem: str = "report") -> Path:
        """Writes `<stem>.html` and `<stem>.json` and returns the path of the page."""
        template = resources.files("shared.figures").joinpath("report.html.j2").read_text(encoding="utf-8")
        environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
        page = environment.from_string(template).render(
            title=self.title, summary=self.summary, blocks=self._blocks, disclaimer=DISCLAIMER
        )
        write_json(folder / f"{stem}.json", self.data)
        path = folder / f"{stem}.html"
        write_text(path, page)
        return path


def _cell(value: object) -> dict[str, object]:
    number = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    form = ".3f" if isinstance(value, float) else "," if number and value is not None else ""
    return {"text": "–" if value is None else format(value, form), "number": number}
