"""`python -m classify.train`: the same as `lumbar classify train`."""

import sys

from classify.cli import main_train

sys.exit(main_train(sys.argv[1:]))
