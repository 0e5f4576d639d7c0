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
    LUMBAR = auto()
    OTHER_REGION = auto()


# Each line of words is one language, English first. A word ending in "*" may go on, as German and Polish words do.
_WORDS: Final[Mapping[Term, str]] = {
    Term.T1: "t1 st1w t1w t1wi t1wtse t1tse t1fse t1se t1flair",
    Term.T2: "t2 st2w t2w t2wi t2wtse t2tse t2fse t2se",
    Term.STIR: "stir tirm turbostir",
    Term.PROTON_DENSITY: """
        pd pdw pdwi proton_density
        protonendichte* protonengewichtet*
        dp densite_de_proton*
        densidad_de_proton* densidad_protonica
        densidade_de_proton* densidade_protonica
        densita_protonica densita_di_protoni
        protonendichtheid
        gestosc_protonow* gestosci_protonow*
        proton_yogunluk* proton_dansite*
        质子密度 質子密度 質子加权 质子加权
        プロトン密度""",
    Term.T2_STAR: "t2star t2_star medic merge mffe multiecho_gre hemo",
    Term.FAT_SUPPRESSED: """
        fs fatsat fat_sat fat_sup* spir spair ideal dixon
        fettsat* fettgesattigt* fettunterdruck*
        graisse_saturee sat_graisse satfat
        saturacion_grasa supresion_grasa
        saturacao_de_gordura supressao_de_gordura
        saturazione_del_grasso soppressione_del_grasso
        vetsuppressie vetonderdrukking
        saturacj*_tluszcz* supresj*_tluszcz*
        yag_baskil*
        脂肪抑制 压脂 抑脂 脂抑""",
    Term.CONTRAST_AGENT: """
        gd gad gado gadolinium postcontrast post_contrast ce
        kontrastmittel km nach_km
        gadolinium_iv injection_gado
        contraste con_contraste
        con_mdc mdc
        met_contrast
        z_kontrastem po_kontrascie
        kontrastli
        增强 造影""",
    Term.LOCALIZER: """
        loc localizer* localiser* scout survey surv planscan plan_scan pilot topogram 3plane 3_plane triplane
        lokalizer ubersicht* uebersicht* planungs*
        reperage localisateur localiseur centrage
        localizador localizacion
        localizador* localizacao
        localizzatore centratore centraggio scout_view
        overzicht*
        lokalizator* lokalizac*
        lokalizer* kilavuz klavuz plan_goruntu*
        定位 定位像 扫描定位
        位置決め 位置合わせ ロカライザ*""",
    Term.DIFFUSION: """
        dwi dti adc trace tracew ep2d diffusion diff
        diffusionsgewichtet*
        difusion difusao diffusione
        diffusie dyfuzj* difuzyon difuzyon* difüzyon
        弥散 扩散 擴散 拡散""",
    Term.DERIVED: """
        mip mpr mprs minip subtraction sub subtracted reformat* reformatted recon_mpr curved screen_save screensave
        subtraktion rekonstruktion*
        soustraction reformation
        sustraccion reconstruccion
        subtracao reconstrucao
        sottrazione ricostruzione
        subtractie
        subtrakcj* rekonstrukcj*
        cikarma reformat
        减影 重建 再構成""",
    Term.MYELOGRAPHY: """
        myelo myelogram myelography mrm
        myelographie
        mielo mielografia mielorm
        mielogram
        myelografie
        脊髓水成像 ミエロ""",
    Term.LUMBAR: """
        lumbar lspine l_spine lumbosacral ls_spine lumb lsp
        lws lendenwirbel* lumbal*
        lombaire* rachis_lombaire lombosacre
        lumbar columna_lumbar lumbosacra
        lombar coluna_lombar lombossacra
        lombare rachide_lombare lombosacrale
        lendenwervel* lwk lumbale
        ledzwiow* lumbaln*
        lomber lumbosakral
        腰椎 腰骶""",
    Term.OTHER_REGION: """
        cervical cspine c_spine thoracic tspine t_spine brain head knee hip shoulder pelvis abdomen sacroiliac
        ankle wrist
        hws halswirbel* bws brustwirbel* zervikal* thorakal* schadel kopf knie becken
        cervicale* dorsal dorsale* thoracique cerveau genou bassin
        cervical* columna_dorsal dorsal cerebro rodilla
        coluna_cervical coluna_dorsal joelho cranio
        cervicale rachide_dorsale encefalo ginocchio bacino
        cervicaal* thoracaal* hersenen bekken
        szyjn* piersiow* mozg* kolan*
        servikal torakal boyun beyin diz
        颈椎 頸椎 胸椎 头颅 膝关节
        頚椎 脳 膝""",
}  # fmt: skip


def _pattern(words: str) -> re.Pattern[str]:
    """Matches any of the words in plain text, whole unless they end in `*`."""
    parts = []
    for word in dict.fromkeys(_plain(words).split()):
        text = re.escape(word.rstrip("*")).replace("_", " ?")
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
    text = re.sub(r"[^\w]+|_", " ", _plain(description))
    return frozenset(term for term, pattern in _PATTERNS.items() if pattern.search(text))
