"""Learning curves: one panel per task, one line per method, from the score files of any number of runs."""

import math
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from dreamer.results import curves, layout, scores, style
from dreamer.results import runs as run_files
from dreamer.results.published import FEW_POINTS, Published
from dreamer.run.formats import shown

TASKS, METHODS = 64, 24  # in one figure: the 57 games of Atari in four columns; colours and dashes tell 18 apart
REFERENCE, _THIN, _BAND, _BARS = "random actions", "_thin", "_band", "_bars"
REFERENCE_STYLE: dict[str, Any] = {"color": style.GREY, "linewidth": 1, "linestyle": (0, (4, 2))}
# What was published is black and grey, so that the colours are left to the runs.
CURVE_STYLE: dict[str, Any] = {"color": style.INK, "linewidth": 1}
FINAL_STYLES: dict[str, dict[str, Any]] = {
    "planet": {"color": "#666666", "linewidth": 0.8, "linestyle": (0, (14, 4))},
    "d4pg": {"color": "#666666", "linewidth": 1, "linestyle": (0, (1, 1.6))},
    "a3c": {"color": "#666666", "linewidth": 0.8, "linestyle": (0, (6, 2, 1, 2))},
    "best possible": {"color": "#666666", "linewidth": 0.8, "linestyle": (0, (14, 4))},  # of the toy task, in the demo
}


def main_figure(
    runs: Iterable[Path],
    out: Path,
    *,
    tasks: Iterable[str] | None = None,
    methods: Iterable[str] | None = None,
    group_by: Iterable[str] = (),
    window: float | None = None,
    metric: str | None = None,
    published: Published | None = None,
) -> list[Path]:
    """Draw the learning curves of all runs at or below the paths `runs` and return the files written.

    A line is the mean over the runs of a method on a task, the band one standard deviation on either side; where some
    of them have ended, the mean of the others goes on as a thin line. A run directory's random.json, {"mean": return,
    "std": .., "episodes": n}, becomes the dashed line of its task.
    tasks, methods, group_by, metric: as in curves.collect; window: frames, as in curves.align; published: what to draw
    beside the runs. Random actions and the aggregate are about returns: with a metric they are left out.

    out is a .png, .pdf or .svg file that gets all panels, or a directory that gets a PNG and a PDF of every suite and,
    where several tasks can be taken together, of the aggregate. Files that cannot be used are left out with one line
    each on stderr. Runs of a task and a method that have different settings are averaged all the same, with a line
    there and in the figure. Raises ValueError if nothing is left, if it is too much for a figure, or if out has another
    suffix.
    """
    out = Path(out)
    one_file = out.suffix in style.SUFFIXES and not out.is_dir()
    if out.suffix and not one_file and not out.is_dir():
        raise ValueError(f"{shown(out)}: the figure can be {style.FORMS} or a directory, not {out.suffix[:20]}")
    entries = curves.collect(runs, tasks, methods, group_by, metric)
    suites: dict[str, list[scores.Scores]] = {}
    for entry in entries:
        suites.setdefault(curves.suite_of(entry.task), []).append(entry)
    groups = {out: entries} if one_file else {out / suite: suites[suite] for suite in sorted(suites)}
    for group in groups.values():
        curves.refuse_many(group, tasks=TASKS, methods=METHODS, what="one figure")
    random = references(entries, metric)
    mixed = curves.mixed_settings(entries)
    written = []

    def save(figure: Figure, path: Path, tasks: list[str]) -> None:
        files = [path] if one_file else [path.with_name(f"{path.name}{suffix}") for suffix in (".png", ".pdf")]
        notes = _mixed_notes({of: keys for of, keys in mixed.items() if of[0] in tasks})
        style.save(figure, files, [*notes, *_legend_notes(figure)])
        written.extend(files)

    with matplotlib.rc_context(style.STYLE), warnings.catch_warnings():
        # Names and numbers come out of files: letters that the font lacks are drawn as boxes, labels too long for their
        # place are laid out less well, and both are no one's mistake.
        warnings.filterwarnings("ignore", message="Glyph .* missing from|constrained_layout not applied")
        for path, group in groups.items():
            unit = run_files.unit(group) if metric else run_files.FRAMES
            figure = draw(group, random, published=published, window=window, metric=metric, unit=unit)
            save(figure, path, curves.tasks_of(group))
        if not one_file and metric is None and len({entry.task for entry in entries}) > 1:
            # Here, because the libraries behind it take seconds to load.
            from dreamer.results import aggregate

            summary, notes = aggregate.summarise(entries, window=window)
            curves.complain(notes)
            if summary:
                save(aggregate.draw(summary, published), out / "aggregate", summary.tasks)
    return written


def draw(
    entries: list[scores.Scores],
    references: dict[str, float],
    *,
    published: Published | None = None,
    window: float | None = None,
    metric: str | None = None,
    unit: str = run_files.FRAMES,
) -> Figure:
    """Figure of small multiples, 6 inches wide: 900 pixels at 150 dpi.

    references: mean return per task. metric: what the entries have in the place of returns; unit: of their xs.
    """
    tasks, methods = curves.tasks_of(entries), curves.methods_of(entries)
    labels, styles = {method: _label(method, entries) for method in methods}, style.method_styles(methods)
    figure, panels, columns = layout.panels_of(tasks, of_returns=metric is None)
    height = metric or "Evaluation return"
    ends: list[tuple] = []
    handles: dict[Any, Line2D] = {}
    for task, panel in panels.items():
        for method in reversed(methods):  # the first method lies on top
            if runs := curves.of(entries, task, method):
                last = _draw_line(panel, runs, styles[method], columns, window)
                handles[method] = Line2D([], [], linewidth=2, label=labels[method], **styles[method])
                ends.append((*last, labels[method], styles[method]["color"]))
        panel.margins(x=0.02)
        panel.set_xlim(left=0)
        for x, end, line in _draw_published(panel, task, published, columns) if published else ():
            handles[line.get_label()] = line
            ends.append((x, end, line.get_label(), line.get_color()))
        if task in references:
            handles[REFERENCE] = Line2D([], [], label=REFERENCE, **REFERENCE_STYLE)
            panel.axhline(references[task], zorder=1.5, **REFERENCE_STYLE)
            ends.append((math.inf, references[task], REFERENCE, style.GREY))
        layout.ticks(panel.xaxis, columns)
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: curves.human(value)))
    layout.limit_heights(panels, of_returns=metric is None)
    if len(tasks) == 1:
        panel = panels[tasks[0]]
        panel.set(xlabel=unit, ylabel=height)
        near = 0.8 * panel.get_xlim()[1]  # to where the names stand
        texts = [(end, text if x >= near else f"{text}, to {curves.human(x)}", color) for x, end, text, color in ends]
        layout.label_ends(panel, texts, line=0.065)
    else:
        layout.label(figure, unit, height)
        # The runs in their own order, then what was published, then random actions.
        rest = [key for key in handles if key not in methods and key != REFERENCE] + [REFERENCE] * bool(references)
        layout.add_legend(figure, [handles[key] for key in [*methods, *rest]])
    layout.add_titles(figure, panels, columns)
    return figure


def references(entries: list[scores.Scores], metric: str | None) -> dict[str, float]:
    """Mean return of random actions per task, none beside a metric. Files that cannot be used are named on stderr."""
    if metric is not None:
        return {}
    found, problems = curves.random_returns(entries)
    curves.complain(problems)
    return found


def _draw_line(
    panel: Axes, runs: list[scores.Scores], line: dict, columns: int, window: float | None
) -> tuple[float, float]:
    """Draw one method's line and band; returns where the line ends."""
    xs, ys = curves.align(runs, window=window, bins=max(40, 100 // columns))
    mean, std = curves.spread(ys)
    shared = curves.shared(ys)
    of_all, deviation = np.where(shared, mean, np.nan), np.where(shared, std, np.nan)
    if np.isfinite(deviation).any():
        low, high = mean - deviation, mean + deviation
        panel.fill_between(xs, low, high, color=line["color"], alpha=0.18, linewidth=0, label=_BAND)
    panel.plot(xs, of_all, linewidth=1.6 if columns < 4 else 1.3, zorder=3, **line)
    # Not clipped: the marker of a return of 0 lies half below the panel.
    points: dict[str, Any] = {"color": line["color"], "linestyle": "", "marker": "o", "clip_on": False}
    if not shared.all():
        panel.plot(*curves.without_leaps(xs, mean, ys), linewidth=0.7, zorder=2.8, label=_THIN, **line)
        if _is_short(xs, columns):
            panel.plot(xs, mean, markersize=3, markerfacecolor="white", markeredgewidth=0.7, zorder=3.5, **points)
    if _is_short(xs, columns):
        panel.plot(xs, of_all, markersize=5, markeredgecolor="white", zorder=4, **points)
    return float(xs[-1]), float(mean[-1])


def _draw_published(panel: Axes, task: str, published: Published, columns: int) -> list[tuple[float, float, Line2D]]:
    """Draw what was published on the task; returns where each line ends, and the line.

    Of the curve, its points inside the frames of the runs, and the next one alone where those nearly reach it: what
    lies between two points that are far apart, nobody has published.
    """
    lines: list[tuple[float, float, Line2D]] = []
    curve, last, right = published.curve(task), panel.dataLim.x1, panel.get_xlim()[1]
    count = int((curve.xs <= right).sum()) if curve else 0
    ahead = curve is not None and curve.ahead_of(last) == count  # and not inside the axis already
    if curve and (count or ahead):
        xs, mean, std = (values[: count + ahead] for values in (curve.xs, curve.mean, curve.std))
        few = count <= FEW_POINTS
        within, alone = slice(count), slice(0 if few else count, None)
        if not few:
            low, high = (mean - std)[within], (mean + std)[within]
            panel.fill_between(xs[within], low, high, color=style.INK, alpha=0.1, linewidth=0, label=_BAND)
        above = 5 if few else 2.5  # single points would lie beneath those of the runs, unseen
        points: dict[str, Any] = {"marker": "o", "markersize": 3.5, "clip_on": False, "zorder": above, **CURVE_STYLE}
        look = points if few or _is_short(xs, columns) else {"zorder": above, **CURVE_STYLE}
        (line,) = panel.plot(xs[within], mean[within], label="Dreamer, published", linestyle="" if few else "-", **look)
        if len(xs[alone]):
            panel.errorbar(xs[alone], mean[alone], std[alone], linestyle="", label=_BARS, **points)
        if ahead:
            panel.set_xlim(right=1.02 * xs[-1])
        lines.append((float(xs[-1]), float(mean[-1]), line))
    final = published.scores(task)
    for method in FINAL_STYLES:
        if method not in final:
            continue
        name, frames, _ = published.methods[method]
        text = f"{name}, {curves.human(frames)} frames" if frames else name
        line = panel.axhline(final[method], zorder=1.6, label=text, **FINAL_STYLES[method])
        lines.append((math.inf, final[method], line))
    return lines


def _is_short(xs: np.ndarray, columns: int) -> bool:
    """Whether the points of a line can be told apart."""
    return len(xs) <= 36 // columns


def _label(method: str, entries: list[scores.Scores]) -> str:
    runs = Counter(entry.task for entry in entries if entry.method == method).values()
    count = f"{max(runs)} runs" if min(runs) == max(runs) else f"{min(runs)} to {max(runs)} runs"
    return f"{curves.label(method)} ({count})" if max(runs) > 1 else curves.label(method)


def _legend_notes(figure: Figure) -> list[str]:
    """What bands and thin lines are, where the figure has some."""
    thin = any(line.get_label() == _THIN for panel in figure.axes for line in panel.lines)
    bands = any(band.get_label() == _BAND for panel in figure.axes for band in panel.collections)
    bars = any(bar.get_label() == _BARS for panel in figure.axes for bar in panel.containers)
    return [
        *["Bands: one standard deviation over the runs"] * bands,
        *["Bars: one standard deviation over the published runs"] * bars,
        *["Thin lines: means of fewer than all runs"] * thin,
    ]


def _mixed_notes(mixed: dict[tuple[str, str], dict[str, list]]) -> list[str]:
    """A line for each method and its settings that differ between runs of the same task, with those tasks."""
    tasks: dict[tuple[str, str], list[str]] = {}
    for (task, method), keys in mixed.items():
        tasks.setdefault((method, curves.settings_in_words(keys, most=3)), []).append(curves.title(task))
    return [
        f"{', '.join(of)}: runs of {curves.label(method)} with different settings are averaged: {text}"
        for (method, text), of in tasks.items()
    ]
