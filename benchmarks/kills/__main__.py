"""Kills each command at random moments, resumes it, and compares every file with a run that nobody killed.

    python -m benchmarks.kills                                    # writes results/kills.json, about 40 minutes
    python -m benchmarks.kills --kills 5 --command predict --out kills.json

Each chain kills one run several times before it may finish: in its first second, at its end, or anywhere between,
mostly with SIGKILL, sometimes with SIGTERM, the parent alone or all of its processes. Data and models are tiny and made
by the commands themselves. A command that the result already holds, with as many kills of the same commit, is left out,
so the same call continues after an interruption. For Linux.
"""

import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.kills.chain import Outcome, compare, draw_kills, run_chain
from benchmarks.kills.commands import COMMANDS, ROOT, Inputs, make_inputs
from benchmarks.results import header, parser, save
from shared.runtime.documents import read_json
from shared.runtime.files import remove
from shared.runtime.progress import log

_LISTED: Final = 20


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--command", action="append", choices=list(COMMANDS), help="only this one; may be repeated")
    arguments.add_argument("--kills", type=int, default=50, help="of each command (default: %(default)s)")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "lumbar-kills")
    arguments.add_argument("--out", type=Path, default=Path("results/kills.json"))
    a = arguments.parse_args()
    # A checkout elsewhere must find itself first, and what a killed process leaves must be found.
    scratch = a.work.resolve() / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(scratch)}
    head = header("python -m benchmarks.kills", device="cpu")
    result = _earlier(a.out, head)
    inputs = make_inputs(a.work.resolve(), environment)
    for name in a.command or COMMANDS:
        if result["commands"].get(name, {}).get("kills", 0) < a.kills:
            result["commands"][name] = _kill_command(name, inputs, environment, a.kills, a.seed)
            save(a.out, result)
    done = result["commands"].values()
    return 0 if all(c["identical"] == c["chains"] and not c["processes_left"] for c in done) else 1


def _earlier(path: Path, head: Mapping[str, Any]) -> dict[str, Any]:
    """The result of an earlier call on the same commit, to be continued, or an empty one."""
    found = read_json(path) if path.is_file() else {}
    same = "commands" in found and found["commit"] == head["commit"]
    return {**head, "commands": found["commands"] if same else {}}


def _kill_command(name: str, inputs: Inputs, environment: Mapping[str, str], kills: int, seed: int) -> dict[str, Any]:
    folder = inputs.folder / "runs" / name.replace(" ", "-")
    remove(folder)
    reference, seconds = folder / "reference", []
    for out in (folder / "warm", reference):  # the first run finds cold caches
        started = time.monotonic()
        untouched = run_chain(COMMANDS[name](inputs, out), out, [], environment)
        seconds.append(time.monotonic() - started)
        if untouched.error:
            sys.exit(f"error: {name} fails without any kill: {untouched.error}")
    rng = np.random.default_rng([seed, *name.encode()])
    outcomes: list[Outcome] = []
    while (hit := sum(len(o.kills) for o in outcomes)) < kills:
        out = folder / f"chain{len(outcomes):03d}"
        planned = draw_kills(rng, seconds[-1])[: kills - hit]
        outcome = run_chain(COMMANDS[name](inputs, out), out, planned, environment)
        compare(outcome, reference, out)
        outcomes.append(outcome)
        if outcome.identical:
            remove(out)
        log(f"{name}: {hit + len(outcome.kills)}/{kills} kills, {'same' if outcome.identical else 'DIFFERS'}")
    return _summary(outcomes, seconds[-1])


def _summary(outcomes: list[Outcome], seconds: float) -> dict[str, Any]:
    kills = [kill for o in outcomes for kill in o.kills]
    lost = [(o.seconds - seconds) / len(o.kills) for o in outcomes if o.kills]
    names = Counter(name for o in outcomes for name in o.differing)
    return {
        "kills": len(kills),
        "by_signal": dict(Counter(kill.signal.name for kill in kills)),
        "of_whole_group": sum(kill.group for kill in kills),
        "in_first_second": sum(kill.after_seconds < 1 for kill in kills),
        "resumes": sum(o.calls - 1 for o in outcomes),
        "chains": len(outcomes),
        "identical": sum(o.identical for o in outcomes),
        "differing_files": dict(names.most_common(_LISTED)),
        "errors": [o.error for o in outcomes if o.error][:_LISTED],
        "processes_left": sum(o.processes_left for o in outcomes),
        "left_in_tmpdir": sum(o.temporary_files for o in outcomes),
        "seconds_uninterrupted": round(seconds, 1),
        "seconds_lost_per_kill": round(statistics.median(lost), 1) if lost else None,
    }


if __name__ == "__main__":
    sys.exit(main())
