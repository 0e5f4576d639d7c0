"""Values of tags are pydicom's, whatever the bytes of the file."""

import warnings
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from shared.dicom.tags import tag_value

KEYWORDS = ["PixelSpacing", "EchoTime", "InstanceNumber", "Rows", "SeriesInstanceUID", "SeriesDescription", "Modality"]
CONTENTS = st.one_of(
    st.binary(max_size=20),
    st.from_regex(rb"[+-]?[0-9]{1,17}(\.[0-9]{0,9})?([eE][+-]?[0-9]{1,3})?(\\[0-9.]{1,4})? ?", fullmatch=True),
    st.from_regex(rb"[0-9._ ]{1,20}\0?", fullmatch=True),
    st.from_regex(rb"[A-Z0-9_ ]{1,18}(\\[A-Z])?[ \0]?", fullmatch=True),
)


def dataset_of(keyword: str, content: bytes, *, little: bool = True, vr: str | None = None) -> pydicom.Dataset:
    tag = Tag(keyword)
    dataset = pydicom.Dataset()
    dataset[tag] = RawDataElement(tag, vr or dictionary_VR(tag), len(content), content, 0, False, little)  # type: ignore[index]
    dataset.set_original_encoding(False, little)
    return dataset


def attempt(read: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return read()
        except Exception:  # noqa: BLE001 - pydicom raises anything, and what we raise is another test's
            return Exception


@given(st.sampled_from(KEYWORDS), CONTENTS, st.booleans(), st.sampled_from([None, "DS", "IS", "US", "UI", "CS"]))
def test_values_are_pydicoms(keyword: str, content: bytes, little: bool, vr: str | None) -> None:
    got = attempt(lambda: tag_value(dataset_of(keyword, content, little=little, vr=vr), keyword))
    expected = attempt(lambda: dataset_of(keyword, content, little=little, vr=vr).get(keyword))
    assert got == expected or (got != got and expected != expected)
    if dictionary_VR(Tag(keyword)) in ("LO", "UI"):
        assert str(got) == str(expected)


@pytest.mark.parametrize(
    ("keyword", "content", "value"),
    [
        ("PixelSpacing", b"0.5\\0.625 ", [0.5, 0.625]),
        ("EchoTime", b"91", 91.0),
        ("InstanceNumber", b"-7", -7),
        ("Rows", b"\x00\x02", 512),
        ("SeriesInstanceUID", b"1.2.3\0", "1.2.3"),
    ],
)
def test_usual_values(keyword: str, content: bytes, value: object) -> None:
    dataset = dataset_of(keyword, content)
    assert tag_value(dataset, keyword) == value
    assert isinstance(dataset.get_item(Tag(keyword)), RawDataElement)  # read without pydicom's conversion
    assert tag_value(dataset, "PatientPosition") is None
