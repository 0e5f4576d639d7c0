"""`lumbar predict --watch IN OUT`: answers every study that arrives in a folder, once its files have been still."""

import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from pipelines.clinic.answers import FOLDER, answer_folder, digests_of, is_answered, replaced
from pipelines.clinic.inbox import Arrival, Inbox
from pipelines.predict import PredictRequest, models_of, output_of, write_prediction
from pipelines.predict.answers import Here
from pipelines.predict.request import exporter, load_grader
from shared.data.source import StudySource
from shared.data.unpack import Input
from shared.dicom.discover import FoundStudy, group_studies
from shared.dicom.header import NoImageError
from shared.dicom.reader import read_slice_headers
from shared.out_of_fold import FoldModels
from shared.runtime.errors import InputError, disk_full
from shared.runtime.names import hide_names
from shared.runtime.ownership import outputs_released
from shared.runtime.problems import counted
from shared.runtime.progress import at_rest, log
from shared.runtime.unfinished import ResumableOutput

if TYPE_CHECKING:
    from pipelines.clinic.export import DicomExport
    from pipelines.grader import Grader

STILL_S: Final = 30.0
_LONGEST_PAUSE_S: Final = 5.0
_SLICE_S: Final = 0.25


# Path -> size in bytes and time of modification.
Stats = Mapping[Path, tuple[int, int]]


class ChangedError(InputError):
    """A file of a study changed while the study was answered."""


class Clock(Protocol):
    """The time, and waiting; tests bring their own."""

    def now_s(self) -> float:
        """Seconds that never run backwards."""

    def wait(self, seconds: float) -> None:
        """Returns after some seconds, or at once when the watch is to end."""

    @property
    def ended(self) -> bool:
        """Whether the watch is to end."""


class SystemClock:
    """The system's clock; a signal handler may end it."""

    def __init__(self) -> None:
        self._ended = False

    def now_s(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        # In slices, because sleep goes on after a signal. An Event has a lock, which a handler must not wait for.
        end_s = self.now_s() + seconds
        while not self._ended and (left_s := end_s - self.now_s()) > 0:
            time.sleep(min(left_s, _SLICE_S))

    def end(self) -> None:
        self._ended = True

    @property
    def ended(self) -> bool:
        return self._ended


def watch(
    request: PredictRequest, out: Path, *, still_s: float = STILL_S, overwrite: bool = False, resume: bool = False
) -> None:
    """Watches `request.data` until a signal ends it, and writes OUT/answers/<study>/ (see docs/clinic.md).

    The study in hand is finished after the first SIGINT, SIGTERM or SIGHUP; a second one ends at once.

    Args:
      still_s: how long all files of a study must be unchanged before it is answered.
      resume: goes on with an OUT of the same models and options; studies that it holds are not answered again.

    Raises:
      InputError: for a folder that cannot be watched, or as `pipelines.predict.predict` does for models and OUT.
    """
    export = exporter(request)
    models = FoldModels(lambda _: load_grader(request))
    _begin(request, out, models, still_s, overwrite=overwrite, resume=resume)
    with ending_between_studies() as clock:
        log(
            f"{request.data}: watching; a study is answered when its files have been still for {still_s:g} s. Ctrl-C "
            "ends after the study in hand, a second one at once"
        )
        watch_with(Watcher(request=request, out=out, models=models, export=export), clock, still_s)
    log(f"{request.data}: no longer watched")


def _begin(
    request: PredictRequest, out: Path, models: FoldModels["Grader"], still_s: float, *, overwrite: bool, resume: bool
) -> None:
    """Checks what is cheap, loads the models, and takes OUT, which no other watch may use then."""
    folder = request.folder
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; --watch expects a folder that DICOM files arrive in")
    if any(folder.glob("*_series_descriptions.csv")) or (folder / "store.json").is_file():
        raise InputError(f"{folder}: is a challenge directory or a prepared store; leave out --watch to predict it")
    within = folder.resolve(), out.resolve()
    if within[0].is_relative_to(within[1]) or within[1].is_relative_to(within[0]):
        raise InputError(f"{out}: lies in {folder}, or holds it; answers would be taken for studies. Choose another")
    if not still_s > 0:
        raise InputError(f"--still: expected a number of seconds above 0, got {still_s:g}")
    output = ResumableOutput(path=out, command="predict --watch")
    output.begin(
        models_of(request), overwrite=overwrite, resume=resume,
        inputs=[request.folder, *request.members.runs, request.members.weights], ready=lambda: models(""),
    )  # fmt: skip
    hide_names(folder)


def watch_with(watcher: "Watcher", clock: Clock, still_s: float) -> None:
    """The loop: one study at a time, the one that has waited longest first; looks again after each."""
    inbox = Inbox(folder=watcher.request.folder.absolute(), still_s=still_s)
    while not clock.ended:
        inbox.look(clock.now_s())
        arrival = inbox.due(clock.now_s())
        if arrival is not None:
            inbox.done(arrival)
            if not watcher.answer(arrival):
                inbox.postpone(arrival, clock.now_s())
        elif inbox.away or not inbox.behind:
            with at_rest():
                clock.wait(min(_LONGEST_PAUSE_S, still_s / 4))


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """Answers arrivals with models that are loaded once."""

    request: PredictRequest
    out: Path
    models: FoldModels["Grader"]
    export: "DicomExport | None" = None

    def answer(self, arrival: Arrival) -> bool:
        """Answers the studies of an arrival, most often one. One that cannot be costs a line and nothing else.

        Returns:
          False where a disk or share failed, or files changed meanwhile: the same files may be answered later.
        """
        folder = self.request.folder.absolute()
        try:
            readings = read_slice_headers(arrival.files)
            # Reports and the like come and go without changing an answer.
            images = {path: arrival.files[path] for path, h in readings if not isinstance(h, NoImageError)}
            files = digests_of(folder, images)
            found = group_studies(folder, readings)
        except (InputError, OSError) as error:
            return self._failed(error)
        answered = [self._tried(study, files, images) for study in found]
        return all(answered)

    def _tried(self, study: FoundStudy, files: frozenset[str], images: Stats) -> bool:
        try:
            self._answer(study, files, images)
        except Exception as error:  # noqa: BLE001 - whatever one study does to a model, the next one waits
            return self._failed(error)
        return True

    def _answer(self, found: FoundStudy, files: frozenset[str], images: Stats) -> None:
        study_id, started = found.study.study_id, time.time()
        place = answer_folder(self.out, study_id)
        if is_answered(place, files):
            return
        again = " again, with new files" if place.exists() else ""
        log(f"{study_id}: answering{again}")
        with replaced(place, files) as new, outputs_released():
            output, given = output_of(new), self.request.folder.absolute()
            source = StudySource(
                kind="folder", given=Input(folder=given, origin=given), study_ids=(study_id,),
                load=lambda _: found.loaded, found=(found,),
            )  # fmt: skip
            output.begin(models_of(self.request), overwrite=False, resume=False, inputs=[])
            [result] = write_prediction(
                self.request, source, Here(self.models), new, started=started, export=self.export
            )  # fmt: skip
            output.finish()
            _check_unchanged(images)
        rows = "nothing could be graded" if result.failure else f"{counted(len(result.reasons), 'row')} from the prior"
        log(f"{study_id}: answered in {time.time() - started:.0f} s, {rows}; see {FOLDER}/{study_id}/")

    def _failed(self, error: Exception) -> bool:
        """Says what hindered an answer, and returns whether another try of the same files would fail the same way.

        A full disk would hinder all others too, so it ends the watch.
        """
        if isinstance(error, OSError):
            if disk_full(error):
                raise error
            log(f"error: {error.filename or self.out}: {error.strerror or type(error).__name__}; trying again later")
            return False
        # Messages of others may quote a header.
        log(f"error: {error}" if isinstance(error, InputError) else f"error: {self.out}: {type(error).__name__}")
        return not isinstance(error, ChangedError)


def _check_unchanged(files: Stats) -> None:
    """Raises `ChangedError` where a file went or changed while it was read: the answer may lack it."""
    for path, (size, modified_ns) in files.items():
        now = path.stat() if path.exists() else None
        if now is None or (now.st_size, now.st_mtime_ns) != (size, modified_ns):
            raise ChangedError(
                f"{path}: changed or went while its study was answered; it is answered again when its files are still"
            )


@contextmanager
def ending_between_studies() -> Iterator[SystemClock]:
    """Yields a clock that the first signal ends; from then on signals do what they did before."""
    clock = SystemClock()
    if threading.current_thread() is not threading.main_thread():
        yield clock
        return
    numbers = [int(getattr(signal, name)) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def end(_number: int, _frame: object) -> None:
        restore()
        clock.end()

    for number in before:
        signal.signal(number, end)
    try:
        yield clock
    finally:
        restore()
