"""The tables that users write and commands hand to each other."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.fuzz.inputs.sound import Sound
from benchmarks.fuzz.inputs.world import CLASSIFIER, DATA, LOCALIZER, world
from classify.noisy_labels import read_noisy
from pipelines.audit.run import AuditOptions, inspect
from pipelines.evaluate import EvaluateOptions, score_files
from shared.data.challenge import Challenge, Part
from shared.detections import read_detections, read_localizations
from shared.numbering import read_numbering
from shared.probabilities.files import read_probabilities

_CHALLENGE: Final = ("_series_descriptions.csv", ".csv", "_label_coordinates.csv")


def sound_tables() -> Iterator[Sound]:
    """Every table, read by what reads it."""
    for part in ("train", "test"):
        own = {f"{DATA}/{part}{end}" for end in _CHALLENGE}
        own |= {f"{DATA}/sample_submission.csv"} if part == "test" else set()
        yield _of(f"{part} tables", own, partial(_open, part))
        yield _of(f"{part} tables, audited", own, partial(_audited, part))
    single: Mapping[str, tuple[str, Callable[[Path], Any]]] = {
        "detections": (f"{LOCALIZER}/fold0/detections.csv", read_detections),
        "localizations": (f"{LOCALIZER}/localizations.csv", read_localizations),
        "numbering": (f"{LOCALIZER}/fold0/numbering.csv", read_numbering),
        "probabilities": (f"{CLASSIFIER}/out_of_fold.csv", read_probabilities),
    }
    for name, (path, read) in single.items():
        yield _of(name, {path}, partial(_read, path, read))
    yield _of("flagged labels", {f"{CLASSIFIER}/noisy_labels.csv"}, _flagged)
    yield _of(
        "submission, scored", {f"{DATA}/sample_submission.csv", f"{DATA}/oracle.csv", f"{DATA}/test.csv"}, _scored
    )


def _of(name: str, paths: set[str], read: Callable[[Path], list[str]]) -> Sound:
    files = {path: content for path, content in world().items() if path in paths or path.startswith(f"{DATA}/")}
    return Sound(kind="table", name=name, files=files, targets=dict.fromkeys(sorted(paths), "csv"), read=read)


def _read(path: str, read: Callable[[Path], Any], folder: Path) -> list[str]:
    read(folder / path)
    return []


def _open(part: Part, folder: Path) -> list[str]:
    challenge = Challenge.open(folder / DATA, part)
    if challenge.grades is not None:
        challenge.grades_of(challenge.study_ids)
    return [] if challenge.fingerprint else ["no fingerprint"]


def _audited(part: Part, folder: Path) -> list[str]:
    result = inspect(folder / DATA, AuditOptions(part=part, images=False))
    return [str(issue.reason) for issue in result.issues]


def _flagged(folder: Path) -> list[str]:
    read_noisy(folder / CLASSIFIER / "noisy_labels.csv", Challenge.open(folder / DATA))
    return []


def _scored(folder: Path) -> list[str]:
    data = folder / DATA
    options = EvaluateOptions(part="test", train=data, oracle=data / "oracle.csv")
    comparison, _, _ = score_files(data / "sample_submission.csv", data, options)
    comparison.to_json()
    return []
