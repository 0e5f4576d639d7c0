"""Files that a merge takes over from shards, and how many it may have open."""

import os
import shutil
from pathlib import Path

from shared.runtime.errors import InputError


def link_or_copy(given: Path, wanted: Path) -> None:
    """Makes a file appear under a second path without its bytes, where the disk allows that.

    No command of ours writes into a file that is there: it writes another one and renames it. So both stay as they are.
    """
    wanted.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(given, wanted)
    except FileExistsError as error:
        raise InputError(f"{given}: another shard has the same study; merge each study once") from error
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(given, wanted)


def allow_files(count: int) -> None:
    """Lets this process open so many files at once.

    Raises:
      InputError: when the system does not let it.
    """
    try:
        import resource
    except ImportError:  # not on this system
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    if hard != resource.RLIM_INFINITY and hard < count:
        raise InputError(
            f"{count} files are to be open at once, and the system allows {hard}; raise it (ulimit -Hn), or make fewer "
            "shards"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
