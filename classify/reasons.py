"""Why findings of a study get the training prior, as far as stage 2 can tell from its series, points and crops."""

from collections.abc import Collection, Mapping

from shared.detections import Localization
from shared.dicom.pixels import has_readable_slice
from shared.labels import FINDINGS, Condition, Finding, View
from shared.probabilities.reasons import PriorReason
from shared.study import Study


def prior_reasons(
    study: Study,
    localizations: Mapping[Finding, Localization],
    uncut: Mapping[Finding, PriorReason],
    families: Collection[Condition],
) -> dict[Finding, PriorReason]:
    """The findings without a crop, each with the reason.

    A level that has a point in one view only was seen, so the series of the other views do not cover it.

    Args:
      localizations: where the crops should lie.
      uncut: the localized findings whose crops could not be cut.
      families: conditions that the classifier was trained for.
    """
    absent = absent_views(study)
    seen = {finding.level for finding in localizations}
    without_crop = [f for f in FINDINGS if f in uncut or f not in localizations or f.condition not in families]
    # A view is read only when something of it is missing.
    unreadable = {v for v in {f.view for f in without_crop} - absent.keys() if not has_readable_slice(study, v)}

    def reason(finding: Finding) -> PriorReason:
        if finding.condition not in families:
            return PriorReason.NOT_TRAINED
        if finding.view in absent:
            return absent[finding.view]
        if finding.view in unreadable:
            return PriorReason.SERIES_UNREADABLE
        if finding in uncut:
            return uncut[finding]
        return PriorReason.NOT_COVERED if finding.level in seen else PriorReason.LEVEL_NOT_SEEN

    return {finding: reason(finding) for finding in without_crop}


def absent_views(study: Study) -> dict[View, PriorReason]:
    """The views without a series, and whether one is there that cannot be read."""
    return {
        view: PriorReason.SERIES_UNREADABLE if view in study.unreadable else PriorReason.NO_SERIES
        for view in View
        if not study.of_view(view)
    }
