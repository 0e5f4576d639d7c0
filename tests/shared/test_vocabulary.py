import pytest

from shared.dicom.vocabulary import Term, terms_in

PLANES = {Term.SAGITTAL, Term.CORONAL, Term.AXIAL}


@pytest.mark.parametrize(
    ("description", "terms"),
    [
        ("Sag T1 Flair", {Term.T1}), ("t2_tse_sag_320", {Term.T2}), ("T2W_TSE", {Term.T2}), ("sT2W_TSE ax", {Term.T2}),
        ("SAG STIR", {Term.STIR}), ("t2_tirm_sag_fs", {Term.T2, Term.STIR, Term.FAT_SUPPRESSED}),
        ("SAG DP FS", {Term.PROTON_DENSITY, Term.FAT_SUPPRESSED}), ("Densité de protons", {Term.PROTON_DENSITY}),
        ("Ax FRFSE PD", {Term.PROTON_DENSITY}), ("REPERAGE SAG", {Term.LOCALIZER}),
        ("Repérage", {Term.LOCALIZER}), ("Übersicht sag", {Term.LOCALIZER}), ("48 FOV Loc", {Term.LOCALIZER}),
        ("3-Plane Loc", {Term.LOCALIZER}), ("定位像", {Term.LOCALIZER}), ("位置決め", {Term.LOCALIZER}),
        ("腰椎 T2 矢状位", {Term.LUMBAR, Term.T2}), ("T2W 脂肪抑制", {Term.T2, Term.FAT_SUPPRESSED}),
        ("LWS t1_tse_sag", {Term.LUMBAR, Term.T1}), ("HWS t2 sag", {Term.OTHER_REGION, Term.T2}),
        ("kręgosłup lędźwiowy T1", {Term.LUMBAR, Term.T1}), ("odcinek szyjny T2", {Term.OTHER_REGION, Term.T2}),
        ("Lomber T2 sagital", {Term.LUMBAR, Term.T2}), ("T1 kontrastlı", {Term.T1, Term.CONTRAST_AGENT}),
        ("ep2d_diff_b500", {Term.DIFFUSION}), ("Difüzyon", {Term.DIFFUSION}), ("sub T1 gd", {
            Term.DERIVED, Term.T1, Term.CONTRAST_AGENT}), ("MPR sag", {Term.DERIVED}), ("t2_haste_myelo", {
            Term.T2, Term.MYELOGRAPHY}), ("L-Spine", {Term.LUMBAR}), ("C-SPINE T2", {Term.OTHER_REGION, Term.T2}),
        ("Sag T2 FatSat", {Term.T2, Term.FAT_SUPPRESSED}), ("saturacja tłuszczu", {Term.FAT_SUPPRESSED}),
        ("t1_fse_sag_C+", {Term.T1, Term.CONTRAST_AGENT}), ("Ax T1 +C", {Term.T1, Term.CONTRAST_AGENT}),
        ("Sag T2 FSE+10", {Term.T2}), ("Locator 3ax", {Term.LOCALIZER}), ("Scanogram", {Term.LOCALIZER}),
        ("FAT: Sag T2 IDEAL", {Term.T2, Term.DIXON, Term.FAT_PART}), ("T2 mDixon W", {
            Term.T2, Term.DIXON, Term.WATER_PART}), ("Phase: Sag T2", {Term.T2, Term.PHASE}),
        ("T2 dixon out of phase", {Term.T2, Term.DIXON, Term.FAT_PART}), ("T2 dixon in-phase", {Term.T2, Term.DIXON}),
        # Words that mean something else: no contrast agent, the cord, a range of levels.
        ("T1 ohne KM", {Term.T1}), ("T1 sin contraste", {Term.T1}), ("T1 w/o contrast", {Term.T1}),
        ("Myelon T2 sag", {Term.T2}), ("dark-fluid T1", {Term.T1}), ("t2 sag merged", {Term.T2}),
        ("sag t11", set()), ("T12-L5", set()), ("bone", set()), ("", set()),
    ],
)  # fmt: skip
def test_descriptions_are_understood(description: str, terms: set[Term]) -> None:
    assert terms_in(description) - PLANES == terms


@pytest.mark.parametrize(
    ("description", "plane"),
    [
        ("t2_tse_sag_320", Term.SAGITTAL), ("腰椎 T2 矢状位", Term.SAGITTAL), ("Lomber T2 sagital", Term.SAGITTAL),
        ("Ax T2", Term.AXIAL), ("t2_tse_tra", Term.AXIAL), ("T2 assiale", Term.AXIAL), ("T2 poprzeczne", Term.AXIAL),
        ("T2 横断", Term.AXIAL), ("COR STIR", Term.CORONAL), ("STIR koronal", Term.CORONAL),
    ],
)  # fmt: skip
def test_planes_are_understood(description: str, plane: Term) -> None:
    assert terms_in(description) & PLANES == {plane}
