"""Probabilities of findings: why some are the prior, tables of them with the arithmetic on them, and their files."""
