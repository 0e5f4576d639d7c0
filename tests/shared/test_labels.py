import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.labels import FINDINGS, Condition, Finding, Level, Severity, Side, View, findings_of, parse_row_id
from shared.runtime.errors import InputError


def test_the_25_findings_in_the_order_of_train_csv() -> None:
    columns = [f.column for f in FINDINGS]
    assert len(set(columns)) == 25
    assert columns[0] == "spinal_canal_stenosis_l1_l2"
    assert columns[5] == "left_neural_foraminal_narrowing_l1_l2"
    assert columns[14] == "right_neural_foraminal_narrowing_l5_s1"
    assert columns[-1] == "right_subarticular_stenosis_l5_s1"
    assert [f.index for f in FINDINGS] == list(range(25))


@given(st.sampled_from(FINDINGS), st.from_regex(r"[0-9A-Za-z._-]{1,40}", fullmatch=True))
def test_row_id_round_trip(finding: Finding, study_id: str) -> None:
    assert parse_row_id(finding.row_id(study_id)) == (study_id, finding)


@pytest.mark.parametrize("row_id", ["", "12", "12_", "_spinal_canal_stenosis_l1_l2", "12_spinal_canal_stenosis_l6_l7"])
def test_malformed_row_ids_are_refused(row_id: str) -> None:
    with pytest.raises(InputError, match="malformed row_id"):
        parse_row_id(row_id)


@given(st.sampled_from(FINDINGS))
def test_display_names_of_the_coordinates_file(finding: Finding) -> None:
    assert Finding.from_display(finding.condition_display, finding.level.display) == finding


def test_views_sides_and_weights() -> None:
    assert Condition.CANAL.view is View.SAGITTAL_T2
    assert Condition.FORAMINAL.view is View.SAGITTAL_T1
    assert Condition.SUBARTICULAR.view is View.AXIAL_T2
    assert [s.weight for s in Severity] == [1, 2, 4]
    assert len(findings_of(Condition.CANAL)) == 5
    assert len(findings_of(Condition.SUBARTICULAR)) == 10
    assert View.from_slug("axial_t2") is View.AXIAL_T2
    with pytest.raises(InputError, match="unknown view"):
        View.from_slug("coronal")


def test_only_the_canal_has_no_side() -> None:
    with pytest.raises(ValueError, match="only the spinal canal"):
        Finding(condition=Condition.CANAL, side=Side.LEFT, level=Level.L1_L2)
    with pytest.raises(ValueError, match="only the spinal canal"):
        Finding(condition=Condition.FORAMINAL, side=None, level=Level.L1_L2)
