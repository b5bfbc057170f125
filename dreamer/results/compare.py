"""The table of scores: ours beside Dreamer's published curve at the same number of frames."""

import json
import statistics
from typing import NamedTuple

from dreamer.results import curves
from dreamer.results.published import Published
from dreamer.results.scores import Scores

HEADER = ("task", "method", "runs", "frames", "ours", "std", "published", "ratio")


class Row(NamedTuple):
    """A method on a task. returns: one per run, at `frames`; published: Dreamer's there, None if there is none."""

    task: str
    method: str
    frames: int
    returns: list[float]
    published: float | None

    @property
    def ours(self) -> float:
        """Mean return of the runs."""
        return statistics.fmean(self.returns)

    @property
    def std(self) -> float | None:
        """Sample standard deviation over the runs; None for a single one."""
        return statistics.stdev(self.returns) if len(self.returns) > 1 else None

    @property
    def ratio(self) -> float | None:
        """Ours divided by the published return."""
        return self.ours / self.published if self.published else None


def rows(entries: list[Scores], published: Published, window: float | None = None) -> list[Row]:
    """One row per task and method, read at the last frame count that as many of its runs as possible reach.

    window: frames over which to average, as in curves.align; long curves are averaged in any case.
    """
    table = []
    for task in curves.tasks_of(entries):
        for method in curves.methods_of(entries):
            if runs := curves.of(entries, task, method):
                frames, returns = curves.last_common(*curves.align(runs, window=window))
                curve = published.curve(task)
                theirs = curve.at(frames) if curve else None
                table.append(Row(task, method, round(frames), returns.tolist(), theirs))
    return table


def totals(table: list[Row]) -> list[tuple[str, int, float, float]]:
    """(method, tasks, mean of ours, mean of the published) over the tasks with a published return, from two on."""
    sums = []
    for method in dict.fromkeys(row.method for row in table):
        known = [row for row in table if row.method == method and row.published is not None]
        if len(known) > 1:
            ours, theirs = statistics.fmean(row.ours for row in known), statistics.fmean(row.published for row in known)
            sums.append((method, len(known), ours, theirs))
    return sums


def to_text(table: list[Row], source: str) -> str:
    """The table for a terminal."""
    lines = [HEADER]
    lines += [
        (row.task, row.method, len(row.returns), f"{row.frames:,.0f}", *_numbers(row.ours, row.std, row.published))
        for row in table
    ]
    lines += [
        (f"mean of {count} tasks", method, "", "", *_numbers(ours, None, theirs))
        for method, count, ours, theirs in totals(table)
    ]
    widths = [max(len(str(line[column])) for line in lines) for column in range(len(HEADER))]
    text = [
        "  ".join(f"{cell!s:{'<' if column < 2 else '>'}{widths[column]}}" for column, cell in enumerate(line)).rstrip()
        for line in lines
    ]
    if any(row.published is not None for row in table):
        text += ["", f"published: Dreamer at the same number of frames. {source}."]
    return "\n".join(text)


def to_json(table: list[Row]) -> str:
    """The table for programs: a list of objects, frames as they were read, null where there is nothing."""
    fields = ("task", "method", "frames", "ours", "std", "returns", "published", "ratio")
    return json.dumps([{field: getattr(row, field) for field in fields} for row in table], indent=2)


def _numbers(ours: float, std: float | None, published: float | None) -> tuple[str, ...]:
    ratio = ours / published if published else None
    return (
        f"{ours:.1f}",
        "" if std is None else f"{std:.1f}",
        "-" if published is None else f"{published:.1f}",
        "-" if ratio is None else f"{ratio:.2f}",
    )
