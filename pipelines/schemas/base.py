"""What the types of all JSON files have in common."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from shared.labels import FINDINGS
from shared.runtime.documents import Document

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256, in hexadecimal.")]
FindingName = Annotated[
    str,
    Field(
        description="Condition, side and level of a finding, as in the tables of the challenge.",
        json_schema_extra={"enum": [finding.column for finding in FINDINGS]},
    ),
]


class Part(Document):
    """A part of a file. Texts below the fields become descriptions."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class TrainingCurve(Part):
    """The losses of one network by epoch, all [n]; null where a loss was not measured."""

    fold: Count
    network: str
    """The view of a detector; empty for the grader."""
    epoch: list[Count]
    train_loss: list[float | None]
    held_out_loss: list[float | None]


def of_schema(name: str) -> Any:
    """The field of a file that names its schema."""
    return Field(alias="schema", description=f"Names this schema: docs/schemas/{name}.json.")
