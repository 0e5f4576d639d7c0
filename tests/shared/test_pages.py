"""Reports as pages: structure, escaping, policy, and what their looks promise."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from shared.figures.marks import SEVERITY_COLORS
from shared.figures.report import Report
from shared.figures.web import looks, render, shortened

UID = "1.2.826.0.1.3680043.8.498.12345678901234567890123456789012345678"


class Structure(HTMLParser):
    """Tags with their attributes, and of each table the number of cells in every row."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[int]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append(0)
        if tag in ("th", "td"):
            self.tables[-1][-1] += 1

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def _report() -> Report:
    report = Report("A report", "What was measured.")
    report.verdict(["Better than the prior.", "By much."], "good")
    for name in ("One", "Two", "Three <i>"):
        report.heading(name)
    report.table(["study", "path", "n"], [[UID, f"train_images/{UID}/1.dcm", 1], ["7", None, 2.0]])
    report.image(np.zeros((4, 6, 3), np.uint8), "A <b>black</b> slice.")
    return report


def test_a_page_has_verdict_contents_and_tables_without_lost_cells(tmp_path: Path) -> None:
    page = _report().save(tmp_path).read_text()
    structure = Structure(page)
    assert structure.tables == [[3, 3, 3]]
    assert page.index("Better than the prior.") < page.index('href="#part-1"') < page.index('id="part-1"')
    linked = {a["href"] for a in structure.of("a")}
    assert linked == {f"#{h['id']}" for h in structure.of("h2")}
    assert len(linked) == 3
    picture = structure.of("img")[0]
    assert picture["alt"] == "A <b>black</b> slice."
    assert (picture["width"], picture["height"]) == ("6", "4")
    assert "<i>" not in page
    assert "<b>" not in page
    assert _report().save(tmp_path / "again").read_text() == page


def test_long_ids_are_shortened_and_kept_whole_as_a_title(tmp_path: Path) -> None:
    cell = Structure(_report().save(tmp_path).read_text()).of("td")[0]
    assert cell == {"class": "id", "title": UID, "data-column": "study"}  # a table with sentences names its columns
    assert len(shortened(UID)) < 20
    assert shortened("100206310") == "100206310"


def test_a_row_of_another_length_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 cells"):
        Report("r", "s").table(["a", "b"], [[1, 2], [1]])


def test_the_policy_allows_only_the_pages_own_style_and_script(tmp_path: Path) -> None:
    page = render(
        "report.html.j2", title="t", summary="", verdict=None, blocks=[], style="b{}", script="let a = 1 < 2;"
    )
    policy = next(m["content"] or "" for m in Structure(page).of("meta") if "http-equiv" in m)
    for tag in ("style", "script"):
        text = re.search(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert text
        digest = base64.b64encode(hashlib.sha256(text[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert not any("style" in attributes for _, attributes in Structure(page).tags)
    assert "script-src" not in _report().save(tmp_path).read_text()
    with pytest.raises(ValueError, match="markup"):
        render("report.html.j2", title="t", summary="", verdict=None, blocks=[], script="'</script>'")


def test_looks_hold_the_colours_of_figures_and_all_modes() -> None:
    css = looks()
    for grade, color in SEVERITY_COLORS.items():
        assert f"--{grade.column.replace('_', '-')}: {color};" in css
    for rule in (
        "prefers-color-scheme: dark",
        "size: A4",
        "table-header-group",
        "max-width: 720px",
        "position: sticky",
    ):
        assert rule in css
    assert "url(" not in css
    assert "@import" not in css
