"""Self-contained HTML reports: text, tables and figures in one file, and the same numbers as JSON beside it."""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from shared.runtime.files import write_json, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DISCLAIMER = "Research software. Not a medical device: no report of it may guide the care of a patient."


@dataclass(slots=True)
class Report:
    """A page built top to bottom; `save` writes `<stem>.html` and `<stem>.json`.

    Attributes:
      title: the page's heading.
      summary: one or two sentences below it: what was measured on which data.
      data: what goes into the JSON file.
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
        """Numbers are right-aligned and shown to three decimals, None as a dash."""
        cells = [[_cell(value) for value in row] for row in rows]
        self._blocks.append({"kind": "table", "columns": list(columns), "rows": cells, "caption": caption})

    def figure(self, figure: "Figure", caption: str) -> None:
        """Embeds a matplotlib figure as PNG and closes it."""
        import matplotlib.pyplot as plt

        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
        plt.close(figure)
        self.picture(buffer.getvalue(), caption)

    def picture(self, png: bytes, caption: str) -> None:
        """Embeds a picture that is PNG already, pixel for pixel."""
        self._blocks.append({"kind": "figure", "image": base64.b64encode(png).decode(), "caption": caption})

    def save(self, folder: Path, stem: str = "report") -> Path:
        """Writes both files and returns the HTML's path."""
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
    if value is None:
        return {"text": "–", "number": True}
    if isinstance(value, (bool, str)):
        return {"text": str(value), "number": False}
    if isinstance(value, int):
        return {"text": f"{value:,}", "number": True}
    if isinstance(value, float):
        return {"text": f"{value:.3f}", "number": True}
    return {"text": str(value), "number": False}
