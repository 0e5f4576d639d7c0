"""`python -m benchmarks.realism`."""

import sys

from benchmarks.realism.realism import main

sys.exit(main())
