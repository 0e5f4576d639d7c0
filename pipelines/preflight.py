"""Checks around the install, run by the Makefile with whatever Python there is: a clear message, not a traceback.

Standard library only, and syntax that an old Python 3 still parses.
"""

# mypy: ignore-errors
import shutil
import sys

NEEDED_GIB = 9  # the environment takes 6.3 GiB with the CUDA builds of torch; pip needs room to unpack beside it
SYSTEM_LIBRARIES = "sudo apt-get install libgl1 libglib2.0-0"


def before_install():
    if sys.version_info < (3, 11):  # noqa: UP036  # this file is what an older Python gets to run
        found = ".".join(str(part) for part in sys.version_info[:3])
        return f"Python 3.11 or newer is needed, found {found}. Install it, or name one: make PYTHON=python3.11 demo"
    free_gib = shutil.disk_usage(".").free / 2**30
    if free_gib < NEEDED_GIB:
        return f"The environment needs {NEEDED_GIB} GiB of disk, {free_gib:.1f} GiB are free here. Make room first."
    return None


def after_install():
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        return f"OpenCV cannot load a system library ({error}). On Debian or Ubuntu: {SYSTEM_LIBRARIES}"
    return None


def main():
    step = {"before-install": before_install, "after-install": after_install}.get(" ".join(sys.argv[1:]))
    if step is None:
        print("usage: preflight.py before-install|after-install", file=sys.stderr)
        return 2
    problem = step()
    if problem:
        print("error: " + problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
