"""`lumbar pack`: everything that prediction without a network needs, in one archive with a list of digests.

OUT.zip
  localizer/, classifier/   the runs, as far as prediction reads them; localizer_2/ ... where there are several
  wheels/                   this program, and the wheels of others that were given
  manifest.json             versions, names of the runs and wheels, SHA-256 of every file
  LICENSE                   under which the program may be passed on
"""

import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pipelines.pack.archive import Content, digest_of, write_archive
from pipelines.pack.runs import classifier_files, localizer_files
from pipelines.pack.wheel import DISTRIBUTION, licence, own_wheel
from pipelines.schemas.base import Digest, Part, of_schema
from shared.runtime.documents import read_document
from shared.runtime.errors import InputError
from shared.runtime.files import written_beside
from shared.runtime.problems import counted
from shared.runtime.run_folder import RUN_FILE, RunFacts, package_version

MANIFEST_FILE: Final = "manifest.json"
SCHEMA: Final = "pack-manifest-1"
_STAGES: Final = {"localize": "localizer", "classify": "classifier"}
_WHEEL_NAME: Final = re.compile(r"[A-Za-z0-9_.]+-[A-Za-z0-9_.!+]+(-[0-9][A-Za-z0-9_.]*)?(-[A-Za-z0-9_.]+){3}\.whl")
_MIB: Final = 2**20


class Manifest(Part):
    """manifest.json of a pack: what is in it, and how a reader can tell that it is whole."""

    schema_: Literal["pack-manifest-1"] = of_schema(SCHEMA)
    package: str
    """Version of the program."""
    packed_with: dict[str, str]
    """Versions of the libraries with which the runs were loaded when they were packed."""
    localizers: list[str]
    """Folders of stage 1; none where the detectors that ship with the program are meant."""
    classifiers: list[str]
    """Folders of stage 2."""
    wheels: list[str]
    """Files in wheels/: the program's, and those of others that were given."""
    files: dict[str, Digest]
    """Every file but this one, by its path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackRequest:
    """What to pack.

    Attributes:
      runs: finished runs of both stages that belong together; at least one of `lumbar classify train`. Without one of
        `lumbar localize train`, the detectors that ship with the program go with it.
      wheels: a folder with wheels of other packages, such as ultralytics, that the place of prediction lacks.
      fast: whether the fast grader of each classifier is packed alone, for predictions with `--fast`. Otherwise it is
        packed beside the folds, where there is one.
    """

    runs: tuple[Path, ...]
    wheels: Path | None = None
    fast: bool = False


def pack(request: PackRequest, out: Path, *, overwrite: bool = False) -> str:
    """Writes the archive; returns what is in it, for people. The same runs and program give the same bytes.

    Raises:
      InputError: for a run that is missing, unfinished or damaged, runs that do not belong together, a file that is no
        wheel, or an OUT that is there already, unless it is a pack and `overwrite` is given.
    """
    _check_out(request, out, overwrite=overwrite)
    localizers, classifiers = _stages(request.runs)
    wheels = _foreign_wheels(request.wheels)
    _check_that_they_load(localizers, classifiers, fast=request.fast)
    own, content = own_wheel()
    files: dict[str, Content] = {"LICENSE": licence(), f"wheels/{own}": content}
    files |= {f"wheels/{path.name}": path for path in wheels}
    for name, run in localizers.items():
        files |= {f"{name}/{inner}": found for inner, found in localizer_files(run).items()}
    for name, run in classifiers.items():
        files |= {f"{name}/{inner}": found for inner, found in classifier_files(run, fast=request.fast).items()}
    manifest = Manifest.model_validate({
        "schema": SCHEMA, "package": package_version(), "packed_with": _versions(),
        "localizers": list(localizers), "classifiers": list(classifiers),
        "wheels": sorted([own, *(p.name for p in wheels)]),
        "files": {name: digest_of(found) for name, found in sorted(files.items())},
    })  # fmt: skip
    files[MANIFEST_FILE] = (json.dumps(manifest.model_dump(mode="json", by_alias=True), indent=2) + "\n").encode()
    with written_beside(out) as temporary:
        write_archive(temporary, files, manifest.files)
    return _told(manifest, out)


def _check_out(request: PackRequest, out: Path, *, overwrite: bool) -> None:
    if out.suffix.lower() != ".zip":
        raise InputError(f"{out}: expected a name that ends in .zip for the archive, as the last argument")
    for run in request.runs:
        if out.resolve().is_relative_to(run.resolve()):
            raise InputError(f"{out}: lies in the run {run}; choose another place")
    if not out.exists() and not out.is_symlink():
        return
    if not _is_pack(out):
        raise InputError(f"{out}: is no archive of `lumbar pack`, so it is not replaced; choose another name")
    if not overwrite:
        raise InputError(f"{out}: exists already; choose another name, or replace it with --overwrite")


def _is_pack(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive, archive.open(MANIFEST_FILE) as file:
            return json.loads(file.read(_MIB)).get("schema") == SCHEMA
    except (OSError, ValueError, KeyError, AttributeError, zipfile.BadZipFile):
        return False


def _stages(runs: tuple[Path, ...]) -> tuple[dict[str, Path], dict[str, Path]]:
    """The runs of stage 1 and of stage 2 by the folder that they get in the archive."""
    from localize.localizer import is_shipped

    named: dict[str, dict[str, Path]] = {"localizer": {}, "classifier": {}}
    for run in runs:
        if not run.is_dir() or not (run / RUN_FILE).is_file():
            raise InputError(f"{run}: expected the folder of a finished run; continue an unfinished one with --resume")
        kind = read_document(run / RUN_FILE, RunFacts).kind
        if kind not in _STAGES:
            raise InputError(f"{run}: expected a run of `lumbar localize train` or `lumbar classify train`")
        of_stage = named[_STAGES[kind]]
        if run.resolve() in [other.resolve() for other in of_stage.values()]:
            raise InputError(f"{run}: is given twice")
        if not is_shipped(run):  # it is in the wheel
            of_stage[_STAGES[kind] + (f"_{len(of_stage) + 1}" if of_stage else "")] = run
    if not named["classifier"]:
        raise InputError("expected at least one run of `lumbar classify train` among the runs; nothing grades without")
    return named["localizer"], named["classifier"]


def _foreign_wheels(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    if not folder.is_dir():
        raise InputError(f"--wheels {folder}: no such folder")
    wheels = sorted(path for path in folder.iterdir() if path.suffix == ".whl")
    own = DISTRIBUTION.replace("-", "_")
    for path in wheels:
        if not _WHEEL_NAME.fullmatch(path.name) or not path.is_file() or not zipfile.is_zipfile(path):
            raise InputError(f"--wheels {path}: is no wheel; expected files as `pip download` leaves them")
        if path.name.startswith(f"{own}-"):
            raise InputError(f"--wheels {path}: the program's own wheel is made anew; move this one away")
    if not wheels:
        raise InputError(f"--wheels {folder}: holds no wheel; expected files as `pip download` leaves them")
    return wheels


def _check_that_they_load(localizers: Mapping[str, Path], classifiers: Mapping[str, Path], *, fast: bool) -> None:
    """Loads the runs as prediction does: whatever it would refuse is refused here, where it can still be mended."""
    from localize.localizer import run_or_shipped
    from pipelines.ensembles.members import Members
    from pipelines.grader import Grader

    of_stage_1 = tuple(localizers.values()) or (run_or_shipped(None),)
    Grader.load(Members(localizers=of_stage_1, classifiers=tuple(classifiers.values()), fast=fast), device="cpu")


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "torchvision", "ultralytics", "numpy")}


def _told(manifest: Manifest, out: Path) -> str:
    lines = [f"{out}: {counted(len(manifest.files) + 1, 'file')}, {out.stat().st_size / _MIB:.1f} MiB"]
    lines += [f"  {stage}: {', '.join(names)}" for stage, names in (
        ("stage 1", manifest.localizers or ["the detectors that ship with the package"]),
        ("stage 2", manifest.classifiers), ("wheels", manifest.wheels),
    )]  # fmt: skip
    return "\n".join([*lines, "docs/kaggle.md tells how to predict from it without a network"])
