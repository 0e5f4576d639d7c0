"""`python -m localize.train`: the same as `lumbar localize train`."""

import sys

from localize.cli import main_train

sys.exit(main_train(sys.argv[1:]))
