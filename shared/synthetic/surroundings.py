"""Everything around the spine: skin, fat, muscles, pelvis, vessels and abdomen.

These follow the spine loosely: muscles, vessels and pelvis in spine coordinates, the rest in patient mm around a
smoothed version of the curve.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from shared.synthetic.anatomy import Texture, smoothstep
from shared.synthetic.canvas import Points, ellipse
from shared.synthetic.contrast import Palette, Tissue
from shared.synthetic.profiles import Profiles, by_vertebra
from shared.synthetic.spine import Spine

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]

_TABLE_MM = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A patient's build.

    Attributes:
      half_width_mm: half the trunk's width.
      front_mm: from the spine's curve to the front of the abdominal wall's muscle.
      back_mm: from the spine's curve to the fascia of the back.
      back_fat_mm, sacral_fat_mm, front_fat_mm: subcutaneous fat.
      muscle_fat: fat within the muscles of the back, 0..1.
      psoas: factor on the psoas' radius.
      aorta_mm: radius.
      bowel: how much of the abdomen is bowel rather than fat, 0..1.
      organs_mm: kidneys' height above L2 and the liver's lower edge above L2.
      folds: phases of details.
    """

    half_width_mm: float
    front_mm: float
    back_mm: float
    back_fat_mm: float
    sacral_fat_mm: float
    front_fat_mm: float
    muscle_fat: float
    psoas: float
    aorta_mm: float
    bowel: float
    organs_mm: tuple[float, float]
    folds: tuple[float, ...]


def draw_build(rng: np.random.Generator, scale: float, age: float) -> Build:
    """A random build."""
    stout = rng.beta(2, 2)
    return Build(
        half_width_mm=(125 + 65 * stout) * scale,
        front_mm=(75 + 60 * stout + 8 * rng.standard_normal()) * scale,
        back_mm=(52 + 10 * rng.random()) * scale,
        back_fat_mm=4 + 26 * stout * rng.uniform(0.4, 1.2),
        sacral_fat_mm=12 + 35 * stout * rng.uniform(0.5, 1.2),
        front_fat_mm=6 + 40 * stout * rng.uniform(0.4, 1.2),
        muscle_fat=float(np.clip(0.12 + 0.55 * age + 0.12 * rng.standard_normal(), 0.02, 0.9)),
        psoas=float(rng.uniform(0.8, 1.2)),
        aorta_mm=float(rng.uniform(7.5, 10.5) + 1.5 * age),
        bowel=float(rng.uniform(0.2, 0.8)),
        organs_mm=(float(rng.normal(25, 12)), float(rng.normal(15, 25))),
        folds=tuple(rng.uniform(0, 2 * np.pi, 12).tolist()),
    )


class Surroundings:
    """Tables of one patient's trunk, and its painter."""

    def __init__(self, spine: Spine, build: Build) -> None:
        self._build = build
        path = spine.path_mm
        self._z0 = float(path[-1, 2]) - 250.0
        z = np.arange(self._z0, float(path[0, 2]) + 250.0, _TABLE_MM)
        order = np.argsort(path[:, 2])
        curve = np.interp(z, path[order, 2], path[order, 1])
        smooth = gaussian_filter1d(curve, 45 / _TABLE_MM, mode="nearest")
        l5 = spine.to_patient(float(by_vertebra_s(spine, "L5")), 0, 0)
        low = 1 / (1 + np.exp((z - l5[2] + 5) / 12.0))
        # The back is straighter than the spine, and the buttocks stand out behind the lower sacrum.
        fascia = 0.7 * smooth + 0.3 * smooth.mean() + build.back_mm - 6 * low
        fascia = np.maximum(fascia, gaussian_filter1d(np.maximum(curve, smooth), 12) + 0.42 * build.back_mm + 14 * (1 - low))
        self._fascia = gaussian_filter1d(fascia, 8).astype(np.float32)
        fat = build.back_fat_mm + (build.sacral_fat_mm - build.back_fat_mm) * gaussian_filter1d(low, 12)
        self._skin = (self._fascia + fat).astype(np.float32)
        self._front = (0.5 * smooth + 0.5 * smooth.mean() - build.front_mm).astype(np.float32)
        self._low = low.astype(np.float32)
        self._mid_x = float(path[:, 0].mean())
        self._l2 = spine.to_patient(float(by_vertebra_s(spine, "L2")), 0, 0)
        self._psoas_radius = (
            build.psoas * spine.shape.scale * by_vertebra(spine, {"T12": 1.0, "L1": 6.0, "L2": 12.0, "L4": 20.0, "L5": 20.0, "S2": 16.0})
        ).astype(np.float32)
        self._psoas_u = (spine.shape.scale * by_vertebra(spine, {"T12": 21.0, "L2": 31.0, "L4": 42.0, "L5": 46.0, "S2": 62.0})).astype(np.float32)
        self._psoas_v = (spine.shape.scale * by_vertebra(spine, {"T12": -12.0, "L3": -13.0, "L5": -24.0, "S2": -58.0})).astype(np.float32)
        split = float(by_vertebra_s(spine, "L4")) + 8
        self._split = np.clip((spine.s - split) * 0.62, 0, 70).astype(np.float32)
        ala = by_vertebra(spine, {"L5": 0.0, "S1": 56.0, "S2": 52.0, "S3": 38.0, "S5": 12.0})
        self._ala = np.where(spine.s < spine.segments.disc_s[11] + 5, 0, ala).astype(np.float32)
        self._pelvis = by_vertebra(spine, {"L4": -8.0, "L5": 6.0, "S1": 30.0, "S4": 24.0, "Co": 0.0}).astype(np.float32)

    def paint(self, canvas: Float32Array, points: Points, profiles: Profiles, palette: Palette, texture: Texture) -> None:
        """Paints the surroundings of a plane, in place. canvas: # [C, N]"""
        build = self._build
        row = np.clip(((points.z - self._z0) / _TABLE_MM).astype(np.int32), 0, len(self._skin) - 1)
        x = points.x - np.float32(self._mid_x)
        # The back curves forward to the flanks and has a furrow in the middle.
        sag = 22 * (x / 100) ** 2 + 4 * np.exp(-((x / 14) ** 2))
        fascia = self._fascia[row] - sag
        skin, front = self._skin[row] - sag, self._front[row]
        outer = np.minimum(skin - points.y, points.y - front + build.front_fat_mm)
        flank = build.half_width_mm + build.back_fat_mm - np.abs(x) - 0.0016 * (points.y - (skin + front) / 2) ** 2
        body = np.minimum(outer, flank)
        inner = np.minimum(np.minimum(fascia - points.y, points.y - front), flank - build.back_fat_mm)
        soft = points.soft

        def cover(distance: Float32Array, fade: float = soft) -> Float32Array:
            return np.clip(distance / np.float32(fade) + np.float32(0.5), 0, 1)

        def blend(alpha: Float32Array, value: Float32Array) -> None:
            canvas[:] += alpha * (value - canvas)

        canvas[:] = palette[Tissue.FAT] * (cover(body) * (1 - 0.10 * (texture.coarse > 1.4)))
        blend(cover(body) * cover(1.6 - body) * 0.6, palette[Tissue.MUSCLE])
        septa = np.exp(-((texture.streak - 0.2) ** 2) / 0.004) * 0.35
        blend(septa * cover(body - 2) * cover(-inner), palette[Tissue.MUSCLE])
        wall = cover(inner) * cover(11 - np.minimum(points.y - front, flank - build.back_fat_mm), 3)
        blend(wall, palette[Tissue.MUSCLE])
        self._abdomen(points, cover(inner - 8), palette, texture, blend, cover)
        self._muscles(points, profiles, row, x, fascia, palette, texture, blend, cover)
        self._pelvic(points, profiles, palette, texture, blend, cover)
        self._vessels(points, profiles, palette, blend, cover)

    def _abdomen(self, points, inside, palette, texture, blend, cover) -> None:  # type: ignore[no-untyped-def]
        """Bowel, kidneys and liver in abdominal fat."""
        build = self._build
        front = inside * cover(-points.v - 44, 8.0)
        loops = smoothstep((texture.coarse + 2.2 * (build.bowel - 0.5)) / 0.35 + 0.5)
        content = palette[Tissue.BOWEL] * (1 + 0.25 * texture.fine + 0.3 * np.sin(3 * texture.coarse))
        blend(front * loops, np.clip(content, 0, None).astype(np.float32))
        gas = smoothstep((texture.coarse - 1.5) / 0.2) * smoothstep((texture.fine + 1.5) / 0.5)
        blend(front * gas, palette[Tissue.AIR])
        dz = points.z - np.float32(self._l2[2])
        for side in (1.0, -1.0):
            z = dz - build.organs_mm[0] + 6 * side
            kidney = ellipse(np.hypot(points.u - side * (62 - 0.12 * z), points.v + 18 + 0.15 * z), z, 27.0, 52.0)
            blend(inside * cover(kidney), palette[Tissue.KIDNEY] * (1 + 0.1 * texture.fine))
            sinus = ellipse(np.hypot(points.u - side * 54, points.v + 20), z, 11.0, 26.0)
            blend(inside * cover(sinus, 4.0) * 0.8, palette[Tissue.FAT])
        liver = np.minimum(dz - build.organs_mm[1] + 0.25 * (points.v + 60), np.minimum(-points.u - 22 - 0.3 * (points.v + 60), -points.v - 16))
        blend(inside * cover(liver, 2.0), palette[Tissue.LIVER] * (1 + 0.05 * texture.fine))
        lung = dz - 118 - 0.5 * np.abs(points.u) + 0.3 * points.v
        blend(cover(np.minimum(lung, -points.v - 25), 6.0), palette[Tissue.AIR])

    def _muscles(self, points, profiles, row, x, fascia, palette, texture, blend, cover) -> None:  # type: ignore[no-untyped-def]
        """Paraspinal muscles with fatty streaks, quadratus lumborum and psoas."""
        build = self._build
        low = self._low[row]
        fatty = build.muscle_fat * (0.55 + 0.75 * low)
        near = np.abs(points.u)
        depth = points.v
        erector = np.minimum(np.minimum(fascia - 1.5 - points.y, depth - 5 - 0.08 * np.maximum(near - 30, 0)), 78 - 14 * low - near)
        streaks = smoothstep((texture.streak + 0.5 * texture.fine - 1.9 + 2.3 * fatty) / 0.7)
        medial = smoothstep((26 - near) / 18) * smoothstep((depth - 6) / 10) * (0.3 + 0.5 * fatty)
        fat_share = np.clip(streaks * (0.35 + 0.6 * fatty) + medial * streaks, 0, 0.95)
        flesh = palette[Tissue.MUSCLE] + fat_share * (palette[Tissue.FAT] - palette[Tissue.MUSCLE])
        blend(cover(erector, 1.5), flesh * (1 + 0.08 * texture.fine))
        seam = np.abs(near - 26 - 0.25 * (depth - 30) - 2 * texture.coarse)
        blend(cover(erector - 2) * np.exp(-((seam / 1.3) ** 2)) * 0.65, palette[Tissue.FAT])
        blend(cover(1.4 - np.abs(fascia - points.y)) * cover(90 - near, 6.0) * 0.8, palette[Tissue.LIGAMENT])
        i = points.i
        quadratus = ellipse(near - 58, depth + 4, 20.0, 9.0)
        blend(cover(quadratus) * (1 - low), palette[Tissue.MUSCLE] * (1 + 0.08 * texture.fine))
        radius = self._psoas_radius[i]
        psoas = ellipse(near - self._psoas_u[i], depth - self._psoas_v[i], radius * 0.95, radius * 1.1)
        inner_fat = smoothstep((texture.streak - 2.0) / 0.5) * 0.5
        meat = palette[Tissue.MUSCLE] + inner_fat * (palette[Tissue.FAT] - palette[Tissue.MUSCLE])
        blend(cover(psoas), meat * (0.95 + 0.06 * texture.fine))

    def _pelvic(self, points, profiles, palette, texture, blend, cover) -> None:  # type: ignore[no-untyped-def]
        """Sacral wings, sacroiliac joints, iliac wings and gluteal muscles."""
        i = points.i
        near, v = np.abs(points.u), points.v
        wing = self._ala[i]
        marrow = palette[Tissue.MARROW] * (1 + 0.08 * texture.fine + 0.08 * texture.coarse)
        pelvis = self._pelvis[i]
        slab = np.minimum(wing - near + 0.25 * v, np.minimum(v + 24 - 0.28 * near, 14 - 0.05 * near - v))
        # The iliac wing flares out to the back and the side beyond the joint.
        line = near - 58 + 0.75 * (v - 5)
        iliac = np.minimum(np.minimum(9 - 0.06 * np.abs(v) - np.abs(line - 8), v + 62), 34 - v)
        iliac = np.minimum(iliac, pelvis)
        gluteal = np.minimum(np.minimum(line - 18, pelvis + 10), 40 + 0.2 * near - v)
        blend(cover(gluteal, 3.0), palette[Tissue.MUSCLE] * (1 + 0.2 * np.maximum(texture.streak, 0)))
        for bone in (slab, iliac):
            blend(cover(bone), palette[Tissue.CORTEX])
            blend(cover(bone - 1.2), marrow.astype(np.float32))
        to_disc = profiles.to_disc[i]
        hole = ellipse(near - 20, to_disc + 1, 5.0, 6.0)
        open_hole = cover(np.minimum(hole, np.minimum(slab + 3, v + 16))) * profiles.sacral[i]
        blend(open_hole * cover(11 - np.abs(v + 3)), palette[Tissue.FAT])
        root = ellipse(near - 20, to_disc + 1, 2.6, 2.6)
        blend(open_hole * cover(root) * cover(9 - np.abs(v + 3)), palette[Tissue.NERVE])

    def _vessels(self, points, profiles, palette, blend, cover) -> None:  # type: ignore[no-untyped-def]
        """Aorta left and cava right of the midline, dividing at L4; segmental vessels around each waist."""
        build, i = self._build, points.i
        split, depth = self._split[i], profiles.depth[i]
        shrink = np.where(split > 0, 0.62, 1.0)
        radius = build.aorta_mm * shrink
        for u in (7 + split, 7 - split * 1.1):
            blend(cover(ellipse(points.u - u, points.v + depth + radius + 3.5, radius, radius)), palette[Tissue.BLOOD])
        cava = ellipse(points.u + 17 + 0.9 * split, points.v + depth + 4 + 0.75 * radius, radius * 1.25, radius * 0.85)
        blend(cover(cava), palette[Tissue.BLOOD] * 1.6)
        blend(cover(ellipse(points.u + 17 - split, points.v + depth + 4 + 0.75 * radius, radius, radius * 0.8)), palette[Tissue.BLOOD] * 1.6)


def by_vertebra_s(spine: Spine, name: str) -> float:
    """Arc position of a vertebra's centre."""
    from shared.synthetic.spine import VERTEBRAE

    return float(spine.segments.vertebra_s[VERTEBRAE.index(name)])
