"""What a run leaves in its directory beside the scores: settings, metrics, open-loop errors, machines and videos.

Every file may be missing, cut short or damaged: what cannot be used is named and left out.
"""

import json
import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dreamer.envs import unknown
from dreamer.results import scores
from dreamer.run import formats
from dreamer.run.formats import FormatError, MissingError, shown
from dreamer.run.settings import before

FRAMES = "Environment frames"
LARGEST = 1e100  # metrics and errors: sums and squares of such numbers are still finite
_BESIDE = "time/overlap"  # of another thread: no part of the time, of which the others make up the whole
_LONGEST = 1e11  # seconds of work between two lines: three thousand years

IDENTITY = ("suite", "task", "method", "seed")  # keys that tell runs apart, rather than settings that differ
# Keys that may differ between runs of one experiment: how far it goes, and what suits it to its machine.
_SAME_RESULTS = {
    *IDENTITY,
    *("steps", "xla", "gpus", "env.renderer", "env.worker", "env.level_cache", "env.timeout", "env.info"),
    *("env.start_timeout", "env.retries", "replay.prefetch", "replay.compress", "loop.save_every"),
    *("logger.also", "logger.project"),
}


class Run(NamedTuple):
    """A run; what its directory does not hold is empty, 0 or None. The videos are those of the newest evaluation.

    settings: value of every key, {"model.deter": 200, ...}; metrics: (frames [P], values [P]) of every metric, without
    the values that are not finite; frames: the last ones in the metrics; seconds: of work in all; parts: seconds of
    "training", "acting" and so on, and of "other"; open_loop, machines: the lines of the files of these names; changes:
    settings that a resume has changed, {"frames", "key", "from", "to"} each.
    """

    scores: scores.Scores
    settings: dict[str, Any] = {}
    metrics: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    frames: int = 0
    seconds: float = 0.0
    parts: dict[str, float] = {}
    open_loop: list[dict] = []
    machines: list[dict] = []
    changes: list[dict] = []
    episode: Path | None = None
    prediction: Path | None = None


def read(entries: list[scores.Scores]) -> tuple[list[Run], list[str]]:
    """The runs behind scores, in their order, and one line for each file or part of one that cannot be used.

    Score files with several runs have no directory of their own: those runs have their scores and nothing else.
    """
    found, problems = read_settings(entries)
    for index, directory in enumerate(_directories(entries)):
        if directory is None:
            continue
        found[index] = found[index]._replace(
            open_loop=_open_loop(directory / "open_loop.jsonl", problems),
            machines=list(formats.step_lines(directory / "machines.jsonl", problems)),
            changes=_changes(directory / "run.json", problems),
            episode=_newest(directory / "videos", "-episode.mp4"),
            # Curves, of a run that sees no images.
            prediction=_newest(directory / "videos", "-open-loop.gif")
            or _newest(directory / "videos", "-open-loop.png"),
            **_metrics(directory / "metrics.jsonl", problems),
        )
    return found, problems


def with_metric(entries: list[scores.Scores], name: str, problems: list[str]) -> tuple[list[scores.Scores], list[str]]:
    """The same runs with the points of a metric in the place of their returns, and one line for each that has none.

    problems: what is known already of files that cannot be used. Raises ValueError if no run has the metric, which
    names the nearest that there are, or, where there are none, the first file that is wrong.
    """
    found: list[scores.Scores] = []
    names: set[str] = set()
    of_files: list[str] = []
    without: list[str] = []
    for entry, directory in zip(entries, _directories(entries), strict=True):
        path = (directory or entry.path.parent) / "metrics.jsonl"
        metrics = _metrics(path, of_files)["metrics"] if directory else {}
        names |= set(metrics)
        if name in metrics:
            xs, ys = metrics[name]
            found.append(entry._replace(xs=xs.tolist(), ys=ys.tolist()))
        else:
            what = f"{shown(path)}: has no {name}" if directory else f"{shown(entry.path)}: scores alone, no metrics"
            without.append(f"{what}: left out")
    if not found:
        nothing = f"no run has metrics: {[*of_files, *without, *problems][0].removesuffix(': left out')}"
        raise ValueError(unknown("metric", name, sorted(names)) if names else nothing)
    return found, of_files + without


def _changes(path: Path, problems: list[str]) -> list[dict]:
    """What run.json tells; nothing where there is none, as of runs of older releases."""
    try:
        record = formats.document(path)
    except formats.MissingError:
        return []
    except formats.FormatError as error:
        problems.append(f"{error}: left out")
        return []
    changes = record.get("changes") if isinstance(record, dict) else None
    wanted = {"frames", "key", "from", "to"}
    if not isinstance(changes, list) or not all(
        isinstance(change, dict) and wanted <= set(change) for change in changes
    ):
        problems.append(f"{formats.shown(path)}: has no list of changes: left out")
        return []
    return changes


def read_settings(entries: list[scores.Scores]) -> tuple[list[Run], list[str]]:
    """As `read`, but of each run's directory only the settings: the metrics of long runs take seconds to read."""
    problems: list[str] = []
    found = [
        Run(entry, settings=_settings(directory / "config.yaml", problems) if directory else {})
        for entry, directory in zip(entries, _directories(entries), strict=True)
    ]
    return found, problems


def mixed_settings(found: list[Run]) -> dict[tuple[str, str], dict[str, list]]:
    """{(task, method): {key: its values, each once}} of runs with different settings, which a mean should not hide.

    How long a run is meant to be does not count, for it changes nothing at the frames where they are compared, nor does
    what suits a run to its machine. None stands for a key that a config.yaml does not have; a run without that file has
    no settings, and differs from none.
    """
    groups, mixed = defaultdict(list), {}
    for run in found:
        if run.settings:
            groups[run.scores.task, run.scores.method].append(run.settings)
    for group, settings in groups.items():
        differ = {key: values for key, values in differences(settings).items() if key not in _SAME_RESULTS}
        if differ:
            mixed[group] = {key: [v for i, v in enumerate(of) if v not in of[:i]] for key, of in differ.items()}
    return mixed


def unit(entries: list[scores.Scores]) -> str:
    """What the numbers on the axis of runs count, for its name: those that learn from stored episodes count updates."""
    settings = [run.settings for run in read_settings(entries)[0]]
    learned = {of.get("learn.source", "none") != "none" for of in settings}
    return FRAMES if learned == {False} else "Updates" if learned == {True} else "Frames, or updates"


def beginning(entry: scores.Scores) -> str | None:
    """The first line of a run's metrics that has times, which no other process has; None where there is none."""
    (directory,) = _directories([entry])
    if directory is None:
        return None
    lines = formats.step_lines(directory / "metrics.jsonl", [])
    timed = (line for line in lines if any(name.startswith("time/") for name in line))
    return next((json.dumps(line, sort_keys=True) for line in timed), None)


def differ(entries: list[scores.Scores]) -> bool:
    """Whether runs have settings that are not the same, apart from what mixed_settings leaves out."""
    settings = [run.settings for run in read_settings(entries)[0] if run.settings]
    return not _SAME_RESULTS.issuperset(differences(settings)) if settings else False


def setting(run: Run, key: str) -> Any:
    """A run's value of a key, or what it did where it is older than the key; None where nothing tells."""
    return run.settings.get(key, before(key)) if run.settings else None


def differences(settings: list[dict]) -> dict[str, list]:
    """{key: its value in each of the settings} of the keys in which they are not equal.

    A run that is older than a key did what the key calls so; None stands for one that should have the key.
    """
    found = {}
    for key in dict.fromkeys(key for of in settings for key in of):
        values = [of.get(key, before(key)) for of in settings]
        if any(value != values[0] for value in values):
            found[key] = values
    return found


def in_words(value: object) -> str:
    """A value of the settings as config.yaml has it; "missing" for None."""
    text = "missing" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    text = formats.one_line(text)
    return text if len(text) <= 200 else f"{text[:197]}..."


def machine_in_words(line: dict) -> str:
    """A line of machines.jsonl: "2 x a GPU, a CPU, 2 cores, bfloat16"."""
    gpus = line.get("gpus")
    counts = Counter(map(str, gpus)) if isinstance(gpus, list) else {}
    names = [f"{count} x {name}" if count > 1 else name for name, count in counts.items()]
    cores = f"{line['cores']} core{'s' if line['cores'] != 1 else ''}" if line.get("cores") else None
    words = ", ".join(str(part) for part in (*names, line.get("cpu"), cores, line.get("precision")) if part)
    return words if len(words) <= 300 else f"{words[:297]}..."


def software_in_words(line: dict) -> str:
    """Of a line of machines.jsonl: "0.2.0, commit 1a2b3c4d5e, changed"; only the release where no commit is known."""
    known = line.get("clean") is not None
    commit = known and f"commit {str(line.get('commit'))[:10]}"
    words = (line.get("dreamer"), commit, known and not line["clean"] and "changed")
    words = ", ".join(str(part) for part in words if part)
    return words if len(words) <= 300 else f"{words[:297]}..."


def frames_of(video: Path) -> int | None:
    """The frame count that a video's name begins with."""
    digits = video.name.partition("-")[0]
    return int(digits) if digits.isdecimal() else None


def predicted(line: dict) -> list[str]:
    """What a line of open_loop.jsonl has errors of: "image", "reward", names of vectors."""
    keys = [str(name) for name in line if name not in ("step", "context")]
    # A vector may have a name that ends so itself: then x_repeat and x_repeat_repeat are there, but no x.
    own = [key for key in keys if f"{key}_repeat" in line]
    alone = [key.removesuffix("_repeat") for key in keys if key not in own]
    names = dict.fromkeys(own + alone)
    return sorted(names, key=lambda name: ("image", "reward").index(name) if name in ("image", "reward") else 2)


def errors(line: dict, name: str) -> np.ndarray:
    """Errors against the horizon [imagined steps] of a line of open_loop.jsonl; NaN where they were not finite."""
    return np.array([math.nan if value is None else value for value in line[name]], float)


def _directories(entries: list[scores.Scores]) -> list[Path | None]:
    """The directory of each run; None where a score file holds several runs or is not called as a run's own."""
    holds = Counter(entry.path for entry in entries)
    return [
        entry.path.parent if holds[entry.path] == 1 and entry.path.name == scores.FILENAME else None
        for entry in entries
    ]


def _metrics(path: Path, problems: list[str]) -> dict:
    """The fields metrics, frames, seconds and parts of a Run; as arrays, because long runs have millions of numbers."""
    columns: defaultdict[str, tuple[array, array]] = defaultdict(lambda: (array("d"), array("d")))
    parts: defaultdict[str, float] = defaultdict(float)
    frames, total, absurd = 0, 0.0, []
    for line in formats.step_lines(path, problems):
        frames = max(frames, line["step"])
        seconds = line.get("time/seconds")
        timed = seconds is None or _is_time(seconds)
        for name, value in line.items():
            if name == "step" or type(value) not in (int, float):
                continue
            if abs(value) > LARGEST or (name.startswith("time/") and not (timed and _is_time(value))):
                absurd.append(f"{formats.one_line(name)[:60]} at step {line['step']} is {value:.6g}")
                continue
            columns[name][0].append(line["step"])
            columns[name][1].append(value)
            if name == "time/seconds":
                total += value
            elif name.startswith("time/") and name != _BESIDE and seconds is not None:
                parts[name.removeprefix("time/")] += value * seconds
    if absurd:
        more = f", and {len(absurd) - 1} more such numbers" if len(absurd) > 1 else ""
        problems.append(f"{shown(path)}: {absurd[0]}{more}: left out")
    if total:
        parts["other"] = max(0.0, total - sum(parts.values()))
    metrics = {name: (np.array(xs), np.array(ys)) for name, (xs, ys) in columns.items()}
    return {"metrics": metrics, "frames": frames, "seconds": total, "parts": dict(parts)}


def _is_time(value: Any) -> bool:
    return formats.is_number(value, _LONGEST) and value >= 0


def _open_loop(path: Path, problems: list[str]) -> list[dict]:
    """Lines in which each kind of error is there with that of repeating, or neither: some models imagine no images."""
    good, bad = [], []
    for line in formats.step_lines(path, problems):
        kinds = [(what, f"{what}_repeat") for what in predicted(line)]
        names = [name for kind in kinds for name in kind]
        wrong = [name for name in names if not _are_errors(line.get(name))]
        bad += [f"{name} at step {line['step']}" for name in wrong[:1]]
        good += [] if wrong else [line]
    if bad:
        more = f", and {len(bad) - 1} more such lines" if len(bad) > 1 else ""
        problems.append(f"{shown(path)}: {bad[0]} is no list of numbers: left out{more}")
    return good


def _are_errors(values: Any) -> bool:
    return isinstance(values, list) and all(value is None or formats.is_number(value, LARGEST) for value in values)


def _settings(path: Path, problems: list[str]) -> dict[str, object]:
    try:
        content = formats.yaml_tree(path)
    except MissingError:
        return {}
    except FormatError as error:
        problems.append(f"{error}: left out")
        return {}
    if not content:
        problems.append(f"{shown(path)}: expected keys and values: left out")
    return dict(_flat(content))


def _flat(settings: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _newest(videos: Path, ending: str) -> Path | None:
    found = [path for path in videos.glob(f"*{ending}") if frames_of(path) is not None]
    return max(found, key=lambda path: frames_of(path) or 0, default=None)
