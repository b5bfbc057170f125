"""Curves of what a world model predicts of rewards and vectors, beside what came: for runs without images."""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from dreamer.results.style import COLORS, GREY, INK, STYLE, save

ROWS = 12  # of the figure; what has no room is told in its last line


def figure(
    path: Path,
    truth: Mapping[str, np.ndarray],
    model: Mapping[str, np.ndarray],
    *,
    names: Sequence[str],
    title: str,
    context: int,
) -> None:
    """Draw a row for each number and a column for each sequence: what was, and what was predicted.

    truth, model: rewards [B, T] and vectors [B, T, size], by name; others are left out. names: of the B sequences.
    context: steps that the model saw; from there on it imagines. path: a .png.
    """
    rows = [
        (name if values.ndim == 2 or values.shape[2] == 1 else f"{name}[{column}]", name, column)
        for name, values in sorted(model.items(), key=lambda item: (item[0] != "reward", item[0]))
        if values.ndim in (2, 3)
        for column in range(1 if values.ndim == 2 else values.shape[2])
    ]
    shown = rows[:ROWS]
    with matplotlib.rc_context(STYLE):
        drawing = Figure(figsize=(2 + 2.6 * len(names), 0.8 + 0.9 * len(shown)), layout="constrained")
        panels = drawing.subplots(len(shown), len(names), sharex=True, sharey="row", squeeze=False)
        for (label, name, column), line in zip(shown, panels, strict=True):
            for sequence, panel in enumerate(line):
                for values, style in ((truth, {"color": INK}), (model, {"color": COLORS[1]})):
                    values = values[name] if values[name].ndim == 3 else values[name][..., None]
                    panel.plot(np.arange(values.shape[1]), values[sequence, :, column], linewidth=1.2, **style)
                panel.axvline(context - 0.5, color=GREY, linewidth=0.8, linestyle=":")
            line[0].set_ylabel(label, rotation=0, ha="right", va="center")
        for panel, name in zip(panels[0], names, strict=True):
            panel.set_title(name, fontsize=8, fontweight="normal")
        for panel in panels[-1]:
            panel.set_xlabel("step")
        legend = [panels[0][0].lines[0], panels[0][0].lines[1]]
        words = f"model: sees {context} steps, then imagines"
        drawing.suptitle(title, x=0.01, ha="left", fontsize=9, fontweight="bold", color=INK)
        drawing.legend(legend, ["truth", words], loc="outside upper right", ncols=2, frameon=False)
        # By vectors: one of thousands of numbers would make the note larger than an image may be.
        left = Counter(name for _, name, _ in rows[ROWS:])
        told = ", ".join(name if count == 1 else f"{count:,} of {name}" for name, count in left.items())
        save(drawing, [path], [f"Left out: {textwrap.shorten(told, 1000, placeholder=' ...')}."] if left else [])
