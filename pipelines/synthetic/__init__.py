"""Synthetic studies in the challenge's format, with the truth behind them.

A patient is drawn around sampled grades, painted on slices, scanned and written. Imports run one way along that path:

    grades     latent stenosis and recorded grades of the 25 findings
    anatomy    the patient in numbers: spine, profiles along it, build
    painting   tissues on the points of a slice
    scanner    stacks of slices, their signal, noise and artefacts, and the points that readers mark
    traps      faults of the real data, planted on request
    dicom_files, tables    what is written of a study and of the whole data set
    simulate   one study from its seed to its files
    generate   the whole data set
"""

from pipelines.synthetic.generate import GENERATOR_VERSION, SynthOptions, generate
from pipelines.synthetic.grades import Labels, grade_probabilities, sample_labels
from pipelines.synthetic.scanner.stack import Preset

__all__ = ["GENERATOR_VERSION", "Labels", "Preset", "SynthOptions", "generate", "grade_probabilities", "sample_labels"]
