"""The wheel of the program that is running, made from its own files: from an installed wheel as from a checkout.

A wheel is a zip archive of the packages and of a folder of metadata. No build tool is needed for pure Python, so no
network and no developer's package either. The metadata are those of the installed package, which a checkout has too
once it is installed (`pip install -e .`); they hold no path.
"""

import base64
import hashlib
import io
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

from pipelines.pack.archive import write_archive
from shared.runtime.config import shipped_config
from shared.runtime.errors import InputError

DISTRIBUTION: Final = "lumbar-severity"
PACKAGES: Final = ("shared", "localize", "classify", "pipelines")
# What the packages consist of. Anything else in a checkout, such as a scan left there, is nobody's business.
_SUFFIXES: Final = frozenset({".py", ".typed", ".j2", ".css", ".js", ".json", ".toml", ".safetensors", ".md"})
_ROOT: Final = Path(__file__).resolve().parents[2]
_WHEEL: Final = "Wheel-Version: 1.0\nGenerator: lumbar pack\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def own_wheel() -> tuple[str, bytes]:
    """File name and content of the wheel; the same sources give the same bytes.

    Raises:
      InputError: when the program was never installed, so that it has no metadata.
    """
    files = {name: path.read_bytes() for name, path in _sources().items()}
    version, about = _metadata()
    folder = f"{DISTRIBUTION.replace('-', '_')}-{version}"
    files |= {f"{folder}.dist-info/{name}": content for name, content in about.items()}
    files[f"{folder}.dist-info/RECORD"] = _record(files, f"{folder}.dist-info/RECORD")
    wheel = io.BytesIO()
    write_archive(wheel, files)
    return f"{folder}-py3-none-any.whl", wheel.getvalue()


def licence() -> bytes:
    """The text under which the program may be passed on; raises `InputError` as `own_wheel`."""
    return _metadata()[1]["licenses/LICENSE"]


def _sources() -> dict[str, Path]:
    """The files of the packages, and the configs, which a checkout keeps elsewhere, by their name in the wheel."""
    configs = shipped_config("localize", "demo").parents[1]
    found = {(Path("shared/configs") / p.relative_to(configs)).as_posix(): p for p in configs.rglob("*.toml")}
    for package in PACKAGES:
        for path in (_ROOT / package).rglob("*"):
            if path.suffix in _SUFFIXES and path.is_file() and not path.is_symlink():
                found[path.relative_to(_ROOT).as_posix()] = path
    return found


def _metadata() -> tuple[str, dict[str, bytes]]:
    """The version, and the files that say what the package is."""
    try:
        installed = metadata.distribution(DISTRIBUTION)
        names = ("METADATA", "entry_points.txt", "licenses/LICENSE")
        texts = {name: installed.read_text(name) for name in names}
    except metadata.PackageNotFoundError:
        texts = {}
    missing = not texts or [name for name, text in texts.items() if text is None]
    if missing:
        raise InputError(
            f"{DISTRIBUTION} runs from files that were never installed, so its wheel would lack its version, "
            "requirements and licence; install it, for example with `make install`"
        )
    about = {name: (text or "").encode() for name, text in texts.items()}
    return installed.version, {**about, "WHEEL": _WHEEL.encode()}


def _record(files: Mapping[str, bytes], itself: str) -> bytes:
    """The list of a wheel's files with their digests, as the packaging standard wants it."""
    lines = []
    for name, content in sorted(files.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}")
    return "\n".join([*lines, f"{itself},,", ""]).encode()
