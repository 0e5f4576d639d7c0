"""The Python API on a tiny trained demo."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.api import load, score
from shared.labels import FINDINGS
from shared.probabilities.files import PROBABILITY_COLUMNS, read_probabilities
from shared.runtime.documents import read_json
from shared.runtime.errors import InputError


def test_a_folder_of_one_study_becomes_a_table_a_figure_and_json(tiny_demo: Path, tmp_path: Path) -> None:
    grader = load(str(tiny_demo / "localizer"), tiny_demo / "classifier", device="cpu")
    images = tiny_demo / "data" / "test_images"
    study_id = sorted(p.name for p in images.iterdir())[0]
    result = grader.predict(images / study_id)
    table = result.table()
    assert list(table["finding"]) == [f.column for f in FINDINGS]
    np.testing.assert_allclose(table[list(PROBABILITY_COLUMNS)], result.probabilities)
    np.testing.assert_allclose(result.probabilities.sum(axis=1), 1)
    assert set(table["source"]) <= {"model", "prior"}
    assert table["series_id"].notna().equals(table["x_px"].notna())
    # The command gave the same study the same answer.
    written = read_probabilities(tiny_demo / "prediction" / "probabilities.csv").select([study_id])
    np.testing.assert_allclose(result.submission, written.submission[0], atol=1e-7)
    record = json.loads(json.dumps(result.to_json()))
    stored = read_json(tiny_demo / "prediction" / "studies" / f"{study_id}.json")
    assert [f["source"] for f in record["findings"]] == [f["source"] for f in stored["findings"]]
    result.figure().savefig(tmp_path / "study.png")
    assert (tmp_path / "study.png").stat().st_size > 10_000


def test_a_folder_of_several_studies_is_refused(tiny_demo: Path) -> None:
    grader = load(tiny_demo / "localizer", tiny_demo / "classifier", device="cpu")
    with pytest.raises(InputError, match="holds 3 studies; expected one"):
        grader.predict(tiny_demo / "data")


def test_a_submission_is_scored_beside_the_baselines(tiny_demo: Path) -> None:
    comparison = score(tiny_demo / "submission.csv", tiny_demo / "truth")
    printed = {line["name"]: line for line in read_json(tiny_demo / "reports" / "scores.json")["lines"]}
    ours = comparison.line("submission")
    assert ours.score.score == pytest.approx(printed["this pipeline"]["score"]["score"], abs=1e-5)
    assert {line.name for line in comparison.lines} == {"uniform", "weighted prior", "submission"}
