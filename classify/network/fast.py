"""The fast grader of a run: one network that answers as the mean of the run's folds does.

RUN/fast/model.safetensors   its weights, kernels and matrices in half precision
RUN/fast/model.json          everything needed to use them, and which folds it was made of and how
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field

from classify.config import DistillConfig
from classify.network.checkpoint import (
    MODEL_FILE,
    PREPROCESSING,
    WEIGHTS_FILE,
    ModelCard,
    NetworkFile,
    Points,
    card_of,
    halved,
    network_to_json,
    run_folder,
    save_weights,
)
from shared.runtime.documents import Document, read_document
from shared.runtime.errors import InputError
from shared.runtime.files import write_json
from shared.runtime.run_folder import FAST_FOLDER, Digest, sha256_of

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA: Final = "classifier-fast-1"
_AGAIN: Final = "restore the file or make it again with `lumbar classify distill DATA RUN --overwrite`"
_Fold = Annotated[str, Field(pattern="^(0|[1-9][0-9]{0,3})$")]
_NonNegative = Annotated[float, Field(ge=0)]


class Distillation(Document):
    """How a fast grader was made. No study was held out, so nothing here is measured on studies that it has not seen.

    `start` is the fold whose weights it began with, and null where it began with the run's starting weights.
    `divergence` is the mean Kullback-Leibler divergence of its answers from those of the folds, in nats, at some of the
    crops that it learned from. `half_precision` is the largest change of a probability there by storing its weights in
    half precision.
    """

    teachers: Annotated[dict[_Fold, Digest], Field(min_length=1)]
    recipe: DistillConfig
    start: Annotated[int, Field(ge=0)] | None
    crops: Annotated[int, Field(ge=1)]
    divergence: _NonNegative
    half_precision: _NonNegative


class FastFile(NetworkFile):
    """model.json of a fast grader; `points` tells where its training crops lay, `distilled` how it was made.

    The SHA-256 of each of its teachers' weights stands under the number of the fold.
    """

    schema_: Literal["classifier-fast-1"] = Field(alias="schema")
    points: Points
    distilled: Distillation


@dataclass(frozen=True, slots=True, kw_only=True)
class FastCard:
    """Contents of RUN/fast/model.json: what every network needs, and how this one was made."""

    network: ModelCard
    distilled: Distillation


def save_fast(folder: Path, card: FastCard, state: "Mapping[str, Tensor]") -> None:
    """Writes RUN/fast/, the card last.

    Args:
      state: of the network; it is stored as `halved` makes it.
    """
    save_weights(folder / WEIGHTS_FILE, halved(state))
    save_fast_card(folder, card)


def save_fast_card(folder: Path, card: FastCard) -> None:
    own = {"schema": SCHEMA, "points": card.network.held_out_points}
    made = {"distilled": card.distilled.model_dump(mode="json")}
    write_json(folder / MODEL_FILE, own | network_to_json(card.network) | made)


def load_fast_card(run: Path) -> FastCard:
    """Reads the card of a run's fast grader.

    Raises:
      InputError: when the run has no fast grader, when the card is malformed or of another version, or when the run's
        folds are no longer those that the fast grader was made of.
    """
    check_fast(run)
    path = run / FAST_FOLDER / MODEL_FILE
    file = read_document(path, FastFile, advice=_AGAIN)
    if file.preprocessing != PREPROCESSING:
        raise InputError(f"{path}: its network reads crops as another version made them; {_AGAIN}")
    _check_teachers(run, file.distilled)
    return FastCard(network=card_of(path, file, fold=None, points=file.points), distilled=file.distilled)


def check_fast(run: Path) -> None:
    """Raises `InputError` unless a finished run has a fast grader; reads nothing of it."""
    run_folder(run).facts()
    if not (run / FAST_FOLDER / MODEL_FILE).is_file():
        raise InputError(
            f"--fast: {run} has no fast grader; make it with `lumbar classify distill DATA {run}`, or leave --fast out"
        )


def seen_by_fast(run: Path) -> str:
    """Why the fast grader of a run does not answer studies that the run was trained on."""
    return (
        f"--fast: the fast grader of {run} has learned from all studies that the run was trained on, and these are "
        "among them, so its answers would look too good; leave --fast out, and each is graded by the fold that held it "
        "out"
    )


def _check_teachers(run: Path, distilled: Distillation) -> None:
    # A pack may leave the folds out; then there is nothing to compare.
    folder, made_of = run_folder(run), distilled.teachers
    trained = folder.finished_folds()
    again = "make it again with `lumbar classify distill DATA RUN --overwrite`"
    if trained and trained != sorted(map(int, made_of)):
        raise InputError(
            f"{run / FAST_FOLDER}: was made of fold {', '.join(sorted(made_of, key=int))}, but trained are "
            f"{', '.join(map(str, trained))}; {again}"
        )
    changed = [k for k in trained if sha256_of(folder.fold(k) / WEIGHTS_FILE) != made_of[str(k)]]
    if changed:
        raise InputError(f"{run / FAST_FOLDER}: was made of another fold {changed[0]} than is there now; {again}")
