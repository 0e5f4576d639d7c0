"""What an installed wheel carries; `tiny_demo` is made by one, outside the checkout."""

import subprocess
import sys
from pathlib import Path

from shared.runtime.documents import read_json


def test_the_shipped_configs_travel_inside_the_wheel(wheel_site: Path, tmp_path: Path) -> None:
    code = (
        "from shared.runtime.config import shipped_config;"
        "from classify.config import ClassifyConfig; from localize.config import LocalizeConfig;"
        "names = ('demo', 'full', 'two_cores');"
        "[LocalizeConfig.load(shipped_config('localize', n)) for n in names];"
        "[ClassifyConfig.load(shipped_config('classify', n)) for n in names];"
        "print(shipped_config('localize', 'demo'))"
    )
    words = [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(wheel_site)!r}); {code}"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).is_relative_to(wheel_site)


def test_the_demo_of_the_wheel_finished(tiny_demo: Path) -> None:
    run = read_json(tiny_demo / "run.json")
    assert run["localize_config"] == "another localize.toml"
    assert run["studies"] == 10
