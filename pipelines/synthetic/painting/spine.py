"""Tissues of the spine as continuous functions of its coordinates, painted from back to front.

All distances are mm; u points to the patient's left, v to posterior, t down along the spine.
"""

from typing import Final

import numpy as np

from pipelines.synthetic.anatomy.profiles import (
    FORAMEN_BACK_MM,
    FORAMEN_RISE_MM,
    RECESS_BACK_MM,
    RECESS_SIDE_MM,
)
from pipelines.synthetic.anatomy.spine import Float32Array
from pipelines.synthetic.painting.arch import paint_arch
from pipelines.synthetic.painting.bone import back_wall, marrow, smoothstep
from pipelines.synthetic.painting.canvas import IndexArray, Points, Region, ellipse
from pipelines.synthetic.painting.contrast import Tissue

# Roots of the cauda equina in a sac scaled to (-1, 1): they lie behind, the next to leave further to the side.
_ROOTS: Final = tuple(
    (sign * a, b)
    for sign in (-1, 1)
    for a, b in (
        (0.70, 0.02),
        (0.66, 0.30),
        (0.50, 0.48),
        (0.50, 0.20),
        (0.32, 0.62),
        (0.30, 0.36),
        (0.13, 0.74),
        (0.12, 0.50),
    )
)
_ROOT_RADIUS_MM: Final = 0.78


def near_spine(points: Points) -> IndexArray:
    """Which points the spine's painters may touch."""
    return np.flatnonzero((np.abs(points.u) < 44) & (points.v > -48) & (points.v < 56))


def paint_spine(near: Region) -> None:
    """Paints the whole spine over the surroundings, in place."""
    _posterior_fat(near.where((near.v > 4) & (near.a < 26)))
    paint_arch(near.where((near.v > 0) & (near.a < 38)))
    canal = near.where((near.v > -2) & (near.v < 26) & (near.a < 17))
    _epidural(canal)
    _recess(canal.where((canal.v < 13) & (canal.a > 3)))
    _sac(canal)
    _foramen(near.where((near.v > -8) & (near.v < 16) & (near.a > 8) & (near.a < 32)))
    _bodies(near.where((near.v < 10) & (near.a < 34)))
    _pedicles(near.where((near.v > -9) & (near.v < 16) & (near.a > 6) & (near.a < 28)))


def _posterior_fat(r: Region) -> None:
    """Ligaments between the spinous processes, and fat around laminae and facets."""
    streak, wall = r.streak, back_wall(r)
    # Over the sacrum fat lies where the processes end.
    reach = r.get("canal_back") + 34 - 26 * r.get("sacral") - r.v
    between = r.inside(3.2 - r.a, 2.5) * r.inside(reach, 5.0)
    behind_arch = np.exp(-(((r.v - wall - 8.5) / 3.2) ** 2)) * r.inside(22 - r.a, 6.0)
    beside = np.exp(-(((r.a - 5.0) / 2.2) ** 2)) * r.inside(reach - 10, 8.0)
    share = np.clip(np.maximum(behind_arch, beside) * (0.75 + 0.5 * streak + 0.3 * r.coarse), 0, 0.95)
    r.paint(share, r.palette[Tissue.FAT])
    fibre = 0.5 * smoothstep(streak - 0.3)
    r.paint(between * 0.9, r.palette[Tissue.LIGAMENT] + fibre * (r.palette[Tissue.FAT] - r.palette[Tissue.LIGAMENT]))


def _foramen(r: Region) -> None:
    """Neural foramina: a keyhole of fat with the root in its upper part; narrowing takes the fat, then the root."""
    g, t = r.get("foramen"), r.get("to_disc")
    # The hole opens outward like a funnel around the curve of the body.
    v = r.v + 0.03 * np.maximum(r.a - 17, 0) ** 2
    free = (
        (1 - r.get("sacral"))
        * r.inside(r.a - r.get("canal_half_width") - 1.5, 2.5)
        * r.inside(r.get("half_width") + 4 - r.a, 6.0)
    )
    top = t + r.get("foramen_height") + FORAMEN_RISE_MM
    hole = np.maximum(
        ellipse(top, v - FORAMEN_BACK_MM + 1.5, 7.6, 7.0),
        ellipse(t - 1.0, v - FORAMEN_BACK_MM + 2.0, 8.5, 5.8),
    )
    tissue = 0.55 * r.palette[Tissue.LIGAMENT] + 0.45 * r.palette[Tissue.MUSCLE]
    r.paint(r.inside(hole) * free * np.clip(2.4 * g, 0, 1), tissue)
    fat = np.maximum(
        ellipse(top + 0.5 * g, v - FORAMEN_BACK_MM - 0.4 * g, 7.4 - 4.4 * g, 5.6 - 4.0 * g),
        ellipse(t - 0.5 + 3 * g, v - FORAMEN_BACK_MM + 0.6, 7.2 - 5.2 * g, 4.2 - 4.1 * g),
    )
    r.paint(r.inside(fat) * free, r.palette[Tissue.FAT])
    for dt, dv in ((4.6, 1.6), (-1.5, 3.2), (-4.9, -1.5)):
        r.paint(
            r.inside(ellipse(top - dt, v - FORAMEN_BACK_MM - dv, 1.1, 0.9)) * free * 0.8 * (1 - g),
            r.palette[Tissue.BLOOD],
        )
    root = ellipse(top + 1.4 - 0.18 * (r.a - 16), v - FORAMEN_BACK_MM - 0.2, 3.5 - 0.6 * g, 2.8 - 1.3 * g)
    r.paint(r.inside(root) * free, r.palette[Tissue.NERVE])


def _epidural(r: Region) -> None:
    """What fills the bony canal around the sac: fat, and the flavum on its back wall."""
    crowd, wall = r.get("crowding"), back_wall(r)
    inside = np.minimum(np.minimum(r.v + 0.5, wall - r.v), r.get("canal_half_width") - r.a)
    filler = r.palette[Tissue.EPIDURAL] + crowd * 0.85 * (r.palette[Tissue.LIGAMENT] - r.palette[Tissue.EPIDURAL])
    r.paint(r.inside(inside), filler * (1 + 0.08 * r.fine))
    thickness = r.get("flavum")
    # Left and right leaf leave a cleft of fat between them, which closes with stenosis.
    leaf = np.minimum(thickness * 0.5 - 0.75 * np.abs(wall - r.v - thickness * 0.5), r.a - 1.4 + 3.0 * crowd)
    r.paint(
        r.inside(np.minimum(leaf, r.get("canal_half_width") + 1 - r.a))
        * r.inside(r.get("at_disc") - 0.5, 0.8)
        * (1 - r.get("sacral")),
        r.palette[Tissue.LIGAMENT],
    )


def _sac_frame(r: Region) -> tuple[Float32Array, Float32Array, Float32Array]:  # [n]
    """Middle of the sac, half its depth, half its width."""
    front, rear = r.get("sac_front"), r.get("sac_back")
    return (front + rear) / 2, np.maximum((rear - front) / 2, 0.3), np.maximum(r.get("sac_half_width"), 0.3)


def _sac(r: Region) -> None:
    """Dura, CSF and what swims in it."""
    middle, half_ap, half = _sac_frame(r)
    depth = (r.v - middle) / half_ap
    across = r.u / np.maximum(1 - 0.45 * r.get("sac_triangle") * depth, 0.2)
    sac = ellipse(across, depth * half_ap, half, half_ap)
    r.paint(r.inside(sac + 0.5) * 0.8, r.palette[Tissue.LIGAMENT])
    cover = r.inside(sac)
    r.paint(cover, r.palette[Tissue.CSF])
    _nerves(r.where(cover > 0))


def _nerves(r: Region) -> None:
    """Cord above the conus, and the cauda equina below, which settles to the back when the patient lies supine."""
    middle, half_ap, half = _sac_frame(r)
    below = r.get("to_conus")
    taper = np.clip(-below / 28, 0, 1) ** 0.6
    cord = ellipse(r.u, r.v - middle - 1.2 + 0.8 * taper, 0.3 + 4.6 * taper, 0.3 + 3.7 * taper)
    r.paint(r.inside(cord) * r.inside(-below, 2.0), r.palette[Tissue.CORD])
    leaving = np.clip(r.get("sacral") * 1.2 + below / 260, 0, 0.8)
    seen = np.clip((below + 25) / 25, 0, 1)
    covered = np.zeros_like(r.u)
    for n, (across, depth) in enumerate(_ROOTS):
        keep = np.clip(1.6 - 1.4 * leaving - 0.023 * (n % 8), 0, 1) * seen
        wave = 0.06 * np.sin(below * 0.09 + 1.9 * n)
        du = r.u - (across + wave) * half * (1 - 0.1 * leaving)
        dv = r.v - middle - (depth + wave) * half_ap
        root = r.inside(_ROOT_RADIUS_MM - np.sqrt(du * du + 0.83 * dv * dv))
        covered = np.maximum(covered, root * keep)
    # Crowded roots swallow the CSF between them: what is left is grey.
    covered = np.maximum(covered, np.clip(1.35 * r.get("crowding") - 0.25, 0, 0.85))
    r.paint(covered, r.palette[Tissue.NERVE])


def _outline(r: Region, grow: Float32Array | float) -> tuple[Float32Array, Float32Array]:  # [n]
    """Axial outline of body or disc: distance in mm (positive inside) and squared relative radius."""
    half_a, half_b = r.get("half_width") + grow, r.get("depth") / 2 + grow
    dent = 1.8 * (r.u / half_a) ** 2
    p, q = (r.u / half_a) ** 2, ((r.v - dent + half_b - grow) / half_b) ** 2
    squared = p + q - 0.3 * p * q
    slope = 2 * np.sqrt(p * ((1 - 0.3 * q) / half_a) ** 2 + q * ((1 - 0.3 * p) / half_b) ** 2) + np.float32(1e-4)
    return ((1 - squared) / slope).astype(np.float32), squared


def _bulge(r: Region) -> Float32Array:  # [n]
    """How far the disc stands behind the bodies, blended from centre, recess and foramen."""
    to_recess, to_foramen = smoothstep((r.a - 4.5) / 4.5), smoothstep((r.a - 11.5) / 4)
    side = r.get("bulge_recess") + to_foramen * (r.get("bulge_foramen") - r.get("bulge_recess"))
    return r.get("bulge") + to_recess * (side - r.get("bulge"))


def _bodies(r: Region) -> None:
    """Vertebral bodies and discs."""
    outline, squared = _outline(r, 0.0)
    health = r.get("health")
    worn = 1 - health
    # Discs are lens-shaped: endplates are concave in the middle.
    inner = np.clip(1 - squared, 0, 1)
    edge = r.get("edge") - r.get("concavity") * inner * (2 - inner) + 0.12 * r.coarse
    edge = edge - r.get("node") * np.exp(-((r.v - r.get("node_v")) ** 2 + r.u**2) / 14.0)
    back = smoothstep((r.v + 12) / 9)
    front = smoothstep((-r.v - 14) / 8)
    disc_outline = outline + 0.3 + 0.6 * worn + _bulge(r) * back + r.get("front_bulge") * front
    outline = outline + r.get("spur") * front
    disc = np.minimum(disc_outline, 0.8 - edge)
    filling = marrow(r)
    patch = r.get("modic") * np.clip(1 - np.abs(r.get("edge") - 3) / 5, 0, 1) * (0.6 + 0.4 * r.coarse)
    fatty = r.palette[Tissue.FAT] - r.palette[Tissue.MARROW]
    filling = (
        filling
        + fatty * np.clip(patch, 0, 0.8)
        + (r.palette[Tissue.LIGAMENT] - r.palette[Tissue.MARROW]) * np.clip(-patch, 0, 0.6)
    )
    # Endplates are thicker than the walls, and where the basivertebral vein leaves, the back wall has a gap.
    uneven = r.coarse
    gap = r.inside(np.minimum(2.6 - np.abs(r.get("to_vertebra")), 4.5 - r.a), 1.5) * r.inside(r.v + 6, 2.0)
    wall = (0.25 + 0.3 * uneven) * (1 - gap)
    r.paint(r.inside(outline + 0.4 - 0.9 * gap + 0.3 * uneven) * r.inside(edge + 1), r.palette[Tissue.CORTEX])
    r.paint(r.inside(np.minimum(outline - wall, edge - 0.75 - 0.25 * uneven), r.soft + 0.5), filling)
    vein = np.minimum(1.3 - np.abs(r.get("to_vertebra")), np.minimum(r.v + 9 - 0.6 * r.a, 7 - r.a))
    r.paint(r.inside(vein, 1.6) * r.inside(0.6 - r.v) * 0.45 * (1 - r.get("sacral")), r.palette[Tissue.VEIN])
    r.paint(r.inside(disc), r.palette[Tissue.ANNULUS])
    _nucleus(r, edge, squared)


def _nucleus(r: Region, edge: Float32Array, squared: Float32Array) -> None:
    """The inner disc: bright and high when healthy, with a dark cleft in middle age, dark when worn."""
    health = r.get("health")
    core = smoothstep((0.74 - squared) / 0.4) * r.inside(-edge - 0.4, 1.6)
    cleft = 1 - 0.25 * np.clip(1.4 - 2 * np.abs(health - 0.6), 0, 1) * np.exp(-((r.get("to_disc") / 1.1) ** 2))
    bright = health * cleft * (1 + 0.06 * r.fine)
    inner = r.palette[Tissue.ANNULUS] + (0.10 + 0.80 * bright) * (r.palette[Tissue.NUCLEUS] - r.palette[Tissue.ANNULUS])
    r.paint(core, inner)


def _pedicles(r: Region) -> None:
    """Pedicles join the upper half of each body to its arch; marrow runs through."""
    tv, middle = r.get("to_vertebra"), r.get("canal_half_width") + 4.0
    # Waisted between body and arch, and rounded.
    waist = 0.9 * np.clip(1 - ((r.v - 3.5) / 6) ** 2, 0, 1)
    pedicle = ellipse(tv + 4.6, r.a - middle, 7.4 - waist, 4.2)
    round_end = 10.5 - 0.05 * (tv + 4.6) ** 2 - r.v
    pedicle = np.minimum(pedicle, np.minimum(r.v + 8, round_end))
    free = 1 - r.get("sacral")
    r.paint(r.inside(pedicle + 0.8) * r.inside(r.v - 1, 2.0) * free, r.palette[Tissue.CORTEX])
    r.paint(r.inside(pedicle, r.soft + 0.8) * free, marrow(r))


def _recess(r: Region) -> None:
    """Subarticular recess beside the sac: narrowed from disc and facet until the root is displaced and squeezed."""
    g = r.get("recess")
    # Beside the sac and behind the disc's side bulge, wherever those lie.
    middle = r.get("sac_half_width") + RECESS_SIDE_MM - 0.8 * g
    back = RECESS_BACK_MM + 0.9 * g
    shown = (
        r.inside(r.get("at_disc") - 0.5, 0.6) * (1 - r.get("sacral")) * r.inside(r.get("canal_half_width") + 3 - r.a)
    )
    pocket = ellipse(r.a - middle, r.v - back, 4.6, 4.4)
    r.paint(r.inside(pocket) * shown * np.clip(2.2 * g, 0, 1), r.palette[Tissue.LIGAMENT])
    # A wedge that narrows outward.
    taper = np.clip(1.15 - 0.13 * (r.a - middle + 1), 0.3, 1.3)
    fat = ellipse(r.a - middle + 0.3 * g, (r.v - back) / taper, 3.9 - 2.5 * g, 3.3 - 3.0 * g)
    r.paint(r.inside(fat) * shown, r.palette[Tissue.CSF] * 0.35 + r.palette[Tissue.EPIDURAL] * 0.65)
    root = ellipse(r.a - middle + 0.2 + 1.4 * g, r.v - back, 1.6 - 0.3 * g, 1.4 - 0.6 * g)
    r.paint(r.inside(root) * shown, r.palette[Tissue.NERVE])
