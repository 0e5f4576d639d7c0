"""How series are called: six vendors' habits and ten languages, as radiographers write them.

None of it is taken from `shared.dicom.vocabulary`, which it tests. Sources are told in docs/vocabulary.md.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """A vendor's values and names.

    Attributes:
      image_types: kind of picture -> ImageType; kinds that are missing are not told by ImageType.
      names: kind of series -> names, with {p} for the plane.
      planes: name of the sagittal, axial and coronal plane.
      uid_per_slice: every slice has a SeriesInstanceUID of its own.
      uid_per_block: each block of an axial series may have one.
    """

    name: str
    manufacturer: str
    image_types: Mapping[str, str]
    names: Mapping[str, str]
    planes: Mapping[str, str]
    uid_per_slice: bool = False
    uid_per_block: bool = False

    def image_type(self, picture: str, sequence: Sequence[str]) -> list[str]:
        if picture == "capture":
            return ["DERIVED", "SECONDARY"]
        value = self.image_types.get(picture, self.image_types["original"])
        part = "IR" if "IR" in sequence else "FFE" if "GR" in sequence else "SE"
        return value.replace("{s}", part).split("/")


_LOWER: Final = {"sag": "sag", "ax": "tra", "cor": "cor"}
_UPPER: Final = {"sag": "SAG", "ax": "AX", "cor": "COR"}
_TITLE: Final = {"sag": "Sag", "ax": "Ax", "cor": "Cor"}

VENDORS: Final = (
    Vendor(
        name="Siemens", manufacturer="SIEMENS", planes=_LOWER,
        image_types={
            "original": "ORIGINAL/PRIMARY/M/NORM/DIS2D", "phase": "ORIGINAL/PRIMARY/P/ND",
            "diffusion": "DERIVED/PRIMARY/DIFFUSION/TRACEW/ND", "adc": "DERIVED/PRIMARY/DIFFUSION/ADC/ND",
            "reformation": "DERIVED/SECONDARY/MPR/CSA MPR//CSA RESAMPLED",
            "projection": "DERIVED/PRIMARY/PROJECTION IMAGE/MIP/ND", "subtraction": "DERIVED/PRIMARY/M/SUB/ND",
            "water": "DERIVED/PRIMARY/M/DIXON/WATER", "fat": "DERIVED/PRIMARY/M/DIXON/FAT",
            "opposed": "DERIVED/PRIMARY/M/DIXON/OPP_PHASE",
        },
        names={
            "T1": "t1_tse_{p}|t1_tse_{p}_320|T1 TSE {p}", "T2": "t2_tse_{p}_p2|t2_tse_{p}_320|t2_spc_{p}_iso",
            "STIR": "t2_tirm_{p}_p2|t2_stir_{p}", "T1 FLAIR": "t1_tse_dark-fluid_{p}",
            "T2 DIXON W": "t2_tse_dixon_{p}_W", "T2 DIXON F": "t2_tse_dixon_{p}_F",
            "T2 DIXON OP": "t2_tse_dixon_{p}_opp", "LOC": "localizer|Localizer_3plane|AAScout_Spine",
            "PD": "pd_tse_{p}", "PD FS": "pd_tse_fs_{p}_384", "DWI": "ep2d_diff_b50_b800_{p}_TRACEW",
            "ADC": "ep2d_diff_b50_b800_tra_ADC", "CT": "WS SAG 2.0 Br60", "MYELO": "t2_haste_myelo_{p}|myelo_tse_{p}",
            "MIP": "t2_spc_myelo_MIP_Range", "T1 FS GD": "t1_tse_fs_{p}_KM|t1_tse_fs_{p}_post",
            "T2 MPR": "t2_spc_{p}_MPR Range", "T2 CERVICAL": "I_t2_tse_{p}_HWS|t2_tse_{p}_c-spine",
            "T1 CERVICAL": "t1_tse_{p}_HWS", "T2 PHASE": "t2_tse_{p}", "T1 SUB": "t1_tse_fs_{p}_KM_SUB",
            "T2 SPINE": "t2_tse_{p}_COMP_SP", "T1 SPINE": "t1_tse_{p}_COMP_SP", "PD T2": "pd+t2_tse_{p}",
        },
    ),
    Vendor(
        name="GE", manufacturer="GE MEDICAL SYSTEMS", planes=_TITLE, uid_per_block=True,
        image_types={
            "original": "ORIGINAL/PRIMARY/OTHER", "adc": "DERIVED/PRIMARY/OTHER/ADC",
            "reformation": "DERIVED/SECONDARY/REFORMATTED/AVERAGE",
            "projection": "DERIVED/SECONDARY/PROJECTION IMAGE/COLLAPSE",
        },
        names={
            "T1": "{p} T1 FSE|{p} T1|{p.upper} T1 FSE-XL", "T2": "{p} T2 FRFSE|{p.upper} T2 FRFSE|{p} T2 frFSE",
            "STIR": "{p} STIR|{p} FSE STIR", "T1 FLAIR": "{p} T1 FLAIR",
            "T2 DIXON W": "WATER: {p} T2 IDEAL|WATER: {p} T2 FSE Flex", "T2 DIXON F": "FAT: {p} T2 IDEAL",
            "T2 DIXON OP": "OutPhase: {p} T2 FSE Flex", "LOC": "3-Plane Loc|3 PLANE LOC SSFSE|48 FOV Loc",
            "PD": "{p} PD FSE", "PD FS": "{p} PD FatSat", "DWI": "{p} DWI b=800",
            "ADC": "Apparent Diffusion Coefficient (mm2/s)|ADC (10^-6 mm2/s)", "CT": "SAG BONE",
            "MYELO": "SSFSE MYELO {p}|Radial Myelogram", "MIP": "Processed Images MIP|MYELO MIP",
            "T1 FS GD": "{p} T1 FS +C|{p} T1 FS POST GAD", "T2 MPR": "Reformatted {p} CUBE T2|REFORMAT {p} T2 CUBE",
            "T2 CERVICAL": "{p} T2 C-SPINE", "T1 CERVICAL": "{p} T1 CSPINE", "T2 PHASE": "Phase: {p} T2 FSE",
            "T1 SUB": "SUB {p} T1 FS +C", "T2 SPINE": "COUNT {p} T2 SSFSE|{p} T2 TOTAL SPINE",
            "T1 SPINE": "{p} T1 TOTAL SPINE", "PD T2": "{p} PD/T2",
        },
    ),
    Vendor(
        name="Philips", manufacturer="Philips Medical Systems", planes=_UPPER,
        image_types={
            "original": "ORIGINAL/PRIMARY/M_{s}/M/{s}", "phase": "ORIGINAL/PRIMARY/PHASE MAP/P/SE",
            "diffusion": "ORIGINAL/PRIMARY/DIFFUSION/NONE/NONE", "adc": "DERIVED/PRIMARY/ADC/ADC/UNSPECIFIED",
            "reformation": "DERIVED/SECONDARY/MPR/M/SE", "projection": "DERIVED/SECONDARY/PROJECTION IMAGE/M/SE",
            "subtraction": "DERIVED/SECONDARY/SUBTRACTION/M/SE", "water": "DERIVED/PRIMARY/W/W/DERIVED",
            "fat": "DERIVED/PRIMARY/F/F/DERIVED", "opposed": "DERIVED/PRIMARY/OP/OP/DERIVED",
        },
        names={
            "T1": "T1W_TSE {p}|sT1W_TSE|T1W_SE_{p}", "T2": "T2W_TSE {p} SENSE|sT2W_TSE|T2W_DRIVE_{p}",
            "STIR": "STIR_TSE_{p}|STIR_longTE {p}", "T1 FLAIR": "T1W_IR_TSE {p}", "T2 DIXON W": "T2W_mDIXON_TSE {p} W",
            "T2 DIXON F": "T2W_mDIXON_TSE {p} F", "T2 DIXON OP": "T2W_mDIXON_TSE {p} OP",
            "LOC": "Survey|SURVEY_L-SPINE|PlanScan", "PD": "PDW_TSE {p}", "PD FS": "PDW_SPAIR {p}",
            "DWI": "DWI_SSh {p}", "ADC": "dADC_SSh", "CT": "Sagittal Spine", "MYELO": "MYELO_SSh {p}|MRM_TSE {p}",
            "MIP": "MYELO_3D MIP", "T1 FS GD": "T1W_SPIR {p} GD|T1W_mDIXON_TSE {p} GADO",
            "T2 MPR": "MPR {p} T2W_VISTA", "T2 CERVICAL": "T2W_TSE {p} CERVICAL", "T1 CERVICAL": "T1W_TSE {p} CSPINE",
            "T2 PHASE": "T2W_TSE {p}", "T1 SUB": "SUB T1W_SPIR {p} GD", "T2 SPINE": "MobiView T2W_TSE {p}",
            "T1 SPINE": "MobiView T1W_TSE {p}", "PD T2": "PDW_T2W_TSE {p}",
        },
    ),
    Vendor(
        name="Canon", manufacturer="TOSHIBA_MEC", planes=_TITLE, uid_per_slice=True,
        image_types={
            "original": "ORIGINAL/PRIMARY/OTHER", "reformation": "DERIVED/SECONDARY/MPR",
            "projection": "DERIVED/SECONDARY/MIP", "subtraction": "DERIVED/SECONDARY/SUBTRACTION",
        },
        names={
            "T1": "{p} T1 FSE|{p} T1 SE", "T2": "{p} T2 FSE+10|{p} T2 FSE|{p} T2 JET", "STIR": "{p} STIR|{p} FastSTIR",
            "T1 FLAIR": "{p} T1 FLAIR", "T2 DIXON W": "{p} T2 FSE WFS Water", "T2 DIXON F": "{p} T2 FSE WFS Fat",
            "T2 DIXON OP": "{p} T2 FSE WFS Out of phase", "LOC": "Locator|Locator 3ax", "PD": "{p} PD FSE",
            "PD FS": "{p} PD FatSAT", "DWI": "{p} DWI", "ADC": "ADC", "CT": "Sag Bone",
            "MYELO": "MYELO FASE {p}|{p} MYELO", "MIP": "MYELO MIP", "T1 FS GD": "{p} T1 FatSAT CE",
            "T2 MPR": "MPR {p} T2", "T2 CERVICAL": "{p} T2 C-spine", "T1 CERVICAL": "{p} T1 C-spine",
            "T2 PHASE": "Phase {p} T2", "T1 SUB": "Subtraction {p} T1", "T2 SPINE": "{p} T2 Whole spine",
            "T1 SPINE": "{p} T1 Whole spine", "PD T2": "{p} PD/T2",
        },
    ),
    Vendor(
        name="Hitachi", manufacturer="Hitachi Medical Corporation", planes=_UPPER, uid_per_block=True,
        image_types={
            "original": "ORIGINAL/PRIMARY/OTHER", "reformation": "DERIVED/SECONDARY/MPR",
            "projection": "DERIVED/SECONDARY/MIP",
        },
        names={
            "T1": "T1 SE {p}|{p} T1 primeFSE", "T2": "T2 FSE {p}|{p} T2 primeFSE", "STIR": "STIR {p}|{p} FIR STIR",
            "T1 FLAIR": "T1 FLAIR {p}", "T2 DIXON W": "T2 FatSep {p} Water", "T2 DIXON F": "T2 FatSep {p} Fat",
            "T2 DIXON OP": "T2 FatSep {p} Out of phase", "LOC": "Scanogram|Scano 3plane|Positioning",
            "PD": "PD FSE {p}", "PD FS": "PD FatSat {p}", "DWI": "DWI {p}", "ADC": "ADC map", "CT": "SAG",
            "MYELO": "MYELO {p}", "MIP": "MYELO MIP", "T1 FS GD": "T1 FatSat {p} Gd", "T2 MPR": "MPR {p} T2",
            "T2 CERVICAL": "C-SP T2 FSE {p}", "T1 CERVICAL": "C-SP T1 SE {p}", "T2 PHASE": "Phase T2 {p}",
            "T1 SUB": "Subtraction T1 {p}", "T2 SPINE": "T2 FSE {p} Whole Spine",
            "T1 SPINE": "T1 SE {p} Whole Spine", "PD T2": "PD/T2 FSE {p}",
        },
    ),
    Vendor(
        name="United Imaging", manufacturer="UIH", planes=_LOWER,
        image_types={
            "original": "ORIGINAL/PRIMARY/M/NORM", "phase": "ORIGINAL/PRIMARY/P/NORM",
            "adc": "DERIVED/PRIMARY/ADC", "diffusion": "ORIGINAL/PRIMARY/DIFFUSION/M",
            "reformation": "DERIVED/SECONDARY/MPR", "projection": "DERIVED/SECONDARY/MIP",
            "water": "DERIVED/PRIMARY/WATER", "fat": "DERIVED/PRIMARY/FAT", "opposed": "DERIVED/PRIMARY/OUT_PHASE",
        },
        names={
            "T1": "t1_fse_{p}|t1_fse_{p}_1", "T2": "t2_fse_{p}|t2_fse_{p}_4mm|t2_fse_mx_{p}",
            "STIR": "t2_fse_stir_{p}|stir_fse_{p}", "T1 FLAIR": "t1_fse_flair_{p}", "T2 DIXON W": "t2_fse_wfi_{p}_W",
            "T2 DIXON F": "t2_fse_wfi_{p}_F", "T2 DIXON OP": "t2_fse_wfi_{p}_OP",
            "LOC": "gre_scout|gre_scout_3plane|ssfse_scout", "PD": "pd_fse_{p}", "PD FS": "pd_fse_{p}_fs",
            "DWI": "epi_dwi_{p}", "ADC": "epi_dwi_tra_ADC", "CT": "spine sag", "MYELO": "fse_ssh_myelo_{p}|myelo_{p}",
            "MIP": "fse_mx_myelo_MIP", "T1 FS GD": "t1_fse_{p}_fs_C+|t1_fse_{p}_fs_+C", "T2 MPR": "t2_fse_mx_{p}_MPR",
            "T2 CERVICAL": "cspine_t2_fse_{p}", "T1 CERVICAL": "cspine_t1_fse_{p}", "T2 PHASE": "t2_fse_{p}_Phase",
            "T1 SUB": "t1_fse_{p}_fs_SUB", "T2 SPINE": "t2_fse_{p}_stitching", "T1 SPINE": "t1_fse_{p}_stitching",
            "PD T2": "pd_t2_fse_{p}",
        },
    ),
)  # fmt: skip


def vendor_name(vendor: Vendor, kind: str, plane: str, rng: np.random.Generator) -> str:
    """A name as the vendor's protocol tree has it."""
    pattern = str(rng.choice(vendor.names[kind].split("|")))
    word = vendor.planes.get(plane, "")
    return pattern.replace("{p.upper}", word.upper()).replace("{p}", word)


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """A language's words; `|` separates ways to say the same.

    Attributes:
      characters: SpecificCharacterSet of its exports.
      exams: names of the exam, as ProtocolName has them.
      words: what a kind of series is called besides its weighting.
    """

    name: str
    characters: str | list[str]
    exams: tuple[str, ...]
    planes: Mapping[str, str]
    words: Mapping[str, str]


LANGUAGES: Final = (
    Language(
        name="German", characters="ISO_IR 100", exams=("LWS nativ", "LWS mit KM", "Wirbelsäule^LWS Routine"),
        planes={"sag": "sag", "ax": "tra|axial|transversal", "cor": "cor|koronar"},
        words={
            "LUMBAR": "LWS|Lendenwirbelsäule", "LOC": "Übersicht|Lokalizer|Planungsaufnahme|Localizer",
            "PD": "PD|Protonendichte", "FS": "fs|fettsättigung|fettgesättigt", "DWI": "Diffusion|DWI",
            "ADC": "ADC", "MYELO": "Myelo|Myelographie|MR-Myelographie", "MIP": "Myelo MIP",
            "GD": "KM|nach KM|+KM|mit Kontrastmittel", "MPR": "MPR|Rekonstruktion",
            "CERVICAL": "HWS|Halswirbelsäule", "SPINE": "Ganzwirbelsäule|ges. WS", "SUB": "Subtraktion|Sub",
        },
    ),
    Language(
        name="French", characters="ISO_IR 100", exams=("RACHIS LOMBAIRE", "Rachis lombo-sacré", "IRM lombaire"),
        planes={"sag": "sag|sagittal", "ax": "ax|axial", "cor": "cor|coronal"},
        words={
            "LUMBAR": "lombaire|rachis lombaire", "LOC": "Repérage|Localisateur|Centrage|Repère",
            "PD": "DP|densité de protons", "FS": "fat sat|FS|sat graisse|saturation de graisse",
            "DWI": "Diffusion", "ADC": "ADC|cartographie ADC", "MYELO": "Myélo|Myélographie|myélo-IRM",
            "MIP": "Myélo MIP", "GD": "gado|après injection|Gd|post gadolinium",
            "MPR": "MPR|reformation|reconstruction", "CERVICAL": "cervical|rachis cervical",
            "SPINE": "rachis entier", "SUB": "soustraction",
        },
    ),
    Language(
        name="Spanish", characters="ISO_IR 100", exams=("COLUMNA LUMBAR", "RM Columna lumbosacra"),
        planes={"sag": "sag|sagital", "ax": "ax|axial", "cor": "cor|coronal"},
        words={
            "LUMBAR": "lumbar|columna lumbar", "LOC": "Localizador|Localización|Planificación",
            "PD": "DP|densidad protónica|densidad de protones", "FS": "fat sat|supresión grasa|saturación grasa",
            "DWI": "Difusión", "ADC": "ADC|mapa ADC", "MYELO": "Mielografía|Mielo-RM|mielo", "MIP": "mielo MIP",
            "GD": "contraste|con contraste|gadolinio|post contraste", "MPR": "MPR|reconstrucción",
            "CERVICAL": "cervical|columna cervical", "SPINE": "columna completa|columna total", "SUB": "sustracción",
        },
    ),
    Language(
        name="Portuguese", characters="ISO_IR 100", exams=("COLUNA LOMBAR", "RM Coluna Lombossacra"),
        planes={"sag": "sag|sagital", "ax": "ax|axial|transversal", "cor": "cor|coronal"},
        words={
            "LUMBAR": "lombar|coluna lombar", "LOC": "Localizador|Localização|Planejamento",
            "PD": "DP|densidade de prótons", "FS": "SG|supressão de gordura|saturação de gordura|fat sat",
            "DWI": "Difusão", "ADC": "ADC|mapa ADC", "MYELO": "Mielografia|Mielo-RM", "MIP": "mielo MIP",
            "GD": "Gd+|pós contraste|pós Gd|com contraste", "MPR": "MPR|reconstrução",
            "CERVICAL": "cervical|coluna cervical", "SPINE": "coluna total", "SUB": "subtração",
        },
    ),
    Language(
        name="Italian", characters="ISO_IR 100", exams=("RACHIDE LOMBARE", "RM Lombosacrale", "COLONNA LOMBARE"),
        planes={"sag": "sag|sagittale", "ax": "ax|assiale", "cor": "cor|coronale"},
        words={
            "LUMBAR": "lombare|rachide lombare|lombosacrale", "LOC": "Localizzatore|Centratura|Reperaggio|loc.cor.",
            "PD": "DP|densità protonica", "FS": "fat sat|saturazione grasso|soppressione grasso",
            "DWI": "Diffusione", "ADC": "ADC|mappa ADC", "MYELO": "Mielo-RM|Mielografia", "MIP": "Mielo MIP",
            "GD": "mdc|con mdc|dopo mdc|con contrasto", "MPR": "MPR|ricostruzione",
            "CERVICAL": "cervicale|rachide cervicale", "SPINE": "rachide in toto|colonna in toto",
            "SUB": "sottrazione",
        },
    ),
    Language(
        name="Dutch", characters="ISO_IR 100", exams=("LWK", "Lumbale wervelkolom", "MRI LWK blanco"),
        planes={"sag": "sag|sagittaal", "ax": "tra|transversaal", "cor": "cor|coronaal"},
        words={
            "LUMBAR": "LWK|lumbaal|lumbale wervelkolom", "LOC": "Overzicht|Scout|Planscan|Lokalisatie",
            "PD": "PD|protondichtheid", "FS": "fs|vetsuppressie|vetonderdrukking|vetsat",
            "DWI": "Diffusie", "ADC": "ADC", "MYELO": "Myelo|Myelografie", "MIP": "Myelo MIP",
            "GD": "na contrast|gado|met contrast|na gadolinium", "MPR": "MPR|reconstructie",
            "CERVICAL": "CWK|cervicaal", "SPINE": "totale wervelkolom|hele wervelkolom", "SUB": "subtractie",
        },
    ),
    Language(
        name="Polish", characters="ISO_IR 101", exams=("Kręgosłup L-S", "MR kręgosłupa lędźwiowego"),
        planes={"sag": "sag|strzałkowa", "ax": "tra|poprzeczna", "cor": "cor|czołowa"},
        words={
            "LUMBAR": "odcinek lędźwiowy|L-S|kręgosłup lędźwiowy", "LOC": "Lokalizator|Pilot|Lokalizacja|Planowanie",
            "PD": "PD|gęstość protonowa", "FS": "fs|saturacja tłuszczu|supresja tłuszczu|fatsat",
            "DWI": "Dyfuzja|DWI", "ADC": "ADC|mapa ADC", "MYELO": "Mielografia|mielo MR", "MIP": "mielo MIP",
            "GD": "z kontrastem|po kontraście|C+|po podaniu kontrastu", "MPR": "MPR|rekonstrukcja",
            "CERVICAL": "odcinek szyjny|szyjny", "SPINE": "cały kręgosłup", "SUB": "subtrakcja",
        },
    ),
    Language(
        name="Turkish", characters="ISO_IR 148", exams=("LOMBER MR", "Lomber spinal MR", "Lumbosakral"),
        planes={"sag": "sag|sagital|sagittal", "ax": "aks|aksiyel|ax", "cor": "kor|koronal"},
        words={
            "LUMBAR": "lomber|lumbosakral", "LOC": "Lokalizer|Kılavuz|Kılavuz görüntü|Pilot",
            "PD": "PD|proton dansite|proton yoğunluklu", "FS": "fs|yağ baskılı|yağ baskılama",
            "DWI": "Difüzyon", "ADC": "ADC", "MYELO": "Myelografi|MR miyelografi|Miyelo", "MIP": "Myelo MIP",
            "GD": "kontrastlı|post kontrast|IVKM|+C", "MPR": "MPR|rekonstrüksiyon", "CERVICAL": "servikal",
            "SPINE": "tüm spinal|tüm omurga", "SUB": "subtraksiyon|çıkarma",
        },
    ),
    Language(
        name="Chinese", characters="GB18030", exams=("腰椎", "腰椎平扫", "腰椎MR增强"),
        planes={"sag": "矢状位|SAG|矢状面", "ax": "轴位|横断位|TRA", "cor": "冠状位|COR"},
        words={
            "LUMBAR": "腰椎|腰骶椎", "LOC": "定位|定位像|三平面定位", "PD": "PDWI|质子密度|质子密度加权",
            "FS": "压脂|脂肪抑制|抑脂|FS", "DWI": "弥散|DWI|扩散加权", "ADC": "ADC|ADC图",
            "MYELO": "水成像|脊髓水成像|椎管水成像|MRM", "MIP": "MIP|最大密度投影", "GD": "增强|C+|Gd增强",
            "MPR": "重建|MPR|重组", "CERVICAL": "颈椎", "SPINE": "全脊柱", "SUB": "减影",
        },
    ),
    Language(
        name="Japanese", characters=["", "ISO 2022 IR 87"], exams=("腰椎", "腰椎ルーチン", "腰椎単純"),
        planes={"sag": "矢状断|SAG|Sag", "ax": "横断|Ax|軸位断", "cor": "冠状断|Cor"},
        words={
            "LUMBAR": "腰椎", "LOC": "位置決め|位置決め画像|ロケーター|スカウト",
            "PD": "PD|プロトン密度|プロトン密度強調",
            "FS": "脂肪抑制|FS|fatsat", "DWI": "拡散強調|DWI|拡散", "ADC": "ADC|ADCマップ",
            "MYELO": "ミエロ|MRミエログラフィ|ミエログラフィー", "MIP": "MIP|最大値投影", "GD": "造影|造影後|CE|Gd造影",
            "MPR": "再構成|MPR", "CERVICAL": "頸椎|頚椎", "SPINE": "全脊椎", "SUB": "サブトラクション|差分",
        },
    ),
)  # fmt: skip

# Parts of names that are the same in all languages.
_COMMON: Final = {
    "T1": "T1|T1 TSE|T1 SE|T1 FSE", "T2": "T2|T2 TSE|T2 FSE", "STIR": "STIR|T2 STIR", "FLAIR": "FLAIR",
    "DIXON": "Dixon|mDixon", "W": "W|water", "F": "F|fat", "OP": "opp|out phase", "CT": "CT", "PHASE": "phase",
}  # fmt: skip


def local_name(language: Language, kind: str, plane: str, rng: np.random.Generator, *, plain: bool) -> str:
    """A name in a language; `plain` as exporters write it that know capitals without accents only."""
    words = [str(rng.choice((language.words | _COMMON)[part].split("|"))) for part in kind.split()]
    if plane in language.planes:
        words.insert(int(rng.integers(len(words) + 1)), str(rng.choice(language.planes[plane].split("|"))))
    if rng.random() < 0.4 and not {"CERVICAL", "SPINE"} & set(kind.split()):
        words.insert(0, str(rng.choice(language.words["LUMBAR"].split("|"))))
    name = str(rng.choice([" ", "_", " "])).join(words)
    return _capitals(name) if plain and language.name not in ("Chinese", "Japanese") else name


def _capitals(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name.translate(str.maketrans("łŁıß", "lLis")))
    return "".join(c for c in letters if not unicodedata.combining(c)).upper()
