"""The table on a terminal and in plain lines."""

import io
import os
import re
import shutil

import pytest

from dreamer.sweep import table
from dreamer.sweep.status import Status

ROWS = [
    Status("a/0", "finished", 1500, 1500, 30.0, 7.25),
    Status("a/1", "running", 600, 1500, 30.0, None, 2, "host"),
    Status("a/2", "waiting", 0, 1500),
]


def test_the_table():
    assert table.to_lines(ROWS) == [
        "run  state     frames        frames/s  left  evaluation  restarts  node",
        "a/0  finished   1,500  100%                         7.2",
        "a/1  running      600   40%      30.0  0:30                     2  host",
        "a/2  waiting             0%",
    ]
    assert table.summary(ROWS) == "3 runs: 1 finished, 1 running, 1 waiting, the last of these 0:30 left"
    assert table.summary([]) == "0 runs: none"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((30, 4)))


def test_on_a_terminal_it_is_drawn_again_in_its_place_as_far_as_it_fits(small):
    rows, stream = list(ROWS), Terminal()
    clock = iter([0.0, 0.0, 1.0, 2.5])
    screen = table.Screen(lambda: rows, stream, lambda: next(clock))
    screen.show()
    first = stream.getvalue()
    # What runs is shown first, and the last line tells of all.
    assert [line.split()[0] for line in first.splitlines()] == ["run", "a/1", "3"]
    assert max(map(len, first.splitlines())) < 30
    screen.show()
    assert stream.getvalue() == first
    rows[1] = rows[1]._replace(frames=900)
    screen.show()
    again = stream.getvalue().removeprefix(first)
    assert again.startswith("\x1b[3F\x1b[J")
    assert "900" in again
    screen.close()
    assert stream.getvalue().endswith("\x1b[3F\x1b[J")


def test_elsewhere_it_tells_what_changes_and_now_and_then_all():
    rows, stream, now = list(ROWS), io.StringIO(), [0.0]
    screen = table.Screen(lambda: rows, stream, lambda: now[0])
    screen.show()
    screen.show()
    rows[2] = rows[2]._replace(state="running")
    screen.show(changed=True)
    rows[1] = rows[1]._replace(state="finished", frames=1500)
    screen.show(changed=True)
    now[0] = table.SAID + 1
    screen.show()
    screen.close()
    lines = stream.getvalue().splitlines()
    assert lines[1:3] == ["running  a/2", "finished  a/1  1,500 frames"]
    assert [bool(re.match("3 runs: ", line)) for line in lines] == [True, False, False, True]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_table_that_nobody_can_read_any_more_ends_no_sweep(terminal):
    class Closed(io.StringIO):
        tried = 0

        def isatty(self):
            return terminal

        def write(self, text):
            self.tried += 1
            raise BrokenPipeError

    stream = Closed()
    screen = table.Screen(lambda: ROWS, stream)
    screen.show()
    screen.show(changed=True)
    screen.close()
    assert screen.lost
    assert stream.tried == 1
