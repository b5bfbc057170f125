"""How panels stand in a figure: small multiples, a panel per task, and what they have in common."""

from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from dreamer.results import curves, style


def panels_of(tasks: list[str], *, of_returns: bool) -> tuple[Figure, dict[str, Axes], int]:
    """A figure 6 inches wide (900 pixels at 150 dpi), {task: its panel}, and the number of columns.

    of_returns: whether it shows returns, see `_one_scale`, or another number.
    """
    columns = 1 if len(tasks) == 1 else 2 if len(tasks) in (2, 4) else 3 if len(tasks) <= 9 else 4
    rows = -(-len(tasks) // columns)
    height = {1: 3.2, 2: 2.5, 3: 1.9, 4: 1.6}[columns]
    figure = Figure(figsize=(6, rows * height + 0.4 * (len(tasks) > 1)), layout="constrained")
    engine: Any = figure.get_layout_engine()  # the constrained one, as asked for
    engine.set(w_pad=0.05, h_pad=0.05, wspace=0.05, hspace=0.03)
    panels = figure.subplots(rows, columns, sharey=of_returns and _one_scale(tasks), squeeze=False).ravel()
    for panel in panels[len(tasks) :]:
        panel.remove()
    found = dict(zip(tasks, panels[: len(tasks)], strict=True))
    for panel in found.values():
        ticks(panel.yaxis, columns)
    return figure, found, columns


def _one_scale(tasks: list[str]) -> bool:
    """All returns of DM Control live in 0..1000: one scale makes its panels comparable."""
    return all(curves.suite_of(task) == "dmc" for task in tasks)


def ticks(axis: Axis, columns: int) -> None:
    """As many numbers at an axis as there is room for."""
    axis.set_major_locator(MaxNLocator(max(4, 7 - columns), steps=[1, 2, 2.5, 5, 10]))


def limit_heights(panels: dict[str, Axes], *, of_returns: bool) -> None:
    """Give panels of DM Control one range of returns, others each their own; what is above 1000 there is cut off.

    Other numbers, of_returns false, have a range for each panel, which begins at 0 only where that is near: a loss of
    11,000 nats that falls by a hundred would be a flat line.
    """
    share = of_returns and _one_scale(list(panels))
    for group in [list(panels.values())] if share else [[panel] for panel in panels.values()]:
        _limit_heights(group, ceiling=1000 if share else np.inf, from_zero=of_returns)


def _limit_heights(panels: list[Axes], ceiling: float, from_zero: bool) -> None:
    """Give the panels one range; bands above the ceiling are cut off.

    Where no line is negative it begins at 0; from_zero False: only if 0 is no farther away than its ends are apart.
    """
    low = np.nanmin(np.concatenate([np.asarray(line.get_ydata(), float) for panel in panels for line in panel.lines]))
    bottom, top = min(panel.dataLim.y0 for panel in panels), max(panel.dataLim.y1 for panel in panels)
    begins_at_zero = low >= 0 and (from_zero or low <= top - bottom)
    bottom, top = 0 if begins_at_zero else bottom, min(top, ceiling)
    room = 0.05 * (top - bottom) or (max(1.0, 0.05 * abs(top)) if from_zero else 0.05 * abs(top) or 1.0)
    for panel in panels:
        panel.set_ylim(bottom - room * (bottom != 0), top + room)


def label(figure: Figure, x: str, y: str) -> None:
    """Labels for all panels at once."""
    figure.supxlabel(x, fontsize=8.5, color=style.INK)
    figure.supylabel(y, fontsize=8.5, color=style.INK)


def add_legend(figure: Figure, handles: list[Line2D]) -> None:
    """A legend above the panels, its texts in the colours of their lines, in as many columns as fit."""
    for columns in range(min(len(handles), 4), 0, -1):
        legend = figure.legend(
            handles=handles, loc="outside upper center", ncols=columns, frameon=False, handlelength=2.2
        )
        for text, handle in zip(legend.get_texts(), handles, strict=True):
            text.set_color(handle.get_color())
        figure.draw_without_rendering()
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def add_titles(figure: Figure, panels: dict[str, Axes], columns: int) -> None:
    """Name the panels, all in smaller letters if one name is wider than its panel."""
    size = 9 if columns < 3 else 8
    titles = [panel.set_title(curves.title(task), fontsize=size) for task, panel in panels.items()]
    figure.draw_without_rendering()
    excess = max(
        title.get_window_extent().width / title.axes.get_window_extent().width for title in titles if title.axes
    )
    for title in titles:
        title.set_fontsize(float(title.get_fontsize()) / max(1, excess))


def label_ends(panel: Axes, texts: list[tuple], *, line: float) -> None:
    """Write (height, text, colour) right of the panel; texts are moved apart to `line` of the panel's height."""
    bottom, top = panel.get_ylim()
    texts = sorted(texts)
    heights = [min(max((height - bottom) / (top - bottom), 0), 1) for height, _, _ in texts]
    for lower, upper in pairwise(range(len(heights))):
        heights[upper] = max(heights[upper], heights[lower] + line)
    heights[-1] = min(heights[-1], 1)
    for upper, lower in pairwise(reversed(range(len(heights)))):
        heights[lower] = min(heights[lower], heights[upper] - line)
    for height, (_, text, color) in zip(heights, texts, strict=True):
        panel.text(1.015, height, text, color=color, transform=panel.transAxes, va="center")
