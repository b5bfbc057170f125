"""Signals, sent to processes of their own: what a stop does depends on what the process is doing, not on the clock."""

import signal
import subprocess
import sys

import pytest

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
COMMAND = """
import os, signal, sys, time
from dreamer.stops import Stops, Stopped

def send(number=int(sys.argv[1])):
    os.kill(os.getpid(), number)


lock = __import__("threading").Lock()
lock.acquire()
with Stops() as stops:
"""


def run(block, number, prefix=""):
    code = prefix + COMMAND + "".join(f"    {line}\n" for line in block.strip().splitlines())
    return subprocess.run([sys.executable, "-c", code, str(int(number))], capture_output=True, text=True)


TWICE = """
with stops.noting():
    send()
    print("noted", stops.signal)
    try:
        send()
    except Stopped as error:
        print("stopped", error.code)
"""


@pytest.mark.parametrize("number", SIGNALS)
def test_what_trains_notes_the_first_stop_and_ends_with_the_second(number):
    done = run(TWICE, number, "import dreamer.stops; dreamer.stops.REPEAT = 0.0\n")
    assert done.stdout.split() == ["noted", str(int(number)), "stopped", str(128 + number)], done.stderr


@pytest.mark.parametrize("number", SIGNALS)
def test_what_a_system_sends_twice_is_one_stop_and_what_people_type_twice_are_two(number):
    done = run(TWICE, number, "import dreamer.stops; dreamer.stops.REPEAT = 1e6\n")
    assert ("stopped" in done.stdout) == (number == signal.SIGINT)
    assert done.returncode == 0


@pytest.mark.parametrize("number", SIGNALS)
def test_what_only_reads_is_stopped_at_once(number):
    done = run("try:\n    send()\nexcept Stopped as error:\n    print(error, error.code)", number)
    assert done.stdout.split() == [signal.Signals(number).name, str(128 + number)], done.stderr


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("work", ["lock.acquire()", "time.sleep(1e6)"])
def test_what_has_nothing_to_lose_ends_even_inside_of_a_library(number, work):
    block = f"""
import threading
with stops.noting(), stops.nothing_to_lose():
    threading.Timer(0.1, send).start()
    {work}
"""
    done = run(block, number)
    assert done.returncode == 128 + number
    name = signal.Signals(number).name
    assert done.stderr == f"dreamer: stopped by {name}: all is saved, and the same command goes on from there\n"


def test_what_is_ended_by_force_after_the_grace_claims_nothing():
    block = "try:\n    send()\nexcept Stopped:\n    time.sleep(1e6)"
    done = run(block, signal.SIGTERM, "import dreamer.stops; dreamer.stops.GRACE = 0.1\n")
    assert done.returncode == 143
    assert done.stderr == "dreamer: stopped by SIGTERM\n"


def test_a_stop_that_was_noted_before_ends_what_has_nothing_to_lose():
    block = """
with stops.noting():
    send()
    try:
        with stops.nothing_to_lose():
            print("not reached")
    except Stopped as error:
        print(error.code, error)
"""
    expected = "143 SIGTERM: all is saved, and the same command goes on from there\n"
    assert run(block, signal.SIGTERM).stdout == expected


def test_a_hangup_that_was_ignored_stays_ignored():
    """As under nohup."""
    done = run("send()\nprint('alive')", signal.SIGHUP, "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n")
    assert done.stdout.split() == ["alive"]


def test_handlers_come_back():
    block = "before = stops._previous[signal.SIGTERM]\nstops.__exit__()\n"
    block += "assert signal.getsignal(signal.SIGTERM) == before"
    code = COMMAND.replace("with Stops() as stops:", "if stops := Stops().__enter__():")
    code += "".join(f"    {line}\n" for line in block.splitlines())
    done = subprocess.run([sys.executable, "-c", code, "15"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


INSIDE = """
import os, signal, sys
from dreamer.stops import Interrupts, Stopped

def send(number=int(sys.argv[1])):
    os.kill(os.getpid(), number)

before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
try:
    with Interrupts() as stops:
{block}
except (KeyboardInterrupt, Stopped) as error:
    print(type(error).__name__, getattr(error, "code", ""))
assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
"""


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    ("block", "seen"),
    [
        ("with stops.noting():\n    send()\n    print('noted', stops.signal)", "noted {number}"),
        ("with stops.noting():\n    send()\n    try:\n        send()\n    finally:\n        print('left')", "left"),
        ("with stops.noting(), stops.nothing_to_lose():\n    send()\n    print('not reached')", ""),
        ("with stops.noting():\n    send()\n    with stops.nothing_to_lose():\n        print('not reached')", ""),
        ("send()\nprint('not reached')", ""),
    ],
)
def test_a_program_around_a_training_gets_its_stops_back_as_exceptions(number, block, seen, interruptible):
    code = INSIDE.format(block="".join(f"        {line}\n" for line in block.splitlines()))
    done = subprocess.run([sys.executable, "-c", code, str(int(number))], capture_output=True, text=True)
    raised = ["KeyboardInterrupt"] if number == signal.SIGINT else ["Stopped", str(128 + number)]
    assert done.stdout.split() == [*seen.format(number=int(number)).split(), *raised], done.stderr
    assert done.returncode == 0
