"""`python -m dreamer` is the command `dreamer`."""

import sys

from dreamer.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
