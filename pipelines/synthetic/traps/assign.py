"""The known faults of the real data set, by name, and which study gets which.

Every trap is a function of a scan. It returns the changed scan and a sentence for the manifest, or None where the scan
offers no place for it. File traps change pictures and headers, in test studies too. Label traps change the training
tables.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from pipelines.synthetic.traps.edits import Trap
from pipelines.synthetic.traps.file_traps import FILE_TRAPS
from pipelines.synthetic.traps.label_traps import LABEL_TRAPS

TRAPS: Final[Mapping[str, Trap]] = {**FILE_TRAPS, **LABEL_TRAPS}
# In a large data set no more than about this share of studies carries a trap.
_SHARE: Final = 0.4


def assign_traps(studies: int, test_studies: int, seed: int) -> dict[int, tuple[str, ...]]:
    """Which traps each study gets, by its position; with any training studies, every trap is used at least once."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 3]))
    planned: dict[int, tuple[str, ...]] = {}
    for first, count, traps in ((0, studies, tuple(TRAPS)), (studies, test_studies, tuple(FILE_TRAPS))):
        order = rng.permutation(count)
        wanted = max(len(traps), int(_SHARE * count)) if first == 0 else int(_SHARE * count)
        for k in range(wanted if count else 0):
            study = first + int(order[k % count])
            planned[study] = (*planned.get(study, ()), traps[k % len(traps)])
    return planned
