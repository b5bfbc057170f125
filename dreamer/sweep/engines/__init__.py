"""Who starts the runs of a sweep and starts them again. An engine is a module with a function

    work(jobs, *, retries, stops, show, logs, ...its own) -> {job.number: Outcome}

It starts `dreamer train` with job.words in processes of their own until each run is finished, or has failed so often
that `retries` are used up, or until `stops.signal`, upon which all are asked to save and leave, and waited for. What a
run prints goes to a file in `logs`. show(outcomes, changed) is called all the while with what is known; changed:
something has been added.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from dreamer.run import formats
from dreamer.run.lock import IN_USE
from dreamer.stops import SIGNALS
from dreamer.sweep import status
from dreamer.sweep.plan import Job

WAITING, FAILED = status.WAITING, "failed"
BUSY = 15.0  # seconds until a run is tried again that another process holds
_BAD_INPUT = 2
_TAIL = 4096  # bytes


class Outcome(NamedTuple):
    """How a run has come out: its state (of sweep.status, or FAILED), and why it failed."""

    state: str
    reason: str = ""


Show = Callable[[dict[int, Outcome], bool], None]


def log_of(job: Job, logs: Path) -> Path:
    """The file of what a run prints."""
    return logs / f"{job.name}.log"


def start(job: Job, logs: Path, variables: Mapping[str, str], folder: Path) -> subprocess.Popen:
    """A process for a run, which is asked to save and leave when this one ends, however that ends.

    variables: of its environment, besides those of this process; folder: where it works. It is in a session of its own:
    Ctrl-C in a terminal reaches whoever looks after it, who tells it once; a second time would end it at once.
    """
    path = log_of(job, logs)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as log:
        told = " ".join(f"{key}={value}" for key, value in variables.items())
        log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {told} dreamer {shlex.join(job.words)}\n".encode())
        log.flush()
        return subprocess.Popen(
            [sys.executable, "-m", "dreamer.sweep.tied", str(os.getpid()), *job.words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, **variables},
            start_new_session=True,
        )


def may_retry(code: int) -> bool:
    """Whether the same command may do better after this exit code. IN_USE is no failure at all."""
    return code not in (0, _BAD_INPUT, IN_USE)


def after_stop(code: int, job: Job, logs: Path) -> Outcome:
    """How a run has come out that was asked to save and leave, by its exit code, which is not 0."""
    if code in (IN_USE, -signal.SIGTERM, *(128 + number for number in SIGNALS)):
        return Outcome(status.STOPPED)
    return Outcome(FAILED, reason(code, job, logs))  # such as a disk that is full: not saved


def reason(code: int, job: Job, logs: Path) -> str:
    """Why a process ended: its exit code, and the last line that it wrote, if its file is still there."""
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    try:
        with open(log_of(job, logs), "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError as error:  # somebody has tidied up: no reason to stop all other runs
        return f"{how}: {error.strerror} (its log)"
    told = [line for line in lines if line.startswith("dreamer: ")] or lines or [""]
    return formats.one_line(f"{how}: {told[-1].removeprefix('dreamer: ')}")
