"""Who starts the runs of a sweep and starts them again. An engine is a module with a function

    work(jobs, *, retries, stops, show, ...its own) -> {job.number: Outcome}

It starts `dreamer train` with job.words in processes of their own until each run is finished or has failed `retries`
times more than once, or until `stops.signal`, upon which all of them are asked to save and leave, and waited for.
show(outcomes, changed) is called about every second with what is known; changed: something has been added.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from dreamer.run import formats
from dreamer.run.lock import IN_USE
from dreamer.sweep.plan import Job

BAD_INPUT = 2
BUSY = 15.0  # seconds until a run is tried again that another process holds
_TAIL = 4096  # bytes


class Outcome(NamedTuple):
    """How a run has come out: its state (of sweep.status, or WAITING, FAILED), and why it failed."""

    state: str
    reason: str = ""


WAITING, FAILED = "waiting", "failed"
Show = Callable[[dict[int, Outcome], bool], None]


def command(job: Job, parent: int) -> list[str]:
    """The command line of a run that is asked to save and leave when the process `parent` ends, however that ends."""
    return [sys.executable, "-m", "dreamer.sweep.tied", str(parent), *job.words]


def may_retry(code: int) -> bool:
    """Whether the same command may do better after this exit code. IN_USE is no failure at all."""
    return code not in (0, BAD_INPUT, IN_USE)


def reason(code: int, log: Path) -> str:
    """Why a process ended: its exit code, and the last line that it wrote."""
    with open(log, "rb") as file:
        file.seek(max(0, file.seek(0, 2) - _TAIL))
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("dreamer: ")] or lines
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return formats.one_line(f"{how}: {told[-1].removeprefix('dreamer: ')}" if told else how)
