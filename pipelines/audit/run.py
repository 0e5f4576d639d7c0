"""`lumbar audit`: reads a data set once, in parallel over studies, and reports what it holds and what is wrong."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pipelines.audit.explore import explore, study_count
from pipelines.audit.far import FarAudit
from pipelines.audit.files import unread_code, unreadable_folder
from pipelines.audit.issues import Category, Code, Issue, count_categories, read_issues, sort_issues, to_table
from pipelines.audit.page import write_page
from pipelines.audit.pixels import Pixels
from pipelines.audit.study import NEARLY_ALL, Job, KeptAudit, StudyAudit, audit_study, check_absent_tags, unread
from pipelines.audit.tables import Tables, check_parts, read_tables
from shared.data.challenge import Part, listed_parts
from shared.data.remote import RemoteData, check_reach, open_place
from shared.data.store import is_store
from shared.dicom.discover import discover_studies
from shared.runtime.bulk.engine import Engine, spread_over
from shared.runtime.bulk.shards import Shard
from shared.runtime.documents import OpenDocument, read_document, read_json
from shared.runtime.errors import InputError, shown
from shared.runtime.files import check_output, write_csv, write_json
from shared.runtime.names import hide_names, name_of
from shared.runtime.problems import Failure, counted, unreadable, write_failures
from shared.runtime.progress import track
from shared.runtime.run_folder import STATE_FILE, package_version
from shared.runtime.unfinished import ResumableOutput, digest_of
from shared.storage.address import Address
from shared.storage.scratch import new_token, sweep

_FINDINGS_FILE: Final = "findings.csv"
# The key of state.json under which a shard that was read to its end says how many studies it has.
READ: Final = "read"
# What leaves a study without a slice because something is broken.
_UNREAD: Final = (Code.IMAGES_MISSING, Code.SERIES_EMPTY, Code.FILE_UNREADABLE, Code.NO_PLANE)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOptions:
    """How to audit.

    Attributes:
      part: of a challenge directory; None audits every part that exists.
      images: False audits the tables alone.
      pixels: which pixels to decode.
      workers: number of processes on this machine.
      engine: what the processes belong to.
      shard: the part of all studies to read, for `lumbar merge`.
    """

    part: Part | None = None
    images: bool = True
    pixels: Pixels = Pixels.SAMPLE
    workers: int = 1
    engine: Engine = Engine.LOCAL
    shard: Shard | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditResult:
    """`issues` are sorted, errors first; `facts` are the statistics of the exploratory report.

    `failures` are the studies of which no slice could be read.
    """

    issues: tuple[Issue, ...]
    facts: dict[str, Any]
    failures: tuple[Failure, ...] = ()

    @property
    def studies(self) -> int:
        """Number of studies that any table of any part names."""
        return study_count(self.facts)

    @property
    def errors(self) -> int:
        return count_categories(self.issues)[Category.ERROR]


def audit(
    data: Path | Address,
    out: Path,
    options: AuditOptions | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
) -> AuditResult:
    """Audits a challenge directory or a folder of DICOM files; writes its report and tables.

    Args:
      resume: keeps the studies that an interrupted call has read.

    Raises:
      InputError: when there is nothing to audit, `out` is not empty, or one to resume was begun with other data or
        options. Faults within the data never raise.
    """
    options = options or AuditOptions()
    begun = _begin(data, out, options, overwrite=overwrite, resume=resume)
    if begun is None:
        return _read_finished(out)
    plan, output, audit_one = begun
    result = _carry_out(plan, options, audit_one)
    write_csv(out / _FINDINGS_FILE, to_table(result.issues))
    write_failures(out, result.failures)
    about = {
        "version": package_version(),
        "part": options.part,
        "images": options.images,
        "pixels": options.pixels.value,
        "scope": _scope(options),
    }
    write_page(out, result.issues, result.facts, about)
    output.finish()
    return result


def audit_shard(
    data: Path | Address, out: Path, options: AuditOptions, *, overwrite: bool = False, resume: bool = False
) -> int:  # fmt: skip
    """Reads the studies of one shard and keeps what was read for `lumbar merge`; returns their number.

    The report says much of all studies together, so a shard has none.

    Raises:
      InputError: as `audit`, and when there is nothing to read but tables.
    """
    if options.shard is None or not options.images:
        raise InputError("--shard: shares out the reading of images; leave out --no-images")
    begun = _begin(data, out, options, overwrite=overwrite, resume=resume)
    if begun is None:
        raise InputError(f"{out}: is a finished audit; choose another folder")
    plan, output, audit_one = begun
    jobs = options.shard.share(plan.jobs)
    _audit_each(jobs, options, audit_one)
    write_json(output.path / STATE_FILE, read_json(output.path / STATE_FILE) | {READ: len(jobs)})
    return len(jobs)


def _begin(
    data: Path | Address, out: Path, options: AuditOptions, *, overwrite: bool, resume: bool
) -> "tuple[_Plan, ResumableOutput, KeptAudit | FarAudit] | None":
    """Plans an audit and begins its folder; None where that holds the finished audit."""
    given, remote = open_place(data)
    check_reach(data, remote, everywhere=options.engine is not Engine.LOCAL)
    folder = given.folder
    if options.images and is_store(folder):
        raise InputError(
            f"{folder}: is a prepared store and holds no DICOM files; audit the data it was made from, or only its "
            "tables with --no-images"
        )
    if out.resolve() != folder.resolve() and out.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{out}: lies inside the audited data; choose another folder")
    inputs = [folder, *([data] if isinstance(data, Path) else [])]
    check_output(out, overwrite=overwrite, resume=resume, inputs=inputs)  # before anything large is read
    plan, output = _plan(folder, options, remote), ResumableOutput(path=out, command="audit")
    if output.begin(_state(plan, options), overwrite=overwrite, resume=resume, inputs=inputs):
        return None
    results = output.results(StudyAudit)
    if remote is not None:
        return plan, output, FarAudit(remote=remote, results=results, token=new_token())
    return plan, output, KeptAudit(given=given, results=results)


def _state(plan: "_Plan", options: AuditOptions) -> dict[str, Any]:
    """What a resumed call must agree with. Tables are read again, and each study's files are compared."""
    return {
        "data": digest_of([(job.part, job.study_id) for job in plan.jobs]),
        "part": options.part,
        "images": options.images,
        "pixels": options.pixels.value,
        "shard": None if options.shard is None else str(options.shard),
    }


def _read_finished(out: Path) -> AuditResult:
    """What a finished audit has written: its issues, and those statistics that report.json holds."""
    return AuditResult(
        issues=tuple(read_issues(out / _FINDINGS_FILE)),
        facts=read_document(out / "report.json", _WrittenReport).exploration,
    )


class _WrittenReport(OpenDocument):
    """The part of report.json that is read again."""

    exploration: dict[str, Any]


def _scope(options: AuditOptions) -> str:
    if not options.images:
        return "Only the tables were read."
    return {
        Pixels.NONE: "All headers were read; no pixels were decoded.",
        Pixels.SAMPLE: "All headers were read; some slices of each series were decoded.",
        Pixels.ALL: "All headers and all pixels were read.",
    }[options.pixels]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """The studies to audit, the tables that list them, and the issues of these tables and of whole folders."""

    tables: tuple[Tables, ...]
    jobs: tuple[Job, ...]
    issues: tuple[Issue, ...]


def inspect(data: Path, options: AuditOptions) -> AuditResult:
    """Audits without writing anything."""
    return _carry_out(_plan(data, options), options, audit_study)


def _plan(data: Path, options: AuditOptions, remote: RemoteData | None = None) -> _Plan:
    """Reads the tables, or finds the studies of a plain folder."""
    tables = _tables(data, options.part)
    hide_names(data, numbers=bool(tables))
    if not tables:
        jobs, issues = _folder_jobs(data, options)
        return _Plan(tables=(), jobs=tuple(jobs), issues=tuple(issues))
    issues = [i for t in tables.values() for i in t.issues] + check_parts(tables)
    issues += [i for t in tables.values() for i in _folders(data, t, remote)] if options.images else []
    jobs = _challenge_jobs(data, tables, options)
    return _Plan(tables=tuple(tables.values()), jobs=tuple(jobs), issues=tuple(issues))


def _carry_out(plan: _Plan, options: AuditOptions, audit_one: Callable[[Job], StudyAudit]) -> AuditResult:
    jobs = plan.jobs
    results = _audit_each(jobs, options, audit_one)
    issues = [*plan.issues, *(i for r in results for i in r.issues)]
    issues += check_absent_tags([s for r in results for s in r.series])
    issues = _common_to_all(issues, len(jobs))
    without_slices = {job.study_id for job, r in zip(jobs, results, strict=True) if job.images and not r.series}
    lost = {i.study_id for i in issues if i.study_id in without_slices and i.code in _UNREAD}
    return AuditResult(
        issues=tuple(sort_issues(issues)), facts=explore(plan.tables, results),
        failures=tuple(unreadable(s, "no slice of it can be read; findings.csv lists why") for s in sorted(lost)),
    )  # fmt: skip


def _audit_each(
    jobs: Sequence[Job], options: AuditOptions, audit_one: Callable[[Job], StudyAudit]
) -> list[StudyAudit]:  # fmt: skip
    reads = any(job.images for job in jobs)
    workers = min(options.workers, len(jobs)) if reads else 1
    advice = "run with --pixels none, or with --workers 1 to see where"
    with spread_over(options.engine if reads else Engine.LOCAL, workers, advice=advice) as spread:
        done = spread(audit_one, jobs, chunk=max(1, min(8, len(jobs) // (4 * workers))), lost=unread)
        try:
            return list(track(done, "audited studies", total=len(jobs)))
        finally:
            if isinstance(audit_one, FarAudit):
                sweep(audit_one.token)


def _common_to_all(issues: list[Issue], studies: int) -> list[Issue]:
    """Turns what nearly every study does into one note on the data set instead of one per study."""
    differing = [i for i in issues if i.code is Code.FRAME_OF_REFERENCE]
    if studies < 2 or len(differing) < NEARLY_ALL * studies:
        return issues
    reason = f"differs between the series in {len(differing)} of {counted(studies, 'study')}"
    return [i for i in issues if i.code is not Code.FRAME_OF_REFERENCE] + [
        Issue(code=Code.FRAME_OF_REFERENCE, reason=reason)
    ]


def _tables(data: Path, part: Part | None) -> dict[Part, Tables]:
    """Tables of the requested parts; empty for a plain folder."""
    return {p: read_tables(data, p) for p in (listed_parts(data) if part is None else (part,))}


def _challenge_jobs(data: Path, tables: dict[Part, Tables], options: AuditOptions) -> list[Job]:
    jobs = []
    for part, table in tables.items():
        images = options.images and (data / f"{part}_images").is_dir()
        for study_id in sorted(table.series):
            jobs.append(
                Job(
                    root=data, part=part, study_id=study_id, listed=table.series[study_id],
                    points=table.points.get(study_id, ()), images=images, pixels=options.pixels,
                )
            )  # fmt: skip
    return jobs


def _folders(data: Path, tables: Tables, remote: RemoteData | None) -> list[Issue]:
    """Study folders that no table lists. A whole part without images is one issue."""
    part, folder = tables.part, data / f"{tables.part}_images"
    if not folder.is_dir():
        reason = (
            f"expected the folder {folder.name} for {counted(len(tables.series), 'study')}; only the tables were read"
        )
        return [Issue(code=Code.IMAGES_MISSING, part=part, reason=reason)] if tables.series else []
    try:
        entries = sorted(folder.iterdir() if remote is None else map(folder.joinpath, remote.studies_of(part)))
    except OSError as error:
        return [replace(unreadable_folder(data, folder, error), part=part)]
    return [
        Issue(code=Code.FOLDER_UNLISTED, part=part, file=name_of(path),
              reason="expected a study of the series descriptions, got a folder or file of another name")
        for path in entries
        if path.name not in tables.series
    ]  # fmt: skip


def _folder_jobs(data: Path, options: AuditOptions) -> tuple[list[Job], list[Issue]]:
    """The studies of a plain folder, and what cannot be used of it."""
    if not options.images:
        raise InputError(f"{data}: holds no *_series_descriptions.csv, so there is nothing to audit without images")
    jobs, issues = [], []
    for found in discover_studies(data).studies:
        study_id = found.study.study_id
        jobs.append(Job(root=data, part="", study_id=study_id, discovered=found.study, pixels=options.pixels))
        issues += [
            Issue(code=Code.SERIES_UNUSED, study_id=study_id, series_id=series_id, reason=reason)
            for series_id, reason in found.unused.items()
        ]
        issues += [
            Issue(code=unread_code(error), study_id=study_id, file=name_of(path),
                  reason=str(error).removeprefix(shown(f"{path}: ")))
            for path, error in found.unread
        ]  # fmt: skip
    return jobs, issues


def summary(result: AuditResult, out: Path) -> str:
    """A few lines for the terminal."""
    counts = count_categories(result.issues)
    studies = counted(result.studies, "study")
    lines = [f"{studies}: " + ", ".join(f"{counts[g]} {g.value}s" for g in Category)]
    for code in Code:
        found = [i for i in result.issues if i.code is code]
        if found and code.category is not Category.NOTE:
            lines.append(f"  {code.category.value:8}{code.slug:24}{len(found):6}  {code.meaning}")
    return "\n".join([*lines, f"{out / 'report.html'}"])
