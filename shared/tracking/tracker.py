"""Curves of a training on request. They never change or stop it."""

import importlib.util
import math
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from shared.runtime.errors import InputError, first_line
from shared.runtime.progress import log
from shared.tracking.backends import BACKENDS, Backend

FOLDER: Final = "tracking"
Log = Callable[[int, Mapping[str, float]], None]  # step, and values by the name of their curve


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracking:
    """Where the curves of a run go, beside its own logs.

    Attributes:
      kinds: any of `BACKENDS`; none by default.
      run: the run's folder; the curves lie in RUN/tracking/<kind>.

    Raises:
      InputError: for a kind whose package is not installed.
    """

    kinds: tuple[str, ...] = ()
    run: Path = Path()

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if importlib.util.find_spec(kind) is None:
                raise InputError(
                    f"--track {kind}: {kind} is not installed; install it with `pip install 'lumbar-severity[{kind}]'`"
                )

    @contextmanager
    def curves(self, name: str, settings: Mapping[str, Any]) -> Iterator[Log]:
        """Opens the curves of one network, and closes them at the end of the block.

        A backend that fails is told once and left out from then on.

        Args:
          name: of the network, such as fold0.
          settings: what it is trained with, nested by section; None in place of a value is left out.
        """
        guards = [_Guarded(kind) for kind in self.kinds]
        flat = dict(_flat(settings))
        for guard in guards:
            guard.open(self.run / FOLDER / guard.kind, name, flat)

        def write(step: int, values: Mapping[str, float]) -> None:
            finite = {key: float(value) for key, value in values.items() if math.isfinite(value)}
            for guard in guards:
                guard.attempt(lambda backend: backend.log(step, finite))

        try:
            yield write
        finally:
            for guard in guards:
                guard.attempt(lambda backend: backend.close())


UNTRACKED: Final = Tracking()


class _Guarded:
    """A backend that cannot stop the training, nor take random numbers from it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._backend: Backend | None = None

    def open(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        def begin() -> None:
            self._backend = BACKENDS[self.kind](folder, name, settings)

        self._safely(begin)

    def attempt(self, act: Callable[[Backend], None]) -> None:
        backend = self._backend
        if backend is not None:
            self._safely(lambda: act(backend))

    def _safely(self, act: Callable[[], None]) -> None:
        states = random.getstate(), np.random.get_state()
        try:
            act()
        except Exception as error:  # noqa: BLE001 - hours of training must not end with a library of others
            self._backend = None
            reason = f"{type(error).__name__}: {first_line(error)}"
            log(f"warning: --track {self.kind} failed and is off from now on, training goes on ({reason})")
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value
