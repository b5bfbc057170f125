"""Evaluation returns of a run in scores.json, with the field names of the published Dreamer score files.

    {"task": "dmc_walker_walk", "method": "dreamer", "seed": 0, "xs": [frames, ...], "ys": [returns, ...]}

A run keeps one such object; the published files are lists of them. Both can be read.
"""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from dreamer.results.files import replacing

FILENAME = "scores.json"


class Scores(NamedTuple):
    """One run: xs are environment frames, ys the evaluation returns there; path is the file they were read from."""

    task: str
    method: str
    seed: int | str
    xs: list
    ys: list
    path: Path | None = None


def read(path: Path) -> list[Scores]:
    """Read one run's object or a published list of them; numbers and their order stay as they are in the file.

    Raises ValueError with one line that names the file if it is empty, no complete JSON, or not of this form.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if text.strip() else None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not complete JSON ({error})") from None
    if not content:
        raise ValueError(f"{path}: holds no scores")
    if isinstance(content, dict):
        return [_parse(content, str(path), path)]
    if isinstance(content, list):
        return [_parse(entry, f"{path}: entry {index}", path) for index, entry in enumerate(content)]
    raise ValueError(
        f"{path}: expected an object with task, method, seed, xs, ys or a list of them, got {content!r:.40}"
    )


def append(path: Path, *, task: str, method: str, seed: int, x: int, y: float) -> Scores:
    """Put the return y at frame x into the run's file and return the whole of it.

    xs stay strictly increasing: a point that is already at x is replaced. The file is replaced in one step.
    Raises ValueError if the file is bad or belongs to another run, or if x or y is no finite number.
    """
    path = Path(path)
    x, y = int(x), float(y)
    if not (x >= 0 and _is_number(y)):
        raise ValueError(f"{path}: cannot append x = {x}, y = {y}: frames are not negative and returns are finite")
    scores = Scores(task, method, seed, [], [], path)
    if path.exists():
        old, *others = read(path)
        if others or (old.task, old.method, old.seed) != (task, method, seed):
            raise ValueError(
                f"{path}: holds {old.task}, {old.method}, seed {old.seed}"
                f"{f' and {len(others)} more' * bool(others)}, cannot append {task}, {method}, seed {seed}"
            )
        scores = old
    points = {**dict(zip(scores.xs, scores.ys, strict=True)), x: y}
    return _write(scores._replace(xs=sorted(points), ys=[points[x] for x in sorted(points)]))


def drop_after(path: Path, frames: int) -> None:
    """Remove the points after `frames`: a run that resumes there will not live through them the same way again."""
    path = Path(path)
    if not path.exists():
        return
    old, *others = read(path)
    if others:
        raise ValueError(f"{path}: holds {len(others) + 1} runs, only the file of a single run can be cut")
    points = [(x, y) for x, y in zip(old.xs, old.ys, strict=True) if x <= frames]
    if not points:
        path.unlink()
    elif len(points) < len(old.xs):
        _write(old._replace(xs=[x for x, _ in points], ys=[y for _, y in points]))


def find(paths: Iterable[Path]) -> tuple[list[Scores], list[str]]:
    """Scores of all runs at or below `paths` (directories, or score files of any name), and what could not be used.

    A file reached twice counts once. Each problem is one line that names the file or directory.
    """
    entries, problems, seen = [], [], set()
    for path in map(Path, paths):
        files = _below(path) if path.is_dir() else [path]
        if not files:
            problems.append(f"{path}: no {FILENAME} in this directory or below it")
        for file in files:
            if file.resolve() in seen:
                continue
            seen.add(file.resolve())
            try:
                entries += read(file)
            except ValueError as error:
                problems.append(str(error))
            except OSError as error:
                problems.append(f"{file}: {error.strerror}")
    return entries, problems


def _below(directory: Path) -> list[Path]:
    return sorted(Path(root) / FILENAME for root, _, names in os.walk(directory) if FILENAME in names)


def _write(scores: Scores) -> Scores:
    content = {key: value for key, value in scores._asdict().items() if key != "path"}
    with replacing(scores.path) as temporary:
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
    return scores


def _parse(entry, where: str, path: Path) -> Scores:
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: expected an object with task, method, seed, xs, ys, got {entry!r:.40}")
    fields = [field for field in Scores._fields if field != "path"]
    if missing := [field for field in fields if field not in entry]:
        raise ValueError(f"{where}: lacks {', '.join(missing)}")
    scores = Scores(**{field: entry[field] for field in fields}, path=path)
    for field, kinds in (("task", str), ("method", str), ("seed", (int, str)), ("xs", list), ("ys", list)):
        if not isinstance(entry[field], kinds):
            raise ValueError(f"{where}: {field} cannot be {entry[field]!r:.40}")
    if len(scores.xs) != len(scores.ys) or not scores.xs:
        raise ValueError(f"{where}: has {len(scores.xs)} xs and {len(scores.ys)} ys, needs as many, and at least one")
    for field in ("xs", "ys"):
        for index, value in enumerate(entry[field]):
            if not _is_number(value):
                raise ValueError(f"{where}: {field}[{index}] is {value!r:.40}, not a finite number")
    return scores


def _is_number(value) -> bool:
    # The comparison is false for NaN and infinities, and holds for integers that no float can take.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
