"""Collecting in a thread while the main one trains, evaluates and saves.

    main     | updates of a round ... | evaluation | take over | updates of the next round ...
    thread   | its frames, by the policy of the moment when the round began ... |

Timing decides nothing: the policy and its draws are the thread's own, and what it has done counts for nothing before it
is taken over as a whole. Until then the state of a run is that in which the thread began, and a run that goes on from
there collects the same again.
"""

import contextlib
import threading
from collections.abc import Callable

from dreamer.envs import Env
from dreamer.training.driver import Driver, Episode

_PATIENCE = 1.0  # seconds that a step may still take once nobody waits for it


class Ahead:
    """Agent steps of `driver` in a thread, until there are `target` frames. The driver is the thread's until then.

    stored: frames of the finished episodes; action_repeat: frames of a step; part: context of the thread's work, for
    who measures it.

    before: what `driver` was. episodes: those that ended, in order; stored counts them too. frames: up to now. dropped:
    episodes that were lost with their environment. finished: set when the thread has come to its end; error: why it
    has before the target, or None.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        stored: int,
        target: int,
        action_repeat: int,
        part: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
    ):
        self.before = driver.copy()
        self.began = self.frames = stored + driver.steps * action_repeat
        self.stored, self.dropped = stored, 0
        self.episodes: list[Episode] = []
        self.error: BaseException | None = None
        self.finished = threading.Event()
        self._driver, self._target, self._action_repeat, self._part = driver, target, action_repeat, part
        self._stopped = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, or go on after an error."""
        self.error = None
        self.finished.clear()
        # A daemon: where an environment of this process hangs, the process can still be ended.
        self._thread = threading.Thread(target=self._work, daemon=True, name="collecting")
        self._thread.start()

    def drop(self, env: Env) -> None:
        """After an error: forget the episode in progress and go on in `env`."""
        self._driver.drop(env)
        self.dropped += 1
        self.start()

    def close(self, env: Env) -> None:
        """End the thread, at the latest with `env`, which is closed where it does not answer soon."""
        self._stopped = True
        if self._thread is not None and not self.finished.wait(_PATIENCE):
            env.close()
            self._thread.join(_PATIENCE)

    def _work(self) -> None:
        try:
            while self.frames < self._target and not self._stopped:
                with self._part():
                    episode = self._driver.step()
                if episode:
                    self.episodes.append(episode)
                    self.stored += (len(episode["reward"]) - 1) * self._action_repeat
                self.frames = self.stored + self._driver.steps * self._action_repeat
        except BaseException as error:  # for the main thread to raise
            self.error = error
        self.finished.set()
