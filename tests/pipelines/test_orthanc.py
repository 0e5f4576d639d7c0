"""A PACS of its own: a study goes in, is fetched out and graded, and the results go back in and read the same."""

import http.client
import json
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest

import pipelines.predict.request

pytest.importorskip("highdicom", reason="the extra `dicom` is not installed")

from pipelines.cli import main
from pipelines.clinic.reading import differences, read_report
from pipelines.result import StudyResult
from shared.runtime.documents import read_json
from tests.pipelines.clinic_case import STUDY_UID, stand_in, write_runs, write_study

ORTHANC = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
START_S = 60


class Loopback(http.client.HTTPConnection):
    """HTTP without a look-up of names, which the guard of the tests refuses."""

    def connect(self) -> None:
        self.sock = socket.socket()
        self.sock.settimeout(START_S)
        self.sock.connect((self.host, self.port))


@dataclass(frozen=True, kw_only=True)
class Archive:
    """DICOMweb (PS3.18) of a running Orthanc: STOW-RS and WADO-RS."""

    port: int

    def store(self, files: Sequence[Path]) -> None:
        boundary = uuid.uuid4().hex
        parts = [f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + f.read_bytes() for f in files]
        body = b"\r\n".join(parts) + f"\r\n--{boundary}--\r\n".encode()
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        answer = json.loads(self.ask("POST", "/dicom-web/studies", body, {"Content-Type": kind}))
        assert len(answer["00081199"]["Value"]) == len(files)  # ReferencedSOPSequence: what was stored
        assert not answer.get("00081198", {}).get("Value")  # FailedSOPSequence

    def fetch(self, study_uid: str, folder: Path) -> list[Path]:
        body = self.ask("GET", f"/dicom-web/studies/{study_uid}", headers={"Accept": "multipart/related"})
        boundary = body[: body.index(b"\r\n")]
        folder.mkdir()
        paths = []
        for number, part in enumerate(body.split(boundary)[1:-1]):
            paths.append(folder / f"{number}.dcm")
            paths[-1].write_bytes(part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n"))
        return paths

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
        connection = Loopback("127.0.0.1", self.port)
        connection.request(method, path, body, {"Accept": "application/dicom+json"} | (headers or {}))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        assert answer.status == 200, (answer.status, content[:500])
        return content


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    """An Orthanc with an empty storage, which hears this machine only and ends with the test."""
    if ORTHANC is None or not PLUGIN.is_file():
        pytest.skip("Orthanc and its DICOMweb plugin are not installed (Debian: orthanc, orthanc-dicomweb)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("LUMBAR_LOOPBACK_PORT", str(port))
    settings = {
        "Name": "test", "StorageDirectory": str(tmp_path / "pacs"), "IndexDirectory": str(tmp_path / "pacs"),
        "HttpPort": port, "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "DicomServerEnabled": False,
        "Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True},
    }  # fmt: skip
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    with (tmp_path / "orthanc.log").open("w") as log:
        server = subprocess.Popen([ORTHANC, tmp_path / "orthanc.json"], stdout=log, stderr=log)
    try:
        end_s = time.monotonic() + START_S
        while True:
            try:
                Archive(port=port).ask("GET", "/system")
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "orthanc.log").read_text()
                assert time.monotonic() < end_s
                time.sleep(0.1)
        yield Archive(port=port)
    finally:
        server.terminate()
        server.wait(START_S)


def test_a_study_goes_through_an_archive_and_its_results_come_back(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines.predict.request, "load_grader", lambda *_: stand_in())
    monkeypatch.setattr(StudyResult, "picture", lambda self: np.zeros((48, 64, 3), np.uint8))  # drawing takes longest
    localizer, classifier = write_runs(tmp_path / "runs")
    files = sorted(write_study(tmp_path / "scanner").iterdir())
    archive.store(files)

    def predict(fetched: Path, out: Path) -> Path:
        words = ["predict", fetched, out, "--localizer", localizer, "--classifier", classifier, "--dicom"]
        assert main([*map(str, words), "--device", "cpu"]) == 0
        return out

    assert len(archive.fetch(STUDY_UID, tmp_path / "fetched")) == len(files)
    out = predict(tmp_path / "fetched", tmp_path / "out")
    written = sorted((out / "dicom").rglob("*.dcm"))
    assert [path.name for path in written] == ["picture.dcm", "report.dcm"]
    archive.store(written)

    # The objects lie in the same study now. They read as they were written, and grading it once more gives the same.
    returned = archive.fetch(STUDY_UID, tmp_path / "returned")
    assert len(returned) == len(files) + len(written)
    answer = read_json(out / "studies" / f"{STUDY_UID}.json")
    [report] = [path for path in returned if pydicom.dcmread(path).Modality == "SR"]
    assert differences(read_report(report), answer) == []
    again = predict(tmp_path / "returned", tmp_path / "again")
    for path in written:
        assert (again / path.relative_to(out)).read_bytes() == path.read_bytes()
    assert read_json(again / "studies" / f"{STUDY_UID}.json") == answer
