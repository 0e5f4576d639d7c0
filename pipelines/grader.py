"""Runs both stages on a study and returns the probabilities of its 25 findings with the evidence for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from classify.reasons import absent_views
from pipelines.ensembles.classifiers import ClassifierEnsemble, Grades
from pipelines.ensembles.localizers import LocalizerEnsemble, Localizes
from pipelines.ensembles.members import Members, Team
from pipelines.result import StudyResult
from shared.backends.backend import TORCH, Backend
from shared.data.source import open_source
from shared.detections import Detection, Localization
from shared.labels import FINDINGS, Condition, Finding, findings_of
from shared.mirror.correct import as_shown
from shared.numbering import Numbering
from shared.probabilities.reasons import PriorReason, PriorReasons, is_from_model
from shared.probabilities.table import floored, shrunk
from shared.runtime.errors import InputError
from shared.runtime.problems import counted
from shared.study import LoadedStudy, Study, gaps_mm

if TYPE_CHECKING:
    from localize.localizer import StudyLocalization

# A point that is more surely wrong than this is not graded.
LEAST_SCORE: Final = 0.1
# Slices further apart than this many usual gaps have others missing between them.
_WIDE_GAP: Final = 1.8
_MOST_GAPS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Grader:
    """A localizer and a classifier, or ensembles of them, ready to grade studies."""

    localizer: Localizes
    classifier: Grades

    @classmethod
    def load(
        cls, members: Members, *, team: Team | None = None, device: str = "auto", tta: bool = False,
        backend: Backend = TORCH,
    ) -> "Grader":  # fmt: skip
        """Loads the runs of both stages. Several runs of a stage answer together (`pipelines.ensembles`).

        Args:
          team: the fold of each run that answers; None for all trained folds of all runs.
          device: auto, cpu, mps, cuda, cuda:N or N.
          tta: whether to average over shifted, turned and scaled copies of each crop.
          backend: what computes the networks of both stages.

        Raises:
          InputError: when a run was changed, a fold, the device or an export is not there, or the runs read mirrored
            series differently.
        """
        from classify.predict import Classifier
        from localize.localizer import Localizer

        folds = [None if fold is None else [fold] for fold in team or (None,) * len(members.runs)]
        count = len(members.localizers)
        localizers = [
            Localizer.load(run, folds=own, device=device, backend=backend)
            for run, own in zip(members.localizers, folds[:count], strict=True)
        ]
        classifiers = [
            Classifier.load(run, folds=own, device=device, tta=tta, backend=backend, fast=members.fast)
            for run, own in zip(members.classifiers, folds[count:], strict=True)
        ]
        unmirror = [*(x.unmirror for x in localizers), *(x.unmirror for x in classifiers)]
        other = next((n for n, value in enumerate(unmirror) if value != unmirror[0]), None)
        if other is not None:
            raise InputError(
                f"{members.runs[0]} reads mirrored series with unmirror = {unmirror[0]}, {members.runs[other]} with "
                f"{unmirror[other]}; train the classifier on the points of this localizer"
            )
        return cls(
            localizer=localizers[0] if count == 1 else LocalizerEnsemble(localizers),
            classifier=classifiers[0]
            if len(classifiers) == 1
            else ClassifierEnsemble(classifiers, members.per_finding()),
        )

    def predict(self, study: str | Path | Study | LoadedStudy) -> StudyResult:
        """Localizes and grades one study. Bad data becomes prior rows and a problem, never an exception.

        All loaded folds answer, also for a study that they were trained on; `lumbar predict` answers training studies
        by the fold that held them out.

        Args:
          study: a study, or a folder or archive that holds the DICOM files of one.

        Raises:
          InputError: for a folder that cannot be read or does not hold exactly one study.
        """
        if isinstance(study, str | Path):
            study = _only_study(Path(study))
        loaded = study if isinstance(study, LoadedStudy) else LoadedStudy(study=study)
        # Sides, crops and their handedness must come from one reading of the series, so both stages share it.
        shown = as_shown(loaded.study, look=self.localizer.unmirror)
        problems = [*loaded.problems, *shown.problems, *_missing_views(loaded.study)]
        detections: tuple[Detection, ...] = ()
        localizations: Mapping[Finding, Localization] = {}
        numbering: Numbering | None = None
        try:
            located = self.localizer.localize(shown.study)
            detections = located.detections
            if not located.not_lumbar:
                numbering = located.numbering
                localizations = {f: shown.as_given(x) for f, x in located.localizations.items()}
            answer = self._answer(shown.study, located)
            problems += [*located.problems, *answer.problems, *_gaps(loaded.study, localizations)]
        except InputError as error:
            problems.append(f"study {loaded.study.study_id}: {error}")
            answer = self._failed(loaded.study)
        return StudyResult(
            study=loaded.study, submission=answer.submission, reasons=answer.reasons, localizations=localizations,
            detections=detections, problems=tuple(problems), numbering=numbering, turned=shown.turned,
            listed=loaded.listed,
        )  # fmt: skip

    def _answer(self, study: Study, located: "StudyLocalization") -> "_Answer":
        """Grades the points that may be right, and shrinks each answer to the prior by the chance that it is wrong."""
        points, prior = located.localizations, self.classifier.prior
        sure = {f: x for f, x in points.items() if x.score >= LEAST_SCORE and not located.not_lumbar}
        graded = self.classifier.grade(study, sure)
        certainty = np.array([sure[f].score if f in sure else 0.0 for f in FINDINGS])
        from_model = is_from_model(graded.reasons)
        submission = floored(shrunk(graded.submission, prior, np.where(from_model, certainty, 0.0)))
        # Where a doubtful point was found, slices are there: what is missing is the level.
        reasons = {
            f: PriorReason.LEVEL_NOT_SEEN if reason is PriorReason.NOT_COVERED and f in points else reason
            for f, reason in graded.reasons.items()
        }
        problems, name = list(graded.problems), f"study {study.study_id}"
        if study.other_region and not located.not_lumbar:
            problems.append(
                f"study {study.study_id}: the header of a series names another region; it was graded because its "
                "pictures look like a lumbar spine"
            )
        if located.not_lumbar:
            reasons = dict.fromkeys(FINDINGS, PriorReason.NOT_LUMBAR)
            problems.append(f"{name}: no lumbar spine was seen, so its rows come from the prior: {located.not_lumbar}")
        elif not sure and PriorReason.LEVEL_NOT_SEEN in reasons.values():
            problems.append(
                f"{name}: no lumbar level was surely seen, so its rows come from the prior; is this a lumbar spine?"
            )
        submission = np.where(from_model[:, None], submission, prior)
        return _Answer(submission=submission, reasons=reasons, problems=tuple(problems))

    def _failed(self, study: Study) -> "_Answer":
        """The prior for the whole study, after a stage stopped with an error."""
        absent = absent_views(study)
        reasons = {f: absent.get(f.view, PriorReason.STAGE_FAILED) for f in FINDINGS}
        return _Answer(submission=self.classifier.prior.copy(), reasons=reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """The submission of a study [25, 3], the reasons of its prior rows, and what could not be graded."""

    submission: NDArray[np.float64]
    reasons: PriorReasons
    problems: tuple[str, ...] = ()


def _missing_views(study: Study) -> list[str]:
    """A message for each view that the study lacks, with the rows that the prior answers for it.

    A series that is there but cannot be read has been told of by whoever read the study.
    """
    absent = absent_views(study)
    return [
        f"study {study.study_id}: has no {condition.view.value} series; its "
        f"{counted(len(findings_of(condition)), 'row')} of "
        f"{condition.value} come from the prior"
        for condition in Condition
        if absent.get(condition.view) is PriorReason.NO_SERIES
    ]


def _gaps(study: Study, localizations: Mapping[Finding, Localization]) -> list[str]:
    """A message for each gap beside which findings were graded: the slices that show them best may be missing.

    Series that were scanned in blocks have gaps by design: they have several stacks, or several wide gaps.
    """
    problems = []
    for series in study.series:
        gaps = gaps_mm(series.slices) if len(series.stacks) == 1 else np.empty(0)
        usual = float(np.median(gaps)) if len(gaps) > 3 else np.inf
        wide = np.flatnonzero(gaps > _WIDE_GAP * usual)
        for k in wide if len(wide) <= _MOST_GAPS else ():
            edges = [item.instance_number for item in series.slices[k : k + 2]]
            beside = [
                finding.column
                for finding, place in sorted(localizations.items(), key=lambda item: item[0].index)
                if place.series_id == series.series_id and place.instance_number in edges
            ]
            if beside:
                problems.append(
                    f"study {study.study_id} series {series.series_id}: {gaps[k]:.1f} mm between instances {edges[0]} "
                    f"and {edges[1]}, usually {usual:.1f} mm; graded beside the gap: {', '.join(beside)}"
                )
    return problems


def _only_study(folder: Path) -> LoadedStudy:
    source = open_source(folder)
    if len(source.study_ids) != 1:
        raise InputError(
            f"{folder}: holds {counted(len(source.study_ids), 'study')}; expected one. Name its own folder, "
            "or use `lumbar predict`"
        )
    return source.load(source.study_ids[0])
