"""What a series is, from how it was acquired and what it is called."""

from dataclasses import replace

import pytest

from shared.dicom.views import DOUBTFUL, Acquisition, SeriesFacts, judge
from shared.dicom.vocabulary import Term, terms_in
from shared.labels import View

SAGITTAL, CORONAL, AXIAL = 0, 1, 2


def made(**values: object) -> Acquisition:
    texts = {name: values.pop(name, "") for name in ("description", "protocol")}
    known = {"modality": "MR", "terms": terms_in(str(texts["description"]))}
    return replace(Acquisition(protocol_terms=terms_in(str(texts["protocol"])), **known), **values)  # type: ignore[arg-type]


def verdict_of(acquisition: Acquisition, axis: int = SAGITTAL, slices: int = 15, field_mm: float = 280.0):
    return judge(SeriesFacts(acquisitions=[acquisition] * slices, axis=axis, field_mm=field_mm))


SE, GR = frozenset({"SE"}), frozenset({"GR"})


@pytest.mark.parametrize(
    ("acquisition", "axis", "view"),
    [
        (made(echo_ms=10.0, repetition_ms=600.0, sequence=SE), SAGITTAL, View.SAGITTAL_T1),
        (made(echo_ms=110.0, repetition_ms=3500.0, sequence=SE), SAGITTAL, View.SAGITTAL_T2),
        (made(echo_ms=110.0, repetition_ms=3500.0, sequence=SE), AXIAL, View.AXIAL_T2),
        (made(echo_ms=110.0, repetition_ms=3500.0), CORONAL, None),
        # STIR is fluid-bright whatever its echo; a T1 FLAIR repeats slowly and yet shows T1.
        (made(echo_ms=45.0, repetition_ms=4500.0, inversion_ms=160.0), SAGITTAL, View.SAGITTAL_T2),
        (made(echo_ms=31.0, repetition_ms=2159.0, inversion_ms=785.0), SAGITTAL, View.SAGITTAL_T1),
        (made(echo_ms=35.0, repetition_ms=3200.0, description="SAG DP FS"), SAGITTAL, None),
        (made(echo_ms=35.0, repetition_ms=3200.0), SAGITTAL, None),
        # Without times the words decide; the series' own words outrank the protocol's.
        (made(description="Sag T1"), SAGITTAL, View.SAGITTAL_T1),
        (made(description="Sag T1 Flair", protocol="LSPINE T1 T2 STIR"), SAGITTAL, View.SAGITTAL_T1),
        (made(description="Sag", protocol="LSPINE T1 T2 STIR"), SAGITTAL, None),
        (made(protocol="L-SPINE T2"), SAGITTAL, View.SAGITTAL_T2),
        # Measured contrast outranks a wrong name.
        (made(echo_ms=12.0, repetition_ms=550.0, description="T2 sag"), SAGITTAL, View.SAGITTAL_T1),
        # A dual-echo series is named both; the echo decides.
        (made(echo_ms=100.0, repetition_ms=3000.0, description="PD/T2 sag"), SAGITTAL, View.SAGITTAL_T2),
        (made(echo_ms=20.0, repetition_ms=600.0, sequence=GR, description="medic"), AXIAL, View.AXIAL_T2),
        (made(modality="CT", description="SAG T1-L5 BONE"), SAGITTAL, None),
        (made(modality="", echo_ms=10.0), SAGITTAL, View.SAGITTAL_T1),  # the challenge's files carry no modality
        (made(sop_class="1.2.840.10008.5.1.4.1.1.7", description="T2 sag"), SAGITTAL, None),
        (made(description="REPERAGE SAG T2"), SAGITTAL, None),
        (made(description="t2 ep2d_diff"), SAGITTAL, None),
        (made(image_type=("DERIVED", "SECONDARY", "MPR"), description="T2 sag"), SAGITTAL, None),
        (made(image_type=("ORIGINAL", "PRIMARY", "P", "SE"), description="T2 sag"), SAGITTAL, None),
        (made(image_type=("DERIVED", "PRIMARY", "DIXON", "WATER"), description="T2 dixon"), SAGITTAL, View.SAGITTAL_T2),
        (made(image_type=("DERIVED", "PRIMARY", "DIXON", "FAT"), description="T2 sag dixon"), SAGITTAL, None),
        (made(description="FAT: Sag T2 IDEAL", echo_ms=90.0), SAGITTAL, None),
        (made(description="T2 sag fat sat", echo_ms=90.0, repetition_ms=3000.0), SAGITTAL, View.SAGITTAL_T2),
        (made(echo_ms=80.0, repetition_ms=4000.0, sequence=frozenset({"EP", "SE"})), SAGITTAL, None),
        (made(echo_ms=700.0, repetition_ms=8000.0), SAGITTAL, None),
    ],
)  # fmt: skip
def test_the_view_of_a_series(acquisition: Acquisition, axis: int, view: View | None) -> None:
    verdict = verdict_of(acquisition, axis)
    assert verdict.view is view, verdict
    assert verdict.reasons


def test_a_few_slices_are_a_localizer() -> None:
    verdict = verdict_of(made(description="T2 sag"), slices=4)
    assert verdict.view is None
    assert "4 slices" in verdict.reasons[0]


def test_slices_of_several_planes_are_a_localizer() -> None:
    usual = made(echo_ms=90.0, repetition_ms=1200.0)
    verdict = judge(SeriesFacts(acquisitions=[usual] * 15, axis=SAGITTAL, field_mm=380.0, facing=1 / 3))
    assert verdict.view is None
    assert "several planes" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("doubtful", "reason"),
    [
        (made(echo_ms=3.0, repetition_ms=8.0, sequence=GR), "of a localizer"),
        (made(echo_ms=10.0, repetition_ms=600.0, terms=frozenset({Term.FAT_SUPPRESSED})), "fat is suppressed"),
        (made(echo_ms=10.0, repetition_ms=600.0, image_type=("DERIVED", "SECONDARY")), "derived"),
        (made(echo_ms=10.0, repetition_ms=600.0, description="Phase: Sag T1"), "phase"),
    ],
)  # fmt: skip
def test_what_gives_way_to_a_plain_series(doubtful: Acquisition, reason: str) -> None:
    verdict = verdict_of(doubtful)
    assert verdict.view is View.SAGITTAL_T1
    assert verdict.doubt >= DOUBTFUL
    assert any(reason in text for text in verdict.reasons)


def test_better_candidates_score_higher_and_say_why() -> None:
    usual = made(echo_ms=110.0, repetition_ms=3500.0, description="T2 sag")
    best = verdict_of(usual)
    wide = verdict_of(usual, field_mm=480.0)
    neck = verdict_of(replace(usual, terms=terms_in("T2 sag cervical")))
    after = verdict_of(replace(usual, terms=terms_in("T2 sag gd")))
    assert best.score > after.score > wide.score
    assert best.score > neck.score
    assert any("480 mm" in reason for reason in wide.reasons)
    assert any("another region" in reason for reason in neck.reasons)


@pytest.mark.parametrize(("echo_ms", "repetition_ms"), [(0.0, 0.0), (0.11, 3.5), (110000.0, 3500000.0), (35.0, 3.2)])
def test_impossible_times_decide_nothing(echo_ms: float, repetition_ms: float) -> None:
    """They are placeholders, or in seconds or microseconds."""
    times = {"echo_ms": echo_ms, "repetition_ms": repetition_ms}
    assert verdict_of(made(description="Sag T2", **times)).view is View.SAGITTAL_T2
    assert verdict_of(made(description="Sag", **times)).view is None


def test_an_inversion_recovery_without_its_time_is_what_it_is_called() -> None:
    unknown = {"echo_ms": 31.0, "repetition_ms": 2159.0, "sequence": frozenset({"IR"})}
    assert verdict_of(made(description="Sag T1 Flair", **unknown)).view is View.SAGITTAL_T1
    assert verdict_of(made(description="Sag STIR", **unknown)).view is View.SAGITTAL_T2
    assert verdict_of(made(description="Sag", **unknown)).view is None
