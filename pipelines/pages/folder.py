"""The pages of a prediction on disk: OUT/index.html, and OUT/studies/<id>.html as each study is predicted."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from pipelines.pages.index_page import StudyRow, index_page
from pipelines.pages.study_page import study_page
from shared.runtime.files import inside, remove, write_text

if TYPE_CHECKING:
    from pipelines.result import StudyResult

INDEX: Final = "index.html"
_STUDIES: Final = "studies"


class PageFolder:
    """Writes the page of one study after the other; nothing at all where no pages are `wanted`."""

    def __init__(self, out: Path, *, wanted: bool) -> None:
        self._out, self._wanted = out, wanted

    def forget(self, study_id: str) -> None:
        """Deletes the page of a study that is predicted anew, so that an interruption leaves no page of old grades."""
        remove(self._page(study_id))

    def add(self, result: "StudyResult") -> StudyRow | None:
        """Writes the page of a study, unless an interrupted command has written it; returns its row of the index."""
        if not self._wanted:
            return None
        path = self._page(result.study_id)
        if not path.is_file():
            write_text(path, study_page(result, index=f"../{INDEX}"))
        return StudyRow.of(result, f"{_STUDIES}/{quote(path.name)}")

    def _page(self, study_id: str) -> Path:
        return inside(self._out / _STUDIES, f"{study_id}.html")


def write_index(out: Path, rows: Sequence[StudyRow]) -> None:
    """Writes the index of some studies."""
    write_text(out / INDEX, index_page(rows))
