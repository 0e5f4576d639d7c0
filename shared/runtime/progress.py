"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

from shared.runtime.errors import printable, shown

T = TypeVar("T")
_LINE_EVERY_SECONDS = 15.0


def log(message: str) -> None:
    """Writes one line to standard error without disturbing a progress bar."""
    tqdm.write(printable(shown(message)), file=sys.stderr)
    sys.stderr.flush()


def track(items: Iterable[T], description: str, *, total: int | None = None) -> Iterator[T]:
    """Yields the items and shows the progress."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        yield from tqdm(items, desc=description, total=total, leave=False)
        return
    started = last = time.monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= _LINE_EVERY_SECONDS:
            last = now
            log(f"{description}: {count}/{total if total is not None else '?'} ({now - started:.0f} s)")
