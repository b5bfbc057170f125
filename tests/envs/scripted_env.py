"""An environment whose faults are chosen by the test; importable by name, so that a worker can build it."""

import os
import signal
import sys
import time

import numpy as np

from dreamer.types import ActionSpace, Space


class Scripted:
    """Episodes of three steps with reward equal to the step's number; `changes` replaces parts of steps, None drops.

    behave: what step() does instead of answering: "raise", "exit", "kill", "crash", "interrupt", "hang" or "shout".
    fail: whether the start fails, or the exception that it raises.
    marker: a file that is created before that. goes_on_at: the step after which the world goes on in another episode,
    which whole_games then denies.
    """

    def __init__(
        self,
        *,
        discrete=False,
        at=1,
        changes=None,
        behave="",
        marker="",
        fail=False,
        goes_on_at=None,
        note="",
        infos=(),
    ):
        if fail:
            raise fail if isinstance(fail, Exception) else RuntimeError("no such\n  level")
        self.note, self.infos = note, infos
        self.observation_spaces = {"image": Space((64, 64, 3), "uint8"), "speed": Space((2,), "float32")}
        self.action_space = ActionSpace(size=3, discrete=discrete)
        self.action_repeat = 2
        self._at = at
        self._changes = changes or {}
        self._behave = behave
        self._marker = marker
        self._seed = self._count = 0
        self._goes_on_at, self.whole_games = goes_on_at, goes_on_at is None

    @property
    def goes_on(self):
        return self._count == self._goes_on_at

    def reset(self, seed=None):
        self._seed = self._seed if seed is None else seed
        self._count = 0
        return self._result()

    def step(self, action):
        if self._marker:
            open(self._marker, "w").close()
        if self._behave == "raise":
            raise ZeroDivisionError("the ball fell through the floor")
        if self._behave == "exit":
            print("goodbye", file=sys.stderr, flush=True)
            os._exit(7)
        if self._behave == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._behave == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self._behave == "interrupt":
            os.kill(os.getppid(), signal.SIGINT)
        if self._behave in ("hang", "interrupt"):
            time.sleep(1000)
        if self._behave == "shout":
            print("x" * 2_000_000, file=sys.stderr, flush=True)
        self._count += 1
        return self._result()

    def close(self):
        pass

    def _result(self):
        step = {
            "image": np.full((64, 64, 3), self._seed, np.uint8),
            "speed": np.full(2, self._count, np.float32),
            "reward": np.float32(self._count),
            "is_first": np.bool_(self._count == 0),
            "is_last": np.bool_(self._count == 3),
            "is_terminal": np.bool_(False),
        }
        if self._count == self._at:
            step = {key: value for key, value in {**step, **self._changes}.items() if value is not None}
        return step
