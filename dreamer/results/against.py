"""Final returns against a setting: one panel per task, one line per method, a point for each value that runs have."""

import warnings
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dreamer.results import curves, layout, plot, runs, style
from dreamer.run import formats
from dreamer.run.formats import shown

_SAME_END = 1.05  # runs whose last frames differ by less have gone equally far
_DECADES = 20  # numbers that span more than this factor stand on a logarithmic axis: learning rates, horizons


def main_figure(
    paths: Iterable[Path],
    key: str,
    out: Path,
    *,
    tasks: Iterable[str] | None = None,
    methods: Iterable[str] | None = None,
    group_by: Iterable[str] = (),
    window: float | None = None,
    metric: str | None = None,
) -> list[Path]:
    """Draw the final return of all runs at or below `paths` against their setting `key`; return the files written.

    A point is the mean over the runs of a method on a task with one value, at the last frames that as many of them as
    possible reach; the bar is one standard deviation on either side. tasks, methods, group_by, window, metric: as in
    plot.main_figure.
    Raises ValueError if no run has the key in its config.yaml, or if `out` has another suffix than style.SUFFIXES.
    """
    out = Path(out)
    if out.suffix not in style.SUFFIXES or out.is_dir():
        raise ValueError(f"{shown(out)}: a figure against a setting can be {style.FORMS}")
    entries = curves.collect(paths, tasks, methods, group_by, metric)
    curves.refuse_many(entries, tasks=plot.TASKS, methods=plot.METHODS, what="one figure")
    found, problems = runs.read_settings(entries)
    curves.complain(problems)
    points = finals(found, key, window)
    if not points:
        raise ValueError(f"no run has {key} in its config.yaml")
    references = plot.references(entries, metric)
    with matplotlib.rc_context(style.STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from|constrained_layout not applied")
        notes = _notes(found, key)
        bars = any(len(ys) > 1 for of in points.values() for ys in of.values())
        explained = [*notes, *["Bars: one standard deviation over the runs"] * bars]
        style.save(draw(points, key, references, metric), [out], explained)
    curves.complain(f"warning: {note}" for note in notes)
    return [out]


def finals(
    found: list[runs.Run], key: str, window: float | None = None
) -> dict[tuple[str, str], dict[Any, np.ndarray]]:
    """{(task, method): {value of the key: final returns [runs]}}, values in order. Runs without one are left out."""
    groups: defaultdict[tuple, defaultdict[Any, list]] = defaultdict(lambda: defaultdict(list))
    for run in found:
        if (value := _value(run, key)) is not None:
            groups[run.scores.task, run.scores.method][value].append(run.scores)
    return {
        group: {
            value: curves.last_common(*curves.align(of[value], window=window))[1] for value in sorted(of, key=_order)
        }
        for group, of in groups.items()
    }


def _value(run: runs.Run, key: str) -> Any:
    """What a run has for the key, or did where it is older; None where nothing tells, or nothing can be drawn at it."""
    value = runs.setting(run, key)
    return value if isinstance(value, str | bool) or formats.is_number(value) else None


def draw(
    points: dict[tuple[str, str], dict[Any, np.ndarray]],
    key: str,
    references: dict[str, float],
    metric: str | None = None,
) -> Figure:
    """Figure of `finals`. references: mean return of random actions per task; metric: as in plot.draw."""
    tasks = sorted({task for task, _ in points})
    methods = sorted({method for _, method in points}, key=curves.method_order)
    styles = style.method_styles(methods)
    figure, panels, columns = layout.panels_of(tasks, of_returns=metric is None)
    places, names = _places({value for of in points.values() for value in of})
    handles: dict[str, Line2D] = {}
    for task, panel in panels.items():
        for method in methods:
            if of := points.get((task, method)):
                _draw_line(panel, [places[value] for value in of], list(of.values()), styles[method])
                handles[method] = Line2D([], [], linewidth=2, label=curves.label(method), **styles[method])
        if task in references:
            handles[plot.REFERENCE] = Line2D([], [], label=plot.REFERENCE, **plot.REFERENCE_STYLE)
            panel.axhline(references[task], zorder=1.5, **plot.REFERENCE_STYLE)
        if names is None and _is_logarithmic(places.values()):
            panel.set_xscale("log")
            panel.minorticks_off()
        panel.set_xticks(sorted(places.values()), names or [runs.in_words(value) for value in sorted(places)])
        panel.margins(x=0.06)
    layout.limit_heights(panels, of_returns=metric is None)
    layout.label(figure, key, f"Final {metric}" if metric else "Final evaluation return")
    order = [name for name in (*methods, plot.REFERENCE) if name in handles]
    layout.add_legend(figure, [handles[name] for name in order])
    layout.add_titles(figure, panels, columns)
    return figure


def _draw_line(panel: Axes, xs: list[float], ys: list[np.ndarray], line: dict) -> None:
    mean = [values.mean() for values in ys]
    std = [values.std(ddof=1) if len(values) > 1 else 0.0 for values in ys]
    panel.errorbar(xs, mean, std, capsize=2.5, elinewidth=1, linewidth=1.6, marker="o", markersize=4, zorder=3, **line)


def _places(values: set) -> tuple[dict[Any, float], list[str] | None]:
    """Where the values stand on the axis: numbers at themselves, anything else in a row, whose names come with it."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return {value: float(value) for value in values}, None
    row = sorted(values, key=_order)
    return {value: float(place) for place, value in enumerate(row)}, [runs.in_words(value) for value in row]


def _is_logarithmic(numbers: Iterable[float]) -> bool:
    low, high = min(numbers), max(numbers)
    return low > 0 and high / low > _DECADES


def _order(value: Any) -> tuple:
    """Numbers by size, then texts by name."""
    return (isinstance(value, str), value)


def _notes(found: list[runs.Run], key: str) -> list[str]:
    """Lines where points stand after different frames, and for each that is a mean over runs of different settings."""
    of = [(run, value) for run in found if (value := _value(run, key)) is not None]
    last = [max(run.scores.xs) for run, _ in of]
    what = runs.unit([run.scores for run, _ in of]).removeprefix("Environment ").lower()
    apart = f"runs end after different {what}, {curves.human(min(last))} to {curves.human(max(last))}"
    return [apart] * (max(last) > _SAME_END * min(last)) + [
        f"{curves.title(task)}, {curves.label(method)}, {key} {runs.in_words(value)}: runs with different settings are "
        f"averaged: {curves.settings_in_words(differ, most=3)}"
        for value in sorted({value for _, value in of}, key=_order)
        for (task, method), differ in runs.mixed_settings([run for run, its in of if its == value]).items()
    ]
