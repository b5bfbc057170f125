"""Collecting in a thread while the main one trains, evaluates and saves.

    main     | updates of a round ... | evaluation | take over | updates of the next round ...
    thread   | its frames, by the policy of the moment when the round began ... |

Timing decides nothing: the policy and its draws are the thread's own, and what it has done counts for nothing before it
is taken over as a whole. Until then the state of a run is that in which the thread began, and a run that goes on from
there collects the same again.
"""

import contextlib
import threading
from collections.abc import Callable, Sequence

from dreamer.envs import Env
from dreamer.training.driver import Episode
from dreamer.training.streams import Streams

_PATIENCE = 1.0  # seconds that a step may still take once nobody waits for it


class Ahead:
    """Agent steps of `streams` in a thread, until there are `target` frames. They are the thread's until then.

    stored: frames of the finished episodes; action_repeat: frames of a step; part: context of the thread's work, for
    who measures it.

    before: what `streams` were. episodes: those that ended, in order; stored counts them too. frames: up to now.
    dropped: episodes that were lost with their environment, which the caller counts. finished: set when the thread has
    come to its end; error: why it has before the target, or None.
    """

    def __init__(
        self,
        streams: Streams,
        *,
        stored: int,
        target: int,
        action_repeat: int,
        part: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
    ):
        self.before = streams.copy()
        self.began = self.frames = stored + streams.steps * action_repeat
        self.stored, self.dropped = stored, 0
        self.episodes: list[Episode] = []
        self.error: BaseException | None = None
        self.finished = threading.Event()
        self._streams, self._target, self._action_repeat, self._part = streams, target, action_repeat, part
        self._stopped = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, or go on after an error."""
        if self._thread:  # which has told its error, but may not have said yet that it has finished
            self._thread.join()
        self.error = None
        self.finished.clear()
        # A daemon: where an environment of this process hangs, the process can still be ended.
        self._thread = threading.Thread(target=self._work, daemon=True, name="collecting")
        self._thread.start()

    def close(self, envs: Sequence[Env]) -> None:
        """End the thread, which must not outlive TensorFlow; `envs` are closed where they do not answer soon."""
        self._stopped = True
        if self._thread is None:
            return
        if not self.finished.wait(_PATIENCE):
            for env in envs:
                env.close()
        self._thread.join()

    def _work(self) -> None:
        try:
            while self.frames < self._target and not self._stopped:
                with self._part():
                    finished = self._streams.step()
                for episode in finished.values():
                    self.episodes.append(episode)
                    self.stored += (len(episode["reward"]) - 1) * self._action_repeat
                self.frames = self.stored + self._streams.steps * self._action_repeat
                if self._streams.failed:
                    raise next(iter(self._streams.failed.values()))
        except BaseException as error:  # for the main thread to raise
            self.error = error
        self.finished.set()
