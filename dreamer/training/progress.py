"""How far a run is and how long it will take: a bar on a terminal, plain lines anywhere else."""

import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TextIO

from tqdm import tqdm

WINDOW = 300  # seconds over which speeds are averaged
REFRESH = 0.1  # seconds between two drawings of the bar
DROP = ("label", "updates/s", "frames/s", "updates", "eval")  # what a narrow terminal does without, in this order


class Progress:
    """Shows frames, updates, their speeds, the time left and the last evaluation return.

    start: frames that a resumed run begins with; speeds count this session only. On a terminal one line is
    redrawn; elsewhere a line is written at most every `interval` seconds of `clock`, and one at the end.
    """

    def __init__(
        self,
        total_frames: int,
        *,
        start: int = 0,
        label: str = "",
        stream: TextIO | None = None,
        interval: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total, self._label, self._clock = total_frames, label, clock
        self._stream = sys.stderr if stream is None else stream
        self._began = self._due = clock()
        self._frames, self._updates, self._evaluation = start, None, None
        self._pace = self._shown = None
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
        if now >= self._due:
            self._show()

    def evaluated(self, value: float) -> None:
        """Show this evaluation return from now on."""
        self._evaluation = value

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
        """What there is to tell, in the order of the line; speeds and the time left once they are known."""
        facts = {"label": self._label} if self._label else {}
        facts["frames"] = f"{self._frames:,}/{self._total:,} frames"
        facts["percent"] = f"{100 * self._frames // self._total}%"
        now = self._clock()
        speeds = self._pace.speeds(now)
        if self._updates:  # none while the replay fills, and never with random actions
            facts["updates"] = f"{self._updates:,} updates"
        if speeds is not None:
            facts["frames/s"] = f"{_speed(speeds[0])} frames/s"
        if speeds is not None and self._updates:
            facts["updates/s"] = f"{_speed(speeds[1])} updates/s"
        if (left := self._pace.left(now, self._total)) is not None:
            facts["left"] = f"{_duration(left)} left"
        if self._evaluation is not None:
            facts["eval"] = f"eval {self._evaluation:.1f}"
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

    def left(self, now: float, total: int) -> float | None:
        """Seconds until `total` frames; None while no frame has been collected."""
        if self._last.frames >= total:
            return 0.0
        speeds = self.speeds(now)
        if speeds is None or speeds[0] <= 0:
            return None
        if len(self._rounds) == 1:
            return (total - self._last.frames) / speeds[0]
        # Counted down from the end of the last round by the clock, for no longer than rounds take.
        begin, end = self._rounds[0], self._rounds[-1]
        passed = min(now - end.time, (end.time - begin.time) / (len(self._rounds) - 1))
        return max(0.0, (total - end.frames) / speeds[0] - passed)


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


def _speed(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02d}h"
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
