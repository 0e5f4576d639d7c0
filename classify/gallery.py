"""Pictures of single findings: the costliest mistakes, and what the network looks at."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from classify.config import ClassifyConfig, CropConfig
from classify.crop_cache import CacheJob, cut_crops
from classify.crops import CropSpec
from classify.device import pick_device
from classify.figures import panels
from classify.network.checkpoint import ModelCard, load_card, load_model
from classify.network.model import SeverityNet
from classify.occlusion import occlusion_map
from shared.data.challenge import Challenge
from shared.detections import Localizations
from shared.labels import FINDINGS, Condition, Severity
from shared.mirror.correct import as_shown
from shared.probabilities import ProbabilityTable, unweighted
from shared.splits import Splits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Places = Sequence[tuple[int, int]]
_OPACITY: Final = 0.45
# Drops in probability below this stay pale.
_FAINT: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A run's held-out predictions and what is needed to cut their crops again.

    Attributes:
      splits: of the run.
      truth: grades of the table's studies, -1 not graded. # [n, 25]
      localizations: where the crops lay; None for annotated points.
    """

    table: ProbabilityTable
    truth: NDArray[np.int8]
    data: Challenge
    run: Path
    splits: Splits
    localizations: Localizations | None

    @property
    def config(self) -> CropConfig:
        return ClassifyConfig.load(self.run / "config.toml").crop

    def fold_of(self, place: tuple[int, int]) -> int:
        return self.splits.fold_of(self.table.study_ids[place[0]])

    def crop(self, place: tuple[int, int]) -> NDArray[np.uint8] | None:
        """The finding's crop as its fold's network sees it; None when it cannot be cut. # [channels, px, px]"""
        config = self.config
        finding, given = FINDINGS[place[1]], self.data.load_study(self.table.study_ids[place[0]]).study
        card = load_card(self.run / f"fold{self.fold_of(place)}")
        job = CacheJob(
            data=self.data, config=config, localizations=self.localizations, conditions=(finding.condition,),
            unmirror=card.unmirror,
        )  # fmt: skip
        study = as_shown(given, look=job.looks).study
        point = job.points(study).get(finding)
        crops, _ = cut_crops(study, {finding: point} if point else {}, lambda f: CropSpec.final(config, f))
        return crops.get(finding)

    def middle(self, crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The localized slice. # [channels, px, px] -> [px, px]"""
        return crop[self.config.slices // 2]

    def caption(self, place: tuple[int, int]) -> tuple[str, str]:
        """Title and axis label: which finding; its true grade and the probabilities of the grades, without the
        metric's weights."""
        finding, true = FINDINGS[place[1]], int(self.truth[place])
        title = f"{finding.side or ''} {finding.level.display}\n{self.table.study_ids[place[0]]}".strip()
        grade = Severity(true).display if true >= 0 else "not graded"
        return title, f"true {grade}\n" + " / ".join(f"{v:.2f}" for v in unweighted(self.table.values[place]))


def gallery_figure(held: Held, places: Places) -> "Figure | None":
    """Middle slices of (study, finding) places with their true and predicted grades; None when none can be cut."""
    tiles = [(held.middle(crop), *held.caption(p)) for p in places if (crop := held.crop(p)) is not None]
    if not tiles:
        return None
    figure, axes = panels(len(tiles), 1.9, 2.7)
    for axis, (pixels, title, grade) in zip(axes, tiles, strict=True):
        axis.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        axis.set_title(title, fontsize=7)
        axis.set_xlabel(grade, fontsize=7)
        axis.set(xticks=[], yticks=[])
    figure.tight_layout()
    return figure


def surest_severe(held: Held, condition: Condition, count: int) -> list[tuple[int, int]]:
    """(study, finding) places of a condition with the largest predicted probability of Severe, one per study."""
    severe = unweighted(held.table.values)[..., Severity.SEVERE].copy()
    severe[~held.table.from_model] = -1
    severe[:, [f.index for f in FINDINGS if f.condition is not condition]] = -1
    best = severe.argmax(1)
    order = np.argsort(-severe.max(1), kind="stable")[:count]
    return [(int(s), int(best[s])) for s in order if severe[s, best[s]] >= 0]


def occlusion_figure(held: Held, places: Places) -> "Figure | None":
    """Middle slices, red where covering a patch lowers the probability of Severe; None when none can be cut."""
    device = pick_device("auto")
    networks: dict[int, tuple[ModelCard, SeverityNet]] = {}
    tiles = []
    for place in places:
        crop, fold = held.crop(place), held.fold_of(place)
        if crop is None:
            continue
        if fold not in networks:
            card = load_card(held.run / f"fold{fold}")
            networks[fold] = card, load_model(held.run / f"fold{fold}", card, device)
        tiles.append((held.middle(crop), occlusion_map(*networks[fold], crop, place[1]), place))
    if not tiles:
        return None
    figure, axes = panels(len(tiles), 2.1, 2.8)
    for axis, (pixels, drop, place) in zip(axes, tiles, strict=True):
        title, grade = held.caption(place)
        axis.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        limit = max(float(np.abs(drop).max()), _FAINT)
        axis.imshow(drop, cmap="coolwarm", vmin=-limit, vmax=limit, alpha=_OPACITY)
        axis.set_title(title, fontsize=7)
        axis.set_xlabel(f"{grade}\nlargest drop {max(float(drop.max()), 0.0):.2f}", fontsize=7)
        axis.set(xticks=[], yticks=[])
    figure.tight_layout()
    return figure
