"""Joins the stages: DICOM in, 25 submission rows per study out; the command line, evaluation, reports and the demo."""
