"""Synthetic studies in the challenge's format, with the truth behind them."""

from shared.synthetic.generate import GENERATOR_VERSION, generate
from shared.synthetic.grades import Labels, grade_probabilities, sample_labels

__all__ = ["GENERATOR_VERSION", "Labels", "generate", "grade_probabilities", "sample_labels"]
