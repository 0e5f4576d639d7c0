"""Tissues of the spine as continuous functions of its coordinates, painted from back to front.

All distances are mm; u points to the patient's left, v to posterior, t down along the spine.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.synthetic.canvas import Points, Region, ellipse, region_of
from shared.synthetic.contrast import Palette, Tissue
from shared.synthetic.profiles import Profiles

Float32Array = NDArray[np.float32]

FORAMEN_BACK_MM: Final = 4.2
FORAMEN_RISE_MM: Final = 5.0
RECESS_BACK_MM: Final = 4.6
_CORTEX_MM: Final = 1.0
# Roots of the cauda equina in a sac scaled to (-1, 1): they lie behind, the next to leave further to the side.
_ROOTS: Final = tuple(
    (sign * a, b)
    for sign in (-1, 1)
    for a, b in ((0.70, 0.02), (0.66, 0.30), (0.50, 0.48), (0.50, 0.20), (0.32, 0.62), (0.30, 0.36), (0.13, 0.74), (0.12, 0.50))
)
_ROOT_RADIUS_MM: Final = 0.78


@dataclass(frozen=True, slots=True, kw_only=True)
class Texture:
    """Smooth noise of one slice, about unit variance. # [N] each

    Attributes:
      fine: grain of a few mm.
      coarse: blobs of one or two cm.
      streak: drawn out along the muscle fibres.
    """

    fine: Float32Array
    coarse: Float32Array
    streak: Float32Array


def smoothstep(x: Float32Array) -> Float32Array:
    """0 below 0, 1 above 1, smooth in between."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def paint_spine(canvas: Float32Array, points: Points, profiles: Profiles, palette: Palette, texture: Texture) -> None:
    """Paints the whole spine over the surroundings, in place. canvas: # [C, N]"""
    near = region_of(canvas, profiles, points, (np.abs(points.u) < 48) & (points.v > -52) & (points.v < 58))
    if not len(near.at):
        return
    _posterior_fat(near, palette, texture)
    _arch(near.where((near.v > 0) & (near.a < 34)), palette, texture)
    _foramen(near.where((near.v > -6) & (near.v < 18) & (near.a > 8) & (near.a < 30)), palette)
    _canal(near.where((near.v > -2) & (near.v < 26) & (near.a < 17)), palette, texture)
    _bodies(near.where(near.v < 12), palette, texture)
    _pedicles(near.where((near.v > -8) & (near.v < 16) & (near.a > 6) & (near.a < 28)), palette, texture)
    _recess(near.where((near.v > -2) & (near.v < 12) & (near.a > 4) & (near.a < 17)), palette)


def _bone(r: Region, distance: Float32Array, palette: Palette, marrow: Float32Array, cover: Float32Array | float = 1.0) -> None:
    """A bone with its dark cortex."""
    r.paint(r.inside(distance) * cover, palette[Tissue.CORTEX])
    r.paint(r.inside(distance - _CORTEX_MM, r.soft + 0.5) * cover, marrow)


def _marrow(r: Region, palette: Palette, texture: Texture) -> Float32Array:
    """Marrow signal with its mottling. # [C, n]"""
    mottle = 1 + 0.07 * texture.fine[r.at] + 0.05 * texture.coarse[r.at]
    return palette[Tissue.MARROW] * mottle.astype(np.float32)


def _posterior_fat(near: Region, palette: Palette, texture: Texture) -> None:
    """Fat and ligaments between and beside the spinous processes, and around the facets."""
    r = near.where((near.v > 4) & (near.a < 24))
    streak = texture.streak[r.at]
    cover = r.inside(13.0 - r.a - 0.22 * np.abs(r.v - 18) + 2.0 * streak, 5.0) * r.inside(46 - r.v, 6.0)
    fibre = smoothstep(0.62 - 0.28 * streak - 0.035 * np.maximum(r.v - 20, 0))
    r.paint(cover, palette[Tissue.LIGAMENT] + fibre * (palette[Tissue.FAT] - palette[Tissue.LIGAMENT]))


def _arch(r: Region, palette: Palette, texture: Texture) -> None:
    """Laminae, articular processes, transverse and spinous processes."""
    marrow = _marrow(r, palette, texture)
    free = 1 - r.get("sacral")
    t, tv, back = r.get("to_disc"), r.get("to_vertebra"), r.get("canal_back")
    wall = back - 0.62 * np.maximum(r.a - 1.5, 0)
    grown = r.get("recess") * r.get("at_disc")
    lamina = np.minimum(3.4 - np.abs(r.v - wall - 3.2 + 0.25 * (tv - 6)), np.minimum(9.5 - np.abs(tv - 7.5), 15.0 - r.a))
    _bone(r, lamina, palette, marrow, free)
    # Inferior articular process: from the pars down and back, inside and behind its partner from below.
    lower = ellipse(r.a - 14.0 + grown, r.v - (16.5 + 0.42 * (t + 4)), 6.2, 4.6)
    _bone(r, np.minimum(lower, np.minimum(t + 21, 9 - t)), palette, marrow, free)
    # Superior articular process of the vertebra below: rises in front and outside, grows forward when worn.
    upper = ellipse(r.a - 18.0 + 1.2 * grown, r.v - (12.0 - 0.12 * t - 1.4 * grown), 6.0, 4.4 - 0.12 * np.maximum(-t, 0))
    _bone(r, np.minimum(upper, np.minimum(t + 10.5, 17 - t)), palette, marrow, free)
    joint = ellipse(r.a - 16.2 + grown, r.v - 14.6 + 0.1 * t, 5.0, 0.9) * r.inside(8 - np.abs(t))
    r.paint(r.inside(joint) * 0.8 * free * r.inside(7 - np.abs(t)), palette[Tissue.CARTILAGE])
    transverse = ellipse(tv + 3.0 + 0.15 * (r.a - 20), r.v - 9.5 - 0.1 * r.a, 4.5, 3.2)
    _bone(r, np.minimum(transverse, r.a - 18), palette, marrow, free)
    # Spinous process: tilted down, thicker at its lower edge.
    drop = tv - 9.0 - 0.16 * (r.v - back)
    tall = 8.8 - 0.05 * (r.v - back) - 2.2 * r.get("thoracic")
    length = np.minimum(r.v - back - 1.0, back + 29 - r.v)
    spinous = np.minimum(np.minimum(tall - np.abs(drop), length), 3.4 + 0.03 * (r.v - back) - r.a)
    _bone(r, spinous, palette, marrow, free)
    crest = np.minimum(np.minimum(r.v - back - 0.5, back + 7 + 3 * np.cos(tv * 0.25) - r.v), 15 - r.a)
    _bone(r, crest, palette, marrow, r.get("sacral"))


def _foramen(r: Region, palette: Palette) -> None:
    """Neural foramina: a keyhole of fat with the root in its upper part; narrowing takes the fat, then the root."""
    g, t = r.get("foramen"), r.get("to_disc")
    free = (1 - r.get("sacral")) * r.inside(r.a - r.get("canal_half_width") + 1.5, 2.0) * r.inside(29 - r.a, 3.0)
    top = t + r.get("foramen_height") + FORAMEN_RISE_MM
    hole = np.maximum(
        ellipse(top, r.v - FORAMEN_BACK_MM, 7.6, 6.0),
        ellipse(t - 1.0, r.v - FORAMEN_BACK_MM + 1.0, 8.5, 4.6),
    )
    tissue = 0.55 * palette[Tissue.LIGAMENT] + 0.45 * palette[Tissue.MUSCLE]
    r.paint(r.inside(hole) * free, tissue)
    fat = np.maximum(
        ellipse(top + 0.5 * g, r.v - FORAMEN_BACK_MM - 0.4 * g, 7.4 - 4.4 * g, 5.6 - 3.9 * g),
        ellipse(t - 0.5 + 3 * g, r.v - FORAMEN_BACK_MM + 0.6, 7.2 - 5.2 * g, 3.9 - 3.8 * g),
    )
    r.paint(r.inside(fat) * free, palette[Tissue.FAT])
    for dt, dv in ((3.6, 1.2), (-0.5, 3.2), (-4.6, -1.5)):
        r.paint(r.inside(ellipse(top - dt, r.v - FORAMEN_BACK_MM - dv, 0.9, 0.8)) * free * (1 - g), palette[Tissue.BLOOD])
    slope = 0.18 * (r.a - 16)
    root = ellipse(top + 1.2 - slope, r.v - FORAMEN_BACK_MM - 0.2, 3.0 - 0.5 * g, 2.5 - 1.1 * g)
    r.paint(r.inside(root) * free, palette[Tissue.NERVE])


def _canal(r: Region, palette: Palette, texture: Texture) -> None:
    """Epidural fat, flavum, sac, cord and roots."""
    back, crowd, at_disc = r.get("canal_back"), r.get("crowding"), r.get("at_disc")
    wall = back - 0.62 * np.maximum(r.a - 1.5, 0)
    inside = np.minimum(np.minimum(r.v + 0.5, wall - r.v), r.get("canal_half_width") - r.a)
    filler = palette[Tissue.EPIDURAL] + crowd * 0.85 * (palette[Tissue.LIGAMENT] - palette[Tissue.EPIDURAL])
    r.paint(r.inside(inside), filler)
    thickness = r.get("flavum")
    flavum = np.minimum(np.minimum(thickness - np.abs(wall - r.v - thickness * 0.5) * 1.6, r.a - 1.2 + 2.5 * crowd), 14 - r.a)
    r.paint(r.inside(flavum) * r.inside(at_disc - 0.5, 0.8) * (1 - r.get("sacral")), palette[Tissue.LIGAMENT])
    front, rear, half = r.get("sac_front"), r.get("sac_back"), r.get("sac_half_width")
    middle, half_ap = (front + rear) / 2, np.maximum((rear - front) / 2, 0.3)
    depth = (r.v - middle) / half_ap
    across = r.u / np.maximum(half * (1 - 0.42 * r.get("sac_triangle") * depth), 0.3)
    sac = ellipse(across * half, depth * half_ap, np.maximum(half, 0.3), half_ap)
    r.paint(r.inside(sac + 0.6), palette[Tissue.LIGAMENT])
    cover = r.inside(sac)
    r.paint(cover, palette[Tissue.CSF])
    _nerves(r.where(cover > 0), palette)


def _nerves(r: Region, palette: Palette) -> None:
    """Cord above the conus, and the cauda equina below, which settles to the back when the patient lies supine."""
    front, rear, half = r.get("sac_front"), r.get("sac_back"), r.get("sac_half_width")
    middle, half_ap = (front + rear) / 2, np.maximum((rear - front) / 2, 0.3)
    below = r.get("to_conus")
    taper = np.clip(-below / 28, 0, 1) ** 0.6
    cord = ellipse(r.u, r.v - middle - 1.2 + 0.8 * taper, 0.3 + 4.6 * taper, 0.3 + 3.7 * taper)
    r.paint(r.inside(cord) * r.inside(-below, 2.0), palette[Tissue.CORD])
    leaving = np.clip(r.get("sacral") * 1.2 + below / 260, 0, 0.8)
    seen = np.clip((below + 25) / 25, 0, 1)
    covered = np.zeros_like(r.u)
    for n, (across, depth) in enumerate(_ROOTS):
        keep = np.clip(1.6 - 1.4 * leaving - 0.045 * (n % 8) * 0.5, 0, 1) * seen
        wave = 0.06 * np.sin(below * 0.11 + 1.9 * n)
        du = r.u - (across + wave) * half * (1 - 0.1 * leaving)
        dv = r.v - middle - (depth + wave) * half_ap
        covered = np.maximum(covered, r.inside(ellipse(du, dv, _ROOT_RADIUS_MM, _ROOT_RADIUS_MM * 1.1)) * keep)
    # Crowded roots swallow the CSF between them: what is left is grey.
    covered = np.maximum(covered, np.clip(1.35 * r.get("crowding") - 0.25, 0, 0.85))
    r.paint(covered, palette[Tissue.NERVE])


def _outline(r: Region, grow: Float32Array | float) -> tuple[Float32Array, Float32Array]:
    """Axial outline of body or disc: distance in mm (positive inside) and squared relative radius. # [n] each"""
    half_a, half_b = r.get("half_width") + grow, r.get("depth") / 2 + grow
    dent = 1.8 * (r.u / half_a) ** 2
    p, q = (r.u / half_a) ** 2, ((r.v - dent + half_b - grow) / half_b) ** 2
    squared = p + q - 0.3 * p * q
    slope = 2 * np.sqrt(p * ((1 - 0.3 * q) / half_a) ** 2 + q * ((1 - 0.3 * p) / half_b) ** 2) + np.float32(1e-4)
    return ((1 - squared) / slope).astype(np.float32), squared


def _bulge(r: Region) -> Float32Array:
    """How far the disc stands behind the bodies, blended from centre, recess and foramen. # [n]"""
    to_recess, to_foramen = smoothstep((r.a - 4.5) / 4.5), smoothstep((r.a - 11.5) / 4)
    side = r.get("bulge_recess") + to_foramen * (r.get("bulge_foramen") - r.get("bulge_recess"))
    return r.get("bulge") + to_recess * (side - r.get("bulge"))


def _bodies(r: Region, palette: Palette, texture: Texture) -> None:
    """Vertebral bodies and discs."""
    outline, squared = _outline(r, 0.0)
    health = r.get("health")
    worn = 1 - health
    # Discs are lens-shaped: endplates are concave in the middle.
    edge = r.get("edge") - (0.4 + 1.0 * health) * np.clip(1 - squared, 0, 1) + 0.25 * texture.fine[r.at]
    bulge = _bulge(r)
    behind = np.where(r.v > -6, bulge, 0.5 + 0.8 * worn)
    disc_outline = np.maximum(outline + 0.4 + 0.6 * worn, np.minimum(bulge - r.v, r.v + 6 + 0 * behind) * (r.a < 24))
    disc_outline = np.minimum(disc_outline, r.get("half_width") + 1 - r.a)
    disc = np.minimum(disc_outline, 0.8 - edge)
    body = np.minimum(outline, edge)
    marrow = _marrow(r, palette, texture)
    patch = r.get("modic") * np.clip(1 - np.abs(r.get("edge") - 3) / 5, 0, 1) * (0.6 + 0.4 * texture.coarse[r.at])
    fatty = palette[Tissue.FAT] - palette[Tissue.MARROW]
    marrow = marrow + fatty * np.clip(patch, 0, 0.8) + (palette[Tissue.LIGAMENT] - palette[Tissue.MARROW]) * np.clip(-patch, 0, 0.6)
    r.paint(r.inside(outline + 0.8) * r.inside(edge + 1), palette[Tissue.CORTEX])
    r.paint(r.inside(body - 0.7, r.soft + 0.4), marrow)
    vein = np.minimum(1.3 - np.abs(r.get("to_vertebra")), np.minimum(r.v + 11 - 0.6 * r.a, 7 - r.a))
    r.paint(r.inside(vein) * r.inside(-r.v) * 0.6 * (1 - r.get("sacral")), palette[Tissue.VEIN])
    r.paint(r.inside(disc), palette[Tissue.ANNULUS])
    _nucleus(r, edge, squared, palette, texture)


def _nucleus(r: Region, edge: Float32Array, squared: Float32Array, palette: Palette, texture: Texture) -> None:
    """The inner disc: bright and high when healthy, with a dark cleft in middle age, dark when worn."""
    health = r.get("health")
    core = smoothstep((0.74 - squared) / 0.4) * r.inside(-edge - 0.4, 1.6)
    cleft = 1 - 0.45 * np.clip(1.4 - 2 * np.abs(health - 0.6), 0, 1) * np.exp(-((r.get("to_disc") / 1.1) ** 2))
    bright = health * cleft * (1 + 0.06 * texture.fine[r.at])
    inner = palette[Tissue.ANNULUS] + (0.12 + 0.88 * bright) * (palette[Tissue.NUCLEUS] - palette[Tissue.ANNULUS])
    r.paint(core, inner)


def _pedicles(r: Region, palette: Palette, texture: Texture) -> None:
    """Pedicles join the upper half of each body to its arch; marrow runs through."""
    tv, middle = r.get("to_vertebra"), r.get("canal_half_width") + 4.0
    pedicle = ellipse(tv + 4.6, r.a - middle, 6.8, 4.2)
    pedicle = np.minimum(pedicle, np.minimum(r.v + 8, 13 - r.v))
    r.paint(r.inside(pedicle + 0.8) * r.inside(r.v) * (1 - r.get("sacral")), palette[Tissue.CORTEX])
    r.paint(r.inside(pedicle, r.soft + 0.4) * (1 - r.get("sacral")), _marrow(r, palette, texture))


def _recess(r: Region, palette: Palette) -> None:
    """Subarticular recess beside the sac: narrowed from disc and facet until the root is displaced and squeezed."""
    g, at_disc = r.get("recess"), r.get("at_disc")
    # Beside the sac and behind the disc's side bulge, wherever those lie.
    middle = r.get("sac_half_width") + 2.4 - 0.8 * g
    back = RECESS_BACK_MM + 0.9 * g
    shown = r.inside(at_disc - 0.5, 0.6) * (1 - r.get("sacral"))
    pocket = ellipse(r.a - middle, r.v - back, 4.0, 4.4)
    r.paint(r.inside(pocket) * shown * np.clip(2.2 * g, 0, 1), palette[Tissue.LIGAMENT])
    fat = ellipse(r.a - middle + 0.3 * g, r.v - back, 3.5 - 2.3 * g, 3.7 - 3.4 * g)
    r.paint(r.inside(fat) * shown, palette[Tissue.CSF] * 0.5 + palette[Tissue.EPIDURAL] * 0.5)
    root = ellipse(r.a - middle + 1.4 * g, r.v - back, 1.6 - 0.3 * g, 1.5 - 0.7 * g)
    r.paint(r.inside(root) * shown, palette[Tissue.NERVE])
