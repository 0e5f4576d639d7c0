"""Which names of files are shown, and how the others are hidden in messages."""

import re
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.runtime.errors import InputError
from shared.runtime.names import hide_names, masked, masked_path, order_of


@pytest.mark.parametrize(
    "name",
    [
        "IM000001", "IM-0001-0012.dcm", "I10", "1-01.dcm", "00000012.DCM", "MR.1.3.12.2.1107.5.2.19.45", "DICOMDIR",
        "1.2.840.113619.2.5.1.dcm", "series 3", "T2_sag", "SE000003", "train_images", "slice7.ima", "hidden-0123456789",
    ],
)  # fmt: skip
def test_names_that_any_exporter_writes_are_shown(name: str) -> None:
    assert masked(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "DOE_JANE_L4.dcm", "Doe^Jane", "doe", "19600101", "1960-01-01", "IM 1960.1.1", "12345678.dcm", "555-123-4567",
        "MR_Doe_T2", "王小明", "a\udcff", "im\n1", "D.O.E.1.2.3.4", "doe.1.2.840.1.1", "..", "x" * 200, "MR.dcm.Doe",
        "1.2.840.1.1Doe",
    ],
)  # fmt: skip
def test_any_other_name_is_hidden_and_found_again(name: str) -> None:
    assert re.fullmatch(r"hidden-[0-9a-f]{10}(\.dcm)?", masked(name))
    assert masked(name) == masked(name)
    assert masked(name, numbers=True) == (name if name in ("19600101", "12345678.dcm") else masked(name))


@given(st.text(min_size=1), st.booleans())
@example("IM.dcm.DCM", False)
def test_hiding_again_changes_nothing(name: str, numbers: bool) -> None:
    once = masked(name, numbers=numbers)
    assert masked(once) == masked(once, numbers=numbers)
    assert masked(once, numbers=numbers) == once


@given(st.lists(st.lists(st.sampled_from(("IM1", "Doe", "Roe", "2")), min_size=1, max_size=3), min_size=2, max_size=6))
def test_hidden_paths_keep_their_order(paths: list[list[str]]) -> None:
    given_paths = [PurePosixPath(*parts) for parts in paths]
    kept = [PurePosixPath(masked_path(path)) for path in given_paths]
    assert [order_of(p) for p in given_paths] == [order_of(p) for p in kept]


@pytest.mark.parametrize("text", ["{}: not a DICOM file", "no slice in {}", "{} frame 3: 1 of 2/3 lost", "'{}' and {}"])
@pytest.mark.parametrize("exists", [True, False])
def test_messages_name_files_below_the_data_under_masked_names(tmp_path: Path, text: str, exists: bool) -> None:
    root = tmp_path / "Roe data"
    path = root / "Doe, Jane" / ("T2: Doe (1).dcm" if exists else "T2 Doe (1).dcm")
    if exists:
        path.parent.mkdir(parents=True)
        path.touch()
    hide_names(root)
    told = str(InputError(text.replace("{}", str(path))))
    assert not re.search("Doe|Jane|Roe", told)
    if exists:
        assert told == text.replace("{}", masked_path(path.relative_to(root)))
        assert str(InputError(told)) == told


def test_what_lies_elsewhere_is_told_as_it_is(tmp_path: Path) -> None:
    hide_names(tmp_path / "data")
    for path in (tmp_path / "data2" / "Doe", tmp_path / "data", tmp_path / "data" / "train.csv", tmp_path / "Roe"):
        assert str(InputError(f"{path}: missing")) == f"{path}: missing"
