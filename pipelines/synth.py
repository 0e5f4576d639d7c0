"""`lumbar synth`: synthetic studies in the challenge's format, with the truth behind them."""

from dataclasses import asdict
from pathlib import Path

from pipelines.synthetic import GENERATOR_VERSION, SynthOptions, generate
from shared.runtime.unfinished import ResumableOutput


def synth(out: Path, options: SynthOptions, *, workers: int = 1, overwrite: bool = False, resume: bool = False) -> None:
    """Writes OUT/data (a challenge directory) and OUT/truth (test grades, latents, oracle, manifest).

    Args:
      resume: keeps the studies that an interrupted call has finished.

    Raises:
      InputError: when OUT is not empty and neither flag is given, when an OUT to resume was begun with other options,
        or a worker process dies.
    """
    output = ResumableOutput(path=out, command="synth")
    state = {"generator": GENERATOR_VERSION, **asdict(options)}
    if output.begin(state, overwrite=overwrite, resume=resume, inputs=[]):
        return
    if not (out / "data").is_dir():  # it is the last thing that is written
        generate(out, options, workers=workers, resume=resume)
    output.finish()
