"""Runs as processes of this machine, so many at once as there are slots."""

import signal
import subprocess
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from dreamer import hardware
from dreamer.run.lock import IN_USE
from dreamer.start import UsageError
from dreamer.stops import Stops
from dreamer.sweep import status
from dreamer.sweep.engines import BUSY, FAILED, WAITING, Outcome, Show, after_stop, may_retry, reason, start
from dreamer.sweep.plan import Job

LOOK = 0.2  # seconds between two looks at the processes


Slot = Mapping[str, str]  # a place for one run at a time: what its process has in its environment besides


def slots(workers: int, gpus: Sequence[str] = (), per_gpu: int = 1) -> list[Slot]:
    """`workers` slots, or `per_gpu` for each of the GPUs, which are numbers or names as CUDA_VISIBLE_DEVICES has them.

    The first runs go to GPUs of their own.
    """
    return [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in list(gpus) * per_gpu] or [{}] * workers


def check_gpus(wanted: Sequence[str]) -> None:
    """Raise UsageError for GPUs that are not here: a run told to use one would train on the CPU."""
    count = hardware.nvidia_gpus() if wanted else 0
    for gpu in wanted:
        if not count or (gpu.isdecimal() and int(gpu) >= count):
            here = (
                f"the NVIDIA GPUs 0 to {count - 1}" if count > 1 else "the NVIDIA GPU 0" if count else "no NVIDIA GPU"
            )
            raise UsageError(f"--gpus {','.join(wanted)}: GPUs are given by their numbers, and there is {here} here")


def work(
    jobs: Sequence[Job], *, retries: int, stops: Stops, show: Show, slots: Sequence[Slot], logs: Path
) -> dict[int, Outcome]:
    """See `engines`."""
    queue = Queue(jobs, retries, slots, logs)
    try:
        while queue.has_work:
            if stops.signal:
                queue.stop()
            changed = queue.start() + queue.look()
            show(queue.outcomes, bool(changed))
            if queue.has_work:
                time.sleep(LOOK)
    finally:
        queue.stop(again=True)  # by a second signal, or a fault of ours: whoever still runs ends at once
    return queue.outcomes


class Queue:
    """The runs that wait, those that run, and how the others have come out."""

    def __init__(self, jobs: Sequence[Job], retries: int, slots: Sequence[Slot], logs: Path):
        self.outcomes = {job.number: Outcome(WAITING) for job in jobs}
        self._waiting, self._later = deque(jobs), list[tuple[float, Job]]()
        self._slots, self._free = slots, list(range(len(slots)))
        self._running = dict[int, tuple[Job, subprocess.Popen]]()  # by the number of the slot
        self._retries, self._logs, self._failures = retries, logs, Counter[int]()
        self._stopped = False

    @property
    def has_work(self) -> bool:
        """Whether a run waits or runs."""
        return bool(self._waiting or self._later or self._running)

    def start(self) -> int:
        """Give the free slots to runs that wait; returns how many runs have begun, or had nothing left to do."""
        now, begun = time.monotonic(), 0
        due = [job for at, job in self._later if at <= now]
        self._later = [(at, job) for at, job in self._later if at > now]
        self._waiting.extend(due)
        while self._waiting and self._free:
            job = self._waiting.popleft()
            begun += 1
            if status.is_finished(job.logdir, job.config.steps):
                self.outcomes[job.number] = Outcome(status.FINISHED)
                continue
            slot = self._free[0]
            try:
                process = start(job, self._logs, self._slots[slot], Path.cwd())
            except OSError as error:  # its log cannot be written, for instance, which is nothing to the others
                where = f"{error.filename}: " if error.filename else ""
                self.outcomes[job.number] = Outcome(FAILED, f"cannot be started: {where}{error.strerror}")
                continue
            self._running[slot] = job, process
            self._free.pop(0)
            self.outcomes[job.number] = Outcome(status.RUNNING)
        return begun

    def look(self) -> int:
        """Take in the processes that have ended; returns how many."""
        ended = [(slot, job, code) for slot, (job, p) in self._running.items() if (code := p.poll()) is not None]
        for slot, job, code in ended:
            del self._running[slot]
            self._free = sorted([*self._free, slot])
            self.outcomes[job.number] = self._outcome(job, code)
        return len(ended)

    def stop(self, again: bool = False) -> None:
        """Ask all that run to save and leave, once; nothing more is started. again: those still there end at once."""
        self._waiting.clear()
        self._later.clear()
        if again or not self._stopped:
            for _, process in self._running.values():
                process.send_signal(signal.SIGTERM)
        self._stopped = True

    def _outcome(self, job: Job, code: int) -> Outcome:
        if code == 0:
            return Outcome(status.FINISHED)
        if self._stopped:
            return after_stop(code, job, self._logs)
        if code == IN_USE:  # it may be finished when it is free
            self._later.append((time.monotonic() + BUSY, job))
            return Outcome(WAITING, "in use by another process")
        self._failures[job.number] += 1
        why = reason(code, job, self._logs)
        if may_retry(code) and self._failures[job.number] <= self._retries:
            self._waiting.append(job)
            return Outcome(WAITING, why)
        return Outcome(FAILED, why)
