"""`python -m kuosan` is `kuosan`."""

from __future__ import annotations

import sys

from kuosan.cli import main

if __name__ == "__main__":
    sys.exit(main())
