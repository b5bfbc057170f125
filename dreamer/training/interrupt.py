"""What protects a run from outside: signals that ask it to stop, and a second process in the same directory."""

import contextlib
import fcntl
import signal


class Interrupt:
    """While active, the first SIGINT or SIGTERM is only noted in `signal`, so that the loop can save and leave.

    A second one acts as if this were not here.
    """

    def __init__(self):
        self.signal = None
        self._previous = {}

    def __enter__(self):
        self._previous = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception):
        self._restore()

    def _note(self, number, frame):
        self.signal = int(number)
        self._restore()

    def _restore(self):
        for number, handler in self._previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def exclusive(logdir):
    """Hold `logdir` for this process, until the block or the process ends. BlockingIOError if another one holds it."""
    with open(logdir / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"{logdir} is in use by another process: wait for it or use another --logdir"
            ) from None
        yield
