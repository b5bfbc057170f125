import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from dreamer.envs.core import EnvError, EnvRefused
from dreamer.envs.worker import Worker, WorkerDied
from dreamer.envs.wrappers import Checked
from dreamer.types import ActionSpace, Space

ACTION = np.zeros(3, np.float32)


@pytest.fixture
def start(scripted):
    """A function that starts a worker around Scripted(**kwargs); all of them are closed after the test."""
    workers = []

    def start(**kwargs):
        workers.append(Worker(scripted, kwargs))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()


def gone(pid):
    """Whether a process has ended (a zombie that nobody has collected yet counts)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def wait_until(condition):
    while not condition():
        time.sleep(0.02)


def test_is_the_environment_it_holds(start, scripted):
    worker, direct = Checked(start()), Checked(scripted())
    assert worker.observation_spaces == {"image": Space((64, 64, 3), "uint8"), "speed": Space((2,), "float32")}
    assert worker.action_space == ActionSpace(size=3, discrete=False)
    assert worker.action_repeat == 2
    pairs = [(worker.reset(9), direct.reset(9))] + [(worker.step(ACTION), direct.step(ACTION)) for _ in range(3)]
    for remote, local in pairs:
        assert remote.keys() == local.keys()
        for key, value in local.items():
            np.testing.assert_array_equal(remote[key], value)
            assert remote[key].dtype == value.dtype
    assert [bool(remote["is_last"]) for remote, _ in pairs] == [False, False, False, True]


def test_what_an_environment_says_about_its_episodes_arrives_too(start):
    """As Atari does of a game that goes on after the loss of a life."""
    assert Checked(start()).whole_games is True
    env = Checked(start(goes_on_at=2))
    assert env.whole_games is False
    env.reset(1)
    seen = []
    for _ in range(3):
        env.step(ACTION)
        seen.append(env.goes_on)
    assert seen == [False, True, False]


def test_an_answer_can_be_asked_for_and_fetched_later(start, scripted):
    worker, direct = Checked(start()), Checked(scripted())
    for method, argument in (("reset", 3), ("step", ACTION)):
        worker.send(method, argument)
        answer = worker.receive()
        np.testing.assert_array_equal(answer["image"], getattr(direct, method)(argument)["image"])


def test_close_leaves_nothing_behind(start):
    before = set(os.listdir("/proc/self/fd"))
    worker = start()
    pid = worker.pid
    assert not gone(pid)
    worker.close()
    worker.close()
    assert gone(pid)
    assert set(os.listdir("/proc/self/fd")) == before
    with pytest.raises(EnvError, match=r"step after close\(\): Scripted\(\) is gone"):
        worker.step(ACTION)


def test_exception_arrives_with_its_message_and_traceback(start):
    worker = start(behave="raise")
    worker.reset(0)
    message = "Scripted(behave='raise') failed in step: ZeroDivisionError: the ball fell through the floor"
    source = Path(__file__).with_name("scripted_env.py")
    (number,) = (n for n, line in enumerate(source.read_text().splitlines(), 1) if "raise ZeroDivisionError" in line)
    place = re.escape(f"({source}, line {number})")
    with pytest.raises(EnvError, match=f"^{re.escape(message)} {place}$") as caught:
        worker.step(ACTION)
    assert "scripted_env.py" in str(caught.value.__cause__)
    assert worker.reset(3)["image"][0, 0, 0] == 3


def test_exception_while_starting_leaves_no_process(scripted):
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(EnvError, match="failed in start: RuntimeError: no such level \\("):
        Worker(scripted, {"fail": True})
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("behave", "message"),
    [
        ("kill", r"was killed by SIGKILL during step"),
        ("crash", r"(?s)was killed by SIGSEGV during step.*Fatal Python error: Segmentation fault.*scripted_env.py"),
        ("exit", r"(?s)ended with exit code 7 during step.*goodbye"),
    ],
)
def test_death_in_a_step_is_named(start, behave, message):
    worker = start(behave=behave)
    worker.reset(0)
    with pytest.raises(WorkerDied, match=message):
        worker.step(ACTION)
    worker.close()


def test_death_between_steps_is_named(start):
    worker = start()
    worker.reset(0)
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerDied, match="was killed by SIGKILL during step"):
        worker.step(ACTION)


def test_hanging_environment_is_named_and_ended(start):
    worker = start(behave="hang")
    worker.reset(0)
    worker._timeout = 0.2
    with pytest.raises(EnvError, match=r"Scripted\(behave='hang'\) did not reply to step within 0.2 seconds"):
        worker.step(ACTION)
    assert gone(worker.pid)


def test_a_start_has_a_time_of_its_own(scripted):
    with pytest.raises(WorkerDied, match="did not reply to start within 1e-06 seconds"):
        Worker(scripted, {}, timeout=300, start_timeout=1e-6)
    with pytest.raises(WorkerDied, match="did not reply to start within 1e-06 seconds"):
        Worker(scripted, {}, timeout=1e-6)
    worker = Worker(scripted, {"behave": "hang"}, timeout=0.2, start_timeout=300)
    worker._timeout, timeout = 300, worker._timeout  # which a reset may exceed on a busy machine
    worker.reset(0)
    worker._timeout = timeout
    with pytest.raises(WorkerDied, match="did not reply to step within 0.2 seconds"):
        worker.step(ACTION)


def test_what_is_refused_says_no_more_than_why(scripted):
    with pytest.raises(EnvRefused, match="^take another$") as caught:
        Worker(scripted, {"fail": EnvRefused("take\nanother")})
    assert caught.type is EnvRefused


def test_a_note_reaches_the_parent(scripted):
    worker = Worker(scripted, {"note": "seen: all"})
    assert worker.note == Checked(worker).note == "seen: all"
    worker.close()


def test_names_of_numbers_for_the_log_reach_the_parent(scripted):
    worker = Worker(scripted, {"infos": ("info.x",), "at": 0, "changes": {"info.x": np.float32("nan")}})
    env = Checked(worker)
    assert worker.infos == env.infos == ("info.x",)
    assert np.isnan(env.reset(0)["info.x"])
    with pytest.raises(EnvError, match=r"missing keys \['info.x'\]"):
        env.step(ACTION)
    worker.close()


def test_ignores_an_interrupt(start):
    worker = start()
    worker.reset(0)
    os.kill(worker.pid, signal.SIGINT)
    assert worker.step(ACTION)["reward"] == 1


@pytest.mark.usefixtures("interruptible")
def test_interrupted_call_leaves_no_stale_reply(start):
    worker = start(behave="interrupt")
    worker.reset(0)
    with pytest.raises(KeyboardInterrupt):
        worker.step(ACTION)
    with pytest.raises(EnvError, match="after a call that was interrupted"):
        worker.reset(0)
    worker.close()
    assert gone(worker.pid)


def test_output_is_bounded(start):
    worker = start(behave="shout")
    for _ in range(3):
        worker.reset(0)
        worker.step(ACTION)
    worker.reset(0)
    assert os.fstat(worker._output.fileno()).st_size <= 1_000_000


def test_variables_reach_the_child_only(scripted):
    worker = Worker(scripted, {}, variables={"DREAMER_TEST_VARIABLE": "yes"})
    assert b"DREAMER_TEST_VARIABLE=yes" in Path(f"/proc/{worker.pid}/environ").read_bytes().split(b"\0")
    assert "DREAMER_TEST_VARIABLE" not in os.environ
    worker.close()


@pytest.mark.parametrize("behave", ["", "hang"])
def test_dies_with_its_parent(scripted, tmp_path, behave):
    marker = tmp_path / "stepping"
    script = textwrap.dedent(f"""
        import time, numpy as np
        from scripted_env import Scripted
        from dreamer.envs.worker import Worker
        worker = Worker(Scripted, dict(behave={behave!r}, marker={str(marker)!r}))
        worker.reset(0)
        print(worker.pid, flush=True)
        worker.step(np.zeros(3, np.float32))
        time.sleep(1000)
    """)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        wait_until(marker.exists)
        assert not gone(pid)
        parent.kill()
    wait_until(lambda: gone(pid))
