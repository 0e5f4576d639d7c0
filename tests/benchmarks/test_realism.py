"""Real beside synthetic: which slices stand side by side, what the numbers say, and the page."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.realism.image_numbers import FREQUENCIES, measure, spectrum, tissue_signals
from benchmarks.realism.realism import main
from benchmarks.realism.views import Place, Subject, places, slice_at
from pipelines.prepare.prepare import prepare
from shared.geometry import Plane
from shared.labels import Level, View
from shared.runtime.documents import read_json
from shared.study import Series, Slice, Study
from tests.dicom_files import write_dicom


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.realism.realism._WIDTH_PX", 400)


@pytest.fixture
def as_real(few_studies: Path) -> Path:
    """Synthetic studies that stand for real ones."""
    return few_studies / "data"


def subject(view: View, count: int, canal_mm: dict[Level, np.ndarray] | None = None) -> Subject:
    """Slices 5 mm apart around x = 0 (sagittal), or from z = 0 downwards (axial)."""
    sagittal = view.is_sagittal
    directions = (
        {"row_dir": (0, 1, 0), "col_dir": (0, 0, -1)} if sagittal else {"row_dir": (1, 0, 0), "col_dir": (0, 1, 0)}
    )
    slices = []
    for k in range(count):
        origin = (5.0 * (k - (count - 1) / 2), 0, 0) if sagittal else (0, 0, -5.0 * k)
        plane = Plane.from_arrays(origin_mm=origin, spacing_mm=(1, 1), **directions)
        slices.append(Slice(path=Path(f"{k}.dcm"), instance_number=k, plane=plane, shape=(8, 8)))
    study = Study(study_id="1", series=(Series(series_id="2", view=view, slices=tuple(slices)),))
    return Subject(name="a", real=True, study=study, canal_mm=canal_mm or {})


def numbers_at(one: Subject, view: View) -> list[int | None]:
    found = [slice_at(one, view, place) for place in places(view)]
    return [None if item is None else item.instance_number for item in found]


def test_sagittal_places_lie_around_the_midline() -> None:
    assert numbers_at(subject(View.SAGITTAL_T1, 9), View.SAGITTAL_T1) == [1, 2, 4, 7]
    canal = {Level.L4_L5: np.array([5.0, 0, 0])}
    assert numbers_at(subject(View.SAGITTAL_T1, 9, canal), View.SAGITTAL_T1) == [2, 3, 5, 8]


def test_axial_places_are_discs_and_pedicles_and_may_be_missing() -> None:
    canal = {level: np.array([0, 0, -35.0 * level]) for level in Level}
    assert numbers_at(subject(View.AXIAL_T2, 40, canal), View.AXIAL_T2) == [7, 10, 14, 17, 21, 24, 28]
    assert numbers_at(subject(View.AXIAL_T2, 16, canal), View.AXIAL_T2) == [7, 10, 14, None, None, None, None]
    blind = [n for n in numbers_at(subject(View.AXIAL_T2, 25), View.AXIAL_T2)[:5] if n is not None]
    assert len(blind) == 5
    assert blind == sorted(blind)


def test_a_place_beyond_the_series_is_missing() -> None:
    assert slice_at(subject(View.SAGITTAL_T2, 3), View.SAGITTAL_T2, Place(name="far", offset_mm=40)) is None


def test_noise_is_measured_in_the_scanners_own_units() -> None:
    rng = np.random.default_rng(0)
    for sigma in (4.0, 16.0):
        signal = np.zeros((240, 240))
        signal[60:180, 60:180] = 800
        noise = rng.normal(0, sigma, (2, *signal.shape))
        pixels = np.hypot(signal + noise[0], noise[1]).astype(np.float32)
        found = measure([(pixels, (0.5, 0.5))])
        assert found.background_noise == pytest.approx(sigma / 800, rel=0.2)
        # One grey value is about 800/255 units.
        assert found.grain == pytest.approx(sigma * 255 / 800, rel=0.2)
        assert found.tissue_share == pytest.approx(0.25, abs=0.01)


def test_the_spectrum_knows_the_millimetre() -> None:
    x = np.arange(256) * 0.5
    wave = np.broadcast_to(128 + 100 * np.sin(2 * np.pi * 0.3 * x), (256, 256)).astype(np.uint8)
    assert FREQUENCIES[int(np.argmax(spectrum(wave, (0.5, 0.5))))] == pytest.approx(0.3)
    assert FREQUENCIES[int(np.argmax(spectrum(wave, (1.0, 1.0))))] == pytest.approx(0.15)


def test_tissues_are_read_where_they_lie() -> None:
    plane = Plane(origin_mm=(0, 0, 0), row_dir=(0, 1, 0), col_dir=(0, 0, -1), spacing_mm=(1, 1))
    item = Slice(path=Path("x"), instance_number=1, plane=plane, shape=(120, 80))
    pixels = np.full((120, 80), 100, np.float32)  # marrow
    pixels[:, 50:70] = 300  # the canal, 60 mm behind the left edge
    pixels[26:34, :50] = pixels[66:74, :50] = 40  # two discs
    canal = {Level.L3_L4: np.array([0.0, 60, -30]), Level.L4_L5: np.array([0.0, 60, -70])}
    assert tissue_signals(pixels, item, canal) == {"csf_to_marrow": 3.0, "disc_to_marrow": pytest.approx(0.4)}
    assert tissue_signals(pixels, item, {Level.L3_L4: canal[Level.L3_L4]}) is None


def test_the_page_of_a_challenge_directory(as_real: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [str(as_real), str(out), "--patients", "1", "--preset", "demo"]
    assert main(arguments) == 0
    assert {p.name for p in out.iterdir()} == {".lumbar", "report.html", "report.json"}
    page, views = (out / "report.html").read_text(), read_json(out / "report.json")["views"]
    assert page.count(";base64,") == 9  # whole, detail and curves of each view
    assert "http" not in re.sub(r"base64,[^\"]*", "", page.replace("http-equiv", ""))  # pictures may spell it
    assert list(views) == [v.slug for v in View]
    for view in views.values():
        assert list(view) == ["real 1", "synthetic 1"]
        assert view["real 1"]["matrix"].count(" x ") == 1
        assert 0 < view["real 1"]["background_noise_percent"] < 10
    assert views["sagittal_t2"]["synthetic 1"]["csf_to_marrow"] > 1
    assert main(arguments) == 1  # not empty


def test_a_real_study_without_points(real_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--patients", "1", "--preset", "demo"]
    assert main([str(real_data / "lumbar_study"), str(out), *arguments]) == 0
    views = read_json(out / "report.json")["views"]
    assert views["sagittal_t1"]["real 1"]["slices"] == 12
    assert views["axial_t2"]["real 1"]["gap_mm"] == pytest.approx(5.0)
    assert views["sagittal_t2"]["real 1"]["csf_to_marrow"] is None
    assert "their level unknown" in (out / "report.html").read_text()


def test_a_store_without_its_files_and_a_broken_slice(
    as_real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, store = Path(shutil.copytree(as_real, tmp_path / "data")), tmp_path / "store"
    for study in data.glob("train_images/*"):  # the page shows one of them
        next(study.glob("*/*.dcm")).write_bytes(b"broken")
    prepare(data, store)
    shutil.rmtree(data)
    capsys.readouterr()
    assert main([str(store), str(tmp_path / "out"), "--patients", "1", "--preset", "demo"]) == 0
    told = capsys.readouterr().err
    assert told.count("not a DICOM file") == 1
    assert told.count("its DICOM files are gone") == 1
    assert "no such file" not in told.lower()
    for view in read_json(tmp_path / "out" / "report.json")["views"].values():
        assert list(view) == ["synthetic 1"]


def test_wrong_calls_are_told_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dicom(tmp_path / "one" / "a.dcm")  # one slice is no series
    for arguments, message in (
        ([str(tmp_path / "nowhere")], "no such folder"),
        ([str(tmp_path / "one")], "no study with a readable"),
        ([str(tmp_path / "one"), "--patients", "0"], "expected 1 to 12"),
        ([str(tmp_path / "one"), "--patients", "13"], "expected 1 to 12"),
    ):
        assert main([arguments[0], str(tmp_path / "out"), *arguments[1:]]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
