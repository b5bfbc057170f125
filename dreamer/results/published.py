"""Published figures to compare with: final scores of four methods, and Dreamer's learning curves.

The numbers and their sources are in runs/published/: final.json and curves.json.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dreamer.run import formats

_PACKAGE = Path(__file__).resolve().parent.parent
# An installed package holds them; in a checkout they are beside it, with the runs.
FOLDER = _PACKAGE / "published" if (_PACKAGE / "published").is_dir() else _PACKAGE.parent / "runs" / "published"
# The suite's own name of a task to the paper's.
ALIASES = {"dmc_ball_in_cup_catch": "dmc_cup_catch"}
FEW_POINTS = 4  # of a curve, beside runs, stand alone: a line through them would look measured
_NEAR = 1.25  # times the frames of the runs: a point that lies no further ahead is shown beside them


class Method(NamedTuple):
    """Where the final scores of a method were read: frames of training, and what the agent saw."""

    name: str
    frames: int
    input: str


class Curve(NamedTuple):
    """Evaluation returns against frames over `seeds` runs: arrays [P]."""

    seeds: int
    xs: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    @property
    def compares_from(self) -> float:
        """Frames of the second point: between the first two, where learning begins, a straight line says too little."""
        return float(self.xs[1])

    def at(self, frames: float) -> float | None:
        """Mean return at `frames`, interpolated linearly; None outside of the curve, and below `compares_from`.

        The last point stands for one more interval, so that a run that ends where the published ones did compares.
        """
        step = self.xs[-1] - self.xs[-2]
        if not self.compares_from <= frames <= self.xs[-1] + step:
            return None
        return float(np.interp(frames, self.xs, self.mean))

    def ahead_of(self, frames: float) -> int | None:
        """Index of the next point, where runs of so many frames nearly reach it."""
        index = int((self.xs <= frames).sum())
        return index if index < len(self.xs) and self.xs[index] < _NEAR * frames else None


class Published(NamedTuple):
    """final: {task: {method: score}}, without the scores that were not published; curves: {task: Curve} of Dreamer."""

    methods: dict[str, Method]
    final: dict[str, dict[str, float]]
    curves: dict[str, Curve]
    sources: dict[str, str]

    def scores(self, task: str) -> dict[str, float]:
        """Final score of every method that has one on the task."""
        return self.final.get(ALIASES.get(task, task), {})

    def curve(self, task: str) -> Curve | None:
        """Dreamer's learning curve on the task, if it was published."""
        return self.curves.get(ALIASES.get(task, task))


def load(folder: Path = FOLDER) -> Published:
    """Read both files. Raises FormatError if one is not there or not as it was."""
    final, curves = (formats.document(folder / name) for name in ("final.json", "curves.json"))
    try:
        return _parse(final, curves)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        problem = formats.one_line(error)
        raise formats.FormatError(f"{folder}: final.json or curves.json is damaged ({problem})") from error


def _parse(final: Any, curves: Any) -> Published:
    return Published(
        methods={key: Method(**method) for key, method in final["methods"].items()},
        final=final["tasks"],
        curves={
            task: Curve(curve["seeds"], *(np.array(curve[key], float) for key in ("xs", "mean", "std")))
            for task, curve in curves["tasks"].items()
        },
        sources={"final": final["source"], "curves": curves["source"]},
    )
