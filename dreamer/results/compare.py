"""The table of scores: ours beside Dreamer's published curve at the same number of frames."""

import json
import statistics
from typing import NamedTuple

from dreamer.results import curves
from dreamer.results.published import Published
from dreamer.results.scores import Scores

LEFT_OUT = "the other runs were not evaluated around the frames at which most of them can be compared"
HEADER = ("task", "method", "runs", "frames", "ours", "std", "published", "ratio")


class Row(NamedTuple):
    """A method on a task. returns: one per run, at `frames`; published: Dreamer's there, None if there is none.

    published_from: the frames from which on the task's published curve is compared, None if there is no curve;
    mixed_settings: {key: its values} of the settings in which the runs differ, which their mean hides. left_out: how
    many runs have no value at `frames`.
    """

    task: str
    method: str
    frames: int
    returns: list[float]
    published: float | None
    published_from: float | None = None
    mixed_settings: dict[str, list] = {}
    left_out: int = 0

    @property
    def averaged(self) -> str:
        """How many runs it is the mean of, and of how many where some are left out."""
        number = len(self.returns)
        return f"{number} of {number + self.left_out}" if self.left_out else str(number)

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


def rows(
    entries: list[Scores],
    published: Published,
    window: float | None = None,
    mixed: dict[tuple[str, str], dict[str, list]] | None = None,
) -> list[Row]:
    """One row per task and method, read at the last frame count that as many of its runs as possible reach.

    window: frames over which to average, as in curves.align; long curves are averaged in any case. mixed: settings in
    which runs differ, as runs.mixed_settings returns them.
    """
    table, mixed, groups = [], mixed or {}, curves.grouped(entries)
    methods = curves.methods_of(entries)
    for task in curves.tasks_of(entries):
        for method in methods:
            if runs := groups.get((task, method)):
                frames, returns = curves.last_common(*curves.align(runs, window=window))
                curve = published.curve(task)
                theirs, begins = (curve.at(frames), curve.compares_from) if curve else (None, None)
                settings = mixed.get((task, method), {})
                left_out = len(runs) - len(returns)
                table.append(Row(task, method, round(frames), returns.tolist(), theirs, begins, settings, left_out))
    return table


class Total(NamedTuple):
    """Means of ours and of the published returns over tasks that have both."""

    method: str
    tasks: list[str]
    ours: float
    published: float


def totals(table: list[Row]) -> list[Total]:
    """One for each method that has a published return to compare with on two tasks or more."""
    sums = []
    for method in dict.fromkeys(row.method for row in table):
        known = [row for row in table if row.method == method and row.published is not None]
        if len(known) > 1:
            ours = statistics.fmean(row.ours for row in known)
            theirs = statistics.fmean(row.published for row in known if row.published is not None)
            sums.append(Total(method, [row.task for row in known], ours, theirs))
    return sums


def final_means(tasks: list[str], published: Published) -> dict[str, tuple[float, int]]:
    """{method: (mean of its published final scores, number of the tasks that have one)}, of those with one at all."""
    scores = {key: [published.scores(task).get(key) for task in tasks] for key in published.methods}
    known = {key: [score for score in of if score is not None] for key, of in scores.items()}
    return {key: (statistics.fmean(of), len(of)) for key, of in known.items() if of}


def to_text(table: list[Row], source: str) -> str:
    """The table for a terminal."""
    lines: list[tuple] = [HEADER]
    lines += [
        (
            row.task,
            f"{row.method} *" if row.mixed_settings else row.method,
            row.averaged,
            f"{row.frames:,.0f}",
            *_numbers(row.ours, row.std, row.published),
        )
        for row in table
    ]
    lines += [
        (f"mean of {len(of.tasks)} tasks", of.method, "", "", *_numbers(of.ours, None, of.published))
        for of in totals(table)
    ]
    widths = [max(len(str(line[column])) for line in lines) for column in range(len(HEADER))]
    text = [
        "  ".join(f"{cell!s:{'<' if column < 2 else '>'}{widths[column]}}" for column, cell in enumerate(line)).rstrip()
        for line in lines
    ]
    notes = ["* a mean over runs with different settings"] if any(row.mixed_settings for row in table) else []
    if any(row.left_out for row in table):
        notes.append(f"{next(row.averaged for row in table if row.left_out)}: {LEFT_OUT}")
    if begins := [row.published_from for row in table if row.published_from is not None]:
        notes.append(
            "published: Dreamer at the same number of frames, interpolated between the points of its curve; - below "
            f"{min(begins):,.0f}, the second of them. {source}."
        )
    return "\n".join([*text, *([""] if notes else []), *notes])


def to_json(table: list[Row]) -> str:
    """The table for programs: a list of objects, frames as they were read, null where there is nothing.

    "published" is interpolated between the points of the curve, and null below "published_from", the second of them.
    "mixed_settings" is {key: [its values]} of what differs between the runs of a row, empty where nothing does.
    """
    fields = (
        "task",
        "method",
        "frames",
        "ours",
        "std",
        "returns",
        "published",
        "published_from",
        "ratio",
        "mixed_settings",
        "left_out",
    )
    # YAML knows more types than JSON, such as dates.
    return json.dumps([{field: getattr(row, field) for field in fields} for row in table], indent=2, default=str)


def _numbers(ours: float, std: float | None, published: float | None) -> tuple[str, ...]:
    ratio = ours / published if published else None
    return (
        f"{ours:.1f}",
        "-" if std is None else f"{std:.1f}",
        "-" if published is None else f"{published:.1f}",
        "-" if ratio is None else f"{ratio:.2f}",
    )
