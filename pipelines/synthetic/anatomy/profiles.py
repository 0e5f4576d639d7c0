"""Profiles along the spine: where discs, canal, sac, flavum, recesses and foramina lie, and how narrow they are.

This is where severity becomes shape, following published grading criteria. Canal: CSF in front of the cauda equina
effaced, then roots crowded (Lee et al., Skeletal Radiol 2011). Foraminal: fat around the root lost in part, all around,
root deformed (Lee et al., AJR 2010). Subarticular: recess narrowed, root deviated, root compressed (Bartynski & Lin,
AJNR 2003). Disc degeneration: signal and height lost (Pfirrmann et al., Spine 2001).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.synthetic.anatomy.spine import FIRST_DISC, S1, VERTEBRAE, Float32Array, Spine
from shared.labels import FINDINGS, Condition, Level, Side

FloatArray = NDArray[np.float64]
Profiles = Mapping[str, Float32Array]

SIDES: Final = (Side.LEFT, Side.RIGHT)
# Latent scale over which the anatomy goes from wide to closed, centred between the two thresholds. A part of the
# change is spread over the whole population, so that wide and very wide differ too.
_SPREAD: Final = {Condition.CANAL: 1.2, Condition.FORAMINAL: 0.70, Condition.SUBARTICULAR: 0.75}
_SLOW_SHARE: Final = 0.4
_SLOW: Final = 2.6
_SAC_OPEN_MM: Final = 13.2
_SAC_CLOSED_MM: Final = 2.6
# Centres of foramen and recess behind the curve, and beside the pedicle's inner edge and the sac.
FORAMEN_BACK_MM: Final = 4.2
FORAMEN_RISE_MM: Final = 5.0
# From the pedicle's inner edge to the slice that shows the foramen best.
FORAMEN_SIDE_MM: Final = 4.8
RECESS_BACK_MM: Final = 4.6
RECESS_SIDE_MM: Final = 1.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """What shapes the soft parts of one patient.

    Attributes:
      latent: stenosis of the 25 findings on the absolute scale.
      age: 0 young to 1 old.
      disc_health: Pfirrmann-like health of each disc, 1 bright to 0 black.
      conus_s: where the cord ends, mm along the spine.
      canal_size: factor on the canal's diameter.
      modic: marrow change beside each disc: > 0 fatty, < 0 oedema or sclerosis.
      sac_end_s: where the thecal sac ends, mm along the spine.
      sac_taper_mm: over which length it narrows to its end.
      epidural: factor on the fat in front of the sacral sac.
      waist: how much narrower a body is at its middle than at its endplates.
      concavity_mm: how far the endplates of each disc are hollowed.
      front_bulge_mm: how far each disc stands in front of its endplates.
      spur_mm: length of the osteophytes at the front rims of each disc.
      node_mm: depth of a Schmorl's node beside each disc, > 0 into the vertebra below, < 0 above.
      node_v_mm: where it lies behind the middle of the body.
      marrow: factor on each vertebra's marrow signal.
      spinous: factor on the height of each vertebra's spinous process.
      spinous_aside_mm: how far left of the midline its tip lies.
      crest_mm: height of the median crest over the laminae of the first sacral segment.
      lamina_mm: half the thickness of the laminae, left and right.
      facet_size: factor on the facet joints beside each disc.
      facet_deg: angle of these joints to the frontal plane.
      facet_fluid: how much of what lies in them is fluid, 0..1.
    """

    latent: FloatArray  # [25]
    age: float
    disc_health: FloatArray  # [17]
    conus_s: float
    canal_size: float
    modic: FloatArray  # [17]
    sac_end_s: float
    sac_taper_mm: float
    epidural: float
    waist: float
    concavity_mm: FloatArray  # [17]
    front_bulge_mm: FloatArray  # [17]
    spur_mm: FloatArray  # [17]
    node_mm: FloatArray  # [17]
    node_v_mm: FloatArray  # [17]
    marrow: FloatArray  # [18]
    spinous: FloatArray  # [18]
    spinous_aside_mm: FloatArray  # [18]
    crest_mm: float
    lamina_mm: FloatArray  # [2]
    facet_size: FloatArray  # [2, 17]
    facet_deg: FloatArray  # [2, 17]
    facet_fluid: FloatArray  # [2, 17]


def narrowing(latent: FloatArray | float, condition: Condition) -> FloatArray:
    """Visible narrowing, 0 wide to 1 closed; strictly rising in the latent and .5 between the two thresholds."""
    x = (np.asarray(latent) - 1.5) / _SPREAD[condition]
    return np.asarray((1 - _SLOW_SHARE) / (1 + np.exp(-x)) + _SLOW_SHARE / (1 + np.exp(-x / _SLOW)))


def _by_level(patient: Patient, condition: Condition, side: Side | None) -> FloatArray:  # [5]
    """Narrowing of one column of findings."""
    latent = [patient.latent[f.index] for f in FINDINGS if f.condition is condition and f.side is side]
    return narrowing(np.array(latent), condition)


def _bumps(
    spine: Spine, amounts: FloatArray, *, half_mm: float, shift_mm: float = 0.0, rest: float = 0.0
) -> FloatArray:  # [S]
    """Sum over the five levels of amount * flat-topped bump at the disc; `rest` elsewhere."""
    out = np.full_like(spine.s, rest)
    for level, amount in zip(Level, amounts, strict=True):
        t = (spine.s - spine.segments.level_s(level) - shift_mm) / (half_mm * spine.shape.scale)
        out += (amount - rest) * np.exp(-(t**4) * 0.7)
    return out


def by_vertebra(spine: Spine, nodes: dict[str, float]) -> FloatArray:  # [S]
    """Values given at named vertebrae, linear in between."""
    at = [float(spine.segments.vertebra_s[VERTEBRAE.index(name)]) for name in nodes]
    return np.interp(spine.s, at, list(nodes.values()))


def _disc_offsets(spine: Spine) -> tuple[NDArray[np.intp], FloatArray, FloatArray]:  # [S]
    """Nearest disc, signed mm below its centre, signed mm below the nearest vertebra's centre."""
    seg = spine.segments
    disc = np.searchsorted(seg.vertebra_s[1:-1], spine.s)
    vertebra = np.searchsorted(seg.disc_s, spine.s)
    return disc, spine.s - seg.disc_s[disc], spine.s - seg.vertebra_s[vertebra]


def build_profiles(spine: Spine, patient: Patient) -> Profiles:
    """All profiles of one patient by name, in mm where they are lengths.

    Each is a function of the arc position, sampled at `Spine.s`: (S,), or (2, S) with left first and right second.
    """
    curves = {**_bodies(spine, patient), **_arches(spine, patient), **_canal(spine, patient)}
    return {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in curves.items()}


def _bodies(spine: Spine, patient: Patient) -> dict[str, FloatArray]:  # [S]
    """Vertebral bodies and discs."""
    seg = spine.segments
    disc, to_disc, to_vertebra = _disc_offsets(spine)
    edge = np.abs(to_disc) - seg.disc_half[disc]
    # Bodies are narrower than their endplates; worn discs grow osteophytes.
    body = np.clip(edge / np.interp(spine.s, seg.vertebra_s, seg.vertebra_half), 0, 1)
    spur = np.exp(-np.clip(edge, 0, None) / 3) * (1 - patient.disc_health[disc]) * patient.age
    waist = 1 - patient.waist * np.sin(np.pi / 2 * body) + 0.05 * spur
    return {
        "to_disc": to_disc,
        "to_vertebra": to_vertebra,
        "edge": edge,
        "half_width": np.interp(spine.s, seg.disc_s, seg.width) / 2 * waist,
        "depth": np.interp(spine.s, seg.disc_s, seg.depth) * (0.5 + 0.5 * waist),
        "health": patient.disc_health[disc],
        "modic": patient.modic[disc],
        "concavity": patient.concavity_mm[disc],
        "front_bulge": patient.front_bulge_mm[disc],
        "spur": patient.spur_mm[disc] * np.exp(-np.clip(edge, 0, None) / 2.5),
        "node": np.clip(patient.node_mm[disc] * np.sign(to_disc), 0, None),
        "node_v": patient.node_v_mm[disc] - np.interp(spine.s, seg.disc_s, seg.depth) / 2,
        "marrow": patient.marrow[np.searchsorted(seg.disc_s, spine.s)],
        "foramen_height": seg.disc_half[disc],
        "sacral": 1 / (1 + np.exp(-(spine.s - seg.disc_s[S1 - 1] - 3.0) / 1.5)),
        "thoracic": 1 / (1 + np.exp((spine.s - seg.disc_s[FIRST_DISC - 1]) / 6.0)),
    }


def _arches(spine: Spine, patient: Patient) -> dict[str, FloatArray]:  # [S] or [2, S]
    """Vertebral arches and the back of the sacrum."""
    seg, k = spine.segments, spine.shape.scale
    disc = _disc_offsets(spine)[0]
    # Arches hang below their bodies: a vertebra's own begins some way below the disc above it.
    arch = np.searchsorted(seg.disc_s + 10.0 * k, spine.s)
    facet_rad = np.radians(patient.facet_deg[:, disc])
    return {
        "to_arch": spine.s - seg.vertebra_s[arch],
        "spinous": patient.spinous[arch],
        "spinous_aside": patient.spinous_aside_mm[arch],
        "crest": k * by_vertebra(spine, {"S1": patient.crest_mm, "S2": 0.7 * patient.crest_mm, "S4": 2.0}),
        "lamina": np.repeat(patient.lamina_mm[:, None], len(spine.s), axis=1),
        "facet_size": patient.facet_size[:, disc],
        "facet_cos": np.cos(facet_rad),
        "facet_sin": np.sin(facet_rad),
        "facet_fluid": patient.facet_fluid[:, disc],
        # The last free arch and its joints reach below the last disc.
        "sacral_arch": 1 / (1 + np.exp(-(spine.s - seg.disc_s[S1 - 1] - 8.0 * k) / 1.5)),
    }


def _canal(spine: Spine, patient: Patient) -> dict[str, FloatArray]:  # [S] or [2, S]
    """Canal, recesses and foramina, and what narrows them."""
    disc = _disc_offsets(spine)[0]
    canal = _by_level(patient, Condition.CANAL, None)
    recess = np.stack([_by_level(patient, Condition.SUBARTICULAR, side) for side in SIDES])
    foramen = np.stack([_by_level(patient, Condition.FORAMINAL, side) for side in SIDES])
    crowding = _bumps(spine, canal, half_mm=7.5)
    flavum = 3.0 + 2.0 * canal + 1.3 * recess.mean(axis=0)
    width = by_vertebra(spine, {"T10": 9.0, "L1": 11.0, "L5": 13.5, "S1": 14.0, "S4": 5.0})
    return {
        **_sac(spine, patient, crowding),
        "bulge_recess": np.stack([_bumps(spine, 4.2 * g, half_mm=5.5) for g in recess]),
        "bulge_foramen": np.stack([_bumps(spine, 3.6 * g, half_mm=5.0) for g in foramen]),
        "sac_triangle": by_vertebra(spine, {"T11": 0.0, "L2": 0.15, "L4": 0.5, "S1": 0.6, "S3": 0.0}),
        "canal_half_width": patient.canal_size * spine.shape.scale * width,
        "flavum": _bumps(spine, flavum, half_mm=9.0, shift_mm=-1.5, rest=0.5),
        "at_disc": _bumps(spine, np.ones(len(Level)), half_mm=8.0),
        "crowding": crowding,
        "recess": np.stack([_bumps(spine, g, half_mm=8.0, rest=0.08) for g in recess]),
        "foramen": np.stack([_nearest_level(spine, disc, g) for g in foramen]),
        "to_conus": spine.s - patient.conus_s,
    }


def _nearest_level(spine: Spine, disc: NDArray[np.intp], values: FloatArray) -> FloatArray:  # [S]
    """A value per level, constant over the disc's stretch of spine; open elsewhere."""
    table = np.full(len(spine.segments.disc_s), 0.05)
    table[FIRST_DISC : FIRST_DISC + len(Level)] = values
    result: FloatArray = table[disc]
    return result


def _sac(spine: Spine, patient: Patient, crowding: FloatArray) -> dict[str, FloatArray]:  # [S]
    """Thecal sac, the disc bulge in front of it and the wall behind it."""
    k = spine.shape.scale
    # The canal's size follows the body's only weakly.
    size = patient.canal_size * k**0.3
    sacral_fat = patient.epidural
    front_fat = k * by_vertebra(spine, {"L3": 0.6, "L5": 1.2, "S1": 4.0 * sacral_fat, "S2": 3.5 * sacral_fat})
    end = patient.sac_end_s + np.array([-1.0, -0.3, 0.1]) * patient.sac_taper_mm
    taper = by_vertebra(spine, {"T8": 0.86, "T12": 1.0, "L5": 0.96}) * np.interp(spine.s, end, (1.0, 0.65, 0.02))
    open_ap = _SAC_OPEN_MM * size * taper
    # What closes: the disc takes 55% of the lost diameter from the front, flavum and facets 45% from behind.
    lost = np.clip(open_ap - _SAC_CLOSED_MM, 0, None) * crowding
    rest_bulge = _bumps(spine, 0.9 * np.ones(len(Level)), half_mm=6.0)
    front = 0.8 + front_fat + np.maximum(0.55 * lost, rest_bulge * 0.5)
    back = 0.8 + front_fat + open_ap - 0.45 * lost
    bony = 0.8 + front_fat + open_ap + k * by_vertebra(spine, {"T12": 1.5, "L3": 2.5, "L5": 4.0, "S1": 3.0, "S3": 4.0})
    half_width = (
        size
        * by_vertebra(spine, {"T10": 7.2, "T12": 8.2, "L3": 8.8, "L5": 9.0, "S1": 7.6, "S2": 6.0})
        * np.interp(spine.s, end, (1.0, 0.7, 0.03))
    )
    return {
        "bulge": np.clip(front - 1.0 - front_fat * 0.8, 0, None) * _bumps(spine, np.ones(len(Level)), half_mm=6.5),
        "sac_front": front,
        "sac_back": back,
        "canal_back": bony,
        "sac_half_width": half_width * (1 - 0.22 * crowding),
    }
