"""Learning curves: one panel per task, one line per method, from the score files of any number of runs."""

import json
import math
import sys
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator

from dreamer.results import scores
from dreamer.results.files import replacing

# Okabe and Ito's palette without black and yellow, which is too faint for a line on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1)))  # told apart by these when there are more methods than colours
REFERENCE = "random actions"
REFERENCE_STYLE = {"color": "#777777", "linewidth": 1, "linestyle": (0, (4, 2))}
NAMES = {"dreamer": "Dreamer", "planet": "PlaNet", "random": "Random"}
SUITES = ("dmc_", "atari_", "dmlab_")
INK = "#222222"
STYLE = {
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#999999",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8e8e8",
    "grid.linewidth": 0.8,
    "xtick.color": "#999999",
    "ytick.color": "#999999",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "round",
    "pdf.fonttype": 42,  # TrueType: conferences refuse the default Type 3
    "figure.dpi": 150,
}


def main_figure(runs: Iterable[Path], out: Path) -> list[Path]:
    """Draw the learning curves of all runs at or below the paths `runs` and return the files written.

    A line is the mean over the runs of a method on a task, the band one standard deviation on either side. A
    run directory's random.json, {"mean": return, "std": .., "episodes": n}, becomes the dashed line of its task.
    out is a .png or .pdf file, or a directory that gets curves.png and curves.pdf. Files that cannot be used are
    left out with one line each on stderr. Raises ValueError if nothing is left or out has another suffix.
    """
    out = Path(out)
    if out.suffix in (".png", ".pdf") and not out.is_dir():
        files = [out]
    elif out.suffix and not out.is_dir():
        raise ValueError(f"{out}: the figure can be a .png, a .pdf or a directory, not {out.suffix}")
    else:
        files = [out / "curves.png", out / "curves.pdf"]
    runs = [Path(run) for run in runs]
    entries, problems = scores.find(runs)
    references, more = read_references(entries)
    for problem in problems + more:
        print(problem, file=sys.stderr)
    if not entries:
        raise ValueError(f"nothing to draw: no usable {scores.FILENAME} in {', '.join(map(str, runs)) or 'no paths'}")
    with matplotlib.rc_context(STYLE):
        figure = draw(entries, references)
        for file in files:
            with replacing(file) as temporary:
                # Without a date the same scores give the same bytes.
                figure.savefig(temporary, metadata={"CreationDate": None} if file.suffix == ".pdf" else None)
    return files


def read_references(entries: list[scores.Scores]) -> tuple[dict[str, float], list[str]]:
    """Mean return of random actions per task, from random.json beside a run's own score file; one line per bad file.

    Several files of a task are averaged, weighted by their episodes. Score files of many runs have none.
    """
    holds = Counter(entry.path for entry in entries)
    returns, episodes, problems = Counter(), Counter(), []
    for entry in entries:
        path = entry.path.parent / "random.json"
        if holds[entry.path] > 1 or not path.exists():
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            mean, count = float(content["mean"]), int(content["episodes"])
            if not (math.isfinite(mean) and count > 0):
                raise ValueError(f"mean is {mean}, episodes {count}")
        except (ValueError, TypeError, KeyError) as error:
            problems.append(f'{path}: expected {{"mean": return, "std": .., "episodes": n}} ({error})')
            continue
        returns[entry.task] += mean * count
        episodes[entry.task] += count
    return {task: returns[task] / episodes[task] for task in episodes}, problems


def align(runs: list[scores.Scores], bins: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Bring the runs of one method onto common frames: (xs [P], ys [runs, P]), NaN where a run has no data.

    With few points xs are all frames at which some run was evaluated, and the other runs are interpolated
    between their points, never beyond their ends. With more than 2 * bins, xs are the centres of `bins`
    equal windows, and a run's value is the mean of its points in the window.
    """
    grid = np.unique(np.concatenate([run.xs for run in runs])).astype(float)
    if len(grid) <= 2 * bins:
        ys = []
        for run in runs:
            order = np.argsort(run.xs)
            ys.append(np.interp(grid, np.take(run.xs, order), np.take(run.ys, order), left=np.nan, right=np.nan))
        return grid, np.stack(ys)
    edges = np.linspace(grid[0], grid[-1], bins + 1)
    ys = np.full((len(runs), bins), np.nan)
    for row, run in enumerate(runs):
        index = np.searchsorted(edges[1:-1], run.xs, side="right")
        counts, sums = np.bincount(index, minlength=bins), np.bincount(index, run.ys, minlength=bins)
        ys[row, counts > 0] = sums[counts > 0] / counts[counts > 0]
    filled = np.isfinite(ys).any(axis=0)
    return ((edges[:-1] + edges[1:]) / 2)[filled], ys[:, filled]


def spread(ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [P] and sample standard deviation [P] over the runs of ys [runs, P]; NaN deviation below two runs."""
    known = np.isfinite(ys)
    count = known.sum(axis=0)
    mean = np.where(known, ys, 0).sum(axis=0) / count
    squares = np.where(known, (ys - mean) ** 2, 0).sum(axis=0)
    return mean, np.where(count > 1, np.sqrt(squares / np.maximum(count - 1, 1)), np.nan)


def human(number: float) -> str:
    """Short form of a number of frames: 800, 5K, 1.5M, 2B."""
    for unit, sign in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(number) >= unit:
            return f"{number / unit:.4g}{sign}"
    return f"{number:.4g}"


def draw(entries: list[scores.Scores], references: dict[str, float]) -> Figure:
    """Figure of small multiples, 6 inches wide: 900 pixels at 150 dpi. references: mean return per task."""
    tasks = sorted({entry.task for entry in entries})
    methods = sorted({entry.method for entry in entries}, key=lambda method: (method != "dreamer", method))
    labels = {method: _label(method, entries) for method in methods}
    styles = {
        method: {"color": COLORS[index % len(COLORS)], "linestyle": DASHES[index // len(COLORS) % len(DASHES)]}
        for index, method in enumerate(methods)
    }
    columns = 1 if len(tasks) == 1 else 2 if len(tasks) in (2, 4) else 3 if len(tasks) <= 9 else 4
    rows = -(-len(tasks) // columns)
    height = {1: 3.2, 2: 2.5, 3: 1.9, 4: 1.6}[columns]
    figure = Figure(figsize=(6, rows * height + 0.4 * (len(tasks) > 1)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.05, h_pad=0.05, wspace=0.05, hspace=0.03)
    # All returns of DM Control live in 0..1000: one scale makes its panels comparable.
    share = all(task.startswith("dmc_") for task in tasks)
    panels = figure.subplots(rows, columns, sharey=share, squeeze=False).ravel()
    for panel in panels[len(tasks) :]:
        panel.remove()
    panels = dict(zip(tasks, panels[: len(tasks)], strict=True))
    titles, ends = [], {}
    for task, panel in panels.items():
        for method in reversed(methods):  # the first method lies on top
            if runs := [entry for entry in entries if (entry.task, entry.method) == (task, method)]:
                ends[method] = _draw_line(panel, runs, styles[method], columns)
        if task in references:
            panel.axhline(references[task], **REFERENCE_STYLE, zorder=1.5)
        titles.append(panel.set_title(_title(task), fontsize=9 if columns < 3 else 8))
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(MaxNLocator(max(4, 7 - columns), steps=[1, 2, 2.5, 5, 10]))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human(value)))
        panel.margins(x=0.02)
        panel.set_xlim(left=0)
    for group in [list(panels.values())] if share else [[panel] for panel in panels.values()]:
        _limit_heights(group)
    if len(tasks) == 1:
        panel = panels[tasks[0]]
        panel.set(xlabel="Environment frames", ylabel="Evaluation return")
        texts = [(ends[method], labels[method], styles[method]["color"]) for method in methods]
        texts += [(mean, REFERENCE, REFERENCE_STYLE["color"]) for task, mean in references.items() if task in tasks]
        _label_ends(panel, texts, line=0.065)
    else:
        figure.supxlabel("Environment frames", fontsize=8.5, color=INK)
        figure.supylabel("Evaluation return", fontsize=8.5, color=INK)
        handles = [Line2D([], [], linewidth=2, label=labels[method], **styles[method]) for method in methods]
        handles += [Line2D([], [], label=REFERENCE, **REFERENCE_STYLE)] * bool(references)
        columns = min(len(handles), 4)
        legend = figure.legend(
            handles=handles, loc="outside upper center", ncols=columns, frameon=False, handlelength=1.6
        )
        for text, handle in zip(legend.get_texts(), handles, strict=True):
            text.set_color(handle.get_color())
    _fit_titles(figure, titles)
    return figure


def _draw_line(panel: Axes, runs: list[scores.Scores], style: dict, columns: int) -> float:
    """Draw one method's line and band; returns the height at which the line ends."""
    xs, ys = align(runs, bins=max(40, 100 // columns))
    mean, std = spread(ys)
    panel.fill_between(xs, mean - std, mean + std, color=style["color"], alpha=0.18, linewidth=0)
    panel.plot(xs, mean, linewidth=1.6 if columns < 4 else 1.3, zorder=3, **style)
    if len(xs) <= 30 // columns:
        # Not clipped: the marker of a return of 0 lies half below the panel.
        panel.plot(xs, mean, "o", color=style["color"], markersize=5, markeredgecolor="white", clip_on=False, zorder=4)
    return float(mean[-1])


def _limit_heights(panels: list[Axes]) -> None:
    """Give the panels one range of returns, from 0 where none is negative."""
    lows = [np.min(line.get_ydata()) for panel in panels for line in panel.lines]
    bottom, top = min(panel.dataLim.y0 for panel in panels), max(panel.dataLim.y1 for panel in panels)
    bottom = 0 if min(lows) >= 0 else bottom
    room = 0.05 * (top - bottom) or 1.0
    for panel in panels:
        panel.set_ylim(bottom - room * (bottom < 0), top + room)


def _fit_titles(figure: Figure, titles: list[Text]) -> None:
    """Make titles smaller that are wider than their panels."""
    figure.draw_without_rendering()
    for title in titles:
        excess = title.get_window_extent().width / title.axes.get_window_extent().width
        title.set_fontsize(title.get_fontsize() / max(1, excess))


def _label_ends(panel: Axes, texts: list[tuple], *, line: float) -> None:
    """Write (height, text, colour) right of the panel; texts are moved apart to `line` of the panel's height."""
    bottom, top = panel.get_ylim()
    texts = sorted(texts)
    heights = [min(max((height - bottom) / (top - bottom), 0), 1) for height, _, _ in texts]
    for lower, upper in pairwise(range(len(heights))):
        heights[upper] = max(heights[upper], heights[lower] + line)
    heights = [height - max(0, heights[-1] - 1) for height in heights]
    for height, (_, text, color) in zip(heights, texts, strict=True):
        panel.text(1.015, height, text, color=color, transform=panel.transAxes, va="center")


def _title(task: str) -> str:
    name = next((task.removeprefix(suite) for suite in SUITES if task.startswith(suite)), task)
    return name.replace("_", " ").title()


def _label(method: str, entries: list[scores.Scores]) -> str:
    runs = Counter(entry.task for entry in entries if entry.method == method).values()
    count = f"{max(runs)} runs" if min(runs) == max(runs) else f"{min(runs)} to {max(runs)} runs"
    return f"{NAMES.get(method, method)} ({count})" if max(runs) > 1 else NAMES.get(method, method)
