"""The series table of whole exports, as six vendors' scanners and ten languages write them."""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import pydicom
import pytest

from shared.dicom.discover import FoundStudy, group_studies
from shared.dicom.header import DESCRIBING_TAGS, HEADER_TAGS, Header, header_of
from shared.labels import View
from tests.shared.exports import Export, exports

FOLDER = Path("export")
SEED = 13


def found_in(export: Export) -> FoundStudy:
    (found,) = group_studies(FOLDER, list(headers(export.files)))
    return found


def headers(files: Mapping[str, bytes]) -> Iterator[tuple[Path, Header]]:
    for name, content in files.items():
        dataset = pydicom.dcmread(io.BytesIO(content), specific_tags=[*HEADER_TAGS, *DESCRIBING_TAGS])
        yield FOLDER / name, header_of(FOLDER / name, dataset, described=True)


def wrong_series(export: Export, found: FoundStudy) -> dict[str, View | None]:
    """First file of each series that the table gives a view which it must not have -> that view."""
    views = {item.path.name: series.view for series in found.study.series for item in series.slices}
    wrong = [name for name, allowed in export.truth.items() if views.get(name) not in allowed]
    return {name: views.get(name) for name in wrong if name.endswith("000") or f"{name[:3]}000" not in wrong}


@pytest.mark.filterwarnings("ignore:Invalid value")
def test_the_series_table_of_sixty_exports() -> None:
    studies = [(export, found_in(export)) for export in exports(SEED)]
    assert len(studies) == 60
    wrong = {export.title: wrong_series(export, found) for export, found in studies}
    assert not {title: series for title, series in wrong.items() if series}
    for export, found in studies:
        assert {s.view for s in found.study.series} == set(View), export.title
        assert all(reason for reason in found.unused.values()), export.title
