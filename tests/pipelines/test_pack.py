"""Packs: what they hold and what they must not hold, the wheel that is made without a build tool, and refusals."""

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import pytest

from pipelines.cli import main
from pipelines.pack import Manifest, PackRequest, pack
from pipelines.pack.wheel import own_wheel
from shared.runtime.documents import adapter_of, read_json
from shared.runtime.errors import InputError
from shared.runtime.files import write_json
from shared.splits import read_splits


@pytest.fixture(scope="module")
def runs(tiny_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Both runs, as if a file of somebody's had given the starting weights and a message had named a study."""
    copies = tmp_path_factory.mktemp("runs")
    for name in ("localizer", "classifier"):
        run = shutil.copytree(tiny_demo / name, copies / name)
        config = run / "config.toml"
        config.write_text(config.read_text().replace('weights = "none"', 'weights = "/home/jane/doe.pt"'))
        assert "jane" in config.read_text()
        write_json(run / "run.json", {**read_json(run / "run.json"), "problems": ["study 47114711: cannot be read"]})
    card = copies / "classifier" / "fold0" / "model.json"
    card.write_text(card.read_text().replace('"weights": "none"', '"weights": "/home/jane/doe.pt"'))
    assert "jane" in card.read_text()
    return copies / "localizer", copies / "classifier"


@pytest.fixture(scope="module")
def packed(runs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pack") / "pack.zip"
    pack(PackRequest(runs=runs), out)
    return out


def test_a_pack_holds_what_prediction_reads_and_a_digest_of_each_file(packed: Path) -> None:
    views = ("axial_t2", "sagittal_t1", "sagittal_t2")
    with zipfile.ZipFile(packed) as archive:
        names = archive.namelist()
        manifest = adapter_of(Manifest).validate_json(archive.read("manifest.json"))
        digests = {name: hashlib.sha256(archive.read(name)).hexdigest() for name in names if name != "manifest.json"}
    assert [n for n in names if not n.startswith("wheels/")] == [
        "LICENSE",
        *(f"classifier/{n}" for n in ("config.toml", "fold0/model.json", "fold0/model.safetensors", "run.json")),
        "localizer/config.toml",
        *sorted([*(f"localizer/fold0/{v}.safetensors" for v in views),
                 "localizer/fold0/calibration.json", "localizer/fold0/chain.json"]),
        "localizer/run.json", "manifest.json",
    ]  # fmt: skip
    assert manifest.files == digests
    assert (manifest.localizers, manifest.classifiers) == (["localizer"], ["classifier"])
    assert [f"wheels/{name}" for name in manifest.wheels] == [n for n in names if n.startswith("wheels/")]


def test_nothing_of_a_pack_names_a_study_or_a_path(packed: Path, runs: tuple[Path, Path]) -> None:
    studies = read_splits(runs[1] / "splits.json").study_ids
    with zipfile.ZipFile(packed) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            if not name.startswith("wheels/"):
                told = [
                    s
                    for s in (*studies, "47114711", "jane", str(runs[0].parent), str(Path.home()))
                    if s.encode() in content
                ]
                assert told == [], name


def test_the_same_runs_give_the_same_bytes(packed: Path, runs: tuple[Path, Path], tmp_path: Path) -> None:
    elsewhere = [shutil.copytree(run, tmp_path / run.name) for run in runs]
    pack(PackRequest(runs=tuple(reversed(elsewhere))), tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()


def test_the_wheel_holds_the_files_of_the_one_that_the_build_tool_makes(wheel_site: Path, tmp_path: Path) -> None:
    name, content = own_wheel()
    (tmp_path / name).write_bytes(content)
    with zipfile.ZipFile(tmp_path / name) as wheel:
        ours = {n: wheel.read(n) for n in wheel.namelist() if ".dist-info/" not in n}
        about = {n.partition("/")[2] for n in wheel.namelist() if ".dist-info/" in n}
    packages = ("shared", "localize", "classify", "pipelines")
    built = {
        path.relative_to(wheel_site).as_posix(): path.read_bytes()
        for package in packages for path in (wheel_site / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }  # fmt: skip
    assert ours.keys() == built.keys()
    assert ours == built
    assert about == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


def test_wheels_of_others_go_along(runs: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    other = tmp_path / "wheels" / "other-1.0-py3-none-any.whl"
    with zipfile.ZipFile(other, "w") as wheel:
        wheel.writestr("other.py", "")
    text = pack(PackRequest(runs=runs, wheels=tmp_path / "wheels"), tmp_path / "pack.zip")
    assert "other-1.0-py3-none-any.whl" in text
    with zipfile.ZipFile(tmp_path / "pack.zip") as archive:
        assert archive.read(f"wheels/{other.name}") == other.read_bytes()
        assert other.name in json.loads(archive.read("manifest.json"))["wheels"]
    other.write_text("no archive")
    with pytest.raises(InputError, match="is no wheel"):
        pack(PackRequest(runs=runs, wheels=tmp_path / "wheels"), tmp_path / "second.zip")


def test_what_cannot_be_packed_is_refused_and_leaves_nothing(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    localizer, classifier = runs
    out = tmp_path / "pack.zip"
    unfinished = shutil.copytree(
        classifier, tmp_path / "unfinished", ignore=shutil.ignore_patterns("run.json", "*.saf*")
    )
    other = shutil.copytree(localizer, tmp_path / "other")
    write_json(other / "run.json", {**read_json(other / "run.json"), "data_fingerprint": "of other data"})
    changed = shutil.copytree(localizer, tmp_path / "changed")
    with (changed / "fold0" / "axial_t2.safetensors").open("ab") as file:
        file.write(b"x")
    foreign = tmp_path / "thesis.zip"
    foreign.write_text("not ours")
    refused: dict[str, list[Path | str]] = {
        "finished run": [localizer, unfinished, out],
        "at least one run of `lumbar classify train`": [localizer, out],
        "trained on different data": [other, classifier, out],
        "SHA-256 differs": [changed, classifier, out],
        "given twice": [localizer, classifier, classifier, out],
        "ends in .zip": [localizer, classifier],
        "lies in the run": [classifier, classifier / "pack.zip"],
        "is no archive of `lumbar pack`": [localizer, classifier, foreign, "--overwrite"],
    }
    for message, words in refused.items():
        assert main(["pack", *map(str, words)]) == 1
        assert message in capsys.readouterr().err
        assert not out.exists()
    assert foreign.read_text() == "not ours"


def test_only_a_pack_is_replaced_and_only_when_asked(
    packed: Path, runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copyfile(packed, tmp_path / "pack.zip"))
    words = ["pack", str(runs[1]), str(out)]
    assert main(words) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_bytes() == packed.read_bytes()
