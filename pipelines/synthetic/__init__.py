"""Synthetic studies in the challenge's format, with the truth behind them."""

from pipelines.synthetic.generate import GENERATOR_VERSION, generate
from pipelines.synthetic.grades import Labels, grade_probabilities, sample_labels

__all__ = ["GENERATOR_VERSION", "Labels", "generate", "grade_probabilities", "sample_labels"]
