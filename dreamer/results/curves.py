"""What figures, tables and reports share: which runs are meant, on which frames they meet, and what they are called."""

import fnmatch
import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dreamer import envs
from dreamer.results import runs as run_files
from dreamer.results import scores
from dreamer.run import formats
from dreamer.run.formats import FormatError, MissingError, shown

NAMES = {"dreamer": "Dreamer", "planet": "PlaNet", "no_value": "No value", "contrastive": "Contrastive"}
NAMES |= {"reward_only": "Reward only", "random": "Random"}
SUITES = {name: suite.title for name, suite in envs.SUITES.items()}
COMPLAINTS = 20  # lines on stderr about files, before they are only counted
LONGEST = 1000  # characters of a pattern
POINTS = 10_000  # of a curve: more than any screen has columns
FOLDER = "folder"  # divides runs by which of the paths that were given they are from
_DIVISION = ", "  # between a method and the settings by whose values it is divided
_NUMBER = r"(?<![\w.])(-?\d+(?:\.\d*)?(?:e[-+]?\d+)?)(?![\w.])"


def collect(
    runs: Iterable[Path],
    tasks: Iterable[str] | None = None,
    methods: Iterable[str] | None = None,
    group_by: Iterable[str] = (),
    metric: str | None = None,
) -> list[scores.Scores]:
    """Scores of all runs at or below `runs` whose task and method are asked for; None asks for all.

    tasks: names with or without their suite, and patterns ("walker_walk", "dmc_walker_walk", "cartpole_*").
    group_by: keys of the settings, or FOLDER, by whose values a method is divided into several, see `divided`.
    metric: what to have in the place of the returns, see runs.with_metric.
    Files below a directory that cannot be used, and copies of runs, which count once, are named on stderr, one line
    each. Raises ValueError if a file that is itself one of `runs` cannot, if no run is left, if a name fits none, or if
    no run has a key or the metric.
    """
    runs = list(map(Path, runs))
    entries, problems = scores.find(runs, unscored=metric is not None)
    if not entries:
        more = f" (and {len(problems) - 1} more such lines)" if len(problems) > 1 else ""
        first = problems[0].removesuffix(": left out") if problems else "no paths"
        raise ValueError(f"nothing to show: {first}{more}")
    # Every name must fit something, so that a slip of the pen does not silently leave a task out.
    wanted_tasks = _matching("task", tasks, {entry.task for entry in entries})
    wanted_methods = _matching("method", methods, {entry.method for entry in entries})
    chosen = [entry for entry in entries if entry.task in wanted_tasks and entry.method in wanted_methods]
    if not chosen:
        raise ValueError(f"nothing to show: no run of {_some(wanted_methods)} on {_some(wanted_tasks)}")
    if keys := list(dict.fromkeys(group_by)):
        chosen, more = divided(chosen, keys, runs)
        problems += more
    if metric is not None:
        chosen, more = run_files.with_metric(chosen, metric, problems)
        problems += more
    chosen, copies = _without_copies(chosen)
    problems += copies
    complain(problems)  # not beside an error, which is one line
    return chosen


def _without_copies(entries: list[scores.Scores]) -> tuple[list[scores.Scores], list[str]]:
    """The runs without those that are others once more, and a line for each that is left out; the longest stays.

    Such a run has the task, method, seed and settings of another, and either its first line of metrics, whose times no
    other process has (a copy, as it is or was), or exactly its points (the same seed trained again). As a run of its
    own it would make the mean one of fewer seeds, and the deviation too small.
    """
    found: dict[tuple, dict[Path, scores.Scores]] = defaultdict(dict)
    copies, lines = set(), []
    for entry in sorted(entries, key=lambda entry: -len(entry.xs)):
        of_seed = (entry.task, entry.method, entry.seed)
        alike = [found[of_seed + sign] for sign in _signs(entry)]
        # Two of one path are two: those of a file of many.
        others = (of for runs in alike for path, of in runs.items() if path != entry.path)
        if whole := next((of for of in others if not run_files.differ([of, entry])), None):
            copies.add(id(entry))
            lines.append(f"{shown(entry.path)}: {shown(whole.path)} once more: counted once")
        for runs in alike:
            runs.setdefault(entry.path, entry)
    return [entry for entry in entries if id(entry) not in copies], lines


def _signs(entry: scores.Scores) -> Iterator[tuple]:
    """What two runs of a task, method, seed and settings have in common if they are one, see `_without_copies`."""
    if len(set(entry.ys)) > 1:  # those of an agent that gets nothing tell nothing
        yield "points", tuple(entry.xs), tuple(entry.ys)
    if (first := run_files.beginning(entry)) is not None:
        yield "begins", first


def divided(entries: list[scores.Scores], keys: list[str], paths: list[Path]) -> tuple[list[scores.Scores], list[str]]:
    """The same runs, each method divided by the values of keys: "dreamer, actor.lr 8e-05"; and what there is to say.

    FOLDER among the keys has the one of `paths` at or below which a run was found: "dreamer, runs/mine". A run without
    settings, as one of a score file of many, is not divided by other keys. Raises ValueError if no run has a key.
    """
    found, _ = run_files.read_settings(entries)  # what is wrong with them is said where they are compared
    settings = [key for key in keys if key != FOLDER]
    for key in settings:
        if all(run_files.setting(run, key) is None for run in found):
            raise ValueError(f"no run has {key} in its config.yaml")
    unknown = sum(not run.settings for run in found) if settings else 0
    note = f"{unknown:,} of {len(found):,} runs have no settings: not divided by {', '.join(settings)}"
    folders = [_folder(run.scores, paths) if FOLDER in keys else Path() for run in found]
    places = [Path(os.path.realpath(run.scores.path)) for run in found if FOLDER in keys]  # links are followed
    holding = {of for place in places for of in (place, *place.parents)}
    held = [path for path in dict.fromkeys(paths) if Path(os.path.realpath(path)) in holding]
    notes = [f"{shown(path)}: all of its runs are among those of other folders" for path in held if path not in folders]
    divisions = [_divided(run, keys, shown(folder)) for run, folder in zip(found, folders, strict=True)]
    return divisions, [note] * (unknown > 0) + notes


def _folder(run: scores.Scores, paths: list[Path]) -> Path:
    """Of the paths that were given the one that holds a run; the deepest where they lie in each other."""
    return max((path for path in paths if _holds(path, run)), key=lambda path: len(os.path.abspath(path)))


def _holds(path: Path, run: scores.Scores) -> bool:
    return Path(os.path.abspath(run.path)).is_relative_to(os.path.abspath(path))


def _divided(run: run_files.Run, keys: list[str], folder: str) -> scores.Scores:
    values = []
    for key in keys:
        if key == FOLDER:
            values.append(folder)
        elif run.settings:
            values.append(f"{key} {run_files.in_words(run_files.setting(run, key))}")
    return run.scores._replace(method=_DIVISION.join([run.scores.method, *values]))


def complain(problems: Iterable[str]) -> None:
    """Name on stderr what is left out, one line each; from a number on that nobody reads, say how many more."""
    problems = list(problems)
    for problem in problems[:COMPLAINTS]:
        print(formats.one_line(problem), file=sys.stderr)
    if more := problems[COMPLAINTS:]:
        print(f"and {len(more):,} more lines like these", file=sys.stderr)


def refuse_many(entries: Iterable[scores.Scores], *, tasks: int, methods: int, what: str) -> None:
    """Raises ValueError, which tells how to choose, if there are more tasks or methods than `what` can show."""
    entries = list(entries)
    for kind, names, most in (("tasks", tasks_of(entries), tasks), ("methods", methods_of(entries), methods)):
        if len(names) > most:
            raise ValueError(
                f"{len(names):,} {kind} are too many for {what}, which takes {most}: choose some with --{kind}, "
                f"such as --{kind} {names[0]!r} (patterns too: '{names[0][:8]}*')"
            )


def tasks_of(entries: Iterable[scores.Scores]) -> list[str]:
    """Names of the tasks, in the order in which they are shown."""
    return sorted({entry.task for entry in entries})


def methods_of(entries: Iterable[scores.Scores]) -> list[str]:
    """Names of the methods, in the order in which they are shown: Dreamer first, random actions last.

    One that is divided by values stands in their order, numbers by size.
    """
    return sorted({entry.method for entry in entries}, key=method_order)


def method_order(method: str) -> tuple:
    """Sorts names of methods for `methods_of`."""
    ranks = {"dreamer": 0, "random": 2}
    name, _, values = method.partition(_DIVISION)
    texts = re.split(_NUMBER, values)  # text and numbers in turn
    return ranks.get(name, 1), name, [float(text) if n % 2 else text for n, text in enumerate(texts)]


def of(entries: Iterable[scores.Scores], task: str, method: str) -> list[scores.Scores]:
    """The runs of a method on a task, in the order of their seeds."""
    return grouped(entries).get((task, method), [])


def grouped(entries: Iterable[scores.Scores]) -> dict[tuple[str, str], list[scores.Scores]]:
    """{(task, method): its runs in the order of their seeds}."""
    groups = defaultdict(list)
    for entry in sorted(entries, key=seed_order):
        groups[entry.task, entry.method].append(entry)
    return dict(groups)


def seed_order(run: scores.Scores) -> tuple:
    """Sorts runs by their seeds: numbers, then text."""
    return isinstance(run.seed, str), run.seed


def random_returns(entries: list[scores.Scores]) -> tuple[dict[str, float], list[str]]:
    """Mean return of random actions per task, from random.json beside a run's own score file; one line per bad file.

    Several files of a task are averaged, weighted by their episodes. Score files of many runs have none.
    """
    holds = Counter(entry.path for entry in entries)
    returns: defaultdict[str, float] = defaultdict(float)
    episodes: Counter[str] = Counter()
    problems = []
    for entry in entries:
        path = entry.path.parent / "random.json"
        if holds[entry.path] > 1:
            continue
        try:
            mean, count = _read_random(path)
        except MissingError:
            continue
        except FormatError as error:
            problems.append(f"{error}: left out")
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
        f"warning: {task}, {method}: runs with different settings are averaged: {settings_in_words(keys)} "
        "(--group-by KEY keeps them apart)"
        for (task, method), keys in mixed.items()
    )
    return mixed


def settings_in_words(keys: dict[str, list], most: int | None = None) -> str:
    """Keys and their values as runs.mixed_settings has them, the first `most` of them: "model.deter 200 or 50"."""
    texts = [f"{key} {_some(map(run_files.in_words, values), ' or ')}" for key, values in keys.items()]
    if most is not None and len(texts) > most:
        texts[most:] = [f"and {len(texts) - most} more"]
    return ", ".join(texts)


def align(runs: list[scores.Scores], *, window: float | None = None, bins: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Bring the runs of one method onto common frames: (xs [P], ys [runs, P]), NaN where a run has no data.

    With a window (frames), xs are the centres of windows that begin at multiples of it, and a run's value is the mean
    of its points in the window. Without, and with few points, xs are all frames at which some run was evaluated, and
    the other runs are interpolated between their points, never beyond their ends; frames of different runs that are
    closer together than a thousandth of all are one, their mean, because episodes do not end in step. With more than
    2 * bins, the frames are cut into `bins` equal windows. Raises ValueError if a window leaves more than POINTS.
    """
    points = [(np.asarray(run.xs, float), np.asarray(run.ys, float)) for run in runs]
    grid = np.unique(np.concatenate([xs for xs, _ in points]))
    if window is None and len(grid) <= 2 * bins:
        return _interpolate(points, grid)
    if window is None:
        edges = np.linspace(grid[0], grid[-1], bins + 1)
        centres = (edges[:-1] + edges[1:]) / 2
        places = [np.searchsorted(edges[1:-1], xs, side="right") for xs, _ in points]
    else:
        # Windows that hold no frames are none: between two evaluations there may be more of them than memory takes.
        windows = np.unique(grid // window)
        if len(windows) > POINTS:
            raise ValueError(f"--bin {window:g} leaves {len(windows):,} points of a curve, expected at most {POINTS:,}")
        centres = (windows + 0.5) * window
        places = [np.searchsorted(windows, xs // window) for xs, _ in points]
    ys = np.full((len(runs), len(centres)), np.nan)
    for row, (index, (_, values)) in enumerate(zip(places, points, strict=True)):
        counts, sums = (np.bincount(index, weights, minlength=len(centres)) for weights in (None, values))
        ys[row, counts > 0] = sums[counts > 0] / counts[counts > 0]
    filled = np.isfinite(ys).any(axis=0)
    return centres[filled], ys[:, filled]


def _interpolate(points: list[tuple[np.ndarray, np.ndarray]], grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`align` at the frames of `grid` themselves. points: (frames, values) of every run."""
    place = np.cumsum(np.diff(grid, prepend=grid[0]) > (grid[-1] - grid[0]) / 1000)  # of each frame among the xs
    if any(len(np.unique(place[np.searchsorted(grid, own)])) < len(np.unique(own)) for own, _ in points):
        place = np.arange(len(grid))
    xs = np.bincount(place, grid) / np.bincount(place)
    ys = []
    for frames, values in points:
        order = np.argsort(frames)
        own = xs[place[np.searchsorted(grid, frames[order])]]
        ys.append(np.interp(xs, own, values[order], left=np.nan, right=np.nan))
    return xs, np.stack(ys)


def spread(ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [P] and sample standard deviation [P] over the runs of ys [runs, P]; NaN below one and two runs."""
    known = np.isfinite(ys)
    count = known.sum(axis=0)
    mean = np.where(count > 0, np.where(known, ys, 0).sum(axis=0) / np.maximum(count, 1), np.nan)
    squares = np.where(known, (ys - mean) ** 2, 0).sum(axis=0)
    return mean, np.where(count > 1, np.sqrt(squares / np.maximum(count - 1, 1)), np.nan)


def shared(ys: np.ndarray) -> np.ndarray:
    """Where all runs have begun and none has ended, [P] bool: what follows is a mean of those that happen to go on.

    ys: [runs, P] as `align` returns them.
    """
    return np.all(_going_on(ys), axis=0)


def without_leaps(xs: np.ndarray, mean: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The line of a mean [P], with a NaN wherever it would lead from a run's end to another's beginning.

    xs [P], ys [runs, P] as `align` returns them. A line there would be one that no run has taken.
    """
    going_on = _going_on(ys)
    leaps = 1 + np.flatnonzero(~np.any(going_on[:, 1:] & going_on[:, :-1], axis=0))
    return np.insert(np.asarray(xs, float), leaps, np.nan), np.insert(mean, leaps, np.nan)


def _going_on(ys: np.ndarray) -> np.ndarray:
    """Between each run's first value and its last one, [runs, P] bool."""
    known = np.isfinite(ys)
    begun = np.logical_or.accumulate(known, axis=1)
    return begun & np.logical_or.accumulate(known[:, ::-1], axis=1)[:, ::-1]


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
    """Name of a task for a heading: "dmc_walker_walk" becomes "Walker Walk"; ids of gymnasium stay as they are."""
    suite = suite_of(task)
    name = task.removeprefix(f"{suite}_")
    return name if suite == "gym" else name.replace("_", " ").title()


def label(method: str) -> str:
    """Name of a method for a legend; of one that is divided by settings, with their values."""
    name, division, values = method.partition(_DIVISION)
    return f"{NAMES.get(name, name)}{division}{values}"


def _matching(kind: str, patterns: Iterable[str] | None, names: set[str]) -> list[str]:
    if patterns is None:
        return sorted(names)
    found = set()
    for pattern in patterns:
        pattern = pattern[:LONGEST]  # a longer one takes seconds, and fits no name
        fits = {name for name in names if any(fnmatch.fnmatchcase(form, pattern) for form in _forms(name))}
        if not fits:
            raise ValueError(f"no run of the {kind} {pattern[:80]!r}: there are {_some(sorted(names))}")
        found |= fits
    return sorted(found)


def _some(texts: Iterable[str], joint: str = ", ", most: int = 30) -> str:
    """Texts for a message: so many that it can still be read."""
    texts = list(texts)
    return joint.join(texts[:most]) + (f" and {len(texts) - most:,} more" if len(texts) > most else "")


def _read_random(path: Path) -> tuple[float, int]:
    """Mean return and number of episodes of random.json. Raises FormatError."""
    content = formats.document(path)
    mean: Any
    count: Any
    mean, count = (content.get(name) if isinstance(content, dict) else None for name in ("mean", "episodes"))
    if not (formats.is_number(mean, scores.LARGEST["ys"]) and formats.is_number(count, 1e15) and int(count) > 0):
        raise FormatError(f'{shown(path)}: expected {{"mean": return, "std": .., "episodes": n}}')
    return float(mean), int(count)


def _forms(name: str) -> tuple[str, str]:
    return name, name.removeprefix(f"{suite_of(name)}_")
