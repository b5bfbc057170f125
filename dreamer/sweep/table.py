"""The table of runs: redrawn in its place on a terminal, plain lines anywhere else."""

import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TextIO

from dreamer.run.words import duration, speed
from dreamer.sweep.status import RUNNING, Status

HEADER = ("run", "state", "frames", "", "frames/s", "left", "evaluation", "restarts", "node")
_LEFT = (0, 1, 8)  # columns of text
REDRAWN, SAID = 2.0, 60.0  # seconds between two tables on a terminal, and two lines elsewhere


def to_lines(rows: Sequence[Status]) -> list[str]:
    """A line for the header and one per run."""
    cells = [HEADER, *map(_cells, rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADER))]
    forms = [f"{'<' if column in _LEFT else '>'}{width}" for column, width in enumerate(widths)]
    return ["  ".join(map(format, line, forms)).rstrip() for line in cells]


def summary(rows: Sequence[Status]) -> str:
    """In how many states how many runs are: "5 runs: 2 finished, 3 running, 1:20:00 left"."""
    counts = ", ".join(f"{count} {state}" for state, count in Counter(row.state for row in rows).most_common())
    left = max((row.left for row in rows if row.left is not None), default=None)
    more = f", the last of these {duration(left)} left" if left is not None else ""
    return f"{len(rows)} run{'s' if len(rows) != 1 else ''}: {counts or 'none'}{more}"


class Screen:
    """Shows runs that go on; rows: returns them as they are now, which is only asked when there is something to show.

    On a terminal the table is drawn again every REDRAWN seconds, those that run first, as many rows as fit. Elsewhere a
    line tells each run whose state has changed, and one all together every SAID seconds. Where nobody can read it any
    more, a pipe that was closed or a disk that is full, it is `lost` and shows nothing: the runs go on.
    """

    def __init__(
        self,
        rows: Callable[[], list[Status]],
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._rows, self._clock = rows, clock
        self._stream = sys.stdout if stream is None else stream
        self._terminal = self._stream.isatty()
        self._due = clock()
        self._drawn = 0
        self._states: dict[str, str] = {}
        self.lost = False

    def show(self, changed: bool = False) -> None:
        """Show the table if it is due; changed: a run has begun or ended, which is shown at once."""
        now = self._clock()
        if self.lost or (now < self._due and not changed):
            return
        rows = self._rows()
        try:
            self._show(rows, now)
        except OSError:
            self.lost = True

    def _show(self, rows: list[Status], now: float) -> None:
        if self._terminal:
            self._due = now + REDRAWN
            self._draw(rows)
            return
        for row in rows:
            if self._states.get(row.name, row.state) != row.state:
                self._say("  ".join(filter(None, (row.state, row.name, _position(row)))))
        self._states = {row.name: row.state for row in rows}
        if now >= self._due:
            self._due = now + SAID
            self._say(summary(rows))

    def close(self) -> None:
        """Take the table away: what comes next says more."""
        if self._drawn and not self.lost:
            self._stream.write(f"\x1b[{self._drawn}F\x1b[J")
            self._stream.flush()
            self._drawn = 0

    def _draw(self, rows: list[Status]) -> None:
        size = shutil.get_terminal_size()
        ordered = sorted(rows, key=lambda row: row.state != RUNNING)
        lines = to_lines(ordered)
        fit = max(2, size.lines - 2)  # the summary, and the line of the cursor
        lines = [line[: size.columns - 1] for line in [*lines[:fit], summary(rows)]]
        back = f"\x1b[{self._drawn}F\x1b[J" if self._drawn else ""
        self._stream.write(back + "\n".join(lines) + "\n")
        self._stream.flush()
        self._drawn = len(lines)

    def _say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


def _cells(row: Status) -> tuple[str, ...]:
    share = f"{100 * row.frames // row.steps}%" if row.steps else ""
    rate = speed(row.rate) if row.rate and row.state == RUNNING else ""
    left = duration(row.left) if row.left is not None else ""
    score = f"{row.score:.1f}" if row.score is not None else ""
    return (
        *(row.name, row.state, f"{row.frames:,}" if row.frames else "", share, rate, left, score),
        *(str(row.restarts) if row.restarts else "", row.node or ""),
    )


def _position(row: Status) -> str:
    return f"{row.frames:,} frames" if row.frames else ""
