"""The queue of this machine, with small programs in the place of runs. test_engines.py has real ones."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from dreamer import stops
from dreamer.sweep import engines, plan
from dreamer.sweep.engines import local

FOREVER = "import time; time.sleep(1e6)"


@pytest.fixture
def work(tmp_path, monkeypatch):
    """work(codes, ...): a sweep of len(codes) runs that end with these exit codes one after another, in turn.

    Returns (outcomes, [(number of the run, variables)] of each start); work.processes has the processes.
    """
    monkeypatch.setattr(local, "LOOK", 0.01)
    monkeypatch.setattr(local, "BUSY", 0.01)

    def run(codes, retries=1, slots=({},), asked=None, program="sys.exit(int(sys.argv[1]))", show=lambda *_: None):
        jobs, starts = plan.plan(["toy"], {}, seeds=range(len(codes)), out=tmp_path), []

        def start(job, logs, variables, folder):
            assert (logs, folder) == (tmp_path / "logs", Path.cwd())
            number = Counter(name for name, _ in starts)[job.number]
            starts.append((job.number, variables))
            path = engines.log_of(job, logs)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("a line\ndreamer: it broke\nanother line\n")
            run.processes.append(
                subprocess.Popen([sys.executable, "-c", f"import sys\n{program}", str(codes[job.number][number])])
            )
            return run.processes[-1]

        monkeypatch.setattr(local, "start", start)
        options = {"retries": retries, "stops": asked or stops.Stops(), "show": show, "logs": tmp_path / "logs"}
        return local.work(jobs, slots=slots, **options), starts

    run.processes = []
    return run


def test_a_log_that_cannot_be_written_ends_its_own_run_alone(tmp_path):
    jobs = plan.plan(["toy"], {}, seeds=range(2), out=tmp_path)
    logs = tmp_path / "logs"
    engines.log_of(jobs[0], logs).mkdir(parents=True)
    queue = local.Queue(jobs, 3, [{}], logs)
    queue.start()
    assert queue.outcomes[0].state == "failed"
    assert queue.outcomes[0].reason == f"cannot be started: {engines.log_of(jobs[0], logs)}: Is a directory"
    assert queue.outcomes[1].state == "running"
    queue.stop(again=True)
    for _, process in queue._running.values():
        process.wait()


def test_faults_are_tried_again_so_often_and_bad_input_is_not(work):
    outcomes, starts = work([[0], [1, 0], [1, 1, 0], [2, 0], [137, 143]])
    broke = "it broke"
    assert outcomes == {
        0: ("finished", ""),
        1: ("finished", ""),
        2: ("failed", f"exit code 1: {broke}"),
        3: ("failed", f"exit code 2: {broke}"),
        4: ("failed", f"exit code 143: {broke}"),
    }
    assert Counter(number for number, _ in starts) == {0: 1, 1: 2, 2: 2, 3: 1, 4: 2}


def test_a_directory_in_use_is_waited_for_and_is_no_fault(work):
    seen = []
    outcomes, starts = work([[75, 75, 75, 0], [0]], retries=0, show=lambda found, _: seen.append(found[0]))
    assert outcomes == {0: ("finished", ""), 1: ("finished", "")}
    assert ("waiting", "in use by another process") in seen
    assert [number for number, _ in starts[:2]] == [0, 1]  # others go on meanwhile


def test_each_gpu_gets_its_share_of_runs_at_once(work):
    slots = local.slots(1, ["0", "GPU-b"], 2)
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["0", "GPU-b", "0", "GPU-b"]
    running = []
    outcomes, starts = work(
        [[0]] * 6,
        slots=slots,
        show=lambda found, _: running.append(sum(outcome.state == "running" for outcome in found.values())),
    )
    assert all(outcome.state == "finished" for outcome in outcomes.values())
    assert max(running) == 4
    assert [variables for _, variables in starts[:4]] == slots
    assert local.slots(3) == [{}, {}, {}]


def test_a_stop_ends_what_runs_and_starts_nothing_more(work):
    asked = stops.Stops()

    def show(found, changed):
        asked.signal = 15

    outcomes, starts = work([[0], [0], [0]], asked=asked, slots=[{}, {}], program=FOREVER, show=show)
    assert [outcome.state for outcome in outcomes.values()] == ["stopped", "stopped", "waiting"]
    assert len(starts) == 2


def test_whatever_ends_the_sweep_ends_its_runs(work):
    """A second signal, or a fault of its own."""
    processes = []

    def show(found, changed):
        processes.extend(work.processes)
        raise stops.Stopped(15)

    with pytest.raises(stops.Stopped):
        work([[0]], program=FOREVER, show=show)
    assert [process.wait() for process in processes] == [-15]


def test_nothing_left_to_do(work, monkeypatch):
    monkeypatch.setattr(local.status, "is_finished", lambda logdir, steps: True)
    outcomes, starts = work([[0], [0]])
    assert outcomes == {0: ("finished", ""), 1: ("finished", "")}
    assert starts == []


def test_a_run_fails_alone_where_its_log_has_been_deleted(work, tmp_path):
    def show(found, changed):
        for path in (tmp_path / "logs").rglob("*.log"):
            path.unlink()

    outcomes, _ = work([[1], [0]], retries=0, slots=[{}, {}], show=show)
    assert outcomes[0].state == "failed"
    assert outcomes[0].reason.startswith("exit code 1")
    assert outcomes[1] == ("finished", "")


def test_a_run_that_cannot_save_is_not_said_to_have_saved(work, tmp_path):
    asked, ready = stops.Stops(), tmp_path / "ready"
    ready.mkdir()

    def show(found, changed):
        if len(list(ready.iterdir())) == 3:
            asked.signal = 15

    ending = f"""
import pathlib, signal, time
signal.signal(15, lambda *_: sys.exit(int(sys.argv[1])))
pathlib.Path({str(ready)!r}, sys.argv[1]).touch()
time.sleep(1e6)"""
    outcomes, _ = work([[1], [143], [75]], asked=asked, slots=[{}] * 3, program=ending, show=show)
    assert outcomes == {0: ("failed", "exit code 1: it broke"), 1: ("stopped", ""), 2: ("stopped", "")}
