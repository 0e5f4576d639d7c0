"""`lumbar synth`: synthetic studies in the challenge's format, with the truth behind them."""

from pathlib import Path

from pipelines.synthetic import SynthOptions, generate
from shared.runtime.files import prepare_output


def synth(out: Path, options: SynthOptions, *, workers: int = 1, overwrite: bool = False) -> None:
    """Writes OUT/data (a challenge directory) and OUT/truth (test grades, latents, oracle, manifest).

    Raises:
      InputError: when OUT is not empty and `overwrite` is off, or a worker process dies.
    """
    prepare_output(out, overwrite=overwrite)
    generate(out, options, workers=workers)
