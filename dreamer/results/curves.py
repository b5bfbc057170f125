"""What figures, tables and reports share: which runs are meant, on which frames they meet, and what they are called."""

import fnmatch
import json
import math
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dreamer.results import runs as run_files
from dreamer.results import scores

NAMES = {"dreamer": "Dreamer", "planet": "PlaNet", "random": "Random"}
SUITES = {"dmc": "DM Control", "atari": "Atari", "dmlab": "DeepMind Lab", "gym": "Gymnasium", "toy": "Toy"}


def collect(
    runs: Iterable[Path], tasks: Iterable[str] | None = None, methods: Iterable[str] | None = None
) -> list[scores.Scores]:
    """Scores of all runs at or below `runs` whose task and method are asked for; None asks for all.

    tasks: names with or without their suite, and patterns ("walker_walk", "dmc_walker_walk", "cartpole_*").
    Files that cannot be used are named on stderr, one line each. Raises ValueError if no run is left, or if a name
    fits none.
    """
    runs = [Path(run) for run in runs]
    entries, problems = scores.find(runs)
    complain(problems)
    if not entries:
        where = ", ".join(map(str, runs)) or "no paths"
        raise ValueError(f"nothing to show: no usable {scores.FILENAME} in {where}")
    # Every name must fit something, so that a slip of the pen does not silently leave a task out.
    wanted_tasks = _matching("task", tasks, {entry.task for entry in entries})
    wanted_methods = _matching("method", methods, {entry.method for entry in entries})
    chosen = [entry for entry in entries if entry.task in wanted_tasks and entry.method in wanted_methods]
    if not chosen:
        raise ValueError(f"nothing to show: no run of {', '.join(wanted_methods)} on {', '.join(wanted_tasks)}")
    return chosen


def complain(problems: Iterable[str]) -> None:
    """Name on stderr what is left out, one line each."""
    for problem in problems:
        print(problem, file=sys.stderr)


def tasks_of(entries: Iterable[scores.Scores]) -> list[str]:
    """Names of the tasks, in the order in which they are shown."""
    return sorted({entry.task for entry in entries})


def methods_of(entries: Iterable[scores.Scores]) -> list[str]:
    """Names of the methods, in the order in which they are shown: Dreamer first, random actions last."""
    ranks = {"dreamer": 0, "random": 2}
    return sorted({entry.method for entry in entries}, key=lambda method: (ranks.get(method, 1), method))


def of(entries: Iterable[scores.Scores], task: str, method: str) -> list[scores.Scores]:
    """The runs of a method on a task, in the order of their seeds."""
    return sorted((entry for entry in entries if (entry.task, entry.method) == (task, method)), key=seed_order)


def seed_order(run: scores.Scores) -> tuple:
    """Sorts runs by their seeds: numbers, then text."""
    return isinstance(run.seed, str), run.seed


def random_returns(entries: list[scores.Scores]) -> tuple[dict[str, float], list[str]]:
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
        except (OSError, ValueError, TypeError, KeyError) as error:
            problems.append(f'{path}: expected {{"mean": return, "std": .., "episodes": n}} ({error})')
            continue
        returns[entry.task] += mean * count
        episodes[entry.task] += count
    return {task: returns[task] / episodes[task] for task in episodes}, problems


def mixed_settings(entries: list[scores.Scores]) -> dict[tuple[str, str], dict[str, list]]:
    """As runs.mixed_settings: the tasks and methods whose mean is one over runs with different settings.

    Each is named on stderr in one line with its keys and values, and so is each config.yaml that cannot be used.
    """
    found, problems = run_files.read_settings(entries)
    complain(problems)
    mixed = run_files.mixed_settings(found)
    complain(
        f"warning: {task}, {method}: runs with different settings are averaged: {settings_in_words(keys)}"
        for (task, method), keys in mixed.items()
    )
    return mixed


def settings_in_words(keys: dict[str, list], most: int | None = None) -> str:
    """Keys and their values as runs.mixed_settings has them, the first `most` of them: "model.deter 200 or 50"."""
    texts = [f"{key} {' or '.join(map(run_files.in_words, values))}" for key, values in keys.items()]
    if most is not None and len(texts) > most:
        texts[most:] = [f"and {len(texts) - most} more"]
    return ", ".join(texts)


def align(runs: list[scores.Scores], *, window: float | None = None, bins: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Bring the runs of one method onto common frames: (xs [P], ys [runs, P]), NaN where a run has no data.

    With a window (frames), xs are the centres of windows that begin at multiples of it, and a run's value is the mean
    of its points in the window. Without, and with few points, xs are all frames at which some run was evaluated, and
    the other runs are interpolated between their points, never beyond their ends; frames of different runs that are
    closer together than a thousandth of all are one, their mean, because episodes do not end in step. With more than
    2 * bins, the frames are cut into `bins` equal windows.
    """
    grid = np.unique(np.concatenate([run.xs for run in runs])).astype(float)
    if window is None and len(grid) <= 2 * bins:
        place = np.cumsum(np.diff(grid, prepend=grid[0]) > (grid[-1] - grid[0]) / 1000)  # of each frame among the xs
        if any(len(set(place[np.searchsorted(grid, run.xs)])) < len(set(run.xs)) for run in runs):
            place = np.arange(len(grid))
        xs = np.bincount(place, grid) / np.bincount(place)
        ys = []
        for run in runs:
            order = np.argsort(run.xs)
            own = xs[place[np.searchsorted(grid, np.take(run.xs, order))]]
            ys.append(np.interp(xs, own, np.take(run.ys, order), left=np.nan, right=np.nan))
        return xs, np.stack(ys)
    if window is None:
        edges = np.linspace(grid[0], grid[-1], bins + 1)
    else:
        edges = window * np.arange(grid[0] // window, grid[-1] // window + 2)
    ys = np.full((len(runs), len(edges) - 1), np.nan)
    for row, run in enumerate(runs):
        index = np.searchsorted(edges[1:-1], run.xs, side="right")
        counts, sums = (np.bincount(index, weights, minlength=len(edges) - 1) for weights in (None, run.ys))
        ys[row, counts > 0] = sums[counts > 0] / counts[counts > 0]
    filled = np.isfinite(ys).any(axis=0)
    return ((edges[:-1] + edges[1:]) / 2)[filled], ys[:, filled]


def spread(ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [P] and sample standard deviation [P] over the runs of ys [runs, P]; NaN below one and two runs."""
    known = np.isfinite(ys)
    count = known.sum(axis=0)
    mean = np.where(count > 0, np.where(known, ys, 0).sum(axis=0) / np.maximum(count, 1), np.nan)
    squares = np.where(known, (ys - mean) ** 2, 0).sum(axis=0)
    return mean, np.where(count > 1, np.sqrt(squares / np.maximum(count - 1, 1)), np.nan)


def last_common(xs: np.ndarray, ys: np.ndarray) -> tuple[float, np.ndarray]:
    """The last frame count that as many runs as possible reach, and their values there [those runs].

    xs [P], ys [runs, P] as `align` returns them.
    """
    counts = np.isfinite(ys).sum(axis=0)
    column = np.flatnonzero(counts == counts.max())[-1]
    values = ys[:, column]
    return float(xs[column]), values[np.isfinite(values)]


def human(number: float) -> str:
    """Short form of a number of frames: 800, 5K, 1.5M, 2B."""
    for unit, sign in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(number) >= unit:
            return f"{number / unit:.4g}{sign}"
    return f"{number:.4g}"


def suite_of(task: str) -> str:
    """The suite at the beginning of a task's name; "other" if there is none that we know."""
    suite = task.partition("_")[0]
    return suite if suite in SUITES else "other"


def title(task: str) -> str:
    """Name of a task for a heading: "dmc_walker_walk" becomes "Walker Walk"."""
    return task.removeprefix(f"{suite_of(task)}_").replace("_", " ").title()


def label(method: str) -> str:
    """Name of a method for a legend."""
    return NAMES.get(method, method)


def _matching(kind: str, patterns: Iterable[str] | None, names: set[str]) -> list[str]:
    if patterns is None:
        return sorted(names)
    found = set()
    for pattern in patterns:
        fits = {name for name in names if any(fnmatch.fnmatchcase(form, pattern) for form in _forms(name))}
        if not fits:
            raise ValueError(f"no run of the {kind} {pattern!r}: there are {', '.join(sorted(names))}")
        found |= fits
    return sorted(found)


def _forms(name: str) -> tuple[str, str]:
    return name, name.removeprefix(f"{suite_of(name)}_")
