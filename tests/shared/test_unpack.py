"""What may stand in the place of a folder: archives, a DICOMDIR, a single file."""

import gzip
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipelines.audit.run import AuditOptions, audit
from pipelines.cli import main
from pipelines.prepare.prepare import prepare
from shared.data import unpack
from shared.data.source import open_source
from shared.data.unpack import open_input
from shared.dicom.pixels import slice_pixels
from shared.runtime.errors import InputError
from shared.runtime.names import masked
from tests.dicom_files import write_dicom, write_multiframe
from tests.shared.test_discover import write_series
from tests.shared.test_frames import frame, stack


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study below one folder, with a DICOMDIR and an archive that are not needed."""
    root = tmp_path_factory.mktemp("export") / "disc"
    write_series(root / "IMAGES", "1.5")
    write_dicom(
        root / "DICOMDIR", sop_class="1.2.840.10008.1.3.10",
        **dict.fromkeys(("Rows", "Columns", "PixelData", "PixelSpacing", "ImagePositionPatient")),
    )  # fmt: skip
    (root / "old.zip").write_bytes(b"PK")
    return root


def pack_zip(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder.parent))


def pack_tar(folder: Path, target: Path) -> None:
    mode = {".tgz": "w:gz", ".tbz2": "w:bz2", ".xz": "w:xz"}.get(target.suffix, "w")
    with tarfile.open(target, mode) as archive:  # type: ignore[call-overload]
        archive.add(folder, folder.name)


@pytest.mark.parametrize(
    ("name", "pack"),
    [("a.zip", pack_zip), ("a.tar", pack_tar), ("a.tgz", pack_tar), ("a.tbz2", pack_tar), ("a.tar.xz", pack_tar)],
)
def test_an_archive_is_the_folder_that_was_packed(
    folder: Path, tmp_path: Path, name: str, pack: Callable[[Path, Path], None]
) -> None:
    pack(folder, tmp_path / name)
    direct, packed = open_source(folder), open_source(tmp_path / name)
    assert packed.files == direct.files
    assert str(direct.files) == (
        "6 files used, 1 not needed, 0 unreadable, 1 not DICOM (1 of them archives inside the input, which are not "
        "opened: unpack them first)"
    )
    (one,), (other,) = (s.load("1.2").study.series for s in (direct, packed))
    assert packed.load("1.2").problems == ()
    for a, b in zip(one.slices, other.slices, strict=True):
        assert (a.plane, a.path.name) == (b.plane, b.path.name)
        np.testing.assert_array_equal(slice_pixels(a), slice_pixels(b))


def test_a_dicomdir_stands_for_its_folder(folder: Path) -> None:
    assert open_source(folder / "DICOMDIR").files == open_source(folder).files
    assert open_source(folder).load("1.2").problems == ()


def test_a_single_file_is_read_alone(tmp_path: Path) -> None:
    several = write_multiframe(tmp_path / "1.dcm", [frame(n) for n in range(6)], stack(6))
    alone = write_dicom(tmp_path / "2.dcm")
    assert [len(s.slices) for s in open_source(several).load("1.2").study.series] == [6]
    with pytest.raises(InputError, match=r"2\.dcm: this file alone is no series .* 1 slice; expected .* sagittal T1"):
        open_source(alone)
    (tmp_path / "3.txt").write_text("notes")
    with pytest.raises(InputError, match=r"3\.txt: is no complete zip or tar archive"):
        open_source(tmp_path / "3.txt")


def test_messages_name_members_of_an_archive_as_files_of_a_folder(tmp_path: Path) -> None:
    write_series(tmp_path / "data" / "a", "1.5")
    (tmp_path / "data" / "a" / "IM7").write_bytes(b"\0" * 128 + b"DICM" + b"\1" * 50)
    archive = tmp_path / "scan.zip"
    pack_zip(tmp_path / "data", archive)
    (problem,) = open_source(archive).load("1.2").problems
    assert problem.startswith(f"data/{masked('a')}/IM7: ")
    prepare(archive, tmp_path / "store")
    assert open_source(tmp_path / "store").load("1.2").problems == (problem,)
    result = audit(archive, tmp_path / "audit", AuditOptions())
    (issue,) = [i for i in result.issues if i.file and "IM7" in i.file]
    assert problem.endswith(issue.reason)


def test_a_challenge_directory_may_be_packed(small_challenge: Path, tmp_path: Path) -> None:
    pack_zip(small_challenge, tmp_path / "data.zip")
    packed = open_source(tmp_path / "data.zip")
    assert packed.kind == "challenge"
    assert packed.study_ids == open_source(small_challenge).study_ids


@pytest.fixture
def small_challenge(tmp_path: Path) -> Path:
    root = tmp_path / "challenge"
    for n in range(1, 4):
        write_dicom(root / "test_images" / "5" / "51" / f"{n}.dcm", ImagePositionPatient=[4 * n, 0, 0])
    (root / "test_series_descriptions.csv").write_text("study_id,series_id,series_description\n5,51,Sagittal T1\n")
    return root


def zip_of(**members: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    return write


def tar_of(kind: bytes, name: str = "a") -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with tarfile.open(path, "w") as archive:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)

    return write


def linked_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("a")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")


def encrypted_zip(path: Path) -> None:
    zip_of(a=b"x")(path)
    content = bytearray(path.read_bytes())
    for at, place in ((content.index(b"PK\x03\x04"), 6), (content.index(b"PK\x01\x02"), 8)):
        content[at + place] |= 1
    path.write_bytes(content)


def cut_zip(path: Path) -> None:
    zip_of(a=os.urandom(4000))(path)
    path.write_bytes(path.read_bytes()[:2000])


def cut_tar(path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("a")
        member.size = 40000
        archive.addfile(member, io.BytesIO(os.urandom(40000)))
    path.write_bytes(gzip.compress(buffer.getvalue())[:20000])


def lying_zip(path: Path) -> None:
    """A zip whose directory says that its member is small."""
    zip_of(a=bytes(4 * 2**20))(path)
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = (1000).to_bytes(4, "little")
    path.write_bytes(content)


def long_header(path: Path) -> None:
    """A compressed tar whose extended header would fill the memory."""
    member = tarfile.TarInfo("h")
    member.type, member.size = tarfile.XHDTYPE, 2**30
    with gzip.open(path, "wb") as file:
        file.write(member.tobuf())
        for _ in range(8):
            file.write(bytes(2**20))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (zip_of(**{"../a": b"x"}), "leads? out of"),
        (zip_of(**{"/a": b"x"}), "leads? out of"),
        (zip_of(**{"b\\..\\..\\a": b"x"}), "leads? out of"),
        (tar_of(tarfile.REGTYPE, "../../a"), "leads? out of"),
        (tar_of(tarfile.SYMTYPE), "a link, device"),
        (tar_of(tarfile.LNKTYPE), "a link, device"),
        (tar_of(tarfile.FIFOTYPE), "a link, device"),
        (tar_of(tarfile.CHRTYPE), "a link, device"),
        (linked_zip, "a link or device"),
        (encrypted_zip, "is encrypted"),
        (zip_of(), "holds no file"),
        (cut_zip, "no complete zip or tar"),
        (cut_tar, "no complete zip or tar"),
        (zip_of(a=bytes(4 * 2**20)), "unpacks to more than"),
        (lying_zip, "unpacks to more than|no complete zip"),
        (long_header, "unpacks to more than"),
        (zip_of(**{"a" * 300: b"x"}), "cannot be unpacked into .* name too long"),
        (zip_of(**{"a/" * 1900 + "1.dcm": b"x"}), "is nested more than 64 folders deep"),
        (tar_of(tarfile.REGTYPE, "a/" * 1900 + "1.dcm"), "is nested more than 64 folders deep"),
        (zip_of(a=b"text"), "no readable DICOM"),
    ],
)
def test_bad_archives_are_one_message(
    tmp_path: Path,
    write: Callable[[Path], None],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unpack, "_FREE_OF_RATIO", 2**20)
    path = tmp_path / "bad.zip"
    write(path)
    kept = [f for f in unpack._FOLDERS if Path(f.name).is_dir()]
    with pytest.raises(InputError, match=message) as caught:
        open_source(path)
    assert str(path) in str(caught.value)
    assert "lumbar-" not in str(caught.value)
    assert main(["series", str(path)]) == 1
    assert capsys.readouterr().err.count("error: ") == 1
    assert not (tmp_path / "a").exists()
    readable = "no readable" in message
    assert len([f for f in unpack._FOLDERS if Path(f.name).is_dir()]) == len(kept) + readable


def test_entries_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MAX_ENTRIES", 2)
    zip_of(a=b"", b=b"", c=b"")(tmp_path / "a.zip")
    with pytest.raises(InputError, match="more than 2 entries"):
        open_input(tmp_path / "a.zip")


def test_nothing_stays_when_the_process_ends(folder: Path, tmp_path: Path) -> None:
    pack_zip(folder, tmp_path / "a.zip")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    code = "import sys; from pathlib import Path; from shared.data.unpack import open_input; "
    code += "print(open_input(Path(sys.argv[1])).folder); raise KeyError"
    environment = os.environ | {"TMPDIR": str(temporary)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.zip")], capture_output=True, text=True, env=environment
    )
    assert done.stdout.startswith(str(temporary))
    assert list(temporary.iterdir()) == []


def test_patients_and_dates_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    for study, patient, date in (("1.1", "A", "20200101"), ("1.2", "A", "20210101"), ("1.3", "B", "20200101")):
        write_series(
            tmp_path / "all", f"{study}.5", StudyInstanceUID=study, PatientID=patient, StudyDate=date,
            FrameOfReferenceUID=f"9.{study}",
        )  # fmt: skip
    source = open_source(tmp_path)
    assert source.study_ids == ("1.1", "1.2", "1.3")
    assert all([len(s.slices) for s in source.load(i).study.series] == [6] for i in source.study_ids)


def test_folders_as_windows_tools_write_them_are_folders(tmp_path: Path) -> None:
    write_series(tmp_path / "in", "1.5")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("disc\\t2\\", b"")
        for path in (tmp_path / "in").iterdir():
            archive.write(path, f"disc\\t2\\{path.name}")
    assert len(open_source(tmp_path / "a.zip").study_ids) == 1
