"""The audit on generated sets: every planted trap is found, nothing wrong is found where nothing was planted."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import UID

from benchmarks.audit import EXPECTED, is_found, write_tables
from pipelines.audit import AuditOptions, AuditResult, inspect
from pipelines.audit.issues import Category, Code, Issue
from pipelines.audit.pixels import Pixels
from pipelines.synthetic import SynthOptions, generate
from pipelines.synthetic.traps.assign import TRAPS
from shared.runtime.names import masked

WORKERS = min(2, os.cpu_count() or 1)
# Few studies carry several traps each, and some then hide another: a shifted chain in a study without reference points.
STUDIES = 15


@pytest.fixture(scope="session")
def trap_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("audit-traps")
    generate(out, SynthOptions(studies=STUDIES, test_studies=0, seed=3, traps=True), workers=WORKERS)
    return out


@pytest.fixture(scope="session")
def audited(trap_set: Path, tmp_path_factory: pytest.TempPathFactory) -> AuditResult:
    """Of the data alone, away from the truth that lies beside them."""
    data = tmp_path_factory.mktemp("audit-data") / "data"
    data.symlink_to(trap_set / "data")
    return inspect(data, AuditOptions(pixels=Pixels.ALL, workers=WORKERS))


def test_every_trap_has_an_expected_code() -> None:
    assert set(EXPECTED) == set(TRAPS)
    assert {slug for slugs in EXPECTED.values() for slug in slugs} <= {code.slug for code in Code}


def test_the_documentation_lists_every_code() -> None:
    text = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()
    assert [c.slug for c in Code if f"| `{c.slug}` | {c.meaning} | {c.advice} |" not in text] == []


def test_every_planted_trap_is_found(trap_set: Path, audited: AuditResult) -> None:
    planted = json.loads((trap_set / "truth" / "manifest.json").read_text())["traps"]
    assert len({trap["trap"] for trap in planted}) >= 25
    assert [trap for trap in planted if not is_found(trap, audited.issues)] == []


def test_errors_lie_on_trapped_studies_only(trap_set: Path, audited: AuditResult) -> None:
    trapped = {t["study_id"] for t in json.loads((trap_set / "truth" / "manifest.json").read_text())["traps"]}
    wrong = [i for i in audited.issues if i.code.category is Category.ERROR and i.study_id not in trapped]
    assert wrong == []


def test_a_clean_set_has_no_error_and_no_warning(few_studies: Path) -> None:
    data = few_studies / "data"
    result = inspect(data, AuditOptions(pixels=Pixels.ALL))
    assert [i for i in result.issues if i.code.category is not Category.NOTE] == []
    assert result.studies == 3
    counts = result.facts["counts"]
    assert counts["files"] == counts["files_read"] == len(list(data.rglob("*.dcm")))
    assert counts["series"] == {"sagittal_t1": 3, "sagittal_t2": 3, "axial_t2": 3}


def test_tables_without_images_are_explored(tmp_path: Path) -> None:
    points = write_tables(tmp_path / "data", 400, 0)
    result = inspect(tmp_path / "data", AuditOptions(images=False))
    assert _slugs(result.issues) == {"grade-missing"}
    facts = result.facts
    assert facts["counts"]["points"] == points
    for of in facts["grades"]["findings"].values():
        assert of["share"] == pytest.approx(of["challenge_share"], abs=0.08)
    assert all(0.6 < share < 0.9 for share in facts["co_occurrence"]["left_equals_right"].values())


def test_a_real_study(real_data: Path) -> None:
    result = inspect(real_data / "lumbar_study", AuditOptions(pixels=Pixels.ALL))
    assert _slugs(result.issues) == {"lossy", "series-unused", "transfer-syntax", "feet-first"}
    assert result.facts["counts"]["files_read"] == 50


def test_real_transfer_syntaxes(real_data: Path, tmp_path: Path) -> None:
    # One slice in many encodings is no volume, so each file gets a place of its own.
    for k, path in enumerate(sorted((real_data / "transfer_syntaxes").glob("MR1_*.dcm"))):
        dataset = pydicom.dcmread(path)
        x, y, z = (float(v) for v in dataset.ImagePositionPatient)
        dataset.ImagePositionPatient, dataset.SOPInstanceUID = [x, y, z + 5 * k], UID(f"1.2.{k}")
        dataset.save_as(tmp_path / path.name)
    result = inspect(tmp_path, AuditOptions(pixels=Pixels.ALL))
    errors = [i for i in result.issues if i.code.category is Category.ERROR]
    # JPEG Extended of 12 bits is the one encoding without a decoder here.
    assert [(i.code, i.file) for i in errors] == [(Code.PIXELS_UNREADABLE, masked("MR1_JPLY.dcm"))]


def _slugs(issues: Sequence[Issue]) -> set[str]:
    return {issue.code.slug for issue in issues}
