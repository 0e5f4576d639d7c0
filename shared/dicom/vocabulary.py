"""What series descriptions say, in the words of ten languages.

Words are written in lower case without accents, because exporters strip them; scripts without spaces are matched inside
longer text. Only the words are kept of a description, never its text: it may name a patient.
"""

import re
import unicodedata
from collections.abc import Mapping
from enum import Enum, auto
from typing import Final


class Term(Enum):
    """A thing that a description can name."""

    T1 = auto()
    T2 = auto()
    STIR = auto()
    PROTON_DENSITY = auto()
    T2_STAR = auto()
    FAT_SUPPRESSED = auto()
    CONTRAST_AGENT = auto()
    LOCALIZER = auto()
    DIFFUSION = auto()
    DERIVED = auto()
    MYELOGRAPHY = auto()
    DIXON = auto()
    FAT_PART = auto()
    WATER_PART = auto()
    PHASE = auto()
    SAGITTAL = auto()
    CORONAL = auto()
    AXIAL = auto()
    LUMBAR = auto()
    OTHER_REGION = auto()


# Each line of words is one language, English first; docs/vocabulary.md tells where they come from. A word that ends in
# "*" may go on, as German and Polish words do.
_WORDS: Final[Mapping[Term, str]] = {
    Term.T1: "t1 st1w t1w t1wi t1wtse t1tse t1fse t1se t1flair",
    Term.T2: "t2 st2w t2w t2wi t2wtse t2tse t2fse t2se",
    Term.STIR: "stir tirm turbostir faststir",
    Term.PROTON_DENSITY: """
        pd pdw pdwi proton_density
        protonendichte* protonengewichtet*
        dp densite_de_proton*
        densidad_de_proton* densidad_protonica
        densidade_de_proton* densidade_protonica
        densita_protonica densita_di_protoni
        protonendichtheid protondichtheid
        gestosc_protonow* gestosci_protonow*
        proton_yogunluk* proton_dansite*
        质子密度 質子密度 質子加权 质子加权
        プロトン密度""",
    Term.T2_STAR: "t2star t2_star medic merge mffe multiecho_gre hemo",
    Term.FAT_SUPPRESSED: """
        fs fatsat fat_sat fat_satura* fat_sup* fatsup* spir spair chemsat chem_sat proset pasta msoft
        fettsat* fettgesattigt* fettunterdruck*
        graisse_saturee sat_graisse saturation_de_graisse satfat
        saturacion_grasa saturacion_de_grasa supresion_grasa supresion_de_grasa
        saturacao_de_gordura supressao_de_gordura sg
        saturazione_grasso saturazione_del_grasso soppressione_grasso soppressione_del_grasso
        vetsuppressie vetonderdrukking vetsat*
        saturacj*_tluszcz* supresj*_tluszcz*
        yag_baski*
        脂肪抑制 压脂 抑脂 脂抑""",
    Term.CONTRAST_AGENT: """
        gd gad gado* postcontrast post_contrast post with_contrast ce
        kontrastmittel km nach_km
        injection apres_injection
        contraste post_contraste
        pos_contraste pos_gd
        con_contrasto con_mdc dopo_mdc mdc
        met_contrast na_contrast
        z_kontrastem po_kontrascie po_podaniu_kontrast*
        kontrastli post_kontrast ivkm
        增强 造影""",
    Term.LOCALIZER: """
        loc localizer* localiser* locator scout aascout aahscout survey surv planscan plan_scan pilot topogram scano
        scanogram* positioning count counting 3plane 3_plane triplane
        lokalizer ubersicht* uebersicht* planungs*
        reperage localisateur localiseur centrage repere
        localizador localizacion planificacion
        localizador* localizacao planejamento
        localizzatore centratore centratura centraggio reperaggio
        overzicht* lokalisatie
        lokalizator* lokalizac* planowanie
        lokalizer* kilavuz klavuz plan_goruntu*
        定位
        位置決め 位置合わせ ロカライザ ロケーター スカウト""",
    Term.DIFFUSION: """
        dwi dti adc dadc trace tracew ep2d diffusion diff
        diffusionsgewichtet*
        difusion difusao diffusione
        diffusie dyfuzj* difuzyon*
        弥散 扩散 擴散 拡散""",
    Term.DERIVED: """
        mip mpr mprs minip subtraction sub subtracted reformat* recon_mpr curved screen_save screensave
        subtraktion rekonstruktion*
        soustraction reformation
        sustraccion reconstruccion
        subtracao reconstrucao
        sottrazione ricostruzione
        subtractie reconstructie
        subtrakcj* rekonstrukcj*
        subtraksiyon cikarma rekonstruksiyon
        减影 重建 重组 最大密度投影
        再構成 最大値投影 サブトラクション 差分""",
    Term.MYELOGRAPHY: """
        myelo myelogram* myelography mrm
        myelographie
        myelo_irm
        mielo mielografia mielorm
        mielogram*
        myelografie
        miyelo miyelografi* myelografi
        水成像 ミエロ""",
    # Water and fat separated: IDEAL and Flex are GE's, WFS is Canon's, FatSep Hitachi's, WFI United Imaging's.
    Term.DIXON: "dixon mdixon ideal idealiq flex wfs wfi fatsep",
    Term.FAT_PART: "f fat fat_only fatonly op opp opposed opp_phase opposed_phase outphase out_phase out_of_phase",
    Term.WATER_PART: "w water water_only",
    Term.PHASE: "phase phase_map",
    Term.SAGITTAL: "sag sagittal* sagital* sagittaal* sajital* strzalkow* 矢状",
    Term.CORONAL: "cor coronal* koronal* coronaal* frontal* czolow* 冠状 前額",
    Term.AXIAL: """
        ax axi axial* tra transvers* transversal*
        assial* trasvers* axiaal* aksiyel* aksial* poprzeczn*
        横断 橫斷 轴位 軸位 水平断""",
    Term.LUMBAR: """
        lumbar lspine l_spine lumbosacral ls_spine lsspine tlspine lumb lsp l_s
        lws lendenwirbel* lumbal*
        lombaire* rachis_lombaire lombosacr* lombo_sacr*
        lumbar columna_lumbar lumbosacr*
        lombar coluna_lombar lombossacr*
        lombare rachide_lombare lombosacrale
        lendenwervel* lwk lumbale lumbaal
        ledzwiow* lumbaln*
        lomber lumbosakral
        腰椎 腰骶""",
    Term.OTHER_REGION: """
        cervical cerv cspine c_spine c_sp thoracic thor tspine t_spine brain head knee hip shoulder pelvis abdomen
        sacroiliac ankle wrist ctspine c1_c7 c1_c8 c2_c7
        hws halswirbel* bws brustwirbel* zervikal* thorakal* schadel kopf knie becken
        cervicale* dorsal dorsale* thoracique cerveau genou bassin
        cervical* columna_dorsal dorsal cerebro rodilla
        coluna_cervical coluna_dorsal joelho cranio
        cervicale rachide_dorsale encefalo ginocchio bacino
        cervicaal* thoracaal* cwk hersenen bekken
        szyjn* piersiow* mozg* kolan*
        servikal torakal boyun beyin diz
        颈椎 頸椎 胸椎 头颅 膝关节
        頚椎 脳 膝""",
}  # fmt: skip
# "Without contrast" in the languages above, and the vendors' sign for "with contrast".
_WITHOUT: Final = re.compile(
    r"\b(?:ohne|sans|sin|sem|senza|zonder|bez|without|w o|wo|non|no) "
    r"(?:km|kontrast\w*|contrast\w*|mdc|gd|gado\w*|injection)\b"
)
_OF_DIXON: Final = re.compile(r"\b(?:in|out|out of|opp|opposed) ?phase\b")
_PLUS_CONTRAST: Final = re.compile(r"(?<![a-z0-9])(?:\+ ?c|c ?\+)(?![a-z0-9])")


def _pattern(words: str) -> re.Pattern[str]:
    """Matches any of the words in plain text, whole unless they end in `*`."""
    parts = []
    for word in dict.fromkeys(_plain(words).split()):
        text = re.escape(word.rstrip("*")).replace("_", " ?").replace(r"\*", "[a-z]*")
        if not word.isascii():
            parts.append(text)
        elif word.endswith("*"):
            parts.append(rf"(?<![a-z0-9]){text}")
        else:  # a number may follow a word (loc2) but not a word that ends in one (t1 is not t12)
            parts.append(rf"(?<![a-z0-9]){text}(?![a-z{'0-9' if word[-1].isdigit() else ''}])")
    return re.compile("|".join(parts))


def _plain(text: str) -> str:
    """Lower case, without accents, other signs than letters and digits replaced by single spaces."""
    decomposed = unicodedata.normalize("NFKD", text.replace("ß", "ss").replace("ł", "l").replace("Ł", "L").lower())
    kept = "".join(c for c in decomposed if not unicodedata.combining(c)).replace("ı", "i")
    return unicodedata.normalize("NFKC", kept)


_PATTERNS: Final = {term: _pattern(words) for term, words in _WORDS.items()}


def terms_in(description: str) -> frozenset[Term]:
    """The things that a description names; empty for none that is known."""
    text = re.sub(r"[^\w]+|_", " ", _PLUS_CONTRAST.sub(" postcontrast ", _plain(description)))
    text = _WITHOUT.sub(" ", text)
    named = {term for term, pattern in _PATTERNS.items() if pattern.search(text)}
    # "Fat" is part of "fat sat", and "phase" of "out of phase".
    if Term.FAT_PART in named and not _PATTERNS[Term.FAT_PART].search(_PATTERNS[Term.FAT_SUPPRESSED].sub(" ", text)):
        named.discard(Term.FAT_PART)
    if Term.PHASE in named and not _PATTERNS[Term.PHASE].search(_OF_DIXON.sub(" ", text)):
        named.discard(Term.PHASE)
    return frozenset(named)
