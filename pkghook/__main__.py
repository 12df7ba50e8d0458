"""`python3 -m pkghook`."""

from __future__ import annotations

import sys

from pkghook.cli import main

if __name__ == "__main__":
    sys.exit(main())
