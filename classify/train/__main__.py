"""`python -m classify.train`: the same as `lumbar classify train`."""

import sys

from classify.train.command import main

sys.exit(main())
