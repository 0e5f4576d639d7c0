"""Joins the shards of `lumbar predict`: their tables line by line, their files by links."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from pipelines.bulk.files import allow_files, link_or_copy
from pipelines.bulk.parts import Part
from pipelines.bulk.study_lines import ShardHead, StudyLine, study_lines
from pipelines.bulk.tables import join_in_order, join_sorted, join_submission, opened
from pipelines.pages.folder import write_index
from pipelines.pages.index_page import StudyRow
from shared.labels import FINDINGS
from shared.runtime.bulk.shards import Shard, whole
from shared.runtime.documents import OpenDocument, read_document
from shared.runtime.errors import InputError
from shared.runtime.files import inside, write_json
from shared.runtime.problems import FAILURES_FILE, counted
from shared.runtime.progress import track
from shared.runtime.run_folder import RUN_FILE, STATE_FILE

_STATE_SHARD: Final = "shard"
_FINISHED: Final = "finished"
# What run.json says that must be the same in all shards.
_COMMON: Final = (
    "input", "tta", "backend", "out_of_fold", "localizers", "classifiers", "shipped_localizer", "mixed_data", "blend",
    "files", "chosen_series",
)  # fmt: skip
_SUMS: Final = ("studies", "rows", "prior_rows")
_COUNTS: Final = ("prior_reasons", "localization_sources")


class _ShardRun(OpenDocument):
    """The run.json of a shard, as far as it is summed up."""

    started: str
    seconds: float
    studies: int
    rows: int
    prior_rows: int
    prior_reasons: dict[str, int]
    localization_sources: dict[str, int]


def read_part(folder: Path) -> Part:
    """A folder that `lumbar predict --shard` wrote.

    Raises:
      InputError: when it is none.
    """
    state = read_document(
        folder / STATE_FILE, dict[str, Any], advice="give the OUT of `lumbar predict ... --shard K/N`"
    )
    shard, command = state.pop(_STATE_SHARD, None), state.pop("command", None)
    finished = state.pop(_FINISHED, None) is True
    if not isinstance(shard, str) or not isinstance(command, str):
        raise InputError(f"{folder}: is no shard; expected what `lumbar predict ... --shard K/N` wrote")
    run = read_document(folder / RUN_FILE, dict[str, Any]) if finished else {}
    facts = state | ({name: run.get(name) for name in _COMMON} if finished else {})
    return Part(folder=folder, command=command, shard=Shard.from_text(shard), facts=facts, finished=finished)


def join_predictions(parts: Sequence[Part], out: Path) -> int:
    """Writes what one call without --shard would have written; returns the number of studies.

    Raises:
      InputError: when a file of a shard is missing or was changed.
    """
    folders = [part.folder for part in parts]
    allow_files(2 * len(parts) + 64)
    places, listed, rows = _first_reading(folders, out)
    with ExitStack() as files:
        join_in_order(
            out / "probabilities.csv", opened(folders, "probabilities.csv", files), _order(folders, files),
            lines_each=len(FINDINGS),
        )  # fmt: skip
    with ExitStack() as files:
        join_in_order(
            out / FAILURES_FILE, opened(folders, FAILURES_FILE, files), _order(folders, files), lines_each=0
        )  # fmt: skip
    for name in ("detections.csv", "localizations.csv"):
        with ExitStack() as files:
            join_sorted(out / name, opened(folders, name, files))
    with ExitStack() as files:
        join_submission(out / "submission.csv", opened(folders, "submission.csv", files), places)
    if rows:
        write_index(out, rows)
    studies = _write_run(parts, out, listed)
    state = read_document(folders[0] / STATE_FILE, dict[str, Any])
    write_json(out / STATE_FILE, state | {_STATE_SHARD: None})
    return studies


def _order(folders: Sequence[Path], files: ExitStack) -> Iterator[tuple[int, str]]:
    """The shard and the id of every study, in the order of a prediction without shards."""
    yield from ((n, line.study_id) for n, line in _lines(folders, files))


def _lines(folders: Sequence[Path], files: ExitStack) -> Iterator[tuple[int, StudyLine]]:
    read = [files.enter_context(study_lines(folder)) for folder in folders]
    _check_heads(folders, [head for head, _ in read])
    shares = [_numbered(n, lines) for n, (_, lines) in enumerate(read)]
    try:
        yield from whole(shares)
    except ValueError as error:
        raise InputError(f"{folders[0]} and the other shards: {error}; predict them again with --overwrite") from error


def _numbered(n: int, lines: Iterator[StudyLine]) -> Iterator[tuple[int, StudyLine]]:
    for line in lines:
        yield n, line


def _check_heads(folders: Sequence[Path], heads: Sequence[ShardHead]) -> None:
    for n, (folder, head) in enumerate(zip(folders, heads, strict=True), start=1):
        expected = len(range(n - 1, head.total, head.of))
        if (head.number, head.of, head.total, head.studies) != (n, len(heads), heads[0].total, expected):
            raise InputError(
                f"{folder}: its shard.jsonl is of shard {head.number}/{head.of} with {head.studies} of "
                f"{counted(head.total, 'study')}; expected {n}/{len(heads)} with {expected} of {heads[0].total}"
            )


def _first_reading(
    folders: Sequence[Path], out: Path
) -> tuple[dict[str, tuple[int, ...]], dict[str, list[str]], list[StudyRow]]:
    """Takes over the files of each study; returns places of rows, what run.json lists, and the rows of the index."""
    places: dict[str, tuple[int, ...]] = {}
    listed: dict[str, list[str]] = {"numbering_uncertain": [], "problems": []}
    rows: list[StudyRow] = []
    with ExitStack() as files:
        for n, line in track(_lines(folders, files), "merging"):
            _take_over(folders[n], out, line)
            if line.rows:
                places[line.study_id] = line.rows
            if not line.certain:
                listed["numbering_uncertain"].append(line.study_id)
            listed["problems"] += line.problems
            if line.page is not None:
                rows.append(line.page)
    return places, listed, rows


def _take_over(shard: Path, out: Path, line: StudyLine) -> None:
    names = [f"studies/{line.study_id}.json", *([f"studies/{line.study_id}.html"] if line.page is not None else [])]
    objects = inside(shard / "dicom", line.study_id)
    if objects.is_dir() and not objects.is_symlink():
        names += [f"dicom/{line.study_id}/{path.name}" for path in sorted(objects.iterdir())]
    for name in names:
        given, wanted = inside(shard, name), inside(out, name)
        if (shard / name).is_symlink() or not given.is_file():
            raise InputError(f"{shard / name}: no such file; predict the shard again with --overwrite")
        link_or_copy(given, wanted)


def _write_run(parts: Sequence[Part], out: Path, listed: dict[str, list[str]]) -> int:
    """Writes run.json of all shards together; its seconds are their sum."""
    runs = [read_document(part.folder / RUN_FILE, _ShardRun) for part in parts]
    first = read_document(parts[0].folder / RUN_FILE, dict[str, Any])
    sums = {name: sum(getattr(run, name) for run in runs) for name in _SUMS}
    counts = {name: sum((Counter(getattr(run, name)) for run in runs), Counter[str]()) for name in _COUNTS}
    first.pop("shard", None)
    together = {
        **sums, **listed, "prior_reasons": _in_order_of_reasons(counts["prior_reasons"]),
        "localization_sources": dict(sorted(counts["localization_sources"].items())),
        "started": min(run.started for run in runs), "seconds": round(sum(run.seconds for run in runs), 1),
    }  # fmt: skip
    write_json(out / RUN_FILE, {**first, **together, "merged_shards": len(parts)})
    return sums["studies"]


def _in_order_of_reasons(counts: Counter[str]) -> dict[str, int]:
    from shared.probabilities.reasons import PriorReason

    return {reason.value: counts[reason.value] for reason in PriorReason if counts[reason.value]}
