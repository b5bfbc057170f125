"""Evaluation returns of a run in scores.json, with the field names of the published Dreamer score files.

    {"task": "dmc_walker_walk", "method": "dreamer", "seed": 0, "xs": [frames, ...], "ys": [returns, ...]}

A run keeps one such object; the published files are lists of them. Both can be read. What runs/published/curves.json
has, mean and deviation over seeds, is for published.py.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from dreamer import config
from dreamer.agents import variant
from dreamer.run import formats, layout
from dreamer.run.formats import FormatError, MissingError, shown

FILENAME = "scores.json"
# Frames that float64 counts one by one, and returns whose squares and sums it still holds.
LARGEST = {"xs": 2.0**53, "ys": 1e100}
NAME_LENGTH = 200  # characters of a task, a method or a seed


class Scores(NamedTuple):
    """One run: xs are environment frames, ys the evaluation returns there; path is the file they were read from."""

    task: str
    method: str
    seed: int | str
    xs: list
    ys: list
    path: Path = Path()


def read(path: Path) -> list[Scores]:
    """Read one run's object or a published list of them; numbers and their order stay as they are in the file.

    Raises FormatError, a ValueError with one line that names the file, if it cannot be read or is not of this form.
    """
    path = Path(path)
    content = formats.document(path)
    if not content and isinstance(content, dict | list):
        raise FormatError(f"{shown(path)}: holds no scores")
    if isinstance(content, list):
        return [_parse(entry, f"{shown(path)}: entry {index}", path) for index, entry in enumerate(content)]
    return [_parse(content, shown(path), path)]


def find(paths: Iterable[str | os.PathLike], *, unscored: bool = False) -> tuple[list[Scores], list[str]]:
    """Scores of all runs at or below `paths` (directories, or score files of any name), and what could not be used.

    A file reached twice counts once. unscored: also runs that have metrics and no scores, because they play no episodes
    or have not yet; they are without points, and `path` is where their scores would be. Each problem is one line that
    names the file or directory. Raises FormatError for a file that is itself one of `paths`: who names it wants to see
    it.
    """
    entries: list[Scores] = []
    problems: list[str] = []
    seen: set[str] = set()
    for path in map(Path, paths):
        named, before = not os.path.isdir(path), len(problems)
        if named and path.name == layout.METRICS:
            raise FormatError(f"{shown(path)}: has the metrics of a run, which is named by its directory")
        files = [path] if named else _below(path, problems, unscored)
        if not files and len(problems) == before:
            problems.append(_nothing_in(path, unscored))
        for file in files:
            if _key(file) in seen:
                continue
            try:
                entries += read(file)
            except FormatError as error:
                if named:
                    raise
                if not (unscored and isinstance(error, MissingError)):
                    problems.append(f"{error}: left out")
                if not unscored:
                    continue
                entries += _of_settings(file, problems)
            seen.add(_key(file))
    return entries, problems


def _key(file: Path) -> str:
    """What two paths to the same file have in common."""
    try:
        return os.path.realpath(file)
    except ValueError:  # a NUL in the path, about which reading it says more
        return str(file)


def _below(directory: Path, problems: list[str], unscored: bool) -> list[Path]:
    """Where the scores of the runs below are, or would be; unscored: as in `find`."""

    def complain(error: OSError) -> None:
        problems.append(f"{shown(error.filename)}: {error.strerror}: left out")

    def is_run(names: list[str]) -> bool:
        return FILENAME in names or (unscored and {layout.CONFIG, layout.METRICS} <= {*names})

    return sorted(Path(root) / FILENAME for root, _, names in os.walk(directory, onerror=complain) if is_run(names))


def _nothing_in(directory: Path, unscored: bool) -> str:
    if unscored:
        found = f"no {FILENAME}, nor {layout.METRICS} beside {layout.CONFIG}, in this directory or below it"
        return f"{shown(directory)}: {found}"
    drawn = "; `dreamer plot --y METRIC` draws the metrics that are there" if _below(directory, [], True) else ""
    return f"{shown(directory)}: no {FILENAME} in this directory or below it{drawn}"


def _of_settings(path: Path, problems: list[str]) -> list[Scores]:
    """A run without scores that can be used, as its settings have it."""
    try:
        run = config.load_file(path.parent / layout.CONFIG)
    except config.ConfigError as error:
        problems.append(f"{error}: left out")
        return []
    return [Scores(f"{run.suite}_{run.task}", variant(run), run.seed, [], [], path)]


def _parse(entry: Any, where: str, path: Path) -> Scores:
    if not isinstance(entry, dict):
        raise FormatError(f"{where}: expected an object with task, method, seed, xs, ys, got {_brief(entry)}")
    fields = [field for field in Scores._fields if field != "path"]
    if missing := [field for field in fields if field not in entry]:
        raise FormatError(f"{where}: lacks {', '.join(missing)}")
    for field, kinds, expected in (
        ("task", str, "a name"),
        ("method", str, "a name"),
        ("seed", (int, str), "a whole number or a name"),
        ("xs", list, "a list of frames"),
        ("ys", list, "a list of returns"),
    ):
        if not isinstance(entry[field], kinds) or isinstance(entry[field], bool) or not _is_name(entry[field]):
            raise FormatError(f"{where}: {field} cannot be {_brief(entry[field])}, expected {expected}")
    scores = Scores(**{field: entry[field] for field in fields}, path=path)
    if len(scores.xs) != len(scores.ys) or not scores.xs:
        raise FormatError(f"{where}: has {len(scores.xs)} xs and {len(scores.ys)} ys, needs as many, and at least one")
    for field, least in (("xs", 0), ("ys", -LARGEST["ys"])):
        most = LARGEST[field]
        if _are_numbers(entry[field]) and least <= min(entry[field]) and max(entry[field]) <= most:
            continue  # as a whole, because a curve may have a million points
        for index, value in enumerate(entry[field]):
            if not (formats.is_number(value, most) and value >= least):
                got = f"{field}[{index}] is {_brief(value)}"
                raise FormatError(f"{where}: {got}, not a finite number from {least:.4g} to {most:.4g}")
    return scores


def _are_numbers(values: list) -> bool:
    return set(map(type, values)) <= {int, float}


def _is_name(value: object) -> bool:
    """Whether text can stand in a table, a legend and a message; other values are not asked."""
    return not isinstance(value, str) or (value.isprintable() and 0 < len(value.strip()) <= len(value) <= NAME_LENGTH)


def _brief(value: object) -> str:
    text = f"{value!r:.42}" if value is None or isinstance(value, str | int | float) else f"a {type(value).__name__}"
    return formats.one_line(text)
