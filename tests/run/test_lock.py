"""Who holds a log directory: on one machine, on another one that lives, and on one that is gone."""

import fcntl
import os
import signal
import subprocess
import sys
import threading

import pytest

from dreamer.run import lock

# Holds a log directory as a process of another machine would, says so, and stays until it is told to go.
ELSEWHERE = """
import sys
from pathlib import Path
from dreamer.run import lock
lock._machine = lambda: sys.argv[2]
lock.BEAT = float(sys.argv[3])
with lock.exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def elsewhere(tmp_path):
    """elsewhere(machine, beat): a process that holds tmp_path/run and touches its lock every `beat` seconds."""
    started = []

    def hold(machine, beat):
        command = [sys.executable, "-c", ELSEWHERE, tmp_path / "run", machine, str(beat)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        started.append(process)
        assert process.stdout.readline() == b"held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """What takes a minute takes a second; a beat is far shorter than a silence all the same."""
    monkeypatch.setattr(lock, "BEAT", 0.05)
    monkeypatch.setattr(lock, "SILENCE", 1.0)
    monkeypatch.setattr(lock, "SETTLING", 0.0)


def claim(logdir):
    """Take the directory and leave it; returns the lines that were said."""
    said = []
    with lock.exclusive(logdir, said.append):
        assert lock.holder(logdir).pid == os.getpid()
        (logdir / "file").touch()
    return said


def test_a_directory_without_a_holder_is_taken_at_once_and_left_without_one(tmp_path):
    assert claim(tmp_path / "run") == []
    assert (tmp_path / "run/.lock").read_text() == ""
    assert lock.holder(tmp_path / "run") is None
    assert claim(tmp_path / "run") == []


def test_a_process_of_this_machine_is_never_waited_for_nor_replaced(tmp_path, elsewhere):
    process = elsewhere(lock._machine(), beat=1000)
    with pytest.raises(BlockingIOError, match="in use by another process"):
        claim(tmp_path / "run")
    process.kill()
    process.wait()
    assert lock.holder(tmp_path / "run").pid == process.pid  # which could not leave in order
    assert claim(tmp_path / "run") == []


@pytest.mark.parametrize("reaches", [True, False])
def test_one_of_another_machine_that_lives_is_refused(reaches, tmp_path, elsewhere, monkeypatch):
    """Whether the lock of the system reaches this machine or not."""
    elsewhere("another", beat=0.05)
    if not reaches:
        monkeypatch.setattr(lock, "_lock", lambda file: True)
    monkeypatch.setattr(lock, "SILENCE", 1000.0)
    before = (tmp_path / "run/.lock").read_text()
    with pytest.raises(BlockingIOError, match="in use by another process"):
        claim(tmp_path / "run")
    assert (tmp_path / "run/.lock").read_text() == before


@pytest.mark.parametrize("reaches", [True, False])
def test_one_that_is_gone_gives_way_and_ends_if_it_comes_back(reaches, tmp_path, elsewhere, monkeypatch):
    process = elsewhere("another", beat=0.05)
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    if not reaches:
        monkeypatch.setattr(lock, "_lock", lambda file: True)
    said = []
    with lock.exclusive(tmp_path / "run", said.append):
        assert len(said) == 2
        assert "waiting 1 seconds for a sign of life" in said[0]
        assert "taken over" in said[1]
        process.send_signal(signal.SIGCONT)
        assert process.wait() == 75
        assert b"was taken over by" in process.stderr.read()
        assert lock.holder(tmp_path / "run").pid == os.getpid()


def test_of_two_that_wait_for_the_same_silence_one_has_it(tmp_path, elsewhere, monkeypatch):
    process = elsewhere("another", beat=1000)
    monkeypatch.setattr(lock, "SETTLING", 0.5)
    monkeypatch.setattr(lock, "BEAT", 1000.0)  # with it, the one that lost would end this process
    monkeypatch.setattr(lock.time, "sleep", lambda seconds, sleep=lock.time.sleep: sleep(min(seconds, 0.5)))
    done, inside = [], threading.Event()

    def wait():
        try:
            with lock.exclusive(tmp_path / "run"):
                done.append("held")
                inside.wait()
        except BlockingIOError:
            done.append("refused")
            inside.set()

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    process.kill()
    assert sorted(done) == ["held", "refused"]


def test_the_lock_of_an_older_release_names_nobody_and_holds(tmp_path):
    (tmp_path / ".lock").touch()
    with open(tmp_path / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            claim(tmp_path)
    assert claim(tmp_path) == []


def test_who_holds_it_is_told_with_the_time_of_silence(tmp_path):
    with lock.exclusive(tmp_path):
        holder = lock.holder(tmp_path)
        os.utime(tmp_path / ".lock", (0, 0))
        assert lock.holder(tmp_path).silent > 1e9
        assert holder.silent < 1e3
    for text in ("", "one two", "a b c d"):
        (tmp_path / ".lock").write_text(text)
        assert lock.holder(tmp_path) is None
