"""`lumbar prepare`: what a second run does, what a kill leaves, the PNG tree, the same results from either place."""

import fcntl
import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from classify.config import ClassifyConfig
from classify.crop_cache import CacheJob, build_cache
from localize.config import LocalizeConfig
from localize.detector.export import ExportRequest, export_view
from pipelines.cli import main
from pipelines.prepare import study as prepare_study_module
from pipelines.prepare.prepare import PrepareOptions, prepare
from shared.data.challenge import Challenge
from shared.data.source import open_source
from shared.data.store import Store, digest_of
from shared.dicom.pixels import slice_pixels
from shared.dicom.reader import FileReading, read_file, read_pixels
from shared.labels import FINDINGS, Condition, View
from shared.runtime.errors import InputError
from shared.runtime.ownership import MARKER
from tests.dicom_files import write_dicom

CONFIGS = Path(__file__).parents[1] / "configs"


def write_slice(path: Path, number: int, seed: int = 0) -> None:
    pixels = np.random.default_rng([number, seed]).integers(0, 4096, (10, 8), np.uint16)
    write_dicom(path, pixels, InstanceNumber=number, ImagePositionPatient=[5 - number, 0, 0])


def write_data(root: Path, parts: tuple[str, ...] = ("train",)) -> Path:
    """Studies 1, 2 and 3 (4, 5 and 6 in the test part), each with two series of one view."""
    for first, part in ((1, "train"), (4, "test")):
        if part not in parts:
            continue
        studies = [str(first + i) for i in range(3)]
        (root / f"{part}_images").mkdir(parents=True)
        rows = [(study, f"{study}{s}", "Sagittal T2/STIR") for study in studies for s in (1, 2)]
        table = pd.DataFrame(rows, columns=["study_id", "series_id", "series_description"])
        table.to_csv(root / f"{part}_series_descriptions.csv", index=False)
        grades = {"study_id": studies} | {f.column: ["Severe"] * 3 for f in FINDINGS}
        if part == "train":
            pd.DataFrame(grades).to_csv(root / "train.csv", index=False)
        for study, series, _ in rows:
            for number in (1, 2, 3):
                write_slice(root / f"{part}_images" / study / series / f"{number}.dcm", number, int(series))
    return root


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def check_pixels(store: Path, part: str = "train") -> None:
    data = Challenge.open(store, "train" if part == "train" else "test")
    for study_id in data.study_ids:
        for series in data.load_study(study_id).study.series:
            for item in series.slices:
                np.testing.assert_array_equal(
                    slice_pixels(item), read_pixels(store.with_name("data") / item.path.relative_to(data.images.parent))
                )


def test_a_second_run_decodes_only_what_changed(tmp_path: Path) -> None:
    data, store = write_data(tmp_path / "data"), tmp_path / "store"
    assert "3 studies (3 new, 0 changed, 0 unchanged, 0 removed), 18 slices" in prepare(data, store)
    before = tree(store / "studies")
    assert "(0 new, 0 changed, 3 unchanged, 0 removed)" in prepare(data, store, resume=True)
    assert tree(store / "studies") == before
    # Same size, same time, other bytes: contents decide.
    path = data / "train_images/1/11/2.dcm"
    stat = path.stat()
    write_slice(path, 2, seed=99)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    write_slice(data / "train_images/2/21/4.dcm", 4)
    assert path.stat().st_size == stat.st_size
    assert "(0 new, 2 changed, 1 unchanged, 0 removed), 19 slices" in prepare(data, store, resume=True)
    check_pixels(store)
    # Study 3 leaves the tables, study 9 enters them.
    table = data / "train_series_descriptions.csv"
    table.write_text(table.read_text().replace("3,31,", "9,91,").replace("3,32,", "9,92,"))
    (data / "train_images/3").rename(data / "train_images/9")
    (data / "train_images/9/31").rename(data / "train_images/9/91")
    (data / "train_images/9/32").rename(data / "train_images/9/92")
    assert "(1 new, 0 changed, 2 unchanged, 1 removed)" in prepare(data, store, resume=True)
    check_pixels(store)
    names = {p.name.split(".")[0] for p in (store / "studies/train").iterdir()}
    assert names == {"1", "2", "9"}
    assert len(list((store / "studies/train").iterdir())) == 6


def test_several_processes_give_the_same_store(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", ("train", "test"))
    prepare(data, tmp_path / "one", PrepareOptions(png=True))
    prepare(data, tmp_path / "two", PrepareOptions(png=True, workers=2))
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    assert one.pop("run.json")
    assert two.pop("run.json")
    assert one == two


def test_a_killed_run_is_refused_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, store = write_data(tmp_path / "data"), tmp_path / "store"
    left = [8]

    def read_until_killed(path: Path, **options: bool) -> FileReading:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return read_file(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(prepare_study_module, "read_file", read_until_killed)
        assert main(["prepare", str(data), str(store), "--workers", "1"]) == 130
    with pytest.raises(InputError, match="unfinished"):
        Challenge.open(store)
    (store / "studies/train/.2.999.tmp").write_bytes(b"what a kill leaves")
    (store / "studies/train/2.0000000000000000.u8").write_bytes(b"and this")
    with pytest.raises(InputError, match="not empty"):
        prepare(data, store)
    assert "(2 new, 0 changed, 1 unchanged, 0 removed)" in prepare(data, store, resume=True)
    assert len(list((store / "studies/train").iterdir())) == 6
    check_pixels(store)


def test_damaged_records_are_made_anew(tmp_path: Path) -> None:
    data, store = write_data(tmp_path / "data"), tmp_path / "store"
    prepare(data, store)
    whole = tree(store / "studies")
    (store / "studies/train/1.json").write_text("{}")
    next((store / "studies/train").glob("2.*.u8")).write_bytes(b"")
    assert "(0 new, 2 changed, 1 unchanged, 0 removed)" in prepare(data, store, resume=True)
    assert tree(store / "studies") == whole


def test_parts_are_added_one_after_the_other(tmp_path: Path) -> None:
    data, store = write_data(tmp_path / "data", ("train", "test")), tmp_path / "store"
    prepare(data, store, PrepareOptions(part="train"))
    assert open_source(store).study_ids == ("1", "2", "3")
    with pytest.raises(InputError, match="holds no test part"):
        Challenge.open(store, "test")
    prepare(data, store, PrepareOptions(part="test"), resume=True)
    assert open_source(store).study_ids == ("4", "5", "6")
    check_pixels(store, "train")
    check_pixels(store, "test")
    # The part that an unfinished run left is finished with the other.
    found = Store.find(store)
    assert found is not None
    found.write(finished=False)
    (store / "studies/train/2.json").unlink()
    assert "6 studies" in prepare(data, store, PrepareOptions(part="test"), resume=True)
    check_pixels(store, "train")
    # A part that left the data leaves the store.
    (data / "test_series_descriptions.csv").unlink()
    assert "3 removed" in prepare(data, store, resume=True)
    assert open_source(store).study_ids == ("1", "2", "3")
    assert not (store / "test_series_descriptions.csv").exists()


def test_what_may_be_all_that_is_left_is_never_deleted(tmp_path: Path) -> None:
    data, store = write_data(tmp_path / "data", ("train", "test")), tmp_path / "store"
    prepare(data, store)
    whole = tree(store)
    (data / "train_images").rename(tmp_path / "away")
    with pytest.raises(InputError, match=r"train_images: gone, but .* holds 3 studies of it; .* --part"):
        prepare(data, store, resume=True)
    assert tree(store) == whole
    assert "3 studies (0 new, 0 changed, 3 unchanged" in prepare(data, store, PrepareOptions(part="test"), resume=True)
    check_pixels_of(store, "2")
    # One study whose folder is gone, or was emptied.
    (tmp_path / "away").rename(data / "train_images")
    shutil.move(data / "train_images/2", tmp_path / "two")
    for _ in range(2):
        with pytest.raises(InputError, match=r"train_images/2: gone or empty, but .* \(1 such study\)"):
            prepare(data, store, resume=True)
        (data / "train_images/2").mkdir(exist_ok=True)
    assert {n: c for n, c in tree(store).items() if n.startswith("studies")} == {
        n: c for n, c in whole.items() if n.startswith("studies")
    }
    check_pixels_of(store, "2")


def check_pixels_of(store: Path, study_id: str) -> None:
    for series in Challenge.open(store).load_study(study_id).study.series:
        assert [slice_pixels(item).any() for item in series.slices] == [True] * 3


def test_a_part_is_added_from_the_same_folder_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, store = write_data(tmp_path / "data", ("train", "test")), tmp_path / "store"
    monkeypatch.chdir(tmp_path)
    prepare(Path("data"), store, PrepareOptions(part="train"))
    monkeypatch.chdir("/")
    found = Store.find(store)
    assert found is not None
    assert found.made_from == digest_of(data)
    other = shutil.copytree(data, tmp_path / "other")
    with pytest.raises(InputError, match=r"the train part of .* was made from"):
        prepare(other, store, PrepareOptions(part="test"), resume=True)
    assert "(3 new, 0 changed, 3 unchanged" in prepare(other, store, resume=True)
    check_pixels(store, "test")


def test_overwrite_waits_for_nobody_and_empties_nothing_in_use(tmp_path: Path) -> None:
    data, store = write_data(tmp_path / "data"), tmp_path / "store"
    prepare(data, store)
    whole, inode = tree(store), (store / MARKER).stat().st_ino
    with (store / MARKER).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for overwrite in (True, False):
            with pytest.raises(InputError, match="another process"):
                prepare(data, store, overwrite=overwrite, resume=not overwrite)
    assert tree(store) == whole
    (store / "studies" / "stray.json").write_text("old")
    assert "3 new" in prepare(data, store, overwrite=True)
    assert not (store / "studies" / "stray.json").exists()
    assert (store / MARKER).stat().st_ino == inode


def test_what_a_killed_process_left_beside_the_records_is_swept(tmp_path: Path) -> None:
    data, store = write_data(tmp_path / "data"), tmp_path / "store"
    prepare(data, store, PrepareOptions(png=True))
    whole = tree(store)
    (store / ".store.json.999999999.tmp").write_text("half")
    (store / "png" / ".1.999999999.tmp").mkdir()
    prepare(data, store, resume=True)
    assert {name for name in tree(store) if "tmp" in name} == set()
    assert tree(store).keys() == whole.keys()
    assert [p.name for p in (store / "png").glob(".*")] == []


def test_overwrite_never_empties_a_part_of_the_data(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    before = tree(data)
    with pytest.raises(InputError, match="among the images"):
        prepare(data, data / "train_images", overwrite=True)
    assert tree(data) == before
    prepare(data, data / "store")
    assert "3 new" in prepare(data, data / "store", overwrite=True)


def test_stray_files_are_passed_over(tmp_path: Path) -> None:
    data, store = write_data(tmp_path / "data"), tmp_path / "store"
    prepare(data, store, PrepareOptions(png=True))
    for folder in ("png", "studies", "studies/train"):
        (store / folder / ".DS_Store").write_text("x")
        (store / folder / "mine").mkdir()
        (store / folder / "mine/thesis.png").write_text("x")
    (store / "png/.9.123.tmp").mkdir()
    assert "3 unchanged, 0 removed" in prepare(data, store, resume=True)
    kept = {p.relative_to(store).as_posix() for p in store.rglob("thesis.png")}
    assert kept == {"png/mine/thesis.png", "studies/mine/thesis.png", "studies/train/mine/thesis.png"}
    assert not (store / "png/.9.123.tmp").exists()


def test_bad_usage_leaves_everything_as_it_is(tmp_path: Path) -> None:
    data, store, other = write_data(tmp_path / "data"), tmp_path / "store", tmp_path / "other"
    prepare(data, store)
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    (tmp_path / "tables").mkdir()
    for name in ("train.csv", "train_series_descriptions.csv"):
        shutil.copy(data / name, tmp_path / "tables" / name)
    (tmp_path / "export").mkdir()
    write_slice(tmp_path / "export/1", 1)
    for source, out, options, message in (
        (data, other, {}, "not empty"),
        (data, other, {"resume": True}, "not a prepared store"),
        (store, tmp_path / "again", {}, "prepared store itself"),
        (tmp_path / "nowhere", tmp_path / "again", {}, "no such folder"),
        (other, tmp_path / "again", {}, "no readable DICOM"),
        (tmp_path / "tables", tmp_path / "again", {}, "no images"),
        (tmp_path / "export", store, {"resume": True}, "choose another folder"),
        (data, data, {"overwrite": True}, "would delete"),
    ):
        with pytest.raises(InputError, match=message):
            prepare(source, out, None, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="--png-size 0"):
        prepare(data, tmp_path / "again", PrepareOptions(png_size=0))
    with pytest.raises(InputError, match=r"test_series_descriptions\.csv"):
        prepare(data, tmp_path / "again", PrepareOptions(part="test"))
    assert not (tmp_path / "again").exists()
    assert [p.name for p in other.iterdir()] == ["thesis.txt"]
    check_pixels(store)


def test_the_png_tree(tmp_path: Path) -> None:
    data, store = write_data(tmp_path / "data"), tmp_path / "store"
    (data / "train_images/2/21/3.dcm").write_bytes(b"broken")
    prepare(data, store, PrepareOptions(png=True))
    names = {name for name in tree(store / "png") if name.startswith("1/") and name.endswith(".png")}
    # Instances run from left to right here, positions from right to left.
    order = ((0, 3), (1, 2), (2, 1))
    assert names == {f"1/Sagittal_T2_STIR/{s}_{p:03d}_{i}.png" for s in ("11", "12") for p, i in order}
    image = cv2.imread(str(store / "png/1/Sagittal_T2_STIR/12_000_3.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(image, read_pixels(data / "train_images/1/12/3.dcm"))
    assert len(list((store / "png/2").rglob("*.png"))) == 5
    # Later runs keep the tree up to date without being asked.
    kept = (store / "png/1/prepared.json").stat().st_mtime_ns
    (store / "png/3/Sagittal_T2_STIR/31_000_3.png").unlink()
    write_slice(data / "train_images/2/21/3.dcm", 3, 21)
    table = data / "train_series_descriptions.csv"
    prepare(data, store, resume=True)
    assert len(list((store / "png").rglob("*.png"))) == 18
    assert (store / "png/1/prepared.json").stat().st_mtime_ns == kept
    table.write_text("".join(line for line in table.read_text().splitlines(keepends=True) if line[0] != "3"))
    prepare(data, store, PrepareOptions(png_size=16), resume=True)
    assert {p.name for p in (store / "png").iterdir()} == {"1", "2"}
    assert {cv2.imread(str(p), cv2.IMREAD_UNCHANGED).shape for p in (store / "png").rglob("*.png")} == {(16, 16)}


def test_hostile_identifiers_make_no_path(tmp_path: Path) -> None:
    for number in range(6):
        write_dicom(tmp_path / "export" / f"{number}", StudyInstanceUID="..", ImagePositionPatient=[number, 0, 0])
    prepare(tmp_path / "export", tmp_path / "store", PrepareOptions(png=True))
    (folder,) = (tmp_path / "store" / "png").iterdir()
    assert re.fullmatch(r"uid-[0-9a-f]{16}", folder.name)
    assert len(list(folder.rglob("*.png"))) == 6
    assert {p.name for p in tmp_path.iterdir()} == {"export", "store"}


@pytest.fixture(scope="module")
def demo_store(tiny_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("prepared") / "store"
    prepare(tiny_demo / "data", store)
    return store


def test_both_trainers_read_the_same_from_the_store(tiny_demo: Path, demo_store: Path, tmp_path: Path) -> None:
    roots = {"data": tiny_demo / "data", "store": demo_store}
    localize = LocalizeConfig.load(CONFIGS / "localize.toml")
    crops = ClassifyConfig.load(CONFIGS / "classify.toml").crop
    for name, root in roots.items():
        data = Challenge.open(root)
        for view in View:
            request = ExportRequest(data=data, view=view, config=localize, val=data.study_ids[:3])
            export_view(request, tmp_path / name / view.slug, workers=2)
            (tmp_path / name / view.slug / "data.yaml").unlink()  # names its own folder
        job = CacheJob(data=data, config=crops, localizations=None, conditions=tuple(Condition))
        build_cache(job, tmp_path / name / "cache")
    exported = tree(tmp_path / "data")
    assert sum(path.endswith(".png") for path in exported) > 10
    assert exported == tree(tmp_path / "store")


def test_predict_gives_the_same_bytes_from_the_store(tiny_demo: Path, demo_store: Path, tmp_path: Path) -> None:
    runs = ["--localizer", str(tiny_demo / "localizer"), "--classifier", str(tiny_demo / "classifier")]
    assert main(["predict", str(demo_store), str(tmp_path / "out"), *runs, "--device", "cpu"]) == 0
    direct, prepared = tree(tiny_demo / "prediction"), tree(tmp_path / "out")
    assert direct.keys() == prepared.keys()
    for name in direct.keys() - {"run.json"}:
        assert direct[name] == prepared[name], name
    splits = ["splits", str(demo_store), str(tmp_path / "splits.json"), "--seed", "5"]
    assert main(splits) == 0
    assert (tmp_path / "splits.json").read_bytes() == (tiny_demo / "splits.json").read_bytes()
