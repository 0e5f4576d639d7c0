"""Studies that are broken in one way each, beside sound ones: every command goes on, and names what is broken."""

import csv
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.broken_studies.damage import DAMAGES
from benchmarks.broken_studies.planting import TWIN, Extent, plant
from benchmarks.broken_studies.verdict import rows_of, verdicts
from pipelines.cli import main
from shared.data.source import open_source
from shared.runtime.problems import FAILURES_FILE, SOME_FAILED
from shared.study import LoadedStudy
from tests.schemas import assert_documented

EXTENT = Extent(sound=1, slices=4)
# For the commands that see nothing of a study but what predict sees too; benchmarks.broken_studies runs them on all.
FEW = ("text files", "files cut in the pixels", "an RLE stream that panics", "no T2", "no folder", "other views")


@pytest.fixture(scope="module")
def runs(tiny_demo: Path) -> list[str]:
    models = ["--localizer", str(tiny_demo / "localizer"), "--classifier", str(tiny_demo / "classifier")]
    return [*models, "--device", "cpu"]


@pytest.fixture(scope="module")
def ids(tiny_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The planted data set, and the study of each damage."""
    data = tmp_path_factory.mktemp("broken") / "data"
    return data, plant(tiny_demo / "data", data, DAMAGES, EXTENT)


@pytest.fixture(scope="module")
def predicted(ids: tuple[Path, dict[str, str]], runs: list[str]) -> Path:
    out = ids[0].parent / "out"
    assert main(["predict", str(ids[0]), str(out), *runs]) == SOME_FAILED
    return out


def test_every_broken_study_is_answered_and_named(predicted: Path, ids: tuple[Path, dict[str, str]]) -> None:
    assert len(ids[1]) >= 50
    assert assert_documented(predicted) == {"study-1", "run-predict-1"}
    assert {name: v for name, v in verdicts(predicted, ids[1]).items() if not v.kept} == {}
    names = {path.stem for path in (predicted / "studies").glob("*.html")}
    assert names == {path.stem for path in (predicted / "studies").glob("*.json")}
    listed = (predicted / "index.html").read_text()
    assert all(f'href="studies/{name}.html"' in listed for name in names)
    # A damaged series is one line or two, not one for each file and finding.
    assert len(json.loads((predicted / "run.json").read_text())["problems"]) < 6 * len(ids[1])


def test_studies_that_failed_are_those_that_errors_left_without_an_answer(
    predicted: Path, ids: tuple[Path, dict[str, str]], runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pd.read_csv(predicted / "probabilities.csv", dtype=str)
    errors = rows[rows["reason"].isin(["stage_failed", "series_unreadable", "slice_damaged"])]["study_id"]
    answered = set(rows[rows["source"] == "model"]["study_id"])
    failed = pd.read_csv(predicted / FAILURES_FILE, dtype=str)
    assert list(failed["study_id"]) == [s for s in rows["study_id"].unique() if s in set(errors) - answered]
    named = {name for name, study_id in ids[1].items() if study_id in set(failed["study_id"])}
    assert {"no folder", "text files"} <= named
    assert not named & {"no T2", "other views", "one series twice"}
    assert set(failed["reason"]) <= {"series_unreadable", "stage_failed"}
    assert failed.notna().all(axis=None)
    assert not failed["message"].str.contains(str(ids[0]), regex=False).any()
    assert main(["predict", str(ids[0]), str(predicted), *runs, "--resume"]) == SOME_FAILED
    assert FAILURES_FILE in capsys.readouterr().err
    assert main(["predict", str(ids[0]), str(predicted), *runs, "--resume", "--strict"]) == 1


def test_sound_studies_do_not_notice(tiny_demo: Path, predicted: Path, runs: list[str], tmp_path: Path) -> None:
    plant(tiny_demo / "data", tmp_path / "data", {}, EXTENT)
    assert main(["predict", str(tmp_path / "data"), str(tmp_path / "out"), *runs]) == 0
    alone, beside = rows_of(tmp_path / "out"), rows_of(predicted)
    assert len(alone) == 2
    assert alone == {study_id: beside[study_id] for study_id in alone}
    for study_id in alone:
        name = f"studies/{study_id}.json"
        assert (tmp_path / "out" / name).read_bytes() == (predicted / name).read_bytes()


def test_a_store_holds_the_same_studies_and_faults(ids: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    assert main(["prepare", str(ids[0]), str(tmp_path / "store")]) == SOME_FAILED
    failed = set(pd.read_csv(tmp_path / "store" / FAILURES_FILE, dtype=str)["study_id"])
    assert {ids[1][name] for name in ("no folder", "text files")} <= failed
    assert not failed & {TWIN, ids[1]["no T2"], ids[1]["other views"]}
    assert assert_documented(tmp_path / "store", store=True) == {"run-prepare-1", "store-index-1"}
    direct, stored = open_source(ids[0]), open_source(tmp_path / "store")
    assert stored.study_ids == direct.study_ids
    for study_id in direct.study_ids:
        assert read_of(stored.load(study_id)) == read_of(direct.load(study_id))


def read_of(loaded: LoadedStudy) -> tuple[object, list[str]]:
    """Slices and messages without the folders above the images."""
    places = [(s.series_id, s.view, [(i.instance_number, i.plane) for i in s.slices]) for s in loaded.study.series]
    return places, [re.sub(r"\S*_images/", "", text) for text in loaded.problems]


def test_both_stages_alone_go_on(tiny_demo: Path, tmp_path: Path) -> None:
    data, points, grades = tmp_path / "data", tmp_path / "points", tmp_path / "grades"
    ids = plant(tiny_demo / "data", data, {name: DAMAGES[name] for name in FEW}, EXTENT)
    rest = ["--part", "test", "--device", "cpu"]
    assert main(["localize", "predict", str(data), str(tiny_demo / "localizer"), str(points), *rest]) == SOME_FAILED
    words = ["classify", "predict", str(data), str(tiny_demo / "classifier"), str(grades), *rest]
    assert main([*words, "--localizations", str(points / "localizations.csv")]) == SOME_FAILED
    for folder in (points, grades):
        failed = set(pd.read_csv(folder / FAILURES_FILE, dtype=str)["study_id"])
        assert {ids[name] for name in ("no folder", "text files", "files cut in the pixels")} <= failed, folder
        assert not failed & {TWIN, ids["no T2"], ids["other views"]}, folder
    assert assert_documented(points) == {"run-localize-prediction-1"}
    assert assert_documented(grades) == {"run-classify-prediction-1"}
    rows = rows_of(grades)
    assert {len(rows[study_id]) for study_id in [TWIN, *ids.values()]} == {25}


@pytest.mark.usefixtures("undrawn")
def test_the_audit_names_every_broken_study(ids: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    assert main(["audit", str(ids[0]), str(tmp_path / "out")]) == SOME_FAILED
    failed = set(pd.read_csv(tmp_path / "out" / FAILURES_FILE, dtype=str)["study_id"])
    assert {ids[1][name] for name in ("no folder", "text files")} <= failed
    assert not failed & {TWIN, ids[1]["no T2"], ids[1]["other views"]}
    assert assert_documented(tmp_path / "out") == {"audit-report-1"}
    codes: dict[str, set[str]] = {}
    with (tmp_path / "out" / "findings.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            codes.setdefault(row["study_id"], set()).add(row["code"])
    silent = {name for name, study_id in ids[1].items() if codes.get(study_id, set()) <= codes[TWIN]}
    assert {name for name in silent if DAMAGES[name].told} <= {"one series twice"}


def test_a_broken_study_is_shown_or_refused_in_one_line(
    ids: tuple[Path, dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in FEW:
        study_id, picture = ids[1][name], tmp_path / f"{ids[1][name]}.png"
        code = main(["show", str(ids[0]), study_id, str(picture)])
        lines = capsys.readouterr().err.splitlines()
        assert code in (0, 1), name
        assert picture.is_file() == (code == 0), name
        assert code == 0 or study_id in lines[-1], (name, lines)
