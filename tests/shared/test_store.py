"""A prepared store read back: the same slices, planes, messages and bytes as from DICOM; damage is an error."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.prepare.prepare import PrepareOptions, prepare
from shared.data import store as store_module
from shared.data.challenge import Challenge, Part
from shared.data.source import open_source
from shared.data.store import FORMAT, STORE_FILE, Store, record_path
from shared.dicom.header import Header
from shared.dicom.pixels import slice_pixels
from shared.dicom.reader import read_pixels
from shared.runtime.documents import read_json
from shared.runtime.errors import InputError, shown
from shared.runtime.names import masked
from shared.study import LoadedStudy, Slice
from tests.dicom_files import write_dicom


def write_part(root: Path) -> Path:
    """Study 5 is whole, 6 has lost its folder, 7 has a broken file, one without pixels and a series of junk."""
    rows = [("5", "51"), ("6", "61"), ("7", "71"), ("7", "72")]
    root.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(
        [(study, series, "Sagittal T2/STIR") for study, series in rows],
        columns=["study_id", "series_id", "series_description"],
    ).to_csv(root / "test_series_descriptions.csv", index=False)
    for study, series in (("5", "51"), ("7", "71")):
        for number in range(1, 6):
            pixels = np.random.default_rng(number).integers(0, 4096, (12, 10 + number), np.uint16)
            write_dicom(
                root / "test_images" / study / series / f"{number}.dcm", pixels, InstanceNumber=number,
                ImagePositionPatient=[9.1 - number, 0, 1 / 3], EchoTime="nan",
            )  # fmt: skip
    (root / "test_images/7/71/3.dcm").write_bytes(b"broken")
    write_dicom(root / "test_images/7/71/4.dcm", PixelData=None)
    (root / "test_images/7/72").mkdir()
    (root / "test_images/7/72/1.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\1" * 50)
    return root


def pixels_or_message(item: Slice) -> np.ndarray | str:
    try:
        return slice_pixels(item)
    except InputError as error:
        return str(error)


def named_as_told(loaded: LoadedStudy) -> LoadedStudy:
    """The study with its files named as messages name them: a store keeps no other names."""
    series = tuple(
        replace(each, slices=tuple(replace(item, path=Path(shown(str(item.path)))) for item in each.slices))
        for each in loaded.study.series
    )
    return replace(loaded, study=replace(loaded.study, series=series))


def assert_same_part(data: Path, store: Path, part: Part) -> int:
    """Returns how many slices were compared."""
    direct, prepared = Challenge.open(data, part), Challenge.open(store, part)
    assert direct.fingerprint == prepared.fingerprint
    assert direct.submission_row_ids == prepared.submission_row_ids
    compared = 0
    for study_id in direct.study_ids:
        a, b = direct.load_study(study_id), prepared.load_study(study_id)
        assert named_as_told(a) == named_as_told(b)  # planes, shapes, order, numbers, names and problems
        assert direct.has_images(study_id) == prepared.has_images(study_id)
        for series, again in zip(a.study.series, b.study.series, strict=True):
            for item, stored in zip(series.slices, again.slices, strict=True):
                assert stored.stored is not None
                np.testing.assert_equal(pixels_or_message(stored), pixels_or_message(item))
                compared += 1
    return compared


@pytest.fixture(scope="module")
def traps(trapped_studies: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Synthetic studies with every trap of the real data, and their store."""
    store = tmp_path_factory.mktemp("traps") / "store"
    prepare(trapped_studies / "data", store)
    return trapped_studies / "data", store


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, Path]:
    prepare(write_part(tmp_path / "data"), tmp_path / "store")
    return tmp_path / "data", tmp_path / "store"


def test_the_traps_are_read_back_as_from_dicom(traps: tuple[Path, Path]) -> None:
    assert assert_same_part(*traps, "train") > 50
    for path in traps[0].glob("*.csv"):
        assert (traps[1] / path.name).read_bytes() == path.read_bytes()


def test_unreadable_files_have_the_messages_of_the_dicom_files(small: tuple[Path, Path]) -> None:
    assert assert_same_part(*small, "test") == 9
    problems = open_source(small[1]).load("7").problems
    assert len(problems) == 3
    assert problems[0] == "study 7 series 71: test_images/7/71/3.dcm: not a DICOM file (no DICM prefix)"
    assert "no readable slice" in open_source(small[1]).load("6").problems[0]


def test_the_dicom_files_are_not_needed_any_more(small: tuple[Path, Path]) -> None:
    before = open_source(small[1]).load("7")
    shutil.rmtree(small[0])
    assert open_source(small[1]).load("7") == before
    assert slice_pixels(before.study.series[0].slices[-1]).any()


def test_a_plain_folder_is_read_back_the_same(tmp_path: Path) -> None:
    for number in range(12):
        write_dicom(
            tmp_path / "export" / ("a b" if number % 2 else "ü") / f"IM{number}", InstanceNumber=number,
            SeriesInstanceUID=f"1.{number // 6}", ImagePositionPatient=[number, 0, 0],
        )  # fmt: skip
    (tmp_path / "export/a b/broken").write_bytes(b"\0" * 128 + b"DICM" + b"\1" * 50)
    (tmp_path / "export/notes.txt").write_text("junk")
    prepare(tmp_path / "export", tmp_path / "store")
    direct, prepared = open_source(tmp_path / "export"), open_source(tmp_path / "store")
    assert (prepared.kind, prepared.study_ids) == ("folder", direct.study_ids)
    for study_id in direct.study_ids:
        assert named_as_told(direct.load(study_id)) == named_as_told(prepared.load(study_id))
        assert direct.load(study_id).problems
    item, original = (source.load("1.2").study.series[0].slices[2] for source in (prepared, direct))
    np.testing.assert_array_equal(slice_pixels(item), read_pixels(original.path))
    assert not re.search("export|broken|a b|ü", "".join(p.read_text() for p in (tmp_path / "store").rglob("*.json")))


def damage_pixels_cut(store: Path) -> Path:
    path = next((store / "studies/test").glob("5.*.u8"))
    path.write_bytes(path.read_bytes()[:-1])
    return path


def damage_pixels_gone(store: Path) -> Path:
    path = next((store / "studies/test").glob("5.*.u8"))
    path.unlink()
    return path


def damage_plane(store: Path) -> Path:
    path = store / "studies/test/5.json"
    path.write_text(path.read_text().replace("8.1", "8.2"))
    return path


def damage_record_cut(store: Path) -> Path:
    path = store / "studies/test/5.json"
    path.write_bytes(path.read_bytes()[:200])
    return path


def damage_record_gone(store: Path) -> Path:
    path = store / "studies/test/5.json"
    path.unlink()
    return path


def damage_record_swapped(store: Path) -> Path:
    path = store / "studies/test/5.json"
    shutil.copy(store / "studies/test/7.json", path)
    return store / "studies/test"


def damage_index(store: Path) -> Path:
    path = store / STORE_FILE
    path.write_text(path.read_text().replace('"5"', '"55"'))
    return path


def damage_index_nested(store: Path) -> Path:
    path = store / STORE_FILE
    path.write_text("[" * 100_000)
    return path


@pytest.mark.parametrize(
    "damage",
    [
        damage_pixels_cut, damage_pixels_gone, damage_plane, damage_record_cut, damage_record_gone,
        damage_record_swapped, damage_index, damage_index_nested,
    ],
)  # fmt: skip
def test_a_damaged_store_is_an_error_naming_the_file(small: tuple[Path, Path], damage: object) -> None:
    path = damage(small[1])  # type: ignore[operator]
    with pytest.raises(InputError) as caught:
        Challenge.open(small[1], "test").load_study("5")
    assert str(path) in str(caught.value)


def test_changed_pixels_are_an_error_not_a_picture(small: tuple[Path, Path]) -> None:
    item = Challenge.open(small[1], "test").load_study("5").study.series[0].slices[1]
    assert item.stored is not None
    content = bytearray(item.stored.path.read_bytes())
    content[item.stored.offset] ^= 1
    item.stored.path.write_bytes(content)
    with pytest.raises(InputError, match=r"\.u8: is damaged"):
        slice_pixels(item)
    item.stored.path.write_bytes(content[:10])
    with pytest.raises(InputError, match=r"\.u8: is damaged"):
        slice_pixels(item)
    item.stored.path.unlink()
    with pytest.raises(InputError, match=r"\.u8: cannot be read"):
        slice_pixels(item)


def test_other_versions_and_unfinished_stores_are_refused(
    small: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small[1] / STORE_FILE
    Store.open_any(small[1])[0].write(finished=False)
    with pytest.raises(InputError, match="unfinished"):
        open_source(small[1])
    Store.open_any(small[1])[0].write(finished=True)
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "READER_VERSION", 99)
        with pytest.raises(InputError, match="of the DICOM reader"):
            Challenge.open(small[1], "test")
    path.write_text(json.dumps(read_json(path) | {"format": 0}))
    with pytest.raises(InputError, match=f"format {FORMAT}, got 0"):
        open_source(small[1])


def test_a_store_json_of_something_else_is_no_store(tmp_path: Path) -> None:
    data = write_part(tmp_path / "data")
    (data / STORE_FILE).write_text('{"books": 3}')
    assert open_source(data).study_ids == ("5", "6", "7")
    prepare(data, tmp_path / "store")
    with pytest.raises(InputError, match="not a prepared store"):
        prepare(data, data, resume=True)


@pytest.mark.parametrize("name", ["../5", "../..", "/etc/passwd", "a/../../../b"])
def test_names_cannot_leave_the_store(small: tuple[Path, Path], name: str) -> None:
    store = Store.find(small[1])
    assert store is not None
    escaping = Store(root=store.root, made_from=store.made_from, kind=store.kind, records={"test": (name,)})
    with pytest.raises(InputError, match="unsafe name"):
        escaping.study("test", name)
    with pytest.raises(InputError, match="unsafe name"):
        record_path(small[1], "../..", "x")


def test_a_part_or_series_that_was_not_prepared(small: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="holds no train part"):
        Challenge.open(small[1])
    table = small[1] / "test_series_descriptions.csv"
    table.write_text(table.read_text() + "5,59,Sagittal T1\n9,91,Sagittal T1\n")
    data = Challenge.open(small[1], "test")
    with pytest.raises(InputError, match="without its series 59"):
        data.load_study("5")
    with pytest.raises(InputError, match="no test study 9"):
        data.load_study("9")


def test_every_encoding_of_a_real_slice(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "transfer_syntaxes"
    prepare(folder, tmp_path / "store")
    store = Store.find(tmp_path / "store")
    assert store is not None
    names = {masked(path.name): path.stem for path in folder.iterdir()}
    headers = {names[path.name]: header for path, header in store.folder_readings() if isinstance(header, Header)}
    plain = read_pixels(folder / "MR1_UNC.dcm")
    for name in ("MR1_UNC", "MR1_RLE", "MR1_J2KR", "MR1_JLSL", "MR1_JPLL"):
        np.testing.assert_array_equal(slice_pixels(headers[name].to_slice()), plain, err_msg=name)
    for name, header in headers.items():
        direct = pixels_or_message(replace(header.to_slice(), path=folder / f"{name}.dcm", stored=None))
        np.testing.assert_equal(pixels_or_message(header.to_slice()), direct, err_msg=name)
    with pytest.raises(InputError, match="pixels cannot be decoded"):
        slice_pixels(headers["MR1_JPLY"].to_slice())


def test_a_real_study(real_data: Path, tmp_path: Path) -> None:
    direct = open_source(real_data / "lumbar_study")
    prepare(real_data / "lumbar_study", tmp_path / "store", PrepareOptions(workers=2))
    prepared = open_source(tmp_path / "store")
    (study_id,) = prepared.study_ids
    expected, found = direct.load(study_id), prepared.load(study_id)
    assert named_as_told(expected) == named_as_told(found)
    for given, series in zip(expected.study.series, found.study.series, strict=True):
        for original, item in zip(given.slices[::6], series.slices[::6], strict=True):
            np.testing.assert_array_equal(slice_pixels(item), read_pixels(original.path))
