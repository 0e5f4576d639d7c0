"""Signal of each tissue in the three contrasts, and how it differs between scanners.

Values are relative signal (CSF on T2 and subcutaneous fat on T1 near 1) read off ordinary lumbar spine protocols:
T1 and T2 fast spin echo at 1.5 T, and short-tau inversion recovery, which nulls fat.
"""

from dataclasses import dataclass
from enum import IntEnum, auto
from typing import Final

import numpy as np

from pipelines.synthetic.anatomy.spine import Float32Array


class Weighting(IntEnum):
    """Image contrast; the column of `_SIGNAL`."""

    T1 = 0
    T2 = 1
    STIR = 2


class Tissue(IntEnum):
    """What a point is made of; the row of a palette."""

    AIR = 0
    FAT = auto()
    MARROW = auto()
    CORTEX = auto()
    NUCLEUS = auto()
    ANNULUS = auto()
    CSF = auto()
    NERVE = auto()
    CORD = auto()
    LIGAMENT = auto()
    MUSCLE = auto()
    BLOOD = auto()
    CARTILAGE = auto()
    VEIN = auto()
    BOWEL = auto()
    LIVER = auto()
    KIDNEY = auto()
    EPIDURAL = auto()


_SIGNAL: Final = {
    Tissue.AIR: (0.00, 0.00, 0.00),
    Tissue.FAT: (0.90, 0.78, 0.08),
    Tissue.MARROW: (0.46, 0.38, 0.13),
    Tissue.CORTEX: (0.06, 0.05, 0.03),
    Tissue.NUCLEUS: (0.27, 0.72, 0.70),
    Tissue.ANNULUS: (0.21, 0.10, 0.07),
    Tissue.CSF: (0.11, 1.00, 1.05),
    Tissue.NERVE: (0.34, 0.40, 0.36),
    Tissue.CORD: (0.36, 0.44, 0.38),
    Tissue.LIGAMENT: (0.14, 0.09, 0.06),
    Tissue.MUSCLE: (0.27, 0.16, 0.20),
    Tissue.BLOOD: (0.09, 0.06, 0.07),
    Tissue.CARTILAGE: (0.28, 0.45, 0.45),
    Tissue.VEIN: (0.22, 0.62, 0.55),
    Tissue.BOWEL: (0.28, 0.34, 0.42),
    Tissue.LIVER: (0.42, 0.24, 0.24),
    Tissue.KIDNEY: (0.30, 0.50, 0.56),
    Tissue.EPIDURAL: (0.78, 0.66, 0.15),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """Signal of each tissue in the channels that are rendered together."""

    signal: Float32Array  # [tissues, C]
    weightings: tuple[Weighting, ...]

    def __getitem__(self, tissue: Tissue) -> Float32Array:  # [C, 1]
        """Signal of one tissue."""
        result: Float32Array = self.signal[tissue][:, None]
        return result


def draw_palette(rng: np.random.Generator, weightings: tuple[Weighting, ...], age: float) -> Palette:
    """A scanner's and patient's signals: tissues vary by some percent, marrow turns fatty with age."""
    table = np.array([_SIGNAL[t] for t in Tissue])
    fatty = 0.1 + 0.3 * age + 0.08 * rng.standard_normal()
    table[Tissue.MARROW] += fatty * (table[Tissue.FAT] - table[Tissue.MARROW])
    table *= np.exp(0.10 * rng.standard_normal(table.shape))
    table[Tissue.MARROW] *= np.exp(rng.uniform(-0.35, 0.15))
    # Echo time and train length differ: T2 fat ranges from grey to as bright as CSF, fluid from grey to white.
    table[:, 1] = table[:, 1] ** rng.uniform(0.8, 1.35)
    table[[Tissue.FAT, Tissue.EPIDURAL], 1] *= rng.uniform(0.75, 1.15)
    table[:, 0] = table[:, 0] ** rng.uniform(0.8, 1.25)
    return Palette(signal=table[:, list(weightings)].astype(np.float32), weightings=weightings)
