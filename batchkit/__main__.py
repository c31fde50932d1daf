"""``python -m batchkit VERB ...``: see ``python -m batchkit --help``."""

import sys

from batchkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
