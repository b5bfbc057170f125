import io

import pytest

from dreamer.training.progress import Pace, Point, Progress


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def drawn(self):
        """Non-empty lines in the order in which they were drawn."""
        return [text.rstrip() for text in self.getvalue().replace("\r", "\n").split("\n") if text.strip()]


def run_rounds(update, clock, *, rounds, frames, updates, collect=10, train=30):
    """Rounds of 1,000 frames in `collect` seconds and then 100 updates in `train` seconds, in ten pieces each."""
    for _ in range(rounds):
        for _ in range(10):
            clock.now += collect / 10
            frames += 100
            update(frames, updates)
        for _ in range(10):
            clock.now += train / 10
            updates += 10
            update(frames, updates)
    return frames, updates


def feed(pace, clock):
    return lambda frames, updates: pace.add(Point(clock(), frames, updates))


def test_plain_line_has_all_facts_and_values():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(100_000, start=10_000, label="walker_walk", stream=stream, interval=1e9, clock=clock)
    progress.update(10_000, 500)
    progress.evaluated(234.46)
    run_rounds(progress.update, clock, rounds=5, frames=10_000, updates=500)
    progress.close()
    # Rounds of 40 s: 25 frames/s and 2.5 updates/s. The last round's end is marked when the next one begins, at
    # 14,000 frames: 86,000 / 25 = 3,440 s, of which the 40 s since then have passed.
    last = stream.getvalue().splitlines()[-1]
    assert last == (
        "walker_walk  15,000/100,000 frames  15%  1,000 updates  25.0 frames/s  2.5 updates/s  56:40 left  eval 234.5"
    )


def test_plain_lines_keep_their_distance_and_overwrite_nothing():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(1_000_000, stream=stream, interval=30, clock=clock)
    for second in range(1, 100):
        clock.now = 1000 + second
        progress.update(10 * second, 0)
    assert stream.getvalue().splitlines() == [
        f"{frames}/1,000,000 frames  0%  10.0 frames/s  {left} left"
        # 999,990 frames at 10 a second are 99,999 s = 27 h 46 min 39 s.
        for frames, left in ((10, "1d 03h"), (310, "1d 03h"), (610, "1d 03h"), (910, "1d 03h"))
    ]
    progress.message("Saved.")
    assert stream.getvalue().splitlines()[-1] == "Saved."
    assert "\r" not in stream.getvalue()


def test_close_writes_the_last_state_once():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(100, stream=stream, clock=clock)
    clock.now += 10
    progress.update(50, 0)
    progress.update(100, 0)
    progress.close()
    progress.close()
    assert stream.getvalue().splitlines() == [
        "50/100 frames  50%  5.0 frames/s  0:10 left",
        "100/100 frames  100%  10.0 frames/s  0:00 left",
    ]


def test_close_without_update_writes_nothing():
    stream = io.StringIO()
    Progress(100, stream=stream, clock=Clock()).close()
    assert stream.getvalue() == ""


def test_time_left_counts_down_through_long_training_and_never_jumps():
    clock = Clock()
    pace, lefts = Pace(Point(1000, 0, 0)), []

    def update(frames, updates):
        pace.add(Point(clock(), frames, updates))
        lefts.append(pace.left(clock(), 100_000))

    # 10 s of collecting and 640 s of training in a round: more than the averaging window.
    run_rounds(update, clock, rounds=8, frames=0, updates=0, train=640)
    settled = lefts[3 * 20 :]
    assert settled[0] == pytest.approx((100_000 - 3000) * 0.65 - 1)
    assert all(0 <= before - after < 65 for before, after in zip(settled, settled[1:], strict=False))
    assert settled[-1] == pytest.approx((100_000 - 8000) * 0.65, abs=1)


def test_first_round_stops_counting():
    clock = Clock()
    pace = Pace(Point(899, 0, 0))
    pace.add(Point(900, 5000, 0))  # random frames
    pace.add(Point(1000, 5000, 100))  # tracing and pre-training
    assert pace.speeds(1000) == pytest.approx((5000 / 101, 100 / 101))

    run_rounds(feed(pace, clock), clock, rounds=3, frames=5000, updates=100)
    assert pace.speeds(clock()) == pytest.approx((25.0, 2.5))


def test_time_left_waits_when_a_round_takes_longer_than_usual():
    clock = Clock()
    pace = Pace(Point(1000, 0, 0))
    run_rounds(feed(pace, clock), clock, rounds=4, frames=0, updates=0)
    # The third round of 40 s ended at 3,000 of 10,000 frames: 280 s were left then, less at most one round.
    assert [pace.left(clock() + seconds, 10_000) for seconds in (0, 60, 600)] == pytest.approx([240, 240, 240])
    assert pace.left(clock() - 15, 10_000) == pytest.approx(255)


def test_speeds_follow_the_last_minutes():
    clock = Clock()
    pace = Pace(Point(1000, 0, 0))

    frames, updates = run_rounds(feed(pace, clock), clock, rounds=20, frames=0, updates=0)
    run_rounds(feed(pace, clock), clock, rounds=12, frames=frames, updates=updates, collect=5, train=15)
    # Twelve rounds of 20 s less the one in progress are 220 s, the window of 300 s reaches two rounds of 40 s
    # further back: 13 rounds in 300 s.
    assert pace.speeds(clock()) == pytest.approx((13 * 1000 / 300, 13 * 100 / 300))


def test_unknown_speed_is_left_out():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(1000, start=500, stream=stream, interval=0, clock=clock)
    progress.update(500, 70)
    clock.now += 10
    progress.update(500, 80)
    assert stream.getvalue().splitlines() == [
        "500/1,000 frames  50%  70 updates",
        "500/1,000 frames  50%  80 updates  0.00 frames/s  1.0 updates/s",
    ]


def test_terminal_redraws_one_line_and_moves_while_frames_stand_still(monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    clock, stream = Clock(), Terminal()
    progress = Progress(10_000, label="walker_walk", stream=stream, clock=clock)
    for updates in (1, 2, 3):
        clock.now += 1
        progress.update(5000, updates)
    drawn = stream.drawn()
    assert "\n" not in stream.getvalue()
    assert [text.split("  ")[3] for text in drawn] == ["1 updates", "2 updates", "3 updates"]
    assert all(text.startswith("walker_walk  5,000/10,000 frames  50%") for text in drawn)
    clock.now += 0.01
    progress.update(5100, 3)
    assert len(stream.drawn()) == 3  # not redrawn within a tenth of a second
    progress.close()
    assert "5,100/10,000" in stream.drawn()[-1]
    assert stream.getvalue().endswith("\n")


def test_terminal_message_gets_a_line_of_its_own(monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    clock, stream = Clock(), Terminal()
    progress = Progress(10_000, label="walker_walk", stream=stream, clock=clock)
    clock.now += 1
    progress.update(5000, 0)
    progress.message("Saved.")
    assert "\rSaved.\n" in stream.getvalue()
    assert stream.drawn()[-1].startswith("walker_walk  5,000/10,000")


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 200])
def test_terminal_line_fits(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    clock, stream = Clock(), Terminal()
    progress = Progress(1_000_000, label="cartpole_swingup_sparse", stream=stream, clock=clock)
    progress.evaluated(1000.0)
    run_rounds(progress.update, clock, rounds=2, frames=500_000, updates=123_456)
    progress.update(1_000_100, 123_456)  # the last episode may end beyond the total
    progress.close()
    assert max(map(len, stream.drawn())) < columns
    assert "1,000,100/1,000,000 frames  100%" in stream.drawn()[-1]
    assert ("cartpole_swingup_sparse" in stream.drawn()[-1]) == (columns == 200)
