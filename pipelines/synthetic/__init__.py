"""Synthetic studies in the challenge's format, with the truth behind them."""

from pipelines.synthetic.generate import GENERATOR_VERSION, SynthOptions, generate
from pipelines.synthetic.grades import Labels, grade_probabilities, sample_labels
from pipelines.synthetic.scanner.acquire import Preset

__all__ = ["GENERATOR_VERSION", "Labels", "Preset", "SynthOptions", "generate", "grade_probabilities", "sample_labels"]
