"""run.json: what a run directory says of itself, and the fingerprints that tie runs to their data."""

import hashlib
import platform
import subprocess
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from shared.data.challenge import Challenge
from shared.runtime.errors import InputError
from shared.runtime.files import read_json, write_json

RUN_FILE = "run.json"


def package_version() -> str:
    try:
        return metadata.version("lumbar-severity")
    except metadata.PackageNotFoundError:  # run from a source tree that was never installed
        return "unknown"


def git_commit() -> str | None:
    """Commit of the source tree, with `+` when it has uncommitted changes; None outside a checkout."""
    here = Path(__file__).resolve().parents[2]
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True, timeout=10
        )
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes; raises `InputError` when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def data_fingerprint(data: Challenge) -> str:
    """Digest of a challenge part's tables: series, grades and points. Two runs on one data set share it."""
    digest = hashlib.sha256()
    for study_id in data.study_ids:
        digest.update(repr((study_id, sorted((s, v.value) for s, v in data.series.get(study_id, ())))).encode())
        points = [
            (p.series_id, p.instance_number, p.finding.column, p.x_px, p.y_px) for p in data.points.get(study_id, ())
        ]
        digest.update(repr(points).encode())
    if data.grades is not None:
        digest.update(data.grades.tobytes())
    return digest.hexdigest()


def write_run(folder: Path, *, command: str, started: float, **facts: Any) -> None:
    """Writes run.json: the command's name, version, commit, python, host kind, times, and the given facts."""
    write_json(
        folder / RUN_FILE,
        {
            "command": command,
            "version": package_version(),
            "git_commit": git_commit(),
            "python": platform.python_version(),
            "machine": platform.machine(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
            "seconds": round(time.time() - started, 1),
            **facts,
        },
    )


def read_run(folder: Path, *, expected_kind: str) -> Mapping[str, Any]:
    """Reads run.json of a finished run.

    Raises:
      InputError: when the folder is missing or empty, the run has not finished, or it is of another kind.
    """
    path = folder / RUN_FILE
    if not folder.is_dir():
        raise InputError(f"{folder}: no such run folder; train one with `lumbar {expected_kind} train`")
    if not path.is_file():
        raise InputError(f"{folder}: holds no {RUN_FILE}; empty or unfinished run, continue it with --resume")
    run = read_json(path)
    if not isinstance(run, dict) or run.get("kind") != expected_kind:
        raise InputError(
            f"{folder}: expected a {expected_kind} run, got {run.get('kind') if isinstance(run, dict) else run!r}"
        )
    return run
