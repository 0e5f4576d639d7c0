"""A study that is exported in another way is the same study and gets the same answer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.exports.__main__ import TOLERANCE
from benchmarks.exports.copies import COPIES
from pipelines.api import load
from shared.data.source import open_source
from shared.dicom.pixels import slice_pixels
from shared.labels import View


def pictures(exported: Path) -> Mapping[tuple[View, Any], Any]:
    """View and place of each slice -> its picture, turned upright."""
    source = open_source(exported)
    (study_id,) = source.study_ids
    return {
        (series.view, tuple(np.round(item.plane.origin_mm, 2))): slice_pixels(item)
        for series in source.load(study_id).study.upright().series
        for item in series.slices
    }


@pytest.fixture(scope="module")
def study(tiny_demo: Path) -> Path:
    return min((tiny_demo / "data" / "test_images").iterdir())


@pytest.mark.parametrize("name", COPIES)
def test_every_copy_shows_the_same_slices(name: str, study: Path, tmp_path: Path) -> None:
    expected, got = pictures(study), pictures(COPIES[name](study, tmp_path))
    assert len({view for view, _ in expected}) == 3
    assert got.keys() == expected.keys()
    for place, picture in expected.items():
        np.testing.assert_array_equal(got[place], picture)


@pytest.mark.parametrize("name", ["flipped and transposed", "all series joined under one UID"])
def test_copies_get_the_same_answer(name: str, study: Path, tiny_demo: Path, tmp_path: Path) -> None:
    grader = load(tiny_demo / "localizer", tiny_demo / "classifier", device="cpu")
    expected, got = grader.predict(study), grader.predict(COPIES[name](study, tmp_path))
    assert np.abs(got.submission - expected.submission).max() <= TOLERANCE
    assert set(got.reasons) == set(expected.reasons)
