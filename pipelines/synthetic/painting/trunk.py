"""Paints everything around the spine: skin, fat, muscles, pelvis, vessels and abdomen.

Muscles, vessels and pelvis are drawn in spine coordinates, the rest in patient mm around the smoothed curve.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from pipelines.synthetic.anatomy.build import Build
from pipelines.synthetic.anatomy.profiles import by_vertebra
from pipelines.synthetic.anatomy.spine import VERTEBRAE, Float32Array, Spine
from pipelines.synthetic.painting.bone import smoothstep
from pipelines.synthetic.painting.canvas import Points, Region, ellipse
from pipelines.synthetic.painting.contrast import Tissue

FloatArray = NDArray[np.float64]

_TABLE_MM: Final = 2.0
_LOOKUP_MM: Final = 0.25


class Trunk:
    """One patient's trunk around the spine, and its painter."""

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

    def paint(self, r: Region, points: Points) -> Float32Array:  # [N]
        """Paints what lies around the spine on a whole slice, in place.

        Returns:
          How far each point belongs to the body, 0..1.
        """
        row = np.clip(((points.z - self._z0) / _LOOKUP_MM).astype(np.int32), 0, len(self._skin) - 1)
        x, y, low = points.x - np.float32(self._mid_x), points.y, self._low[row]
        # The back curves forward to the flanks and has a furrow in the middle.
        furrow = np.exp(-((r.u / 13) ** 2))
        round_back = 20 * (x / 100) ** 2
        fascia = self._fascia[row] - round_back - 11 * furrow * (1 - 0.4 * low)
        skin, front = self._skin[row] - round_back - 5 * furrow, self._front[row]
        build = self._build
        flank = build.half_width_mm + build.back_fat_mm - np.abs(x) - 0.0016 * (y - (skin + front) / 2) ** 2
        body = np.minimum(np.minimum(skin - y, y - front + build.front_fat_mm), flank)
        inner = np.minimum(np.minimum(fascia - y, y - front), flank - build.back_fat_mm)
        inside = r.inside(body)
        r.canvas[:] = r.palette[Tissue.FAT] * inside * (1 + 0.03 * r.coarse)
        # Skin, and septa in the fat.
        r.paint(inside * r.inside(1.6 - body) * 0.6, r.palette[Tissue.MUSCLE])
        septa = np.exp(-((r.streak / 0.10) ** 2)) * 0.3
        r.paint(septa * r.inside(body - 2) * r.inside(-inner), r.palette[Tissue.MUSCLE])
        wall = r.inside(inner) * r.inside(11 - np.minimum(y - front, flank - build.back_fat_mm), 3)
        r.paint(wall, r.palette[Tissue.MUSCLE])
        before = r.where(r.v < 12)
        self._abdomen(before, before.inside(inner[before.at] - 8), points.z[before.at] - self._l2_z)
        behind = r.where(r.v > 0)
        self._back(behind, low[behind.at], fascia[behind.at], y[behind.at])
        beside = r.where((r.v < 16) & (r.v > -110) & (r.a > 8) & (r.a < 95))
        self._psoas(beside, low[beside.at])
        self._pelvic(r.where((self._pelvis[r.i] > -12) & (r.a < 170) & (r.v > -70)))
        self._vessels(r.where((r.a < 95) & (r.v < -18) & (r.v > -85)))
        return inside

    def _abdomen(self, r: Region, inside: Float32Array, dz: Float32Array) -> None:
        """Bowel, kidneys, liver and lung base in abdominal fat, blurred by breathing."""
        build, palette, fine, coarse = self._build, r.palette, r.fine, r.coarse
        front = inside * r.inside(-r.v - 8 - build.retro_mm, 14.0)
        base = r.mix(Tissue.FAT, Tissue.BOWEL, 0.25 + 0.35 * (1 - build.haze))
        r.paint(front, base)
        fold = coarse + 0.12 * fine + 2.0 * (build.bowel - 0.5)
        loops = smoothstep(fold / (0.6 + 1.2 * build.haze) + 0.5)
        content = palette[Tissue.BOWEL] * (1 + 0.10 * fine + 0.25 * np.sin(2.5 * coarse))
        r.paint(front * loops * (1 - 0.5 * build.haze), content.astype(np.float32))
        gas = smoothstep((fold - 3.1 + 1.4 * build.gas) / 0.5) * smoothstep((fine + 1.5) / 0.5)
        r.paint(front * gas, palette[Tissue.AIR])
        for side in (1.0, -1.0):
            z = dz - build.organs_mm[0] + 6 * side
            kidney = ellipse(np.hypot(r.u - side * (62 - 0.12 * z), r.v + 18 + 0.15 * z), z, 27.0, 52.0)
            r.paint(inside * r.inside(kidney, 2.0), palette[Tissue.KIDNEY] * (1 + 0.1 * fine))
            sinus = ellipse(np.hypot(r.u - side * 54, r.v + 20), z, 11.0, 26.0)
            r.paint(inside * r.inside(sinus, 6.0) * 0.7, palette[Tissue.FAT])
        lobe = np.minimum(-r.u - 22 - 0.3 * (r.v + 60), -r.v - 16)
        liver = np.minimum(dz - build.organs_mm[1] + 0.25 * (r.v + 60), lobe)
        r.paint(inside * r.inside(liver, 3.0), palette[Tissue.LIVER] * (1 + 0.05 * fine))
        lung = dz - 125 - 0.5 * r.a + 0.3 * r.v
        r.paint(r.inside(np.minimum(lung, -r.v - 25), 8.0), palette[Tissue.AIR])

    def _back(self, r: Region, low: Float32Array, fascia: Float32Array, y: Float32Array) -> None:
        """Paraspinal muscles with fatty streaks."""
        palette, fine, coarse, streak = r.palette, r.fine, r.coarse, r.streak
        near, depth = r.a / r.sided(self._build.back_muscle), r.v
        fatty = self._build.muscle_fat * (0.6 + 0.7 * low)
        # Two rounded masses per side between vertebrae and fascia: multifidus, and the erector beside it.
        half = np.maximum((depth + fascia - y - 6) / 2, 4)
        from_middle = depth - 6 - half
        erector = np.maximum(
            ellipse(near - 15, from_middle, 19.0, 1.02 * half),
            ellipse(near - 43 + 6 * low, from_middle + 2, 31 - 8 * low, 0.92 * half),
        )
        erector = np.minimum(erector, fascia - 1.5 - y)
        # Fat runs along the fibres: level lines of smooth noise are threads, not dots.
        threads = np.exp(-((streak / (0.12 + 0.25 * fatty)) ** 2)) * smoothstep(0.55 + 0.5 * coarse)
        medial = smoothstep((24 - near) / 16) * smoothstep(0.2 + 0.7 * coarse + streak * 0.4)
        share = np.clip(threads * (0.3 + 0.6 * fatty) + medial * fatty * 0.9 + 0.12 * fatty, 0, 0.95)
        flesh = r.mix(Tissue.MUSCLE, Tissue.FAT, share) * (1 + 0.06 * fine)
        r.paint(r.inside(erector, 1.5), flesh)
        seam = np.abs(near - 27 - 0.3 * (depth - 25) - 1.5 * coarse) / (1.0 + 0.5 * np.abs(streak))
        r.paint(r.inside(erector - 2) * np.exp(-(seam**2)) * (0.35 + 0.3 * fatty), palette[Tissue.FAT])
        r.paint(r.inside(1.2 - np.abs(fascia - y)) * r.inside(85 - near, 10.0) * 0.8, palette[Tissue.LIGAMENT])

    def _psoas(self, r: Region, low: Float32Array) -> None:
        """Psoas and quadratus lumborum."""
        near, depth, i = r.a, r.v, r.i
        quadratus = ellipse(near - 58, depth + 3, 20.0, 9.0)
        r.paint(r.inside(quadratus) * (1 - low), r.palette[Tissue.MUSCLE] * (1 + 0.08 * r.fine))
        radius = self._psoas_radius.take(i) * r.sided(self._build.psoas)
        center = r.get("half_width") + self._psoas_gap.take(i) + radius
        tilt = 0.25 * (depth - self._psoas_v[i])
        psoas = ellipse(near - center - tilt, depth - self._psoas_v[i], radius * 0.95, radius * 1.2)
        inner_fat = np.exp(-((r.streak / 0.08) ** 2)) * 0.12
        r.paint(r.inside(psoas, 1.2), r.mix(Tissue.MUSCLE, Tissue.FAT, inner_fat) * (0.93 + 0.05 * r.fine))

    def _pelvic(self, r: Region) -> None:
        """Sacral wings with their foramina, iliac wings and gluteal muscles."""
        palette, fine, coarse = r.palette, r.fine, r.coarse
        i, near, v = r.i, r.a, r.v
        marrow = palette[Tissue.MARROW] * (1 + 0.06 * fine + 0.08 * coarse)
        pelvis = self._pelvis[i]
        fat = self._build.presacral_mm + 4 * coarse - np.maximum(-v - r.get("depth"), 0)
        in_front = r.inside(np.minimum(fat, 60 - near), 6.0) * r.get("sacral") * r.inside(-v, 4.0)
        r.paint(in_front * 0.9, palette[Tissue.FAT])
        slab = np.minimum(v + 24 - 0.28 * near, 13 - 0.06 * near + 1.5 * coarse - v)
        slab = np.minimum(slab, self._wing[i] - near + 0.25 * v)
        # The iliac wing flares out to the back and the side beyond the joint, in a gentle S.
        line = near - 58 + 0.75 * (v - 5) + 5 * np.sin((v + 10) / 14)
        iliac = np.minimum(np.minimum(9 - 0.06 * np.abs(v) - np.abs(line - 8), v + 62), 34 - v)
        iliac = np.minimum(iliac, pelvis)
        gluteal = np.minimum(np.minimum(line - 18, pelvis + 10), 40 + 0.2 * near - v)
        r.paint(r.inside(gluteal, 3.0), palette[Tissue.MUSCLE] * (1 + 0.2 * np.maximum(r.streak, 0)))
        for bone in (slab, iliac):
            r.paint(r.inside(bone), palette[Tissue.CORTEX])
            r.paint(r.inside(bone - 0.9 - 0.35 * coarse, 1.5), marrow.astype(np.float32))
        to_disc = r.get("to_disc")
        hole = ellipse(np.hypot(near - 20, 0.7 * (v + 3)), to_disc + 1, 6.0, 7.0)
        open_hole = r.inside(np.minimum(hole, slab + 3), 1.6) * r.get("sacral")
        r.paint(open_hole * 0.9, palette[Tissue.FAT])
        r.paint(open_hole * r.inside(ellipse(near - 20, to_disc + 1, 3.0, 3.0)), palette[Tissue.NERVE])

    def _vessels(self, r: Region) -> None:
        """Aorta left and cava right of the midline, dividing at L4."""
        palette, i = r.palette, r.i
        split, front = self._split[i], r.v + r.get("depth")
        radius = self._build.aorta_mm * np.where(split > 0, np.float32(0.62), np.float32(1.0))
        middle, blood = self._build.aorta_u_mm, palette[Tissue.BLOOD] * self._build.flow
        for u in (middle + split, middle - split * 1.1):
            r.paint(r.inside(ellipse(r.u - u, front + radius + 2.0, radius, radius), 1.4), blood)
        cava = blood * 1.5
        for u in (middle - 22 - 0.9 * split, middle - 22 + split):
            flat = ellipse(r.u - u, front + 3 + 0.7 * radius, radius * 1.2, radius * 0.8)
            r.paint(r.inside(flat, 1.4), cava)


def _outlines(curve: FloatArray, low: FloatArray, build: Build) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Fascia of the back, skin of the back and muscle wall in front, as y over z, each of shape (Z,)."""
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
