"""Which runs go together, and that no fold answers a study that it was trained on, whatever the runs."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localize import localizer
from pipelines.ensembles.members import Members
from pipelines.ensembles.weights import BlendWeights, Member, write_weights
from shared.data.source import StudySource, open_source
from shared.labels import Condition
from shared.runtime.errors import InputError
from shared.runtime.run_folder import trained_digest, write_run
from shared.splits import Splits, write_splits
from tests.pipelines.stand_ins import write_test_part

STUDIES = tuple("abcdefgh")
SPLITS = Splits(seed=0, folds=(("a", "b"), ("c", "d"), ("e", "f", "g", "h")))


def write(
    folder: Path, kind: str, data: str = "1", splits: Splits = SPLITS, folds: tuple[int, ...] = (0, 1, 2)
) -> Path:
    """A finished run without models."""
    trained: Any = {str(k): {"models": {}} for k in folds} if kind == "localize" else list(folds)
    write_run(folder, command="train", started=0.0, kind=kind, data_fingerprint=data, folds=trained)
    write_splits(folder / "splits.json", splits)
    (folder / "config.toml").write_text(f"# {folder.name}")
    return folder


@pytest.fixture
def source(tmp_path: Path) -> StudySource:
    """The training part of data "1"."""
    (tmp_path / "data").mkdir()
    return replace(open_source(write_test_part(tmp_path / "data")), study_ids=STUDIES, fingerprint="1")


def members(localizers: list[Path], classifiers: list[Path], **more: Any) -> Members:
    return Members(localizers=tuple(localizers), classifiers=tuple(classifiers), **more)


def test_stages_trained_on_different_data_are_refused_unless_that_is_asked_for(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", "localize"), write(tmp_path / "b", "classify")
    other = write(tmp_path / "c", "classify", data="2")
    assert members([a], [b]).runs == (a, b)
    for pair in ([a], [other]), ([a], [b, other]):
        with pytest.raises(InputError, match=r"different data .* --mixed-data"):
            members(*pair)
    members([a], [b, other], mixed_data=True)
    with pytest.raises(InputError, match="expected the run folder of `lumbar localize train`"):
        members([b], [b])
    with pytest.raises(InputError, match="given twice"):
        members([a], [b, b])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        members([tmp_path / "empty"], [b])


def test_each_run_answers_by_its_own_fold(tmp_path: Path, source: StudySource) -> None:
    """Also where the runs have other splits; studies that some run has no trained fold for are left out."""
    turned = Splits(seed=1, folds=(("a", "c", "e", "g"), ("b", "d", "f", "h")))
    one = write(tmp_path / "one", "localize", folds=(0, 2))
    two, three = write(tmp_path / "two", "classify"), write(tmp_path / "three", "classify", splits=turned, folds=(1,))
    chosen, teams = members([one], [two, three]).teams(source)
    assert teams == {"b": (0, 0, 1), "f": (2, 2, 1), "h": (2, 2, 1)}
    assert chosen.study_ids == ("b", "f", "h")
    assert chosen.row_ids is None


def test_new_studies_are_answered_by_all_folds(
    tmp_path: Path, source: StudySource, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = members([write(tmp_path / "one", "localize")], [write(tmp_path / "two", "classify")])
    for new in (replace(source, fingerprint="2"), replace(source, fingerprint=None)):
        assert runs.teams(new) == (new, None)
        told = capsys.readouterr().err.replace("\n", " ")
        assert "two: was trained on 8 studies of the same id" in told  # tables that were edited are other tables
    assert runs.teams(replace(source, fingerprint="2", study_ids=("new",)))[1] is None
    assert capsys.readouterr().err == ""


def test_the_shipped_localizer_has_seen_nothing(
    tmp_path: Path, source: StudySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = write(tmp_path / "shipped", "localize", data="synthetic")
    monkeypatch.setattr(localizer, "SHIPPED_RUN", shipped)
    runs = members([shipped, write(tmp_path / "own", "localize")], [write(tmp_path / "two", "classify")])
    _, teams = runs.teams(source)
    assert teams["a"] == (None, 0, 0)
    assert runs.to_json()["shipped_localizer"] is False


def test_runs_of_mixed_data_tell_seen_studies_by_their_ids(tmp_path: Path, source: StudySource) -> None:
    less = Splits(seed=0, folds=(("a", "c"), ("e", "x")))
    one, two = (
        write(tmp_path / "one", "localize"),
        write(tmp_path / "two", "classify", data="2", splits=less, folds=(0,)),
    )
    chosen, teams = members([one], [two], mixed_data=True).teams(source)
    assert teams["a"] == (0, 0)
    assert teams["b"] == (0, None)
    assert "e" not in teams
    assert set(chosen.study_ids) == set(STUDIES) - {"e"}


def test_runs_that_held_out_nothing_in_common_are_named(tmp_path: Path, source: StudySource) -> None:
    one, two = write(tmp_path / "one", "localize", folds=(0,)), write(tmp_path / "two", "classify", folds=(1,))
    with pytest.raises(InputError, match=r"one and .*two have no trained fold in common"):
        members([one], [two]).teams(source)


@dataclass(frozen=True)
class StandIn:
    """What is asked of a source of studies."""

    study_ids: tuple[str, ...] = STUDIES
    fingerprint: str = "1"
    row_ids: None = None


@settings(max_examples=20)
@given(data=st.data())
def test_no_fold_answers_a_study_that_it_was_trained_on(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("runs")
    source: Any = StandIn()
    drawn = []
    for n in range(3):
        ids = data.draw(st.permutations((*STUDIES, "x", "y")))
        cut = data.draw(st.integers(1, 7))
        count = data.draw(st.integers(8, 10))
        splits = Splits(seed=0, folds=(tuple(ids[:cut]), tuple(ids[cut:count])))
        folds = tuple(data.draw(st.sets(st.integers(0, 1), min_size=1)))
        drawn.append((write(root / str(n), "localize" if n == 0 else "classify", str(n), splits, folds), splits, folds))
    runs = members([drawn[0][0]], [run for run, _, _ in drawn[1:]], mixed_data=True)
    try:
        _, teams = runs.teams(source)
    except InputError:
        return
    for study, team in (teams or {}).items():
        for fold, (_, splits, folds) in zip(team, drawn, strict=True):
            if fold is None:
                assert study not in splits.study_ids
            else:
                assert study in splits.held_out(fold)
                assert fold in folds


def test_weights_go_with_their_own_classifiers_in_any_order(tmp_path: Path) -> None:
    one, two, three = (write(tmp_path / name, "classify") for name in ("one", "two", "three"))
    stage1, path = write(tmp_path / "l", "localize"), tmp_path / "weights.json"
    fitted = BlendWeights(
        members=tuple(Member(name=run.name, digest=trained_digest(run)) for run in (one, two)),
        weights=dict.fromkeys(Condition, (0.25, 0.75)),
    )
    write_weights(path, fitted, studies=3, data_fingerprint="1")
    assert members([stage1], [two, one], weights=path).per_finding()[:, 0].tolist() == [0.75, 0.25]
    for wrong in ([one, three], [one], [one, two, three]):
        with pytest.raises(InputError, match="was fitted for the classifiers one, two"):
            members([stage1], wrong, weights=path)
    before = members([stage1], [one, two], weights=path).state
    assert before != members([stage1], [one, two]).state
    (two / "config.toml").write_text("# trained again")
    with pytest.raises(InputError, match="as they were then"):
        members([stage1], [one, two], weights=path)
