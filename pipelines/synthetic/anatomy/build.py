"""A patient's build: width, fat, muscles, vessels and organs around the spine."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A patient's build.

    Attributes:
      half_width_mm: half the trunk's width.
      front_mm: from the spine's curve to the front of the abdominal wall's muscle.
      back_mm: from the spine's curve to the fascia of the back.
      back_fat_mm, sacral_fat_mm, front_fat_mm: subcutaneous fat.
      muscle_fat: fat within the muscles of the back, 0..1.
      psoas: factor on the psoas' radius, left and right.
      back_muscle: factor on the width of the muscles of the back, left and right.
      aorta_mm: radius.
      bowel: how much of the abdomen is bowel rather than fat, 0..1.
      haze: how much motion and distance blur the difference between bowel and fat, 0..1.
      organs_mm: height of kidneys and liver above L2.
      split_mm: how far below L4 the aorta divides.
      aorta_u_mm: how far left of the midline the aorta runs.
      pelvis_mm: how far the soft parts of the pelvis lie below their usual place.
      gas: how much gas the bowel holds, 0..1.
      presacral_mm: thickness of the fat in front of the sacrum.
      retro_mm: thickness of the fat between spine and bowel.
      flow: signal of the large vessels relative to a flow void.
    """

    half_width_mm: float
    front_mm: float
    back_mm: float
    back_fat_mm: float
    sacral_fat_mm: float
    front_fat_mm: float
    muscle_fat: float
    psoas: tuple[float, float]
    back_muscle: tuple[float, float]
    aorta_mm: float
    bowel: float
    haze: float
    organs_mm: tuple[float, float]
    split_mm: float
    aorta_u_mm: float
    pelvis_mm: float
    gas: float
    presacral_mm: float
    retro_mm: float
    flow: float


def draw_build(rng: np.random.Generator, scale: float, age: float) -> Build:
    """A random build."""
    stout = rng.beta(2, 2)
    return Build(
        half_width_mm=(125 + 65 * stout) * scale,
        front_mm=(100 + 75 * stout + 10 * rng.standard_normal()) * scale,
        back_mm=(50 + 8 * rng.random()) * scale,
        back_fat_mm=4 + 22 * stout * rng.uniform(0.3, 1.2),
        sacral_fat_mm=16 + 34 * stout * rng.uniform(0.5, 1.2),
        front_fat_mm=6 + 40 * stout * rng.uniform(0.4, 1.2),
        muscle_fat=float(np.clip(0.12 + 0.55 * age + 0.12 * rng.standard_normal(), 0.02, 0.9)),
        psoas=_draw_sides(rng, float(rng.uniform(0.85, 1.2)), 0.045),
        back_muscle=_draw_sides(rng, 1.0, 0.04),
        aorta_mm=float(rng.uniform(7.5, 10.5) + 1.5 * age),
        bowel=float(rng.uniform(0.2, 0.8)),
        haze=float(rng.uniform(0.1, 0.8)),
        organs_mm=(float(rng.normal(25, 12)), float(rng.normal(15, 25))),
        split_mm=float(rng.normal(8, 14)),
        aorta_u_mm=float(rng.normal(8, 6)),
        pelvis_mm=float(rng.normal(0, 14)),
        gas=float(rng.beta(1, 2)),
        presacral_mm=float(rng.uniform(5, 28)),
        retro_mm=float(rng.uniform(2, 14) + 30 * stout * rng.random()),
        flow=float(rng.choice([1.0, rng.uniform(1, 4)])),
    )


def _draw_sides(rng: np.random.Generator, usual: float, spread: float) -> tuple[float, float]:
    """Values of the left and the right, which differ a little."""
    left, right = usual * np.exp(spread * rng.standard_normal(2))
    return float(left), float(right)
