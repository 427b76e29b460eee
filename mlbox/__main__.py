"""`python -m mlbox`: the command line of the earlier MLBox program."""

from __future__ import annotations

import sys

from mlcube_cli.__main__ import main

if __name__ == "__main__":
    sys.exit(main(applet="mlbox"))
