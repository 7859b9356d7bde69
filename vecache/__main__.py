"""Run the command line as `python -m vecache`."""

from __future__ import annotations

import sys

from vecache.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
