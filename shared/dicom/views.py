"""Which view a series is, decided from how it was acquired first and from the words of its description second.

Every rule that takes part in a decision leaves a reason in words, so that `lumbar` can say why a series is used or not.
Times are in ms. The limits on them are those of spin-echo spine protocols at 1.5 and 3 T.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, Literal, Self

from shared.dicom.vocabulary import Term
from shared.geometry import PLANE_NAMES
from shared.labels import View
from shared.runtime.problems import counted

# A localizer has a handful of slices; the shortest diagnostic series of the challenge has five.
MIN_SLICES: Final = 5
# A lumbar series is planned on some 280 mm; larger fields are localizers or whole spines.
USUAL_FIELD_MM: Final = 400.0
# Spin echo: T1 has a short echo and a short repetition, T2 a long echo, proton density a short echo and a long
# repetition. An inversion that nulls fat (STIR) makes fluid bright whatever the echo; one that nulls fluid (T1 FLAIR)
# shows T1.
T1_MAX_ECHO: Final = 40.0
T2_MIN_ECHO: Final = 60.0
T1_MAX_REPETITION: Final = 1200.0
LONG_REPETITION: Final = 1500.0
STIR_INVERSION: Final = (80.0, 300.0)
FLAIR_INVERSION: Final = (400.0, 1300.0)
# A myelogram's echo, after which only fluid is left; diagnostic T2 series stay below 300 ms.
MYELOGRAM_ECHO: Final = 400.0
# Gradient echoes this fast are localizers or dynamic series; diagnostic ones of the spine repeat ten times as slowly.
FAST_REPETITION: Final = 50.0
# Times outside of these were never measured: placeholders, or times in seconds or microseconds.
_ECHO_MS: Final = (0.5, 2000.0)
_REPETITION_MS: Final = (1.0, 60000.0)
# Part of the slices that must face one axis: a localizer shows three planes, a radial myelogram many.
FACING: Final = 0.8
# A series with this much doubt is used only when there is none better of its view.
DOUBTFUL: Final = 2.0
# MR, Enhanced MR and Legacy Converted Enhanced MR images.
_MR_CLASSES: Final = frozenset(f"1.2.840.10008.5.1.4.1.1.{n}" for n in ("4", "4.1", "4.4"))
# Stands among the values of ImageType for several samples per pixel.
COLOURED: Final = "IN COLOUR"
# Values of ImageType (PS3.3 C.8.3.1.1.1, C.8.13.3 and vendors' own) of pictures that were computed or show no anatomy.
_COMPUTED: Final = {
    "ADC": "a diffusion map", "TRACEW": "a diffusion image", "DIFFUSION": "a diffusion image",
    "MPR": "a reformation", "REFORMATTED": "a reformation", "PROJECTION IMAGE": "a projection", "MIP": "a projection",
    "SUBTRACT": "a subtraction", "SUBTRACTION": "a subtraction", "SUB": "a subtraction", "PHASE MAP": "a phase image",
    "P": "a phase image", "PHASE": "a phase image", "R": "a real-part image", "I": "an imaginary-part image",
    "LOCALIZER": "a localizer", COLOURED: "a picture in colour",
    "REFERENCE": "a reference image", "SCREEN SAVE": "a screen shot",
    "F": "the fat part of a Dixon series", "FAT": "the fat part of a Dixon series",
    "OPP_PHASE": "the opposed-phase part of a Dixon series", "OP": "the opposed-phase part of a Dixon series",
    "OUT_OF_PHASE": "the opposed-phase part of a Dixon series", "FAT_FRACTION": "a map of fat fractions",
    "WATER_FRACTION": "a map of water fractions", "FIELD_MAP": "a field map", "T1_MAP": "a map of T1",
    "T2_MAP": "a map of T2", "T2_STAR_MAP": "a map of T2*", "MAX_IP": "a projection", "MIN_IP": "a projection",
    "DIFFUSION_ANISO": "a diffusion map", "DIFFUSION_ATTNTD": "a diffusion map", "VELOCITY": "a velocity map",
    "VELOCITY MAP": "a velocity map", "OUT_PHASE": "the opposed-phase part of a Dixon series",
    **{f"{name} MAP": f"a map of {name}" for name in ("T1", "T2", "R1", "R2", "B0", "B1")},
}  # fmt: skip
_DIFFUSION: Final = frozenset({"a diffusion map", "a diffusion image"})
# Values that tell the pictures of one acquisition apart, all of which may be used.
_WATER: Final = frozenset({"W", "WATER"})
_PARTS: Final = _WATER | {"IN_PHASE", "IP"}

# The only words of ImageType and ScanningSequence that are kept of a header.
IMAGE_TYPES: Final = frozenset(_COMPUTED) | _PARTS | {"ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY"}
SEQUENCES: Final = frozenset({"SE", "IR", "GR", "EP", "RM"})

_PLANES: Final = dict(zip((Term.SAGITTAL, Term.CORONAL, Term.AXIAL), PLANE_NAMES, strict=True))

Weighting = Literal["T1", "T2", "proton density", "T2*"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquisition:
    """How one slice was made; empty or None where its header does not say. Times in ms, angles in degrees.

    Attributes:
      sequence: values of ScanningSequence: SE, IR, GR, EP, RM.
      terms: what the series' own description names, and what ScanOptions and ContrastBolusAgent tell.
      protocol_terms: what the name of the exam's protocol and the body part name.
    """

    modality: str = ""
    sop_class: str = ""
    image_type: tuple[str, ...] = ()
    sequence: frozenset[str] = frozenset()
    repetition_ms: float | None = None
    echo_ms: float | None = None
    inversion_ms: float | None = None
    flip_deg: float | None = None
    terms: frozenset[Term] = frozenset()
    protocol_terms: frozenset[Term] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values; `from_json` reads them back equal."""
        return {
            "modality": self.modality,
            "sop_class": self.sop_class,
            "image_type": list(self.image_type),
            "sequence": sorted(self.sequence),
            "times": [self.repetition_ms, self.echo_ms, self.inversion_ms, self.flip_deg],
            "terms": sorted(t.name for t in self.terms),
            "protocol_terms": sorted(t.name for t in self.protocol_terms),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `KeyError`, `TypeError` or `ValueError` for anything that `to_json` did not write."""
        repetition, echo, inversion, flip = (None if v is None else float(v) for v in value["times"])
        return cls(
            modality=str(value["modality"]), sop_class=str(value["sop_class"]),
            image_type=tuple(map(str, value["image_type"])), sequence=frozenset(map(str, value["sequence"])),
            repetition_ms=repetition, echo_ms=echo, inversion_ms=inversion, flip_deg=flip,
            terms=frozenset(Term[t] for t in value["terms"]),
            protocol_terms=frozenset(Term[t] for t in value["protocol_terms"]),
        )  # fmt: skip


NOT_DESCRIBED: Final = Acquisition()


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFacts:
    """What decides on a series.

    Attributes:
      acquisitions: one per slice.
      axis: patient axis that most slices face: 0 sagittal, 1 coronal, 2 axial.
      field_mm: larger side of the field of view.
      facing: share of the slices that face `axis`.
      positions: how many places in the patient the slices show; None where that was not looked at.
    """

    acquisitions: Sequence[Acquisition]
    axis: int
    field_mm: float
    facing: float = 1.0
    positions: int | None = None

    @property
    def usual(self) -> Acquisition:
        """That of most slices, so that one odd slice decides nothing."""
        return Counter(self.acquisitions).most_common(1)[0][0]

    @property
    def times_ms(self) -> tuple[float | None, float | None]:
        """Repetition and echo time, None where absent; neither is believed where one is impossible."""
        repetition, echo = self.number(lambda a: a.repetition_ms), self.number(lambda a: a.echo_ms)
        believed = _within(repetition, _REPETITION_MS) and _within(echo, _ECHO_MS)
        if repetition is not None and echo is not None and repetition < echo:
            believed = False
        return (repetition, echo) if believed else (None, None)

    def number(self, of: Callable[[Acquisition], float | None]) -> float | None:
        """The median over the slices that have the value."""
        values = [v for v in map(of, self.acquisitions) if v is not None]
        return median(values) if values else None


def _within(value: float | None, limits: tuple[float, float]) -> bool:
    return value is None or limits[0] <= value <= limits[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a series is, and why.

    Attributes:
      view: None when it is none of the three.
      score: how well the evidence agrees, higher is better.
      doubt: what speaks against using the series, 0 for nothing; from `DOUBTFUL` on a better one takes its place.
      reasons: one per rule that took part, the doubts among them.
      doubts: what `doubt` adds up, in words.
    """

    view: View | None
    score: float
    doubt: float = 0.0
    reasons: tuple[str, ...]
    doubts: tuple[str, ...] = ()


def judge(facts: SeriesFacts) -> Verdict:
    """The view of a series, with reasons."""
    excluded = _exclusion(facts)
    if excluded:
        return Verdict(view=None, score=0.0, reasons=(excluded,))
    weighting, score, reasons = _weighting(facts)
    plane = PLANE_NAMES[facts.axis]
    view = {
        (0, "T1"): View.SAGITTAL_T1, (0, "T2"): View.SAGITTAL_T2, (2, "T2"): View.AXIAL_T2, (2, "T2*"): View.AXIAL_T2,
    }.get((facts.axis, weighting or ""))  # fmt: skip
    kind = weighting or "of unknown contrast (neither description nor echo time tell T1, T2 or STIR)"
    reasons = (f"it is {plane} and {kind}", *reasons)
    if view is None:
        return Verdict(view=None, score=0.0, reasons=reasons)
    doubt, why = _doubts(facts, weighting)
    return Verdict(view=view, score=score - doubt, doubt=doubt, reasons=(*reasons, *why), doubts=why)


def _exclusion(facts: SeriesFacts) -> str:
    """Why a series cannot be one of the views at all; empty when it may be."""
    first = facts.usual
    if shows_diffusion(facts.acquisitions):
        return "it is a diffusion image, as ImageType says"
    other = other_picture(first)
    if other:
        return other
    named = {
        Term.LOCALIZER: "a localizer", Term.DIFFUSION: "a diffusion series", Term.DERIVED: "computed from other series",
        Term.MYELOGRAPHY: "a myelogram",
    }  # fmt: skip
    for term, what in named.items():
        if term in first.terms:
            return f"its description names it {what}"
    if {Term.DIXON, Term.FAT_PART} <= first.terms:
        return "its description names it the fat or opposed-phase part of a Dixon series"
    if "EP" in first.sequence:
        return "it is echo planar, as diffusion is"
    _, echo_ms = facts.times_ms
    if echo_ms is not None and echo_ms >= MYELOGRAM_ECHO:
        return f"its TE of {echo_ms:.0f} ms leaves fluid alone, as in a myelogram"
    if len(facts.acquisitions) < MIN_SLICES:
        return f"it has {counted(len(facts.acquisitions), 'slice')}; expected at least {MIN_SLICES}"
    if facts.positions == 1:
        return (
            f"all its {counted(len(facts.acquisitions), 'slice')} lie at one position; a volume has one "
            f"position per slice"
        )
    if facts.facing < FACING:
        return "its slices face several planes, as those of a localizer do"
    return "it is coronal" if facts.axis == 1 else ""


def other_picture(acquisition: Acquisition) -> str:
    """Why a slice is no MR picture of anatomy, by its tags alone; empty when it is one."""
    if acquisition.modality not in ("", "MR"):
        return f"its modality is {acquisition.modality}, not MR"
    if acquisition.sop_class and acquisition.sop_class not in _MR_CLASSES:
        return "its SOP class is not that of an MR image"
    for word in acquisition.image_type:
        if word in _COMPUTED:
            return f"it is {_COMPUTED[word]}, as {'SamplesPerPixel' if word == COLOURED else 'ImageType'} says"
    return ""


def shows_diffusion(acquisitions: Sequence[Acquisition]) -> bool:
    """Whether a series is one of diffusion: beside weighted slices, those without weight are no T2 images either."""
    return sum(any(_COMPUTED.get(word) in _DIFFUSION for word in a.image_type) for a in acquisitions) >= MIN_SLICES


def _weighting(facts: SeriesFacts) -> tuple[Weighting | None, float, tuple[str, ...]]:
    """Contrast, how sure it is, and why."""
    measured, why = _measured_weighting(facts)
    named, where = _named_weighting(facts.usual)
    if measured is None and named is None:
        return None, 0.0, ((why,) if why else ())
    if measured is None:
        return named, 2.0, (f"its {where} says {named}" + (f", since {why} decides nothing" if why else ""),)
    if named is None:
        return measured, 2.0, (why,)
    if named == measured or {named, measured} == {"T2", "T2*"}:
        return (measured if measured == "T2*" else named), 3.0, (f"its {where} and {why} agree",)
    return measured, 1.0, (f"its {where} says {named}, but {why} says {measured}",)


def _measured_weighting(facts: SeriesFacts) -> tuple[Weighting | None, str]:
    """Contrast from times and sequence, where they decide; and the times in words."""
    tr, te = facts.times_ms
    ti = facts.number(lambda a: a.inversion_ms)
    if te is None:
        written = facts.number(lambda a: a.echo_ms)
        return None, "" if written is None else f"an impossible echo or repetition time (TE {written:g} ms)"
    told = f"TE {te:.0f} ms" + ("" if tr is None else f", TR {tr:.0f} ms") + (f", TI {ti:.0f} ms" if ti else "")
    sequence = facts.usual.sequence
    if "GR" in sequence and "SE" not in sequence:
        return ("T2*" if te >= 12 else "T1" if te <= 10 else None), f"a gradient echo with {told}"
    if ti and STIR_INVERSION[0] <= ti <= STIR_INVERSION[1]:
        return "T2", f"{told} (STIR)"
    if ti and FLAIR_INVERSION[0] <= ti <= FLAIR_INVERSION[1] and te < T2_MIN_ECHO:
        return "T1", f"{told} (T1 FLAIR)"
    if te >= T2_MIN_ECHO:
        return "T2", told
    if "IR" in sequence and not ti and (tr is None or tr > T1_MAX_REPETITION):
        return None, f"{told}, an inversion recovery without its TI"  # STIR or T1 FLAIR
    if tr is None:
        return ("T1" if te <= T1_MAX_ECHO else "proton density"), told
    if tr <= T1_MAX_REPETITION:
        return "T1", told
    return ("proton density" if tr >= LONG_REPETITION else None), told


def _named_weighting(acquisition: Acquisition) -> tuple[Weighting | None, str]:
    """Contrast that the description names, or else the protocol, when it names exactly one."""
    for terms, where in ((acquisition.terms, "description"), (acquisition.protocol_terms, "protocol")):
        named: list[Weighting] = []
        if terms & {Term.T2, Term.STIR}:
            named.append("T2")
        if Term.T1 in terms:
            named.append("T1")
        if Term.PROTON_DENSITY in terms:
            named.append("proton density")
        if Term.T2_STAR in terms and not named:
            named.append("T2*")
        if len(named) == 1:
            return named[0], where
        if named:
            return None, where
    return None, ""


def names_other_region(facts: SeriesFacts) -> bool:
    """Whether description, protocol or body part name another region, and none of them the lumbar spine."""
    terms = facts.usual.terms | facts.usual.protocol_terms
    return Term.OTHER_REGION in terms and Term.LUMBAR not in terms


def named_plane(facts: SeriesFacts) -> str:
    """The one plane that the description names; empty for none or several."""
    named = [name for term, name in _PLANES.items() if term in facts.usual.terms]
    return named[0] if len(named) == 1 else ""


def _doubts(facts: SeriesFacts, weighting: Weighting | None) -> tuple[float, tuple[str, ...]]:
    """What speaks against a series that may still be the best there is."""
    first = facts.usual
    doubts: list[tuple[float, str]] = []
    if facts.field_mm > USUAL_FIELD_MM:
        doubts.append((2.0, f"its field of {facts.field_mm:.0f} mm is that of a localizer or a whole spine"))
    if Term.OTHER_REGION in first.terms and Term.LUMBAR not in first.terms:
        doubts.append((2.0, "its description names another region"))
    elif Term.OTHER_REGION in first.protocol_terms and Term.LUMBAR not in first.terms | first.protocol_terms:
        doubts.append((1.0, "the exam's protocol or body part names another region"))
    if weighting == "T2*":
        doubts.append((1.0, "it is a gradient echo"))
    repetition_ms, _ = facts.times_ms
    if "GR" in first.sequence and repetition_ms is not None and repetition_ms < FAST_REPETITION:
        doubts.append((2.0, f"it is a gradient echo with a TR of {repetition_ms:.0f} ms, as of a localizer"))
    plane = named_plane(facts)
    if plane and plane != PLANE_NAMES[facts.axis]:
        doubts.append((2.0, f"its description says {plane}, but ImageOrientationPatient {PLANE_NAMES[facts.axis]}"))
    if {"DERIVED", "SECONDARY"} <= set(first.image_type):
        doubts.append((2.0, "ImageType says that it was derived from other pictures"))
    if Term.PHASE in first.terms:
        doubts.append((2.0, "its description names the phase"))
    if Term.CONTRAST_AGENT in first.terms:
        doubts.append((0.5, "it was acquired after contrast agent"))
    if weighting == "T1" and _fat_suppressed(first):
        # Foramina are graded by the fat around the nerve.
        doubts.append((2.0, "its fat is suppressed"))
    return sum(p for p, _ in doubts), tuple(text for _, text in doubts)


def _fat_suppressed(acquisition: Acquisition) -> bool:
    water = {Term.DIXON, Term.WATER_PART} <= acquisition.terms or not _WATER.isdisjoint(acquisition.image_type)
    return water or Term.FAT_SUPPRESSED in acquisition.terms
