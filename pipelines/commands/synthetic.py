"""`lumbar demo` and `lumbar synth`, which makes the demo's studies."""

import argparse
import sys

from shared.runtime import arguments as args


def add_parsers(commands: args.Commands) -> None:
    """Adds the commands."""
    _add_demo(commands)
    _add_synth(commands)


def _add_demo(commands: args.Commands) -> None:
    p = args.add_command(
        commands, "demo", "run the whole pipeline on synthetic studies",
        "Makes synthetic studies, trains both stages, grades unseen studies and compares the scores with baselines.",
    )  # fmt: skip
    args.add_paths(p, out="folder to write to: data, models, reports and submission.csv")
    _add_synth_options(p, studies=180, test_studies=24)
    args.add_seed(p, "random seed of the data, the splits and the training")
    args.add_folds(p, args.FOLD, "0")
    args.add_device(p)
    args.add_workers(p)
    for stage in ("localize", "classify"):
        args.add_path(p, f"--{stage}-config", "FILE", f"TOML config (default: the shipped configs/{stage}/demo.toml)")
    args.add_output(p, resume="continue an unfinished demo and keep its finished steps")
    p.set_defaults(func=_demo)


def _demo(a: argparse.Namespace) -> int:
    from pipelines.demo import DemoOptions, demo

    options = DemoOptions(
        studies=a.studies, test_studies=a.test_studies, preset=a.preset, seed=a.seed, fold=",".join(a.fold or ["0"]),
        device=a.device, workers=a.workers, localize_config=a.localize_config, classify_config=a.classify_config,
    )  # fmt: skip
    sys.stdout.write(demo(a.out, options, overwrite=a.overwrite, resume=a.resume) + "\n")
    return 0


def _add_synth(commands: args.Commands) -> None:
    p = args.add_command(
        commands, "synth", "make synthetic studies in the challenge's format",
        "Writes a challenge directory to OUT/data. Writes the true test grades and points, the latent variables, the "
        "oracle and the manifest to OUT/truth.",
    )  # fmt: skip
    args.add_paths(p, out="folder to write to")
    _add_synth_options(p, studies=100, test_studies=20)
    args.add_seed(p, "random seed; the same seed gives the same files, byte for byte")
    p.add_argument(
        "--traps", action="store_true", help="plant faults that real data have; OUT/truth/manifest.json lists them"
    )
    args.add_workers(p)
    args.add_output(p, resume=args.KEPT)
    p.set_defaults(func=_synth)


def _synth(a: argparse.Namespace) -> int:
    from pipelines.synth import synth
    from pipelines.synthetic import SynthOptions

    options = SynthOptions(studies=a.studies, test_studies=a.test_studies, preset=a.preset, seed=a.seed, traps=a.traps)
    synth(a.out, options, workers=a.workers, overwrite=a.overwrite, resume=a.resume)
    return 0


def _add_synth_options(p: argparse.ArgumentParser, *, studies: int, test_studies: int) -> None:
    p.add_argument(
        "--studies", type=args.whole(1), default=studies, metavar="N", help="training studies (default: %(default)s)"
    )
    p.add_argument(
        "--test-studies",
        type=args.whole(0),
        default=test_studies,
        metavar="N",
        help="unseen test studies (default: %(default)s)",
    )
    p.add_argument(
        "--preset", choices=("demo", "full"), default="demo",
        help="matrix sizes: demo for small ones, full for those of real scans (default: %(default)s)",
    )  # fmt: skip
