"""Everything around the spine: skin, fat, muscles, pelvis, vessels and abdomen.

These follow the spine loosely: muscles, vessels and pelvis in spine coordinates, the rest in patient mm around a
smoothed version of the curve.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from pipelines.synthetic.anatomy.bone import Texture, smoothstep
from pipelines.synthetic.anatomy.canvas import IndexArray, Points, ellipse, paint
from pipelines.synthetic.anatomy.contrast import Palette, Tissue
from pipelines.synthetic.anatomy.profiles import Profiles, by_vertebra
from pipelines.synthetic.anatomy.spine import VERTEBRAE, Float32Array, Spine

FloatArray = NDArray[np.float64]

_TABLE_MM: Final = 2.0
_LOOKUP_MM: Final = 0.25


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
      haze: how far bowel and fat differ: motion and distance blur them, 0..1.
      organs_mm: kidneys' and liver's height above L2.
      split_mm: how far below L4 the aorta divides.
      aorta_u_mm: how far left of the midline it runs.
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
    """A value of the left and one of the right that differ a little."""
    left, right = usual * np.exp(spread * rng.standard_normal(2))
    return float(left), float(right)


@dataclass(frozen=True, slots=True, kw_only=True)
class Brush:
    """Some points of a plane being painted. canvas: # [C, N]; at, points, texture: # [n]"""

    canvas: Float32Array
    at: IndexArray
    points: Points
    profiles: Profiles
    palette: Palette
    texture: Texture

    def where(self, mask: NDArray[np.bool_]) -> tuple["Brush", IndexArray]:
        """A brush for the points where `mask` holds, and which those are."""
        keep = np.flatnonzero(mask)
        brush = Brush(
            canvas=self.canvas,
            at=self.at[keep],
            points=self.points.take(keep),
            profiles=self.profiles,
            palette=self.palette,
            texture=self.texture.take(keep),
        )
        return brush, keep

    def sided(self, values: tuple[float, float]) -> Float32Array:
        """The left or the right value, by the points' side. # [n]"""
        left, right = (np.float32(v) for v in values)
        return np.where(self.points.u < 0, right, left)

    def cover(self, distance: Float32Array, fade: float | None = None) -> Float32Array:
        """Coverage 0..1 from a signed distance in mm, positive inside."""
        alpha = distance * np.float32(1 / (fade or self.points.soft)) + np.float32(0.5)
        return np.clip(alpha, 0, 1, out=alpha)

    def blend(self, alpha: Float32Array, value: Float32Array) -> None:
        """Blends a signal, [C, 1] or [C, n], over the canvas where alpha is not 0."""
        paint(self.canvas, self.at, alpha, value)

    def mix(self, base: Tissue, other: Tissue, share: Float32Array | float) -> Float32Array:
        """Signal between two tissues. # [C, n]"""
        result: Float32Array = self.palette[base] + share * (self.palette[other] - self.palette[base])
        return result


class Surroundings:
    """Tables of one patient's trunk, and its painter."""

    def __init__(self, spine: Spine, build: Build) -> None:
        self._build = build
        path, scale = spine.path_mm, spine.shape.scale
        self._z0 = float(path[-1, 2]) - 250.0
        z = np.arange(self._z0, float(path[0, 2]) + 250.0, _TABLE_MM)
        order = np.argsort(path[:, 2])
        curve = np.interp(z, path[order, 2], path[order, 1])
        l5, l2 = (spine.to_patient(float(spine.segments.vertebra_s[VERTEBRAE.index(n)]), 0, 0) for n in ("L5", "L2"))
        low = 1 / (1 + np.exp((z - l5[2] + 5 + build.pelvis_mm) / 12.0))
        fine = np.arange(z[0], z[-1], _LOOKUP_MM)
        outlines = (*_outlines(curve, low, build), low)
        self._fascia, self._skin, self._front, self._low = (np.interp(fine, z, o).astype(np.float32) for o in outlines)
        self._mid_x, self._l2_z = float(path[:, 0].mean()), np.float32(l2[2])

        def table(nodes: dict[str, float], factor: float = scale) -> Float32Array:
            return (factor * by_vertebra(spine, nodes)).astype(np.float32)

        self._psoas_radius = table({"T12": 1.0, "L1": 6.5, "L2": 11.5, "L4": 18.0, "L5": 19.0, "S2": 16.0})
        self._psoas_gap = table({"T12": -3.0, "L2": -3.0, "L4": -1.0, "L5": 1.5, "S2": 22.0})
        self._psoas_v = table({"T12": -10.0, "L3": -12.0, "L5": -22.0, "S2": -58.0})
        split = float(spine.segments.vertebra_s[VERTEBRAE.index("L4")]) + build.split_mm
        self._split = np.clip((spine.s - split) * 0.62, 0, 70).astype(np.float32)
        wing = by_vertebra(spine, {"L5": 0.0, "S1": 56.0, "S2": 52.0, "S3": 38.0, "S5": 12.0})
        self._wing = np.where(spine.s < spine.segments.disc_s[VERTEBRAE.index("L5")] + 5, 0, wing).astype(np.float32)
        self._pelvis = table({"L4": -8.0, "L5": 6.0, "S1": 30.0, "S4": 24.0, "Co": 0.0})

    def paint(
        self, canvas: Float32Array, points: Points, profiles: Profiles, palette: Palette, texture: Texture
    ) -> Float32Array:
        """Paints the surroundings of a plane, in place. canvas: # [C, N]

        Returns:
          How far each point belongs to the body, 0..1. # [N]
        """
        everywhere = np.arange(points.u.size)
        brush = Brush(canvas=canvas, at=everywhere, points=points, profiles=profiles, palette=palette, texture=texture)
        row = np.clip(((points.z - self._z0) / _LOOKUP_MM).astype(np.int32), 0, len(self._skin) - 1)
        x = points.x - np.float32(self._mid_x)
        # The back curves forward to the flanks and has a furrow in the middle.
        furrow = np.exp(-((points.u / 13) ** 2))
        round_back = 20 * (x / 100) ** 2
        fascia = self._fascia[row] - round_back - 11 * furrow * (1 - 0.4 * self._low[row])
        skin, front = self._skin[row] - round_back - 5 * furrow, self._front[row]
        build = self._build
        flank = build.half_width_mm + build.back_fat_mm - np.abs(x) - 0.0016 * (points.y - (skin + front) / 2) ** 2
        body = np.minimum(np.minimum(skin - points.y, points.y - front + build.front_fat_mm), flank)
        inner = np.minimum(np.minimum(fascia - points.y, points.y - front), flank - build.back_fat_mm)
        inside = brush.cover(body)
        canvas[:] = palette[Tissue.FAT] * inside * (1 + 0.03 * texture.coarse)
        # Skin, and septa in the fat.
        brush.blend(inside * brush.cover(1.6 - body) * 0.6, palette[Tissue.MUSCLE])
        septa = np.exp(-((texture.streak / 0.10) ** 2)) * 0.3
        brush.blend(septa * brush.cover(body - 2) * brush.cover(-inner), palette[Tissue.MUSCLE])
        wall = brush.cover(inner) * brush.cover(11 - np.minimum(points.y - front, flank - build.back_fat_mm), 3)
        brush.blend(wall, palette[Tissue.MUSCLE])
        near, v = np.abs(points.u), points.v
        front_brush, kept = brush.where(v < 12)
        self._abdomen(front_brush, brush.cover(inner[kept] - 8))
        back_brush, kept = brush.where(v > 0)
        self._back(back_brush, self._low[row[kept]], fascia[kept])
        psoas_brush, kept = brush.where((v < 16) & (v > -110) & (near > 8) & (near < 95))
        self._psoas(psoas_brush, self._low[row[kept]])
        self._pelvic(brush.where((self._pelvis[points.i] > -12) & (near < 170) & (v > -70))[0])
        self._vessels(brush.where((near < 95) & (v < -18) & (v > -85))[0])
        return inside

    def _abdomen(self, brush: Brush, inside: Float32Array) -> None:
        """Bowel, kidneys, liver and lung base in abdominal fat, blurred by breathing."""
        build, points, texture, palette = self._build, brush.points, brush.texture, brush.palette
        front = inside * brush.cover(-points.v - 8 - build.retro_mm, 14.0)
        base = brush.mix(Tissue.FAT, Tissue.BOWEL, 0.25 + 0.35 * (1 - build.haze))
        brush.blend(front, base)
        fold = texture.coarse + 0.12 * texture.fine + 2.0 * (build.bowel - 0.5)
        loops = smoothstep(fold / (0.6 + 1.2 * build.haze) + 0.5)
        content = palette[Tissue.BOWEL] * (1 + 0.10 * texture.fine + 0.25 * np.sin(2.5 * texture.coarse))
        brush.blend(front * loops * (1 - 0.5 * build.haze), content.astype(np.float32))
        gas = smoothstep((fold - 3.1 + 1.4 * build.gas) / 0.5) * smoothstep((texture.fine + 1.5) / 0.5)
        brush.blend(front * gas, palette[Tissue.AIR])
        dz = points.z - self._l2_z
        for side in (1.0, -1.0):
            z = dz - build.organs_mm[0] + 6 * side
            kidney = ellipse(np.hypot(points.u - side * (62 - 0.12 * z), points.v + 18 + 0.15 * z), z, 27.0, 52.0)
            brush.blend(inside * brush.cover(kidney, 2.0), palette[Tissue.KIDNEY] * (1 + 0.1 * texture.fine))
            sinus = ellipse(np.hypot(points.u - side * 54, points.v + 20), z, 11.0, 26.0)
            brush.blend(inside * brush.cover(sinus, 6.0) * 0.7, palette[Tissue.FAT])
        lobe = np.minimum(-points.u - 22 - 0.3 * (points.v + 60), -points.v - 16)
        liver = np.minimum(dz - build.organs_mm[1] + 0.25 * (points.v + 60), lobe)
        brush.blend(inside * brush.cover(liver, 3.0), palette[Tissue.LIVER] * (1 + 0.05 * texture.fine))
        lung = dz - 125 - 0.5 * np.abs(points.u) + 0.3 * points.v
        brush.blend(brush.cover(np.minimum(lung, -points.v - 25), 8.0), palette[Tissue.AIR])

    def _back(self, brush: Brush, low: Float32Array, fascia: Float32Array) -> None:
        """Paraspinal muscles with fatty streaks."""
        points, texture, palette = brush.points, brush.texture, brush.palette
        near, depth = np.abs(points.u) / brush.sided(self._build.back_muscle), points.v
        fatty = self._build.muscle_fat * (0.6 + 0.7 * low)
        # Two rounded masses a side between vertebrae and fascia: multifidus, and the erector beside it.
        half = np.maximum((depth + fascia - points.y - 6) / 2, 4)
        from_middle = depth - 6 - half
        erector = np.maximum(
            ellipse(near - 15, from_middle, 19.0, 1.02 * half),
            ellipse(near - 43 + 6 * low, from_middle + 2, 31 - 8 * low, 0.92 * half),
        )
        erector = np.minimum(erector, fascia - 1.5 - points.y)
        # Fat runs along the fibres: level lines of smooth noise are threads, not dots.
        threads = np.exp(-((texture.streak / (0.12 + 0.25 * fatty)) ** 2)) * smoothstep(0.55 + 0.5 * texture.coarse)
        medial = smoothstep((24 - near) / 16) * smoothstep(0.2 + 0.7 * texture.coarse + texture.streak * 0.4)
        share = np.clip(threads * (0.3 + 0.6 * fatty) + medial * fatty * 0.9 + 0.12 * fatty, 0, 0.95)
        flesh = brush.mix(Tissue.MUSCLE, Tissue.FAT, share) * (1 + 0.06 * texture.fine)
        brush.blend(brush.cover(erector, 1.5), flesh)
        seam = np.abs(near - 27 - 0.3 * (depth - 25) - 1.5 * texture.coarse) / (1.0 + 0.5 * np.abs(texture.streak))
        brush.blend(brush.cover(erector - 2) * np.exp(-(seam**2)) * (0.35 + 0.3 * fatty), palette[Tissue.FAT])
        brush.blend(
            brush.cover(1.2 - np.abs(fascia - points.y)) * brush.cover(85 - near, 10.0) * 0.8, palette[Tissue.LIGAMENT]
        )

    def _psoas(self, brush: Brush, low: Float32Array) -> None:
        """Psoas and quadratus lumborum."""
        points, texture, palette, i = brush.points, brush.texture, brush.palette, brush.points.i
        near, depth = np.abs(points.u), points.v
        quadratus = ellipse(near - 58, depth + 3, 20.0, 9.0)
        brush.blend(brush.cover(quadratus) * (1 - low), palette[Tissue.MUSCLE] * (1 + 0.08 * texture.fine))
        radius = self._psoas_radius[i] * brush.sided(self._build.psoas)
        center = brush.profiles.half_width[i] + self._psoas_gap[i] + radius
        tilt = 0.25 * (depth - self._psoas_v[i])
        psoas = ellipse(near - center - tilt, depth - self._psoas_v[i], radius * 0.95, radius * 1.2)
        inner_fat = np.exp(-((texture.streak / 0.08) ** 2)) * 0.12
        brush.blend(
            brush.cover(psoas, 1.2), brush.mix(Tissue.MUSCLE, Tissue.FAT, inner_fat) * (0.93 + 0.05 * texture.fine)
        )

    def _pelvic(self, brush: Brush) -> None:
        """Sacral wings with their foramina, iliac wings and gluteal muscles."""
        points, texture, palette = brush.points, brush.texture, brush.palette
        i, near, v = points.i, np.abs(points.u), points.v
        marrow = palette[Tissue.MARROW] * (1 + 0.06 * texture.fine + 0.08 * texture.coarse)
        pelvis = self._pelvis[i]
        fat = self._build.presacral_mm + 4 * texture.coarse - np.maximum(-v - brush.profiles.depth[i], 0)
        in_front = brush.cover(np.minimum(fat, 60 - near), 6.0) * brush.profiles.sacral[i] * brush.cover(-v, 4.0)
        brush.blend(in_front * 0.9, palette[Tissue.FAT])
        slab = np.minimum(v + 24 - 0.28 * near, 13 - 0.06 * near + 1.5 * texture.coarse - v)
        slab = np.minimum(slab, self._wing[i] - near + 0.25 * v)
        # The iliac wing flares out to the back and the side beyond the joint, in a gentle S.
        line = near - 58 + 0.75 * (v - 5) + 5 * np.sin((v + 10) / 14)
        iliac = np.minimum(np.minimum(9 - 0.06 * np.abs(v) - np.abs(line - 8), v + 62), 34 - v)
        iliac = np.minimum(iliac, pelvis)
        gluteal = np.minimum(np.minimum(line - 18, pelvis + 10), 40 + 0.2 * near - v)
        brush.blend(brush.cover(gluteal, 3.0), palette[Tissue.MUSCLE] * (1 + 0.2 * np.maximum(texture.streak, 0)))
        for bone in (slab, iliac):
            brush.blend(brush.cover(bone), palette[Tissue.CORTEX])
            brush.blend(brush.cover(bone - 0.9 - 0.35 * texture.coarse, 1.5), marrow.astype(np.float32))
        to_disc = brush.profiles.to_disc[i]
        hole = ellipse(np.hypot(near - 20, 0.7 * (v + 3)), to_disc + 1, 6.0, 7.0)
        open_hole = brush.cover(np.minimum(hole, slab + 3), 1.6) * brush.profiles.sacral[i]
        brush.blend(open_hole * 0.9, palette[Tissue.FAT])
        brush.blend(open_hole * brush.cover(ellipse(near - 20, to_disc + 1, 3.0, 3.0)), palette[Tissue.NERVE])

    def _vessels(self, brush: Brush) -> None:
        """Aorta left and cava right of the midline, dividing at L4."""
        points, palette, i = brush.points, brush.palette, brush.points.i
        split, front = self._split[i], points.v + brush.profiles.depth[i]
        radius = self._build.aorta_mm * np.where(split > 0, np.float32(0.62), np.float32(1.0))
        middle, blood = self._build.aorta_u_mm, palette[Tissue.BLOOD] * self._build.flow
        for u in (middle + split, middle - split * 1.1):
            brush.blend(brush.cover(ellipse(points.u - u, front + radius + 2.0, radius, radius), 1.4), blood)
        cava = blood * 1.5
        for u in (middle - 22 - 0.9 * split, middle - 22 + split):
            flat = ellipse(points.u - u, front + 3 + 0.7 * radius, radius * 1.2, radius * 0.8)
            brush.blend(brush.cover(flat, 1.4), cava)


def _outlines(curve: FloatArray, low: FloatArray, build: Build) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Fascia of the back, skin of the back and muscle wall in front, as y over z. # [Z] each"""
    smooth = gaussian_filter1d(curve, 45 / _TABLE_MM, mode="nearest")
    # The back is straighter than the spine, and the buttocks stand out behind the lower sacrum.
    fascia = 0.7 * smooth + 0.3 * smooth.mean() + build.back_mm - 6 * low
    clear = gaussian_filter1d(np.maximum(curve, smooth), 12) + 0.42 * build.back_mm + 16 * (1 - low)
    # Over the sacrum little lies between bone and fat.
    sacral = gaussian_filter1d(low, 10)
    fascia = gaussian_filter1d((1 - sacral) * np.maximum(fascia, clear) + sacral * (curve + 34), 8)
    fat = build.back_fat_mm + (build.sacral_fat_mm - build.back_fat_mm) * gaussian_filter1d(low, 12)
    front = 0.5 * smooth + 0.5 * smooth.mean() - build.front_mm
    return fascia.astype(np.float32), (fascia + fat).astype(np.float32), front.astype(np.float32)
