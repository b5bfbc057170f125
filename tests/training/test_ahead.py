"""Collecting in a thread."""

import threading
import time

from dreamer.training.ahead import Ahead

PATIENCE = 0.5  # seconds in which another thread would have done what it must not do


class Streams:
    """Streams without an environment; each step does what the next of `actions` says."""

    def __init__(self, *actions):
        self.steps, self.failed, self._actions = 0, {}, iter(actions)

    def copy(self):
        return self

    def step(self):
        next(self._actions)()
        self.steps += 1
        return {}


def test_a_thread_that_begins_again_is_not_finished_by_the_one_before():
    """Its error is told before it has ended, and who looks in between sees the one without the other."""
    begun, said, seen = threading.Event(), threading.Event(), []

    class Slow(threading.Event):
        """Says so late for the first time."""

        def set(self):
            if not said.is_set():
                begun.wait(PATIENCE)
            super().set()
            said.set()

    def fail():
        raise OSError("the robot fell over")

    def go_on():
        begun.set()
        assert said.wait(PATIENCE)
        seen.append(ahead.finished.is_set())

    ahead = Ahead(Streams(fail, go_on), stored=0, target=2, action_repeat=2)
    ahead.finished = Slow()
    ahead.start()
    while ahead.error is None:
        time.sleep(0.001)
    ahead.start()
    assert ahead.finished.wait(10 * PATIENCE)
    ahead.close([])
    assert ahead.error is None
    assert (seen, ahead.frames) == ([False], 2)
