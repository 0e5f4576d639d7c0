"""How messages and outputs name the files of a data set, whose names may be those of patients.

A name that any exporter might have given is shown: numbers, DICOM UIDs, words like IM or SERIES. Any other one becomes
`hidden-<digest>`. The digest is the same in every run, so `lumbar series DATA --names` can tell which file it is.
"""

import functools
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Final

# What exporters, and this project, call files and folders. No word that is anybody's name.
_NAMES: Final = """
    dcm dicom dicomdir dir data file files im img image images i mr mri mrt irm se ser serie series s st stu study
    studies e exam examination pa pat patient case scan scans slice slices frame sl instance volume ax axial tra trans
    sag sagittal cor coronal t w l ls lumbar lspine spine stir tirm tse fse flair pd dixon localizer loc scout raw
    train test"""
_WORDS: Final = frozenset(_NAMES.split())
_SUFFIX: Final = re.compile(r"\.(?:dcm|dicom|ima|img)", re.IGNORECASE)
_TOKEN: Final = re.compile(r"[a-z]+|[0-9]+|[^a-z0-9 _.+-]")
_UID: Final = re.compile(r"(?:[a-z]+[._-]?)?[0-2](?:\.[0-9]+){3,}")
_DATE: Final = re.compile(r"(?<![0-9])(?:19|20)[0-9]{2}[^0-9]?[01]?[0-9][^0-9]?[0-3]?[0-9](?![0-9])")
_HIDDEN: Final = re.compile(r"hidden-[0-9a-f]{10}")
_MOST_DIGITS: Final = 5
_MOST_NUMBERS: Final = 4
_MOST_BARE_NUMBERS: Final = 2
_LONGEST: Final = 96
# What lies at the top of a challenge's directory under a name that is always the same.
_FIXED: Final = frozenset(
    [f"{part}{rest}" for part in ("train", "test")
     for rest in (".csv", "_series_descriptions.csv", "_label_coordinates.csv", "_images")]
) | {"sample_submission.csv", "manifest.json", "splits.json", "store.json"}  # fmt: skip

# Folders whose files' names are hidden in this process -> whether long numbers are shown, as a challenge's ids are.
_ROOTS: Final[dict[str, bool]] = {}


def hide_names(root: Path, *, numbers: bool = False) -> None:
    """Messages of this process name what lies below `root` by its path from there, and hide telling names.

    Args:
      numbers: whether names of many digits are ids that the user's own tables name, not a patient's number.
    """
    for path in {root.absolute(), root.resolve()}:
        _ROOTS[str(path).rstrip("/")] = numbers


def hiding() -> dict[str, bool]:
    """What `hide_again` takes, for another process."""
    return dict(_ROOTS)


def hide_again(roots: dict[str, bool]) -> None:
    _ROOTS.update(roots)


@functools.lru_cache(maxsize=4096)
def masked(name: str, *, numbers: bool = False) -> str:
    """The name of one file or folder, or what stands for it. Applied again it changes nothing."""
    if _is_plain(name, numbers=numbers):
        return name
    suffix = _SUFFIX.fullmatch(PurePath(name).suffix)
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:10]
    return f"hidden-{digest}{suffix.group().lower() if suffix else ''}"


def masked_path(path: PurePath, *, numbers: bool = False) -> str:
    """A relative path with each of its names made masked."""
    return "/".join(masked(part, numbers=numbers) for part in path.parts)


def named_below(below: str, *, numbers: bool) -> str:
    """How messages name a file by its path from the top of a data set."""
    return below if below in _FIXED else masked_path(PurePath(below), numbers=numbers)


def order_of(path: PurePath) -> tuple[str, ...]:
    """Sorts paths by their masked names, so that a prepared store, which keeps no others, has the same order."""
    return (*_parts_of(path.parent), masked(path.name))


@functools.lru_cache(maxsize=4096)
def _parts_of(folder: PurePath) -> tuple[str, ...]:
    return tuple(masked(part) for part in folder.parts)


def _is_plain(name: str, *, numbers: bool) -> bool:
    text = _SUFFIX.sub("", name, count=1) if _SUFFIX.fullmatch(PurePath(name).suffix) else name
    if len(text) > _LONGEST or not text.isascii():
        return False
    if _HIDDEN.fullmatch(text) or (numbers and text.isdigit()):
        return True
    plain = text.lower()
    if _UID.fullmatch(plain):
        return plain.rstrip("0123456789._-") in ("", *_WORDS)
    tokens = _TOKEN.findall(plain)
    words, digits = [t for t in tokens if not t.isdigit()], [t for t in tokens if t.isdigit()]
    return (
        bool(tokens)
        and set(words) <= _WORDS
        and all(len(t.lstrip("0")) <= _MOST_DIGITS for t in digits)
        and len(digits) <= (_MOST_NUMBERS if words else _MOST_BARE_NUMBERS)
        and not _DATE.search(plain)
    )


def name_of(path: Path) -> str:
    """How outputs name a file of a data set: by its masked path from the top of the data."""
    roots = [root for root in _ROOTS if f"{path}/".startswith(f"{root}/")]
    if not roots:
        return masked(path.name)
    root = max(roots, key=len)
    return masked_path(path.relative_to(root or "/"), numbers=_ROOTS[root])


def hidden(text: str) -> str:
    """A message with the files of the data sets under masked names."""
    there = [root for root in _ROOTS if f"{root}/" in text]
    return "".join(_pieces(text, there)) if there else text


def _pieces(text: str, roots: list[str]) -> Iterator[str]:
    """The text, cut where paths below a root begin and end, with those replaced."""
    longest_first = "|".join(re.escape(root) for root in sorted(roots, key=len, reverse=True))
    done = 0
    for found in re.finditer(rf"(?<![\w./-])({longest_first})/", text):
        if found.start() < done:  # within the path before
            continue
        root, start = found.group(1), found.end()
        end = _end_of_path(text, root, start)
        below = text[start:end]
        yield text[done : found.start()]
        yield text[found.start() : end] if below in _FIXED else named_below(below, numbers=_ROOTS[root])
        done = end
    yield text[done:]


def _end_of_path(text: str, folder: str, start: int) -> int:
    """Where a path within a message ends: names may hold spaces and colons, so the longest one that exists counts."""
    while (slash := text.find("/", start)) > start and _is_folder(f"{folder}/{text[start:slash]}"):
        folder, start = f"{folder}/{text[start:slash]}", slash + 1
    stops = [n for n in range(start + 1, min(len(text), start + 256) + 1) if n == len(text) or not text[n].isalnum()]
    for stop in reversed(stops):
        if os.path.lexists(f"{folder}/{text[start:stop]}"):
            return stop
    gone = re.compile(r"(?: frame [0-9]+)?(?:: |\n|$)").search(text, start)
    return gone.start() if gone else len(text)


def _is_folder(path: str) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - of any text, even one too long for a name
