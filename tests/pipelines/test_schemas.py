"""The JSON Schemas in docs/schemas are those of the types, and the files that commands write fit them."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipelines.cli import main
from pipelines.schemas.registry import SCHEMAS, UNNAMED, json_schema, write_schemas
from tests.schemas import FOLDER, assert_documented, assert_fits, schema_of


def test_the_committed_schemas_are_those_of_the_types(tmp_path: Path) -> None:
    write_schemas(tmp_path)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    committed = {path.name: path.read_bytes() for path in FOLDER.glob("*.json")}
    assert made.keys() == committed.keys(), "run `python -m pipelines.schemas docs/schemas`"
    assert {name for name in made if made[name] != committed[name]} == set(), (
        "run `python -m pipelines.schemas docs/schemas`"
    )


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_schema_says_what_it_is_of_and_how_a_reader_can_tell(name: str) -> None:
    schema = json_schema(name)
    assert schema["description"]
    assert schema["$id"] == f"{name}.json"
    if name in UNNAMED:
        assert {"version", "format"} & set(schema["required"])
    elif name != "point-errors-1":  # earlier versions wrote none
        assert schema["properties"]["schema"]["const"] == name
        assert "schema" in schema["required"]
    assert name in (FOLDER.parent / "output.md").read_text(encoding="utf-8")


def test_every_json_file_of_a_demo_fits(tiny_demo: Path) -> None:
    names = assert_documented(tiny_demo)
    assert names >= {
        "study-1", "evaluation-report-1", "classifier-report-1", "localizer-report-1",
        "localizer-metrics-1", "run-demo-1", "run-predict-1", "run-localize-1", "run-classify-1", "scores-1",
        "splits-1", "chain-1", "localizer-calibration-1", "classifier-model-3", "point-errors-1", "synth-manifest-1",
    }  # fmt: skip


def test_what_is_printed_as_json_fits(tiny_demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tiny_demo / "data"
    study = min((data / "test_images").iterdir())
    for words in (["info", "--json"], ["series", str(data), "--json"], ["series", str(study), "--json"]):
        assert main(words) == 0
        text = capsys.readouterr().out
        assert_fits(schema_of(Path("printed"), json.loads(text)), text)


def test_a_reader_passes_over_new_keys_and_stops_at_lost_ones(tiny_demo: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    content = json.loads(min((tiny_demo / "prediction" / "studies").glob("*.json")).read_text(encoding="utf-8"))
    jsonschema.validate(content | {"new": 1}, json_schema("study-1"))
    with pytest.raises(ValidationError, match="new"):
        assert_fits("study-1", json.dumps(content | {"new": 1}))
    for finding in content["findings"]:
        del finding["submission"]
    with pytest.raises(jsonschema.ValidationError, match="submission"):
        jsonschema.validate(content, json_schema("study-1"))
