"""How far runs are, as their own files and their locks tell, whoever started them and wherever."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dreamer.config import ConfigError, load_file
from dreamer.run import formats, layout, lock
from dreamer.run.commits import Commits
from dreamer.run.files import replacing
from dreamer.run.settings import agent_only
from dreamer.sweep.plan import Job

LOGS = "logs"  # below the folder of a sweep: what its runs print, and what it is to make
_PLANNED = "planned.json"
_TAIL = 2**16  # bytes of metrics.jsonl whose rounds the rate is averaged over: some 40 of them
FINISHED, RUNNING, STOPPED, LOST, EXPORTED = "finished", "running", "stopped", "lost", "exported"
WAITING = "waiting"


class Status(NamedTuple):
    """Where a run is.

    state: finished; running; stopped; lost, where its process ended without a word or its machine is not heard of;
    exported, an agent alone, which nothing trains any further; or waiting, where a sweep has not begun it yet.
    frames: the last ones in its files, those of its last round or commit; steps: those it is meant to have. rate:
    frames a second over its last rounds, evaluations included; left: seconds until it has all. score: return of its
    last evaluation. restarts: how often it went on; node: the machine that holds it. None: not known.
    """

    name: str
    state: str
    frames: int = 0
    steps: int | None = None
    rate: float | None = None
    score: float | None = None
    restarts: int = 0
    node: str | None = None

    @property
    def left(self) -> float | None:
        """Seconds until it has all its frames, at its rate; None where it does not run."""
        if self.state != RUNNING or not self.rate or self.steps is None:
            return None
        return max(0, self.steps - self.frames) / self.rate


def read(logdir: Path, name: str, steps: int | None) -> Status:
    """Where the run in `logdir` is. Files that are missing or damaged tell nothing."""
    state = Commits(logdir / layout.COMMITS).glance() or {}
    rounds = formats.last_step_lines(logdir / layout.METRICS, _TAIL)
    starts = formats.last_step_lines(logdir / layout.MACHINES, _TAIL)
    holder = lock.holder(logdir)
    frames = max([_whole(state.get("frames")), *(line["step"] for line in rounds[-1:])])
    scores = state.get("scores")
    return Status(
        name,
        EXPORTED if agent_only(logdir) else _state(state, holder),
        frames,
        steps,
        _rate(rounds),
        _last_score(scores if isinstance(scores, list) else []),
        max(0, len(starts) - 1),
        holder.host if holder else None,
    )


def is_finished(logdir: Path, steps: int) -> bool:
    """Whether the run in `logdir` has come to its end, of at least `steps` frames."""
    state = Commits(logdir / layout.COMMITS).glance() or {}
    return state.get("stage") == "finished" and _whole(state.get("frames")) >= steps


def find(folder: Path) -> Iterator[Path]:
    """Log directories at or below a folder, sorted; what lies within one is not looked at."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        if layout.CONFIG in names:
            folders.clear()
            yield Path(root)


def write_planned(folder: Path, jobs: Iterable[Job]) -> None:
    """Note the runs, with their frames, that a sweep into `folder` is to make: those of the last one stand there."""
    steps = {job.name: job.config.steps for job in jobs}
    with replacing(folder / LOGS / _PLANNED) as temporary:
        temporary.write_text(json.dumps({"runs": steps}, indent=2) + "\n", encoding="utf-8")


def waiting(folder: Path) -> list[Status]:
    """The runs of the last sweep into `folder` that have not begun. A note that is damaged tells of none."""
    try:
        note = formats.document(folder / LOGS / _PLANNED)
    except formats.FormatError:
        return []
    runs = note.get("runs") if isinstance(note, dict) else None
    return [
        Status(str(folder / name), WAITING, 0, _whole(steps))
        for name, steps in (runs.items() if isinstance(runs, dict) else ())
        if formats.is_number(steps) and name.isprintable() and not os.path.exists(folder / name / layout.CONFIG)
    ]


def steps_of(logdir: Path) -> int | None:
    """The frames that a run is meant to have; None where its config cannot be read."""
    try:
        return load_file(logdir / layout.CONFIG).steps
    except ConfigError:
        return None


def _state(state: dict, holder: lock.Holder | None) -> str:
    if holder and holder.is_alive:
        return RUNNING
    if state.get("stage") == "finished":
        return FINISHED
    return LOST if holder else STOPPED


def _rate(rounds: list[dict]) -> float | None:
    """Frames a second from the end of the first round to that of the last; None before there are two."""
    timed = [line for line in rounds if formats.is_number(line.get("time/seconds"), 1e11)]
    seconds = sum(line["time/seconds"] for line in timed[1:])
    return (timed[-1]["step"] - timed[0]["step"]) / seconds if seconds > 0 else None


def _last_score(scores: list) -> float | None:
    last: Any = scores[-1] if scores else None
    return last[1] if isinstance(last, list) and len(last) == 2 and formats.is_number(last[1]) else None


def _whole(value: Any) -> int:
    return int(value) if formats.is_number(value, 2.0**53) and value >= 0 else 0
