"""One synthetic patient, drawn around given latents, and the points that readers would mark."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.synthetic.anatomy.build import Build, draw_build
from pipelines.synthetic.anatomy.profiles import (
    FORAMEN_BACK_MM,
    FORAMEN_SIDE_MM,
    RECESS_BACK_MM,
    RECESS_SIDE_MM,
    Patient,
    Profiles,
    build_profiles,
    narrowing,
)
from pipelines.synthetic.anatomy.spine import FIRST_DISC, S1, VERTEBRAE, Spine, SpineShape
from shared.labels import FINDINGS, Condition, Finding, Level, Side

FloatArray = NDArray[np.float64]

# Share of patients with 4, 5 and 6 lumbar-type vertebrae: a few percent, see Hughes & Saifuddin, Clin Radiol 2004.
_LUMBAR_COUNTS: Final = {4: 0.025, 5: 0.95, 6: 0.025}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A patient ready to be scanned."""

    spine: Spine
    patient: Patient
    build: Build
    profiles: Profiles

    def point_mm(self, finding: Finding, shift_mm: float = 0.0) -> FloatArray:  # [3]
        """Where a reader marks the finding, patient mm (LPS): the centre of canal, foramen or recess.

        `shift_mm` moves the mark down along the spine.
        """
        disc_s, p = self.spine.segments.level_s(finding.level), self.profiles
        i = int(np.argmin(np.abs(self.spine.s - disc_s)))
        s = disc_s + shift_mm
        if finding.condition is Condition.CANAL:
            return self.spine.to_patient(s, 0.0, float(p["sac_front"][i] + p["sac_back"][i]) / 2)
        sign = 1.0 if finding.side is Side.LEFT else -1.0
        g = float(narrowing(self.patient.latent[finding.index], finding.condition))
        if finding.condition is Condition.FORAMINAL:
            u = float(p["canal_half_width"][i]) + FORAMEN_SIDE_MM
            return self.spine.to_patient(s - float(p["foramen_height"][i]) - 2.0, sign * u, FORAMEN_BACK_MM)
        u = float(p["sac_half_width"][i]) + RECESS_SIDE_MM - 0.8 * g
        return self.spine.to_patient(s, sign * u, RECESS_BACK_MM + 0.9 * g)


def draw_case(latent: FloatArray, degeneration: float, rng: np.random.Generator) -> Case:
    """Draws everything about a patient that the 25 latents leave open."""
    age = float(1 / (1 + np.exp(-1.1 * degeneration + rng.normal(0, 0.5))))
    scale = float(np.clip(rng.normal(1.0, 0.065), 0.84, 1.16))
    slope = float(np.clip(rng.normal(38, 8), 18, 60))
    worst = _worst_by_level(latent)
    loss = 0.10 * worst + 0.10 * age + rng.normal(0, 0.05, len(Level))
    shape = SpineShape(
        scale=scale,
        sacral_slope_deg=slope,
        # The more the sacrum tilts, the more the spine above must bend back: L1 leans back by about 17 degrees.
        lordosis_deg=slope + float(rng.normal(17, 6)),
        scoliosis_mm=float(abs(rng.normal(0, 2.0)) + (rng.uniform(4, 14) if rng.random() < 0.1 else 0.0)),
        scoliosis_phase=float(rng.uniform(0, 2 * np.pi)),
        slip_mm=_draw_slips(worst, rng),
        disc_height=tuple(float(h) for h in np.clip(1.05 - 1.6 * np.clip(loss, 0, None), 0.42, 1.15)),
        lumbar_count=int(rng.choice(list(_LUMBAR_COUNTS), p=list(_LUMBAR_COUNTS.values()))),
        remnant=float(rng.beta(0.8, 2.0)),
        heading_deg=tuple(float(a) for a in rng.normal(0, 1.6, len(VERTEBRAE))),
        body_height=tuple(float(h) for h in np.clip(rng.normal(1, 0.03, len(VERTEBRAE)), 0.9, 1.1)),
        sacral_curve=float(rng.uniform(0.2, 1.5)),
        sacral_taper=float(np.clip(rng.normal(1, 0.09), 0.8, 1.25)),
        warp_seed=int(rng.integers(2**31)),
        warp_mm=float(rng.uniform(0.3, 0.9)),
        origin_mm=(float(rng.normal(0, 6)), float(rng.normal(20, 12)), float(rng.normal(0, 25))),
    )
    spine = Spine(shape)
    conus = spine.segments.disc_s[FIRST_DISC] + rng.normal(-3, 11) * scale
    patient = Patient(
        latent=latent,
        age=age,
        disc_health=_draw_health(worst, age, rng),
        conus_s=float(conus),
        canal_size=float(np.clip(rng.normal(1.0, 0.025), 0.92, 1.08)),
        modic=_draw_modic(len(spine.segments.disc_s), worst, rng),
        sac_end_s=float(spine.segments.vertebra_s[S1 + 1] + np.clip(rng.normal(2, 14), -26, 34) * scale),
        sac_taper_mm=float(rng.uniform(8, 32)),
        epidural=float(rng.uniform(0.4, 1.6)),
        waist=float(rng.uniform(0.05, 0.15)),
        spinous=np.clip(rng.normal(1.1, 0.12) + rng.normal(0, 0.06, len(VERTEBRAE)), 0.75, 1.4),
        crest_mm=float(rng.uniform(3, 12)),
        **_draw_bodies(age, rng),
        **_draw_arches(age, rng),
    )
    build = draw_build(rng, scale, age)
    return Case(spine=spine, patient=patient, build=build, profiles=build_profiles(spine, patient))


def _worst_by_level(latent: FloatArray) -> FloatArray:  # [5]
    """Largest narrowing at each level, 0..1."""
    worst = np.zeros(len(Level))
    for f in FINDINGS:
        worst[f.level] = max(worst[f.level], float(narrowing(latent[f.index], f.condition)))
    return worst


def _draw_slips(worst: FloatArray, rng: np.random.Generator) -> tuple[float, ...]:
    """Forward slip at each level: mostly none, typically at L4/L5 with stenosis."""
    chance = np.array([0.01, 0.01, 0.02, 0.06, 0.03]) * (0.4 + 1.6 * worst)
    slip = np.where(
        rng.random(len(Level)) < chance, rng.uniform(3, 8, len(Level)), np.abs(rng.normal(0, 0.5, len(Level)))
    )
    return tuple(float(v) for v in slip)


def _draw_health(worst: FloatArray, age: float, rng: np.random.Generator) -> FloatArray:  # [17]
    """Health of all discs: the lower lumbar ones wear first, and with stenosis."""
    count = len(VERTEBRAE) - 1
    load = np.full(count, 0.05)
    load[FIRST_DISC : FIRST_DISC + len(Level)] = 0.05 + 0.35 * worst + np.array([0.0, 0.02, 0.08, 0.18, 0.16])
    health = 0.88 - load - 0.55 * age + rng.normal(0, 0.14, count)
    health[S1:] = np.minimum(health[S1:], 0.35)
    return np.asarray(np.clip(health, 0.02, 1.0))


def _draw_bodies(age: float, rng: np.random.Generator) -> dict[str, FloatArray]:
    """What endplates, rims and marrow look like: osteophytes grow with age, Schmorl's nodes are common above L3."""
    discs = len(VERTEBRAE) - 1
    worn = rng.random(discs) < 0.15 + 0.5 * age
    node = (rng.random(discs) < 0.07) * rng.uniform(2.0, 5.0, discs) * rng.choice([-1.0, 1.0], discs)
    node[S1 - 1 :] = 0
    return {
        "concavity_mm": np.clip(rng.normal(1.0, 0.5) + rng.normal(0, 0.35, discs), 0.1, 2.6),
        "front_bulge_mm": rng.gamma(1.6, 0.7, discs),
        "spur_mm": worn * rng.gamma(1.5, 1.0, discs),
        "node_mm": node,
        "node_v_mm": rng.normal(0, 6, discs),
        "marrow": np.clip(rng.normal(1, 0.07, discs + 1), 0.75, 1.25),
    }


def _draw_arches(age: float, rng: np.random.Generator) -> dict[str, FloatArray]:
    """How arches differ between left and right: no patient is symmetric, and facet joints least (tropism).

    Joints turn from nearly sagittal at L1/L2 to oblique at L5/S1; the spreads are plausible, not measured.
    """
    discs = len(VERTEBRAE) - 1
    usual = np.interp(np.arange(discs), [FIRST_DISC - 2, FIRST_DISC, FIRST_DISC + 4], [30.0, 62.0, 42.0])
    return {
        "spinous_aside_mm": rng.normal(0, 1.2) + rng.normal(0, 1.6, discs + 1),
        "lamina_mm": np.clip(rng.normal(3.0, 0.25) + rng.normal(0, 0.22, 2), 2.3, 3.8),
        "facet_size": np.clip(rng.normal(1, 0.05) + rng.normal(0, 0.07, (2, discs)), 0.8, 1.22),
        "facet_deg": usual + rng.normal(0, 5) + rng.normal(0, 4.5, (2, discs)),
        "facet_fluid": np.clip(rng.beta(1.3, 2.5) + 0.2 * age + rng.normal(0, 0.18, (2, discs)), 0, 1),
    }


def _draw_modic(count: int, worst: FloatArray, rng: np.random.Generator) -> FloatArray:  # [17]
    """Marrow change beside the discs, rare without degeneration."""
    modic = np.zeros(count)
    chance = 0.03 + 0.22 * worst
    found = rng.random(len(Level)) < chance
    kind = np.where(rng.random(len(Level)) < 0.7, 1.0, -1.0)
    modic[FIRST_DISC : FIRST_DISC + len(Level)] = found * kind * rng.uniform(0.3, 1.0, len(Level))
    return modic
