"""The scan of a drawn patient: stacks of slices with contrast, resolution, noise and artefacts."""
