"""A case: a sound input and its damage, both drawn from a seed and the case's number, so that it can be run alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from benchmarks.fuzz.damage.anywhere import ANYWHERE, Damage
from benchmarks.fuzz.damage.elements import ELEMENTS
from benchmarks.fuzz.damage.packed import TENSORS, ZIP
from benchmarks.fuzz.damage.streams import STREAMS
from benchmarks.fuzz.damage.text import CSV, JSON, SUMMED, TOML
from benchmarks.fuzz.inputs.sound import Form, Kind, Sound

# One turn of the wheel of cases: DICOM files most, since they are read most and by the most foreign code.
WHEEL: Final[tuple[Kind, ...]] = (
    "dicom", "table", "dicom", "json", "dicom", "toml", "dicom", "folder", "dicom", "dicom",
    "json", "dicom", "table", "dicom", "archive", "dicom", "json", "dicom", "checkpoint", "dicom",
    "dicom", "table", "dicom", "json", "dicom", "run", "dicom", "folder", "dicom", "dicom",
    "toml", "dicom", "table", "dicom", "archive", "dicom", "json", "dicom", "json", "dicom",
)  # fmt: skip
STRUCTURED: Final[Mapping[Form, Mapping[str, Damage]]] = {
    "dicom": {**ELEMENTS, **STREAMS}, "csv": CSV, "json": JSON, "summed": SUMMED, "toml": TOML, "zip": ZIP,
    "tensors": TENSORS, "binary": {},
}  # fmt: skip
# How often the damage knows the form of what it damages, and how often one is not enough.
_STRUCTURED_SHARE: Final = 0.6
_SEVERAL_SHARE: Final = 0.3
_MOST_DAMAGES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case.

    Attributes:
      damage: names of what was done, in order.
      changed: name of a damaged file -> its content.
    """

    number: int
    sound: Sound
    damage: tuple[str, ...]
    changed: Mapping[str, bytes]


def kind_of(number: int) -> Kind:
    return WHEEL[number % len(WHEEL)]


def make_case(seed: int, number: int, inputs: Mapping[Kind, Sequence[Sound]]) -> Case:
    """The case of a number. The inputs of a kind take turns."""
    kind, rng = kind_of(number), Random(f"{seed}/{number}")
    turn = number // len(WHEEL) * WHEEL.count(kind) + WHEEL[: number % len(WHEEL)].count(kind)
    sound = inputs[kind][turn % len(inputs[kind])]
    count = 1 if rng.random() > _SEVERAL_SHARE else rng.randint(2, _MOST_DAMAGES)
    damage, changed = [], dict[str, bytes]()
    for _ in range(count):
        target = rng.choice(sorted(sound.targets))
        form = sound.targets[target]
        others = [other.files[name] for other in inputs[kind] for name, own in other.targets.items() if own == form]
        known = STRUCTURED[form] if rng.random() < _structured_share(form) else ANYWHERE
        name = rng.choice(sorted(known))
        changed[target] = known[name](changed.get(target, sound.files[target]), rng, others)
        damage.append(name)
    return Case(number=number, sound=sound, damage=tuple(damage), changed=changed)


def _structured_share(form: Form) -> float:
    """Damage that breaks a checksum is told at once, so none of it where the checksum is made good."""
    return {"binary": 0.0, "summed": 1.0}.get(form, _STRUCTURED_SHARE)
