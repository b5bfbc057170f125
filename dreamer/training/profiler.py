"""A TensorBoard trace of a few updates: which operation took how long, on the host and on the device."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow as tf

from dreamer.training.progress import counted

UPDATES = 10


class Profiler:
    """Records `updates` updates into `logdir`/plugins/profile; 0 updates records nothing.

    The first update of a process is left out: it spends its time on tracing and compiling. report: takes the line that
    says where the trace is. A trace is also written where fewer updates than asked for were made before `close`.
    """

    def __init__(self, logdir: Path, updates: int, report: Callable[[str], None]):
        self._logdir, self._updates, self._report = logdir, updates, report
        self._seen, self._recording = 0, False

    @contextlib.contextmanager
    def update(self) -> Iterator[None]:
        """The block is one update."""
        if self._seen == 1 and self._updates:
            tf.profiler.experimental.start(str(self._logdir))
            self._recording = True
        with tf.profiler.experimental.Trace("train", step_num=self._seen, _r=1):
            yield
        self._seen += 1
        if self._seen > self._updates:
            self.close()

    def close(self) -> None:
        """Write what has been recorded, if anything was."""
        if not self._recording:
            return
        self._recording = False
        tf.test.experimental.sync_devices()  # A GPU may still be at work on what the host has long left behind.
        tf.profiler.experimental.stop()
        self._report(f"Trace of {counted(self._seen - 1, 'update')} in {self._logdir / 'plugins' / 'profile'}")
