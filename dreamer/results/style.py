"""How figures look: colours that colour-blind readers tell apart, thin lines, and files in one step."""

import itertools
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from dreamer.results import curves
from dreamer.run.files import replacing

# Okabe and Ito's palette without black, which is for what was published, and yellow, too faint for a line on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DARK = ("#4AA8E8", "#FF8A4C", "#2CC79B", "#E7A4CB", "#F2B63C", "#8FD3F7")  # the same, for lines on a dark page
DASHES: tuple = ("-", (0, (5, 1.5)), (0, (1.5, 1)))  # told apart by these when there are more methods than colours
SUFFIXES = (".png", ".pdf", ".svg")
FORMS = "a .png, a .pdf, an .svg"
INK = "#222222"
GREY = "#777777"
_DATES = {".pdf": ["CreationDate"], ".svg": ["Date"]}  # of the day, in a file's metadata
STYLE: dict[Any, Any] = {
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
    "svg.fonttype": "none",  # text that can be edited
    "svg.hashsalt": "dreamer",  # else ids in the file differ every time
    "text.parse_math": False,  # names of tasks and methods come out of files: a dollar in them is a dollar
    "figure.dpi": 150,
}


def method_styles(methods: list[str]) -> dict[str, dict[str, Any]]:
    """Colour and dashes of every method: curves.NAMES have theirs in every figure, others the first that are free."""
    looks = [{"color": color, "linestyle": dash} for dash in DASHES for color in COLORS]
    places = {method: place for place, method in enumerate(curves.NAMES) if method in methods}
    free = itertools.cycle(place for place in range(len(looks)) if place not in places.values())
    return {method: looks[places[method] if method in places else next(free)] for method in methods}


def save(figure: Figure, files: list[Path], notes: Iterable[str] = ()) -> None:
    """Write the figure to files with SUFFIXES, each in one step; the same figure gives the same bytes.

    notes: lines to be read with a figure 6 inches wide, wrapped, in room that is added below it.
    """
    options: dict[str, Any] = {}
    if lines := [part for note in notes for part in textwrap.wrap(note, 105, subsequent_indent="    ")]:
        width, height = figure.get_size_inches()
        text: dict[str, Any] = {"fontsize": 7, "color": INK, "parse_math": False, "in_layout": False}
        figure.text(0.07 / width, -0.05 / height, "\n".join(lines), va="top", **text)
        # Outside of the figure: its layout has labels at the lower edge, wherever the panels are told to end.
        options["bbox_inches"] = Bbox([[0, -0.14 - 0.12 * len(lines)], [width, height]])
    for file in files:
        metadata = {field: None for field in _DATES.get(file.suffix, ())} or None
        with replacing(file) as temporary:
            figure.savefig(temporary, metadata=metadata, **options)
