"""Who owns a signal: SIGINT, SIGTERM and SIGHUP ask a command to stop, and this module alone decides what that does.

    while a command ...                a stop ...
    starts, or only reads              ends it at once (Stopped is raised; by force after GRACE seconds)
    trains (`noting`)                  is noted in `signal`, so that the loop saves and leaves; a second one ends it,
                                       but for what a system sends twice, to the process and to all processes
    traces (`nothing_to_lose`)         ends it at once, and says that everything is saved

Python runs a handler between two instructions of the main thread, so that one that comes while a library loads or a
graph is traced waits for seconds. The system tells a thread of ours at once, through a file descriptor; Docker kills
after 10 seconds, a preempted machine after 30.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE = 2.0  # seconds that a command which only reads has for tidying up
REPEAT = 1.0  # seconds in which SIGTERM and SIGHUP are the same stop as the one before: systemd and Slurm tell all


class Stopped(BaseException):
    """A signal asked the command to end; `code` is the exit code, 128 + the signal's number. saved: see `_told`."""

    def __init__(self, number: int, saved: bool = False):
        super().__init__(_told(number, saved))
        self.code = 128 + number


class _Noted:
    """What `Stops` and `Interrupts` share: the first stop, and where it is no more than noted."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._noting = False

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """In the block the first stop is only noted."""
        self._noting = True
        try:
            yield
        finally:
            self._noting = False


class Stops(_Noted):
    """The signals of this process while the context is active. Only the main thread may enter it.

    signal: number of the first signal that `noting` has noted, None before.
    """

    def __init__(self) -> None:
        super().__init__()
        self._nothing_to_lose = False
        self._noted_at = 0.0
        self._left = threading.Event()

    def __enter__(self) -> "Stops":
        # nohup and some job systems have SIGHUP ignored: a run that was told to outlive its terminal does.
        taken = [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
        self._reading, self._writing = socket.socketpair()
        self._writing.setblocking(False)
        self._previous_descriptor = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        self._previous = {number: signal.signal(number, self._handle) for number in taken}
        self._left.clear()
        threading.Thread(target=self._watch, daemon=True, name="stops").start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._left.set()
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_descriptor)
        self._writing.close()

    @contextlib.contextmanager
    def nothing_to_lose(self) -> Iterator[None]:
        """In the block, within `noting`, a stop ends the process at once: all that it did is on disk."""
        self._nothing_to_lose = True
        try:
            if self.signal:
                raise Stopped(self.signal, saved=True)
            yield
        finally:
            self._nothing_to_lose = False

    def _handle(self, number: int, frame: object) -> None:
        if self._nothing_to_lose:
            _leave(number, saved=True)
        if self._noting and self.signal is None:
            self.signal, self._noted_at = int(number), time.monotonic()
            return
        if self.signal and number != signal.SIGINT and time.monotonic() - self._noted_at < REPEAT:
            return
        raise Stopped(int(number))

    def _watch(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._reading.recv(1):
                number = data[0]
                if number not in SIGNALS or self._left.is_set():
                    continue
                if self._nothing_to_lose:
                    _leave(number, saved=True)
                if not self._noting:
                    threading.Thread(target=self._leave_after_grace, args=(number,), daemon=True).start()
        self._reading.close()

    def _leave_after_grace(self, number: int) -> None:
        if not self._left.wait(GRACE):
            _leave(number, saved=False)


def _told(number: int, saved: bool) -> str:
    """What is said of a stop. saved: whether a run is on disk as it was at that moment."""
    return signal.Signals(number).name + (": all is saved, and the same command goes on from there" if saved else "")


class Interrupts(_Noted):
    """The stops of a training inside another program, which they never end: `signal` and the blocks of Stops.

    A stop is noted, the training saves and leaves, and the program gets it back as an exception when the context ends:
    KeyboardInterrupt for SIGINT, Stopped for the others. A second one is raised at once. Outside the main thread no
    signal arrives.
    """

    def __init__(self) -> None:
        super().__init__()
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            taken = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._previous = {number: signal.signal(number, self._handle) for number in taken}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self.signal and kind is None:
            self._raise(self.signal)

    @contextlib.contextmanager
    def nothing_to_lose(self) -> Iterator[None]:
        """In the block, within `noting`, a stop is raised: all that the training did is on disk."""
        if self.signal:
            self._raise(self.signal)
        noting, self._noting = self._noting, False
        try:
            yield
        finally:
            self._noting = noting

    def _handle(self, number: int, frame: object) -> None:
        if self._noting and self.signal is None:
            self.signal = int(number)
            return
        self._raise(number)

    def _raise(self, number: int) -> NoReturn:
        raise KeyboardInterrupt if number == signal.SIGINT else Stopped(int(number))


_leaving = threading.Lock()


def _leave(number: int, saved: bool) -> NoReturn:
    """End the process without asking the main thread, which may be inside a library. saved: see `_told`."""
    if not _leaving.acquire(blocking=False):
        threading.Event().wait()  # The other thread is about to end the process.
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        os.write(2, f"dreamer: stopped by {_told(number, saved)}\n".encode())
    os._exit(128 + number)
