"""`python -m localize.train`: the same as `lumbar localize train`."""

import sys
from pathlib import Path

# Python itself puts the current folder first. Unless it is our own checkout, nothing in it is to be imported.
if not sys.flags.safe_path and Path(sys.path[0]) != Path(__file__).parents[2]:
    del sys.path[0]

from localize.train.command import main

sys.exit(main())
