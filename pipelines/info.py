"""`lumbar info`: versions, devices and labels, without importing torch."""

import os
import platform
import shutil
import subprocess
from importlib import metadata
from typing import Any

from shared.labels import FINDINGS, Condition, Level, Severity, View
from shared.runtime.run_folder import git_commit, package_version

_PACKAGES = (
    "torch", "torchvision", "ultralytics", "pydicom", "opencv-python", "numpy", "pandas", "scikit-learn", "onnx",
    "onnxruntime", "openvino",
)  # fmt: skip
# OpenCV and ONNX Runtime come as one of several packages that hold the same module.
_SAME = {
    "opencv-python": ("opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
    "onnxruntime": ("onnxruntime-gpu",),
}


def collect() -> dict[str, Any]:
    """Everything `lumbar info` prints, as one JSON-ready dictionary."""
    return {
        "schema": "info-1",
        "version": package_version(),
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "cpus": os.cpu_count(),
        "gpus": _gpus(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "unmet": unmet_requirements(),
        "views": [view.value for view in View],
        "conditions": [condition.value for condition in Condition],
        "levels": [level.display for level in Level],
        "severities": {severity.display: severity.weight for severity in Severity},
        "findings": [finding.column for finding in FINDINGS],
    }


def as_text(info: dict[str, Any]) -> str:
    """The same for people."""
    lines = [
        f"lumbar-severity {info['version']} (commit {info['git_commit'] or 'unknown'})",
        f"Python {info['python']} on {info['platform']}, {info['cpus']} CPUs",
        f"GPUs: {', '.join(info['gpus']) or 'none'}",
        *(f"  {name} {version or 'not installed'}" for name, version in info["packages"].items()),
        *(f"  unmet: {text}" for text in info["unmet"]),
        f"views: {', '.join(info['views'])}",
        f"levels: {', '.join(info['levels'])}",
        f"severities and weights: {', '.join(f'{k} {v:g}' for k, v in info['severities'].items())}",
        f"{len(info['findings'])} findings a study, {info['findings'][0]} to {info['findings'][-1]}",
    ]
    return "\n".join(lines)


def unmet_requirements() -> list[str]:
    """What the installed package needs and this environment lacks or has too old; nothing without an install.

    pip sees to that unless it is told not to, as where an environment with its own torch must stay as it is.
    """
    from packaging.requirements import Requirement

    try:
        needed = [Requirement(text) for text in metadata.requires("lumbar-severity") or ()]
    except metadata.PackageNotFoundError:
        return []
    unmet = []
    for need in needed:
        found = _version(need.name)
        if "extra" not in str(need.marker or "") and not (found and need.specifier.contains(found, prereleases=True)):
            unmet.append(f"{need.name}{need.specifier}, found {found or 'none'}")
    return unmet


def _version(package: str) -> str | None:
    for name in (package, *_SAME.get(package, ())):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _gpus() -> list[str]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        output = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in output.splitlines() if line.strip()]
