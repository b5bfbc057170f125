"""Several tasks taken together: mean, median and interquartile mean with bootstrap intervals, and performance profiles.

The statistics are those of Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(NeurIPS 2021), computed by their library rliable.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from rliable import library, metrics
from scipy.stats import trim_mean

from dreamer.results import curves, style
from dreamer.results.published import Published
from dreamer.results.scores import Scores

RETURN_MAX = {"dmc": 1000.0}  # suites whose returns have one scale in all tasks, and can be averaged over them
STATISTICS = {
    "Mean": metrics.aggregate_mean,
    "Median": metrics.aggregate_median,
    "IQM": metrics.aggregate_iqm,
}
SAMPLES = 2000  # bootstrap samples behind an interval
POINTS = 25  # frame counts of a curve
THRESHOLDS = np.linspace(0, 1000, 101)


class Estimate(NamedTuple):
    """A statistic and its 95 % interval: numbers or arrays [P]; low and high are None where tasks have one run each."""

    value: Any
    low: Any
    high: Any


class Method(NamedTuple):
    """One method on all tasks. final: {statistic: Estimate} at `frames`; curve: IQM at xs [POINTS]; profile: share of
    the runs above each of THRESHOLDS.
    """

    runs: int
    frames: float
    final: dict[str, Estimate]
    xs: np.ndarray
    curve: Estimate
    profile: Estimate


class Summary(NamedTuple):
    """All methods on the same tasks of a suite."""

    suite: str
    tasks: list[str]
    methods: dict[str, Method]


def summarise(entries: list[Scores], window: float | None = None) -> tuple[Summary | None, list[str]]:
    """Take together the tasks that all methods have, and say in one line each what was left out for it.

    Every task counts with as many runs as the task with the fewest has, in the order of their seeds; a method is read
    at the last frame count that all of them reach. None if there are not two such tasks of a suite of one scale.
    """
    entries = [entry for entry in entries if curves.suite_of(entry.task) in RETURN_MAX]
    methods, tasks, notes = curves.methods_of(entries), curves.tasks_of(entries), []
    common = [task for task in tasks if all(curves.of(entries, task, method) for method in methods)]
    if len(common) < 2:
        if len(tasks) > 1:
            notes.append(f"no aggregate: it needs two tasks that all of {'; '.join(methods)} have")
        return None, notes
    if left_out := [task for task in tasks if task not in common]:
        notes.append(f"aggregate: not every method has {', '.join(left_out)}: left out")
    summaries = {}
    for method in methods:
        runs = [curves.of(entries, task, method) for task in common]
        fewest, most = min(map(len, runs)), max(map(len, runs))
        if fewest < most:
            notes.append(f"aggregate: {method} has {fewest} to {most} runs a task: the first {fewest} of each count")
        matrix, xs = _matrix([task[:fewest] for task in runs], window)
        if matrix is None:
            notes.append(f"aggregate: the runs of {method} have no frame count in common: left out")
        else:
            summaries[method] = _estimate(matrix, xs)
    return (Summary("dmc", common, summaries) if summaries else None), notes


def draw(summary: Summary, published: Published | None = None) -> Figure:
    """Figure 6 inches wide: the three statistics, the IQM against frames, and performance profiles."""
    styles = style.method_styles(list(summary.methods))
    rows = [(row_label(method, of), of.final, styles[method]["color"]) for method, of in summary.methods.items()]
    rows += [(*row, style.INK) for row in published_rows(summary, published)] if published else []
    top = 0.6 + 0.18 * len(rows)
    figure = Figure(figsize=(6, top + 2.6), layout="constrained")
    engine: Any = figure.get_layout_engine()  # the constrained one, as asked for
    engine.set(w_pad=0.06, h_pad=0.06)
    subfigures: Any = figure.subfigures(2, 1, height_ratios=[top, 2.4])
    above, below = subfigures
    panels = above.subplots(1, len(STATISTICS), sharey=True)
    for panel, statistic in zip(panels, STATISTICS, strict=True):
        _draw_intervals(panel, statistic, rows)
    panels[0].set_yticks(range(len(rows)), [text for text, _, _ in rows])
    for label, (_, _, color) in zip(panels[0].get_yticklabels(), rows, strict=True):
        label.set(color=color, fontsize=7.5)
    curve, profile = below.subplots(1, 2)
    for method, of in summary.methods.items():
        _draw_band(curve, of.xs, of.curve, styles[method])
        _draw_band(profile, THRESHOLDS, of.profile, styles[method])
    curve.set(title="IQM against frames", xlabel="Environment frames", ylabel="Return", xlim=(0, None), ylim=(0, 1050))
    curve.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    curve.xaxis.set_major_formatter(FuncFormatter(lambda value, _: curves.human(value)))
    profile.set(title="Performance profile", xlabel="Return", ylabel="Share of runs above", xlim=(0, 1000))
    profile.set_ylim(0, 1.02)
    figure.suptitle(in_words(summary), fontsize=8.5, color=style.INK)
    return figure


def in_words(summary: Summary) -> str:
    """What was taken together, and what its intervals are."""
    runs = sorted({of.runs for of in summary.methods.values()})
    runs = "1 run" if runs == [1] else f"{' to '.join(map(str, runs[:: max(1, len(runs) - 1)]))} runs"
    intervals = ": no intervals" if runs == "1 run" else "; 95 % bootstrap intervals"
    return f"{curves.SUITES[summary.suite]}, {len(summary.tasks)} tasks, {runs} a task{intervals}"


def _matrix(runs: list[list[Scores]], window: float | None) -> tuple[np.ndarray | None, np.ndarray]:
    """Returns [runs, tasks, POINTS] of equally many runs of every task at POINTS frame counts that all of them have."""
    aligned = [curves.align([run], window=window) for task in runs for run in task]
    first, last = max(xs[0] for xs, _ in aligned), min(xs[-1] for xs, _ in aligned)
    if first > last:
        return None, np.empty(0)
    grid = np.linspace(first, last, POINTS if first < last else 1)
    values = np.stack([np.interp(grid, xs, ys[0]) for xs, ys in aligned])
    return values.reshape(len(runs), len(runs[0]), len(grid)).transpose(1, 0, 2), grid


def _estimate(matrix: np.ndarray, xs: np.ndarray) -> Method:
    final = matrix[:, :, -1]
    statistics = _interval(final, lambda scores: np.array([of(scores) for of in STATISTICS.values()]))
    return Method(
        runs=len(matrix),
        frames=float(xs[-1]),
        final={
            name: Estimate(*(None if part is None else part[index] for part in statistics))
            for index, name in enumerate(STATISTICS)
        },
        xs=xs,
        # metrics.aggregate_iqm and library.score_distributions for all frame counts and thresholds in one call.
        curve=_interval(matrix, lambda scores: trim_mean(scores.reshape(-1, len(xs)), 0.25, axis=0)),
        profile=_interval(final, lambda scores: (scores.reshape(-1, 1) > THRESHOLDS).mean(axis=0)),
    )


def _interval(scores: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> Estimate:
    if len(scores) == 1:
        # Resampling one run a task gives that run again: an interval of no width, which would claim certainty.
        return Estimate(statistic(scores), None, None)
    with _fixed_draws():
        values, intervals = library.get_interval_estimates({"": scores}, statistic, reps=SAMPLES)
    return Estimate(values[""], *intervals[""])


@contextmanager
def _fixed_draws() -> Iterator[None]:
    """Let rliable, which draws from NumPy's global generator, draw the same every time, and nobody else notice."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def row_label(method: str, of: Method) -> str:
    """A method with the frames at which its statistics are read."""
    return f"{curves.label(method)} ({curves.human(of.frames)})"


def published_rows(summary: Summary, published: Published) -> list[tuple[str, dict[str, Estimate]]]:
    """(what it is, Mean and Median) of what was published on the tasks; the IQM would need every run."""
    rows = []
    for key, (name, frames, _) in published.methods.items():
        values = [published.scores(task)[key] for task in summary.tasks if key in published.scores(task)]
        if values:
            missing = f", {len(values)} tasks" if len(values) < len(summary.tasks) else ""
            text = f"{name}, published ({curves.human(frames)}{missing})"
            final = {"Mean": Estimate(np.mean(values), None, None), "Median": Estimate(np.median(values), None, None)}
            rows.append((text, final))
    return rows


def _draw_intervals(panel: Axes, statistic: str, rows: list[tuple[str, dict, str]]) -> None:
    for height, (_, final, color) in enumerate(rows):
        if statistic not in final:
            continue
        value, low, high = final[statistic]
        if low is not None:
            panel.barh(height, high - low, left=low, height=0.6, color=color, alpha=0.3, linewidth=0)
        if color == style.INK:
            panel.plot(value, height, "D", color=color, markersize=3.5, markerfacecolor="white", zorder=3)
        else:
            panel.vlines(value, height - 0.3, height + 0.3, color=color, linewidth=1.8, zorder=3)
    panel.set(title=statistic, xlabel="Return", xlim=(0, 1000), ylim=(len(rows) - 0.5, -0.5))
    panel.xaxis.set_major_locator(MaxNLocator(2))
    panel.grid(visible=False, axis="y")


def _draw_band(panel: Axes, xs: np.ndarray, estimate: Estimate, line: dict) -> None:
    panel.plot(xs, estimate.value, linewidth=1.6, zorder=3, marker="o" if len(xs) == 1 else None, **line)
    if estimate.low is not None:
        panel.fill_between(xs, estimate.low, estimate.high, color=line["color"], alpha=0.2, linewidth=0)
