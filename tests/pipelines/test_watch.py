"""A watched folder: each study is answered once its files are still, whatever happens around it. No test sleeps."""

import fcntl
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.clinic import inbox as inbox_module
from pipelines.clinic import watch as watch_module
from pipelines.clinic.inbox import Inbox
from pipelines.clinic.watch import Watcher, ending_between_studies, watch, watch_with
from pipelines.ensembles.members import Members
from pipelines.grader import Grader
from pipelines.predict import PredictRequest
from pipelines.result import StudyResult
from shared.out_of_fold import FoldModels
from shared.runtime import progress
from shared.runtime.errors import InputError
from shared.study import LoadedStudy
from tests.pipelines.clinic_case import IDENTITY, ROOT, stand_in, write_runs, write_study

STILL_S = 30.0
Happening = tuple[float, Callable[[], object]]


class ScriptedClock:
    """A clock that runs only while somebody waits for it; on its way, things happen."""

    def __init__(self, *happenings: Happening, end_s: float = 200.0) -> None:
        self._now_s, self._end_s = 0.0, end_s
        self._script = sorted(happenings, key=lambda item: item[0])
        self.wait(0)

    def now_s(self) -> float:
        return self._now_s

    def wait(self, seconds: float) -> None:
        self._now_s += seconds
        while self._script and self._script[0][0] <= self._now_s:
            self._script.pop(0)[1]()

    @property
    def ended(self) -> bool:
        return self._now_s >= self._end_s


class CountingGrader:
    """A stand-in that says when each study was graded, and may look around while it does."""

    def __init__(self, look: Callable[[str], object] = lambda study_id: None) -> None:
        self.graded: list[str] = []
        self._grader, self._look = stand_in(), look

    def predict(self, loaded: LoadedStudy) -> StudyResult:
        self.graded.append(loaded.study.study_id)
        self._look(loaded.study.study_id)
        return self._grader.predict(loaded)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def watcher(inbox: Path, tmp_path: Path) -> Callable[..., tuple[Watcher, CountingGrader]]:
    localizer, classifier = write_runs(tmp_path / "runs")

    def make(look: Callable[[str], object] = lambda study_id: None) -> tuple[Watcher, CountingGrader]:
        grader: Any = CountingGrader(look)
        request = PredictRequest(
            data=inbox, members=Members(localizers=(localizer,), classifiers=(classifier,)), device="cpu"
        )
        models: FoldModels[Grader] = FoldModels(lambda folds: grader)
        return Watcher(request=request, out=tmp_path / "out", models=models), grader

    return make


def answer(tmp_path: Path, number: int = 1) -> Path:
    return tmp_path / "out" / "answers" / f"{ROOT}.{number}"


def rows(folder: Path) -> int:
    return len((folder / "submission.csv").read_text().splitlines()) - 1


def test_a_study_is_answered_once_when_its_files_have_been_still(
    inbox: Path, tmp_path: Path, watcher: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    growing = inbox / "1-1-1.dcm"
    seen: dict[float, bool] = {}

    def grow() -> None:
        write_study(inbox)
        whole = growing.read_bytes()
        growing.write_bytes(whole[: len(whole) // 2])
        (inbox / "1-2-1.dcm").rename(inbox / "1-2-1.dcm.part")
        (inbox / ".hidden.dcm").write_bytes(whole)

    def finish() -> None:
        (inbox / "1-2-1.dcm.part").unlink()
        write_study(inbox)

    def look(at_s: float) -> Happening:
        return at_s, lambda: seen.update({at_s: answer(tmp_path).exists()})

    made, grader = watcher()
    watch_with(made, ScriptedClock((0, grow), (25, finish), look(50), look(75)), STILL_S)
    assert seen == {50: False, 75: True}
    assert grader.graded == [f"{ROOT}.1"]
    assert rows(answer(tmp_path)) == 25
    assert {"submission.csv", "probabilities.csv", "run.json", "studies"} <= {
        p.name for p in answer(tmp_path).iterdir()
    }
    told = capsys.readouterr().err
    assert f"{ROOT}.1: answered in" in told
    assert not any(value in told for value in (*IDENTITY.values(), "Quisquilia"))


def test_studies_arrive_together_and_a_bad_one_stops_no_other(
    inbox: Path, tmp_path: Path, watcher: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def arrive() -> None:
        for number in (1, 2, 3):
            write_study(inbox / "all", number=number)
        for path in (inbox / "all").glob("2-*"):
            path.write_bytes(path.read_bytes()[:400])  # headers without a place or pixels
        (inbox / "all" / "notes.txt").write_text("no DICOM")

    def look(study_id: str) -> None:
        if study_id.endswith(".1"):
            raise InputError("study 1 is bad")

    made, grader = watcher(look)
    watch_with(made, ScriptedClock((0, arrive)), STILL_S)
    assert grader.graded == [f"{ROOT}.1", f"{ROOT}.3"]
    assert not answer(tmp_path, 1).exists()
    assert rows(answer(tmp_path, 3)) == 25
    assert "error: study 1 is bad" in capsys.readouterr().err
    assert [p for p in (tmp_path / "out" / "answers").iterdir() if p.name.startswith(".")] == []


def test_more_files_replace_an_answer_that_stays_until_the_new_one_is_whole(
    inbox: Path, tmp_path: Path, watcher: Any
) -> None:
    there: list[int | None] = []

    def look(study_id: str) -> None:
        there.append(rows(answer(tmp_path)) if answer(tmp_path).exists() else None)

    made, grader = watcher(look)
    happenings = ((0, lambda: write_study(inbox, files=3)), (100, lambda: write_study(inbox, files=6)))
    watch_with(made, ScriptedClock(*happenings), STILL_S)
    assert there == [None, 25]
    assert len(json.loads((answer(tmp_path) / "watched.json").read_text())["files"]) == 12
    assert [p.name for p in (tmp_path / "out" / "answers").iterdir()] == [f"{ROOT}.1"]
    # Neither another start, nor files that are cleared away, nor a report that comes back make work.
    for _ in range(2):
        watch_with(made, ScriptedClock((0, lambda: (inbox / "1-1-1.dcm").unlink(missing_ok=True))), STILL_S)
    assert len(grader.graded) == 2


def test_a_new_answer_that_fails_leaves_the_old_one(inbox: Path, tmp_path: Path, watcher: Any) -> None:
    def look(study_id: str) -> None:
        if answer(tmp_path).exists():
            raise InputError("not now")

    made, grader = watcher(look)
    happenings = ((0, lambda: write_study(inbox, files=3)), (100, lambda: write_study(inbox, files=4)))
    watch_with(made, ScriptedClock(*happenings), STILL_S)
    assert len(grader.graded) == 2
    assert rows(answer(tmp_path)) == 25
    assert len(json.loads((answer(tmp_path) / "watched.json").read_text())["files"]) == 6


def test_a_full_disk_ends_the_watch(inbox: Path, watcher: Any) -> None:
    def look(study_id: str) -> None:
        raise OSError(28, os.strerror(28))

    write_study(inbox)
    with pytest.raises(OSError, match="No space"):
        watch_with(watcher(look)[0], ScriptedClock(), STILL_S)


def test_a_share_that_is_away_is_waited_for(
    inbox: Path, tmp_path: Path, watcher: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(inbox)
    away = inbox.with_name("away")
    made, grader = watcher()
    watch_with(made, ScriptedClock((10, lambda: inbox.rename(away)), (90, lambda: away.rename(inbox))), STILL_S)
    assert len(grader.graded) == 1
    assert capsys.readouterr().err.count("cannot be listed") == 1


def test_the_objects_of_an_answer_are_no_new_study(inbox: Path, tmp_path: Path, watcher: Any) -> None:
    write_study(inbox)
    write_study(inbox / "back", files=1, ManufacturerModelName="lumbar-severity")
    watch_with(watcher()[0], ScriptedClock(), STILL_S)
    assert len(json.loads((answer(tmp_path) / "watched.json").read_text())["files"]) == 10


def test_headers_are_read_a_bounded_number_at_a_time(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "_HEADERS_PER_LOOK", 4)
    write_study(inbox, files=3)
    found = Inbox(folder=inbox, still_s=STILL_S)
    found.look(0)
    assert (found.behind, found.due(100)) == (True, None)
    found.look(50)
    assert (found.behind, found.due(79)) == (False, None)
    assert len(found.due(80).files) == 6


def test_two_watches_on_one_folder_are_refused(
    inbox: Path, tmp_path: Path, watcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "load_grader", lambda *_: stand_in())
    request, out = watcher()[0].request, tmp_path / "out"
    out.mkdir()
    with (out / ".lumbar").open("w") as marker:
        fcntl.flock(marker, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is writing"):
            watch(request, out, still_s=STILL_S)


@pytest.mark.parametrize(
    ("data", "out", "message"),
    [("nowhere", "out", "no such folder"), ("in", "in/out", "answers would be taken for studies"),
     ("in", ".", "answers would be taken for studies"), ("challenge", "out", "leave out --watch")],
)  # fmt: skip
def test_folders_that_cannot_be_watched(
    data: str, out: str, message: str, inbox: Path, tmp_path: Path, watcher: Any
) -> None:
    (tmp_path / "challenge").mkdir()
    (tmp_path / "challenge" / "test_series_descriptions.csv").touch()
    made = watcher()[0].request
    request = replace(made, data=tmp_path / data)
    with pytest.raises(InputError, match=message):
        watch(request, tmp_path / out)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_ends_between_studies_and_the_second_at_once(number: signal.Signals) -> None:
    def at_once(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(number, at_once)
    try:
        with ending_between_studies() as clock:
            started = time.monotonic()
            os.kill(os.getpid(), number)
            clock.wait(60)
            assert clock.ended
            assert time.monotonic() - started < 30
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
        assert signal.getsignal(number) is at_once
    finally:
        signal.signal(number, before)


def test_a_watch_without_work_says_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now_s = 0.0
    monkeypatch.setattr(progress, "_clock", lambda: now_s)
    progress.log("answered")
    for now_s in (1000.0, 2000.0):  # noqa: B007 - read by the clock
        with progress.at_rest():
            progress._VOICE.speak_if_due()
    assert capsys.readouterr().err == "answered\n"
    now_s = 3000.0
    progress._VOICE.speak_if_due()
    assert "answered ..." in capsys.readouterr().err


def test_files_that_change_while_their_study_is_answered_are_answered_again(
    inbox: Path, tmp_path: Path, watcher: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    published: list[bool] = []

    def look(study_id: str) -> None:
        published.append(answer(tmp_path).exists())
        if len(published) == 1:
            (inbox / "1-1-1.dcm").unlink()
            write_study(inbox)

    made, _ = watcher(look)
    watch_with(made, ScriptedClock((0, lambda: write_study(inbox))), STILL_S)
    assert published == [False, False]
    assert rows(answer(tmp_path)) == 25
    assert "changed or went while its study was answered" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "tries"), [(OSError(5, "Input/output error"), 3), (RuntimeError("JANE DOE"), 1)])
def test_a_share_that_fails_is_tried_again_and_no_error_ends_the_watch(
    inbox: Path, tmp_path: Path, watcher: Any, capsys: pytest.CaptureFixture[str], error: Exception, tries: int
) -> None:
    left = [error, error]

    def look(study_id: str) -> None:
        if left:
            raise left.pop()

    made, grader = watcher(look)
    watch_with(made, ScriptedClock((0, lambda: write_study(inbox))), STILL_S)
    assert len(grader.graded) == tries
    assert answer(tmp_path).exists() == (tries == 3)
    told = capsys.readouterr().err
    assert (error.strerror if isinstance(error, OSError) else "RuntimeError") in told
    assert "JANE" not in told
