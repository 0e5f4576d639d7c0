"""The commands that are killed, the tiny data and models that they need, and what may differ between two runs."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shared.runtime.documents import read_json

ROOT: Final = Path(__file__).parents[2]
_CONFIGS: Final = ROOT / "tests" / "configs"
# Of run.json: when it was, and what the last of several calls had to do.
_TIMES: Final = frozenset({"started", "seconds", "earlier_seconds"})
_SHARE_OF_LAST_CALL: Final = frozenset({"decoded", "unchanged", "removed"})
_EPOCHS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Data and models, made once by the commands themselves."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "synth" / "data"

    @property
    def splits(self) -> Path:
        return self.folder / "splits.json"

    @property
    def localizer(self) -> Path:
        return self.folder / "localizer"

    @property
    def classifier(self) -> Path:
        return self.folder / "classifier"


def _synth(_: Inputs, out: Path) -> list[str]:
    return ["synth", str(out), "--studies", "4", "--test-studies", "4", "--seed", "7", "--workers", "2"]


def _prepare(inputs: Inputs, out: Path) -> list[str]:
    return ["prepare", str(inputs.data), str(out), "--png", "--workers", "2"]


def _predict(inputs: Inputs, out: Path) -> list[str]:
    models = ["--localizer", str(inputs.localizer), "--classifier", str(inputs.classifier)]
    return ["predict", str(inputs.data), str(out), *models, "--device", "cpu"]


def _localize_train(inputs: Inputs, out: Path) -> list[str]:
    epochs = [w for view in ("sagittal_t1", "sagittal_t2", "axial_t2") for w in ("--set", f"{view}.epochs={_EPOCHS}")]
    return ["localize", "train", str(inputs.data), str(out), *_training(inputs, "localize"), *epochs, "--workers", "2"]


def _classify_train(inputs: Inputs, out: Path) -> list[str]:
    epochs = ["--set", f"train.epochs={_EPOCHS}"]
    return ["classify", "train", str(inputs.data), str(out), *_training(inputs, "classify"), *epochs]


def _training(inputs: Inputs, stage: str) -> list[str]:
    config = _CONFIGS / f"{stage}.toml"
    return ["--splits", str(inputs.splits), "--fold", "0", "--config", str(config), "--device", "cpu"]


# Name -> the words of the command for an output folder.
COMMANDS: Final[Mapping[str, Callable[[Inputs, Path], list[str]]]] = {
    "synth": _synth,
    "prepare": _prepare,
    "predict": _predict,
    "localize train": _localize_train,
    "classify train": _classify_train,
}


def program(words: list[str]) -> list[str]:
    """The command line of a `lumbar` command of this checkout."""
    return [sys.executable, "-m", "pipelines.cli", *words]


def make_inputs(folder: Path, environment: Mapping[str, str]) -> Inputs:
    """Makes what is not there yet, with commands that nobody kills."""
    inputs = Inputs(folder=folder)
    steps = {
        inputs.data.parent: _synth(inputs, inputs.data.parent),
        inputs.splits: ["splits", str(inputs.data), str(inputs.splits), "--folds", "2"],
        inputs.localizer: _localize_train(inputs, inputs.localizer),
        inputs.classifier: _classify_train(inputs, inputs.classifier),
    }
    for made, words in steps.items():
        finished = folder / f"{made.name}.made"
        if not finished.is_file():
            again = [] if made == inputs.splits or not made.exists() else ["--resume"]
            subprocess.run(program([*words, *again]), check=True, env=environment, capture_output=True)
            finished.touch()
    return inputs


def differing(reference: Path, out: Path) -> list[str]:
    """Names of the files and folders that are not the same in both, sorted."""
    trees = [{p.relative_to(root).as_posix(): p for p in root.rglob("*")} for root in (reference, out)]
    different = trees[0].keys() ^ trees[1].keys()
    return sorted(
        different | {name for name in trees[0].keys() & trees[1].keys() if not _same(*(t[name] for t in trees))}
    )


def _same(one: Path, other: Path) -> bool:
    if one.is_dir() or other.is_dir():
        return one.is_dir() and other.is_dir()
    if one.name == "run.json":
        return _timeless(read_json(one)) == _timeless(read_json(other))
    return one.read_bytes() == other.read_bytes()


def _timeless(run: Mapping[str, Any]) -> dict[str, Any]:
    ignored = _TIMES | _SHARE_OF_LAST_CALL if run.get("kind") == "prepare" else _TIMES
    return {name: value for name, value in run.items() if name not in ignored}
