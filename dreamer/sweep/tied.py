"""`python -m dreamer.sweep.tied PARENT WORD ...`: a `dreamer` that saves and leaves when the process PARENT ends.

Whoever starts runs may be killed; the system then sends them SIGTERM, so that none goes on without being looked after
and the next sweep finds them saved. Linux only; elsewhere such a run goes on to its end, and holds its lock until then.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the command."""
    parent, *words = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):  # it ended before that was said
            sys.exit(128 + signal.SIGTERM)
    os.execv(sys.executable, [sys.executable, "-m", "dreamer", *words])


if __name__ == "__main__":
    main()
