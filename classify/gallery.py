"""Pictures of single findings: the costliest mistakes, and what the network looks at."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from classify.config import ClassifyConfig, CropConfig
from classify.crop_cache import CacheJob, cut_crops
from classify.crops import CropSpec
from classify.device import pick_device
from classify.network.checkpoint import ModelCard, load_card, load_model
from shared.data.challenge import Challenge
from shared.detections import Localizations
from shared.figures import plots
from shared.labels import FINDINGS, SEVERITY_WEIGHTS, Condition, Severity
from shared.mirror.correct import as_shown
from shared.probabilities.table import ProbabilityTable
from shared.splits import Splits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from classify.network.model import SeverityNet

Place = tuple[int, int]  # indices of a study in the table and of a finding in `FINDINGS`


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """Held-out predictions of a run, and what is needed to cut their crops again.

    Attributes:
      truth: [n, 25] grades of the table's studies, -1 where not graded.
      splits: of the run.
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

    def fold_of(self, place: Place) -> int:
        return self.splits.fold_of(self.table.study_ids[place[0]])

    def crop(self, place: Place) -> NDArray[np.uint8] | None:
        """The finding's crop as its fold's network sees it, [channels, px, px]; None when it cannot be cut."""
        config = self.config
        finding, given = FINDINGS[place[1]], self.data.load_study(self.table.study_ids[place[0]]).study
        card = load_card(self.run / f"fold{self.fold_of(place)}")
        job = CacheJob(
            data=self.data, config=config, localizations=self.localizations, conditions=(finding.condition,),
            unmirror=card.unmirror,
        )  # fmt: skip
        study = as_shown(given, look=job.looks).study
        point = job.points(study).get(finding)
        cut = cut_crops(study, {finding: point} if point else {}, lambda f: CropSpec.final(config, f))
        return cut.crops.get(finding)

    def picture(self, place: Place, crop: NDArray[np.uint8], drop: NDArray[np.float64] | None = None) -> plots.Crop:
        """The localized slice of a crop, captioned with the true grade and the probabilities of the grades."""
        finding, true = FINDINGS[place[1]], int(self.truth[place])
        grade = Severity(true).display if true >= 0 else "not graded"
        caption = f"true {grade}\n" + " / ".join(f"{v:.2f}" for v in self.table.probabilities[place])
        if drop is not None:
            caption += f"\nlargest drop {max(float(drop.max()), 0.0):.2f}"
        title = f"{finding.side or ''} {finding.level.display}\n{self.table.study_ids[place[0]]}".strip()
        return plots.Crop(picture=crop[self.config.slices // 2], title=title, caption=caption, overlay=drop)

    def worst_mistakes(self, condition: Condition, count: int) -> list[Place]:
        """The model's graded rows of a condition with the largest weighted log loss, worst first."""
        true = np.where(self.truth >= 0, self.truth, 0).astype(np.intp)
        p_true = np.take_along_axis(self.table.submission, true[..., None], axis=-1)[..., 0]
        loss = np.asarray(SEVERITY_WEIGHTS)[true] * -np.log(np.clip(p_true, 1e-15, 1))
        loss[(self.truth < 0) | ~self._gradable(condition)] = -1
        order = np.argsort(-loss, axis=None, kind="stable")[:count]
        places = [(int(i) // len(FINDINGS), int(i) % len(FINDINGS)) for i in order]
        return [place for place in places if loss[place] >= 0]

    def surest_severe(self, condition: Condition, count: int) -> list[Place]:
        """The rows of a condition with the largest predicted probability of Severe, one per study."""
        severe = self.table.probabilities[..., Severity.SEVERE].copy()
        severe[~self._gradable(condition)] = -1
        best = severe.argmax(1)
        order = np.argsort(-severe.max(1), kind="stable")[:count]
        return [(int(s), int(best[s])) for s in order if severe[s, best[s]] >= 0]

    def _gradable(self, condition: Condition) -> NDArray[np.bool_]:
        """Rows of the condition that the model answered, [n, 25]."""
        return self.table.from_model & np.array([f.condition is condition for f in FINDINGS])


def crops_figure(gallery: Gallery, places: Sequence[Place]) -> "Figure | None":
    """Crops of the findings with their true and predicted grades; None when none can be cut."""
    row = [gallery.picture(place, crop) for place in places if (crop := gallery.crop(place)) is not None]
    return plots.crops(row) if row else None


def occlusion_figure(gallery: Gallery, places: Sequence[Place]) -> "Figure | None":
    """Crops, red where covering a patch lowers the probability of Severe; None when none can be cut."""
    from classify.occlusion import occlusion_map

    device = pick_device("auto")
    networks: dict[int, tuple[ModelCard, SeverityNet]] = {}
    row = []
    for place in places:
        crop, fold = gallery.crop(place), gallery.fold_of(place)
        if crop is None:
            continue
        if fold not in networks:
            card = load_card(gallery.run / f"fold{fold}")
            networks[fold] = card, load_model(gallery.run / f"fold{fold}", card, device)
        row.append(gallery.picture(place, crop, occlusion_map(*networks[fold], crop, place[1])))
    return plots.crops(row) if row else None
