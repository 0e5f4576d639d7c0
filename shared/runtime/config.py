"""Configs: TOML files read into frozen, typed models. An unknown key is an error that names the nearest known one."""

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import tomlkit
from pydantic import BaseModel, ConfigDict, ValidationError

from shared.runtime.documents import MOST_DEPTH, kind_of, parse_toml, read_toml
from shared.runtime.errors import InputError, first_line, quoted
from shared.runtime.files import write_text

_MOST_TOLD: Final = 5
_MOST_LISTED: Final = 20
# How alike two names must be for one to be taken for the other, mistyped.
_ALIKE: Final = 0.7


class Config(BaseModel):
    """Base of every config: immutable and typed; refuses unknown keys. What changes results belongs in a config."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)

    @classmethod
    def load(cls, path: Path | None = None, overrides: tuple[str, ...] = ()) -> Self:
        """Reads a TOML file, or the defaults without one, and applies overrides `a.b=value` with values in TOML syntax.

        Raises:
          InputError: for a missing or malformed file, an unknown key or a value out of range.
        """
        values: dict[str, Any] = {}
        source = "defaults"
        if path is not None:
            source, values = str(path), read_toml(path)
        for override in overrides:
            _apply(values, override)
        try:
            # A partial section changes only the keys it names, even where the field's default differs from the class's.
            return cls.model_validate(_merged(cls().model_dump(), values))
        except ValidationError as error:
            raise InputError(f"config {source}: {cls._explain(error)}") from error

    @classmethod
    def _explain(cls, error: ValidationError) -> str:
        messages, wrong = [], error.errors(include_url=False)
        for item in wrong[:_MOST_TOLD]:
            key = ".".join(str(part) for part in item["loc"])
            if item["type"] == "extra_forbidden":
                known = _keys(cls)
                messages.append(f"unknown key {quoted(key)}{_meant(item['loc'], known)}")
            else:
                messages.append(f"{key} = {kind_of(item['input'])}: {item['msg']}")
        if len(wrong) > _MOST_TOLD:
            messages.append(f"and {len(wrong) - _MOST_TOLD} more")
        return "; ".join(messages)

    def save(self, path: Path) -> None:
        """Writes the resolved config as TOML; `load` reads back an equal one."""
        write_text(path, tomlkit.dumps(self.model_dump(mode="json", exclude_none=True)))


def shipped_config(stage: str, name: str) -> Path:
    """Path of a config that comes with the program; `localize`, `demo` gives configs/localize/demo.toml.

    An installed wheel carries the configs beside this package; a checkout keeps them at its top level.
    """
    here = Path(__file__).resolve()
    installed = here.parents[1] / "configs"
    return (installed if installed.is_dir() else here.parents[2] / "configs") / stage / f"{name}.toml"


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _meant(place: tuple[int | str, ...], known: Sequence[str]) -> str:
    """Names the known key that was meant: the same name elsewhere, or one that was mistyped; else what there is.

    Alike are the last names of two keys: whole keys of one section are alike in its name already.
    """
    *section, name = map(str, place)
    prefix = "".join(f"{part}." for part in section)
    here = [key.removeprefix(prefix) for key in known if key.startswith(prefix) and "." not in key[len(prefix) :]]
    elsewhere = [key for key in known if key.rpartition(".")[2] == name]
    near = difflib.get_close_matches(name, here, n=1, cutoff=_ALIKE)
    if near:
        return f", did you mean {prefix + near[0]!r}?"
    if len(elsewhere) == 1:
        return f", did you mean {elsewhere[0]!r}?"
    return f"; {f'[{section[-1]}]' if section else 'this config'} has {', '.join(here[:_MOST_LISTED])}" if here else ""


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys.extend(_keys(field.annotation, f"{prefix}{name}."))
    return keys


def _apply(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise InputError(f"--set {quoted(override)}: expected key=value, for example train.epochs=3")
    try:
        value = parse_toml(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    except (ValueError, RecursionError) as error:
        raise InputError(f"--set {quoted(override)}: {first_line(error)}") from error
    *parents, leaf = key.strip().split(".")
    if len(parents) >= MOST_DEPTH:
        raise InputError(f"--set {quoted(override)}: expected a key of at most {MOST_DEPTH} parts")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise InputError(f"--set {quoted(override)}: {quoted(parent)} is a value, not a section")
    values[leaf] = value
