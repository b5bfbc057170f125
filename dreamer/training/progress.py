"""How far a run is and how long it will take: a bar on a terminal, plain lines anywhere else."""

import contextlib
import logging
import math
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, TextIO

from tqdm import tqdm

from dreamer.run.words import duration, speed

WINDOW = 300  # seconds over which speeds are averaged
REFRESH = 0.1  # seconds between two drawings of the bar
DROP = ("label", "updates/s", "frames/s", "updates", "eval")  # what a narrow terminal does without, in this order


@contextlib.contextmanager
def warnings_said(say: Callable[[str], None]) -> Iterator[None]:
    """In the block, what this package logs as a warning (an episode is damaged, and why) is a line of the run.

    It comes from any thread, and without a handler of our own would cross the bar, with logging's prefix.
    """

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(record.getMessage())

    log, handler = logging.getLogger(__package__.partition(".")[0]), Handler(logging.WARNING)
    propagated, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = propagated


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural where there is not one of it: "1 update", "1,000 updates"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class Progress:
    """Shows frames, updates, their speeds, the time left and the last evaluation return.

    start: frames that a resumed run begins with; speeds count this session only. total_updates: those of the whole run,
    0 for an agent that does not learn. eval_every, eval_frames: frames between two evaluations, and about how many one
    plays; 0 where that is not known. last_evaluation: frames and return of the last one of an earlier session. measure:
    what its number is called. unit: "update" where the frames are updates, of a run that has no others.

    On a terminal one line is redrawn; elsewhere a line is written at most every `interval` seconds of `clock`, and one
    at the end.
    """

    def __init__(
        self,
        total_frames: int,
        *,
        total_updates: int = 0,
        eval_every: int = 0,
        eval_frames: int = 0,
        start: int = 0,
        last_evaluation: tuple[int, float] | None = None,
        label: str = "",
        measure: str = "evaluation",
        unit: str = "frame",
        stream: TextIO | None = None,
        interval: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total, self._label, self._clock = total_frames, label, clock
        self._measure, self._unit = measure, unit
        self._stream = sys.stderr if stream is None else stream
        self._began = self._due = clock()
        self._frames = start
        self._updates: int | None = None
        self._evaluation: float | None
        evaluated_at, self._evaluation = last_evaluation or (None, None)
        self._outlook = Outlook(total_frames, total_updates, eval_every, eval_frames, evaluated_at)
        self._pace: Pace | None = None
        self._shown: str | None = None
        terminal = self._stream.isatty()
        self._interval = REFRESH if terminal else interval
        # Sizes are given because tqdm would draw nothing on a terminal that says it has no rows, as under Docker.
        layout = {"bar_format": "{desc}", "ncols": 80, "nrows": 20}
        self._bar = _Bar(total=total_frames, initial=start, file=self._stream, **layout) if terminal else None

    def update(self, frames: int, updates: int) -> None:
        """Say where the run is: environment frames and gradient steps in all, those of earlier sessions included."""
        now = self._clock()
        if self._pace is None:
            self._pace = Pace(Point(self._began, self._frames, updates))
        self._frames, self._updates = frames, updates
        self._pace.add(Point(now, frames, updates))
        self._outlook.add(Point(now, frames, updates))
        if now >= self._due:
            self._show()

    def evaluated(self, value: float) -> None:
        """An evaluation has just come to an end: show its return from now on."""
        self._evaluation = value
        self._outlook.evaluated(self._clock())

    def message(self, text: str) -> None:
        """Write a line of its own; the bar goes on below it."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Show the last state and leave it there."""
        if self._pace is not None:
            self._show()
        if self._bar is not None:
            self._bar.close()

    def _show(self) -> None:
        facts = self._facts()
        self._due = self._clock() + self._interval
        if self._bar is not None:
            self._bar.show(facts, self._frames, _width(self._stream))
        elif (line := "  ".join(facts.values())) != self._shown:
            print(line, file=self._stream, flush=True)
            self._shown = line

    def _facts(self) -> dict[str, str]:
        """What there is to tell, in the order of the line; speeds and the time left once they are known.

        "over 2:00 left": the agent has not acted yet, and the speed of random actions stands for its own.
        """
        facts = {"label": self._label} if self._label else {}
        facts["frames"] = f"{self._frames:,}/{self._total:,} {self._unit}s"
        facts["percent"] = f"{100 * self._frames // self._total}%"
        speeds = self._pace.speeds(self._clock()) if self._pace else None
        if self._updates and self._unit == "frame":  # none while the replay fills, and never with random actions
            facts["updates"] = counted(self._updates, "update")
        if speeds is not None and self._unit == "frame":
            facts["frames/s"] = f"{speed(speeds[0])} frames/s"
        if speeds is not None and self._updates:
            facts["updates/s"] = f"{speed(speeds[1])} updates/s"
        if (left := self._outlook.left()) is not None:
            facts["left"] = f"{'' if self._outlook.settled else 'over '}{duration(left)} left"
        if self._evaluation is not None:
            facts["eval"] = f"{self._measure} {self._evaluation:.1f}"
        return facts


class Point(NamedTuple):
    """Frames and updates in all at a time in seconds."""

    time: float
    frames: int
    updates: int


class Pace:
    """Frames and updates per second, averaged over whole rounds of collecting and training.

    Frames stand still while the agent trains, updates while it collects: a mean over any fixed time would swing
    with the phase. A round ends where frames go on after updates; the mean is over the rounds of the last WINDOW
    seconds, at least one, and over everything before the first round has ended. The first round, with
    its random frames, pre-training and tracing, no longer counts when two later ones could.

        frames  ____/----------/-----------/----
        updates ----____/------____/-------____/
                ^start         ^round      ^round
    """

    def __init__(self, start: Point):
        self._start = self._last = start
        self._rounds = deque([start])
        self._trained = False

    def add(self, point: Point) -> None:
        """Take in where the run is now."""
        last, rounds = self._last, self._rounds
        # Rounds below a second, as of an agent that trains at every step, are joined.
        if self._trained and point.frames > last.frames and last.time - rounds[-1].time >= 1:
            rounds.append(last)
            while len(rounds) > 2 and (rounds[0] is self._start or last.time - rounds[1].time >= WINDOW):
                rounds.popleft()
            self._trained = False
        self._trained |= point.updates > last.updates
        self._last = point

    def speeds(self, now: float) -> tuple[float, float] | None:
        """Frames and updates per second; None before any time has passed."""
        begin, end = self._rounds[0], self._rounds[-1]
        if begin is end:
            end = self._last._replace(time=now)
        seconds = end.time - begin.time
        return ((end.frames - begin.frames) / seconds, (end.updates - begin.updates) / seconds) if seconds > 0 else None


class Outlook:
    """Seconds left: the frames, updates and evaluations that are still due, each at what one takes in this session.

    A run does one thing at a time, so that the time between two reports belongs to what has changed: frames, updates,
    or an evaluation that has ended; what lies between (a checkpoint, say) belongs to the next of them. Frames that are
    collected beside updates take nothing. The first
    interval of each kind does not count, for it holds the start-up, or the tracing of a graph; nor do random frames
    once the agent has acted. The first evaluation, traced as well, counts until there is a second. Where this session
    has made none, one takes as long as its frames take when they are collected.
    """

    def __init__(
        self, total_frames: int, total_updates: int, eval_every: int, eval_frames: int, evaluated_at: int | None
    ):
        self._total_frames, self._total_updates = total_frames, total_updates
        self._eval_every, self._eval_frames, self._evaluated_at = eval_every, eval_frames, evaluated_at
        self._random, self._acting, self._training = Cost(), Cost(), Cost()
        self._evaluations: list[float] = []  # seconds of each
        self._last: Point | None = None

    def add(self, point: Point) -> None:
        """Take in where the run is now."""
        last, self._last = self._last, point
        if last is None:
            return
        seconds = point.time - last.time
        if point.updates > last.updates:
            self._training.add(point.updates - last.updates, seconds)
            if point.frames > last.frames:
                self._acting.add(point.frames - last.frames, 0.0)
        elif point.frames > last.frames:
            (self._acting if point.updates else self._random).add(point.frames - last.frames, seconds)

    def evaluated(self, now: float) -> None:
        """Take in that an evaluation has ended, which began after the last point."""
        if self._last is not None:
            self._evaluations.append(now - self._last.time)
            self._evaluated_at, self._last = self._last.frames, self._last._replace(time=now)

    @property
    def settled(self) -> bool:
        """Whether the speed of collecting is that of the agent, and not that of random actions before it."""
        return self._acting.each is not None or not self._total_updates

    def left(self) -> float | None:
        """Seconds until the end of the run; None while a speed that it depends on is unknown."""
        if self._last is None:
            return None
        frames = max(0, self._total_frames - self._last.frames)
        updates = max(0, self._total_updates - self._last.updates)
        each_frame = self._random.each if self._acting.each is None else self._acting.each
        each_update = self._training.each
        if (frames and each_frame is None) or (updates and each_update is None):
            return None
        left = frames * (each_frame or 0.0) + updates * (each_update or 0.0)
        return left + self._evaluations_left(frames) * self._each_evaluation(each_frame or 0.0)

    def _evaluations_left(self, frames: int) -> int:
        """In so many frames that are left: one every eval_every frames, and one at the end."""
        if not self._eval_every:
            return 0
        if self._evaluated_at is None:  # The first one is due as soon as the agent has been pre-trained.
            return 1 + math.ceil(frames / self._eval_every)
        return math.ceil(max(0, self._total_frames - self._evaluated_at) / self._eval_every)

    def _each_evaluation(self, each_frame: float) -> float:
        measured = self._evaluations[1:] or self._evaluations
        return sum(measured) / len(measured) if measured else self._eval_frames * each_frame


class Cost:
    """Seconds that one of something takes, averaged over the last WINDOW seconds that were spent on it."""

    def __init__(self) -> None:
        self._pieces: deque[list] | None = None  # [amount, seconds] each, pieces below a second joined
        self._amount = self._seconds = 0.0

    def add(self, amount: int, seconds: float) -> None:
        """So many took so long; the first call is left out."""
        if self._pieces is None:
            self._pieces = deque()
            return
        if self._pieces and self._pieces[-1][1] < 1:
            self._pieces[-1][0] += amount
            self._pieces[-1][1] += seconds
        else:
            self._pieces.append([amount, seconds])
        self._amount, self._seconds = self._amount + amount, self._seconds + seconds
        while self._seconds - self._pieces[0][1] >= WINDOW:
            amount, seconds = self._pieces.popleft()
            self._amount, self._seconds = self._amount - amount, self._seconds - seconds

    @property
    def each(self) -> float | None:
        """Seconds for one; None before there is anything that counts."""
        return self._seconds / self._amount if self._amount else None


class _Bar(tqdm):
    monitor_interval = 0  # no thread that redraws: every drawing is ours

    def show(self, facts: dict[str, str], frames: int, width: int) -> None:
        facts = dict(facts)
        for name in DROP:
            if len("  ".join(facts.values())) > width:
                facts.pop(name, None)
        text = "  ".join(facts.values())
        self.ncols = min(width, len(text) + 42)
        self.bar_format = "{desc}  {bar}" if len(text) + 10 <= width else "{desc}"
        self.set_description_str(text, refresh=False)
        self.n = min(frames, self.total)
        self.refresh()


def _width(stream: TextIO) -> int:
    """Columns that a line may fill; the last one stays free, because some terminals break the line after it."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # no file behind the stream
        columns = 0
    return (columns or shutil.get_terminal_size().columns) - 1
