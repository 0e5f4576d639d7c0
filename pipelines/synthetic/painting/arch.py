"""Vertebral arches: laminae, articular, transverse and spinous processes, and the back of the sacrum.

Distances are mm; see `anatomy.spine` for the coordinates.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from pipelines.synthetic.anatomy.spine import Float32Array
from pipelines.synthetic.painting.bone import back_wall, join, paint_bone, smoothstep
from pipelines.synthetic.painting.canvas import Region, ellipse
from pipelines.synthetic.painting.contrast import Tissue

_JOINT_MM: Final = 0.5
# Each articular surface keeps so far from the middle of the joint: cartilage and the bone's own edge.
_SURFACE_MM: Final = 0.35


def paint_arch(r: Region) -> None:
    """All bone behind the canal.

    Laminae, spinous process and lower articular processes of a vertebra are one bone and share their marrow; the upper
    articular process behind the next disc belongs to the vertebra below, across the joint.
    """
    _transverse(r.where((r.a > 17) & (r.v < 20)))
    r = r.where(r.a < 29)
    free = 1 - r.get("sacral_arch")
    _sacral_roof(r.where(free < 0.98))
    arch = _lamina(r)
    middle, beside = (np.flatnonzero(near) for near in (r.a < 12, (r.a > 4) & (r.v < 30)))
    arch[middle] = join(arch[middle], _spinous(r.take(middle)), 5.0)
    joints = r.take(beside)
    facets = _facets(joints)
    arch[beside] = join(arch[beside], facets.lower, 3.0)
    paint_bone(r, arch, free)
    paint_bone(joints, facets.upper, free[beside])
    open_space = np.flatnonzero(facets.space > -r.soft)
    _joint_space(joints.take(open_space), facets.space[open_space])


def _transverse(r: Region) -> None:
    """Transverse processes, flat and level with the lower half of the pedicles."""
    process = ellipse(r.get("to_vertebra") + 3.0 + 0.15 * (r.a - 20), r.v - 8.0 - 0.12 * r.a, 4.5, 3.2)
    paint_bone(r, np.minimum(process, r.a - 18), 1 - r.get("sacral"))


def _lamina(r: Region) -> Float32Array:  # [n]
    """A curved plate on the canal's roof: its lower edge lies further back, over the next one's upper edge."""
    tv = r.get("to_arch")
    middle = back_wall(r) + 3.4 + 0.14 * (tv - 6) + 0.035 * (r.a - 6) ** 2
    half = r.get("lamina") * (1 - 0.012 * (tv - 7.5) ** 2)
    return np.minimum(half - 0.85 * np.abs(r.v - middle), 15.0 - r.a)


def _spinous(r: Region) -> Float32Array:  # [n]
    """Spinous process: a rounded plate tilted down, rarely straight, with a broad base and a thick free edge."""
    back = r.get("canal_back")
    out = r.v - back - 14.5
    drop = r.get("to_arch") - 9.5 - 0.20 * (out + 14.5)
    size = r.get("spinous") * (1 - 0.27 * r.get("thoracic"))
    outline = ellipse(drop, out, 12.5 * size, 16.0)
    box = np.minimum(11.5 * size - np.abs(drop), 14.5 - np.abs(out))
    reach = np.clip(out + 14.5, 0, 30)
    half = 2.5 + 1.5 * smoothstep((out - 3) / 9) + 2.2 * np.exp(-((reach / 6) ** 2))
    half -= 0.22 * np.maximum(out - 11, 0) ** 2
    aside = np.abs(r.u - r.get("spinous_aside") * reach * np.float32(1 / 29))
    return np.minimum(0.45 * outline + 0.55 * box, half - aside)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facets:
    """Signed distances to both processes of the facet joints and to the space between them, each of shape (n,)."""

    upper: Float32Array
    lower: Float32Array
    space: Float32Array


def _facets(r: Region) -> _Facets:
    """Facet joints: the lower process, convex, lies behind and inside the hollow of its partner from below.

    Wear makes both grow toward the recess. The joint runs from inside in front to outside behind.
    """
    t = r.get("to_disc")
    grown, size = r.get("recess") * r.get("at_disc"), r.get("facet_size")
    cos, sin = r.get("facet_cos"), r.get("facet_sin")
    across, behind = r.a - 15.8 + 0.9 * grown, r.v - 15.0 - 0.15 * t + 0.8 * grown
    # p runs along the joint; q grows forward and outward, from the lower process into the upper one.
    p, q = cos * across + sin * behind, sin * across - cos * behind
    joint = q - 1.3 + 0.055 * p * p
    upper_length = np.sqrt(np.clip(1 - ((t - 4) / 15) ** 2, 0.01, 1))
    lower_length = np.sqrt(np.clip(1 - ((t + 5) / 15) ** 2, 0.01, 1))
    upper = ellipse(p + 0.4, q - 0.6, (8.0 + 0.8 * grown) * size * upper_length, (5.6 + grown) * size * upper_length)
    base = np.minimum(ellipse(r.a - 16.5, r.v - 10.0, 5.2, 4.6), np.minimum(t - 2, 17 - t))
    lower = ellipse(p - 0.6, q + 1.8, (6.4 + 0.6 * grown) * size * lower_length, (4.6 + grown) * size * lower_length)
    pars = ellipse(r.a - 14.0, r.v - 12.5 - 0.25 * (t + 12), 4.8, 4.2)
    pars = np.minimum(pars, np.minimum(t + 22, -3 - t))
    return _Facets(
        upper=join(np.minimum(upper, joint - _SURFACE_MM), base, 3.0),
        lower=np.minimum(join(lower, pars, 3.0), -joint - _SURFACE_MM),
        space=np.minimum(_JOINT_MM - np.abs(joint), 6.2 * np.minimum(upper_length, lower_length) - 1.2 - np.abs(p)),
    )


def _joint_space(r: Region, space: Float32Array) -> None:
    """Cartilage and fluid between the two dark surfaces of a facet joint."""
    fluid = r.palette[Tissue.CSF] - r.palette[Tissue.CARTILAGE]
    r.paint(
        r.inside(space) * (1 - r.get("sacral_arch")) * 0.9, r.palette[Tissue.CARTILAGE] + r.get("facet_fluid") * fluid
    )


def _sacral_roof(r: Region) -> None:
    """Fused laminae of the sacrum: a thin roof that rises from both sides into the median crest."""
    wall, tv = back_wall(r), r.get("to_arch")
    # The crest is a row of humps, the remains of spinous processes.
    hump = r.get("crest") * (0.72 + 0.28 * np.cos(0.22 * tv))
    aside = np.abs(r.u - 0.5 * r.get("spinous_aside"))
    thick = 1.25 * r.get("lamina") + 0.6 * r.coarse + hump * np.exp(-((aside / 4.2) ** 2))
    roof = np.minimum(r.v - wall, 0.8 * (wall + thick - r.v))
    # At the side it goes over into the wing, which is painted already.
    paint_bone(r, roof, r.get("sacral_arch") * r.inside(17.5 - r.a, 6.0))
