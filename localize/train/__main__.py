"""`python -m localize.train`: the same as `lumbar localize train`."""

import sys

from localize.train.command import main

sys.exit(main())
