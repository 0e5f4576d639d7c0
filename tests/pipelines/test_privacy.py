"""No identifier of a patient reaches any output: planted in every text tag and name, they are searched everywhere."""

import contextlib
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.text import Text
from pydicom._dicom_dict import DicomDictionary

from pipelines.cli import main
from shared.dicom.header import DESCRIBING_TAGS, HEADER_TAGS
from tests.planted import encoded, plant, spellings

_TEXT = frozenset("AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split())  # noqa: SIM905
# Without these a slice is another slice, or none; `_BROKEN` plants in them.
_NEEDED = {*HEADER_TAGS, *DESCRIBING_TAGS, "PhotometricInterpretation", "RescaleSlope", "RescaleIntercept"}
_FREE = ("SeriesDescription", "ProtocolName", "BodyPartExamined", "PatientID", "ContrastBolusAgent", "AcquisitionTime")
_BROKEN = (
    "StudyInstanceUID", "InstanceNumber", "PixelSpacing", "Rows", "NumberOfFrames", "ImagePositionPatient",
    "ImageOrientationPatient", "SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "EchoTime", "Modality",
    "SliceThickness", "SeriesNumber", "PhotometricInterpretation", "BitsAllocated", "RescaleSlope", "TransferSyntaxUID",
)  # fmt: skip
_GROUPS = frozenset((0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0028, 0x0032, 0x0038, 0x0040, 0x0088, 0x4008))
_NAME = re.compile(rb"zq[0-9]{4}jane")


class Planter:
    """Gives names that occur nowhere else, and remembers them."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.drawn: list[str] = []

    def name(self) -> str:
        self.names.append(f"ZQ{len(self.names):04d}JANE")
        return self.names[-1]

    def value(self) -> bytes:
        return self.name().encode()

    def everywhere(self, path: Path) -> None:
        """Plants in every text tag that the reader does not need, private ones, sequences, file meta and preamble."""
        found = (entry[4] for tag, entry in DicomDictionary.items() if tag >> 16 in _GROUPS and entry[0] in _TEXT)
        values: dict[str | int, tuple[str, bytes] | bytes] = {
            keyword: self.value() for keyword in found if keyword and keyword not in _NEEDED
        }
        values |= {keyword: b"T2 " + self.value() for keyword in _FREE if keyword != "PatientID"}
        item = encoded((0x0010, 0x0010), b"PN", self.value())
        sequence = struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item
        values |= {
            "RequestAttributesSequence": ("SQ", sequence), 0x00090010: ("LO", self.value()),
            0x00091001: ("PN", self.value()), 0x00091002: ("UN", self.value()), 0x00020016: ("AE", self.value()),
            0x00020100: ("UI", b"1.2"), 0x00020102: ("OB", self.value()),
        }  # fmt: skip
        plant(path, values, preamble=self.value())

    def usual(self, path: Path, patient: bytes) -> None:
        """Plants what every slice of a real study says of its patient."""
        plant(
            path,
            {"PatientName": self.value(), "PatientID": patient, "PatientBirthDate": self.value(),
             "InstitutionName": self.value(), "SeriesDescription": ("LO", b"T2 " + self.value()),
             "Manufacturer": self.value()},
        )  # fmt: skip


@pytest.fixture
def planter(monkeypatch: pytest.MonkeyPatch) -> Planter:
    """Records what is drawn as text besides, which no search of bytes finds."""
    planter, draw = Planter(), Text.draw

    def recorded(text: Text, *args: object, **kwargs: object) -> None:
        planter.drawn.append(text.get_text())
        draw(text, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Text, "draw", recorded)
    return planter


def _contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder, its name, and what is compressed in it."""
    for path in sorted(folder.rglob("*")):
        yield str(path), str(path.relative_to(folder)).encode()
        if not path.is_file():
            continue
        content = path.read_bytes()
        yield str(path), content
        for match in re.finditer(rb"(?:zTXt|iCCP)[^\0]*\0\0", content):
            with contextlib.suppress(zlib.error):
                yield str(path), zlib.decompressobj().decompress(content[match.end() :])


def _shape(forms: list[bytes]) -> re.Pattern[bytes]:
    """Finds whatever has at each place a byte that one of the forms has there: fast, and a bit more than the forms.

    All names begin alike, so a pattern begins with fixed bytes, which are searched for without trying every place.
    """
    places = (
        b"[" + b"".join(re.escape(bytes([byte])) for byte in set(place)) + b"]" for place in zip(*forms, strict=True)
    )
    return re.compile(b"".join(places))


def _first(shape: re.Pattern[bytes], text: bytes, forms: set[bytes]) -> re.Match[bytes] | None:
    at = 0
    while (match := shape.search(text, at)) is not None and match[0] not in forms:
        at = match.start() + 1
    return match


def assert_nothing_told(planter: Planter, folder: Path, printed: str) -> None:
    """Searches outputs, what was printed and what was drawn for planted names, in any spelling."""
    assert len(planter.names) > 30
    forms = {form for name in planter.names for form in spellings(name) if len(form) > 8}
    by_length = [[form for form in forms if len(form) == length] for length in sorted(set(map(len, forms)))]
    likely = [_shape(of_length) for of_length in by_length]
    told = [("standard output or error", printed.encode()), ("a picture", "\n".join(planter.drawn).encode())]
    for where, content in (*told, *_contents(folder)):
        for text in {content.lower(), content.replace(b"\0", b"").lower()}:
            found = _NAME.search(text) or next(filter(None, (_first(shape, text, forms) for shape in likely)), None)
            assert found is None, f"{where}: {text[max(0, found.start() - 200) : found.end() + 50]!r}"


def plain_study(tiny_demo: Path, root: Path, planter: Planter) -> Path:
    """A synthetic study as a plain export in folders named after the patient, with broken files among it."""
    study = sorted((tiny_demo / "data" / "test_images").iterdir())[0]
    patient = planter.value()
    for number, series in enumerate(sorted(study.iterdir())):
        target = root / f"{planter.name()}^Roe 1970-01-01" / planter.name()
        shutil.copytree(series, target)
        files = sorted(target.iterdir())
        for path in files:
            planter.usual(path, patient)
        planter.everywhere(files[0])
        plant(files[0], {"PatientID": patient})
        for n, keyword in enumerate(_BROKEN[number:]):  # StudyInstanceUID once, which makes a study of its own
            copy = target / f"{planter.name()} L{n}.dcm"
            shutil.copy(files[-1], copy)
            plant(copy, {keyword: planter.value()})
        files[1].rename(target / f"{planter.name()}_L4.dcm")
        (target / f"{planter.name()}.txt").write_text(planter.name())
        (target / f"{planter.name()}.dcm").write_bytes(b"\0" * 128 + b"DICM" + planter.value())
    return root


def challenge(tiny_demo: Path, root: Path, planter: Planter) -> Path:
    """Test studies of a challenge whose files, tables and folders name their patients."""
    root.mkdir()
    data = tiny_demo / "data"
    for name in ("test_series_descriptions.csv", "sample_submission.csv"):
        table = pd.read_csv(data / name)
        table["patient_name"] = [planter.name() for _ in range(len(table))]
        table.to_csv(root / name, index=False)
    (root / "test_patients.csv").write_text(f"study_id,name\n1,{planter.name()}\n")
    shutil.copytree(data / "test_images", root / "test_images")
    (root / "test_images" / planter.name()).mkdir()
    for study in sorted(path for path in (root / "test_images").iterdir() if path.name.isdigit())[:1]:
        for series in sorted(study.iterdir()):
            files = sorted(series.iterdir())
            planter.everywhere(files[0])
            plant(files[1], {"PixelSpacing": planter.value()})
            plant(files[2], {"InstanceNumber": planter.value()})
            files[-1].rename(series / f"{planter.name()}_L4.dcm")
            (series / f"{planter.name()}.dcm").write_bytes(planter.value())
            (series / f"{planter.name()}.txt").write_text(planter.name())
    return root


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_nothing_of_a_plain_folder_names_its_patient(
    tiny_demo: Path, tmp_path: Path, planter: Planter, capfd: pytest.CaptureFixture[str]
) -> None:
    data, out = plain_study(tiny_demo, tmp_path / planter.name(), planter), tmp_path / "out"
    models = ("--localizer", tiny_demo / "localizer", "--classifier", tiny_demo / "classifier", "--device", "cpu")
    assert run("prepare", data, out / "store", "--png", "--workers", 2) == 0
    assert run("predict", data, out / "prediction", *models) == 0
    assert run("predict", out / "store", out / "from_store", *models) == 0
    assert run("audit", data, out / "audit", "--pixels", "all") == 0
    told = sorted(path.stem for path in (out / "prediction" / "studies").glob("*.json"))
    study_id = next(name for name in told if not name.startswith("uid-"))
    assert run("show", data, study_id, out / "sheet.png", "--prediction", out / "prediction") == 0
    assert run("series", data) == run("series", data, "--json") == 0
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        for path in data.rglob("*"):
            archive.write(path, path.relative_to(data))
    assert run("series", tmp_path / "export.zip") == 0
    assert (out / "prediction" / "submission.csv").read_bytes() == (out / "from_store" / "submission.csv").read_bytes()
    printed = "".join(capfd.readouterr())
    assert "hidden-" in printed
    # The user may see again what was typed; no output may.
    assert_nothing_told(planter, out, printed.replace(data.name, ""))
    assert run("series", data, "--names") == 0
    named = capfd.readouterr().out
    assert set(re.findall(r"hidden-[0-9a-f]{10}", printed)) <= set(re.findall(r"hidden-[0-9a-f]{10}", named))
    assert _NAME.search(named.lower().encode())


def test_nothing_of_a_challenge_names_its_patients(
    tiny_demo: Path, tmp_path: Path, planter: Planter, capfd: pytest.CaptureFixture[str]
) -> None:
    data, out = challenge(tiny_demo, tmp_path / "data", planter), tmp_path / "out"
    localizer, classifier = tiny_demo / "localizer", tiny_demo / "classifier"
    both = ("--localizer", localizer, "--classifier", classifier, "--device", "cpu")
    assert run("prepare", data, out / "store") == 0
    assert run("audit", data, out / "audit") == 0
    assert run("predict", data, out / "prediction", *both) == 0
    assert run("localize", "predict", out / "store", localizer, out / "points", "--device", "cpu") == 0
    points = out / "points" / "localizations.csv"
    found = ("--localizations", points, "--device", "cpu")
    assert run("classify", "predict", data, classifier, out / "grades", *found) == 0
    truth = shutil.copytree(tiny_demo / "truth", tmp_path / "truth")
    table = pd.read_csv(truth / "test.csv", dtype=str)
    table["patient_name"] = [planter.name() for _ in range(len(table))]
    table.to_csv(truth / "test.csv", index=False)
    assert run("evaluate", out / "prediction" / "submission.csv", truth, out / "scores") == 0
    assert_nothing_told(planter, out, "".join(capfd.readouterr()))
