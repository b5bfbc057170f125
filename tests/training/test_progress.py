import io
import logging

import pytest

from dreamer.training import progress as progress_module
from dreamer.training.progress import Outlook, Pace, Point, Progress


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
    progress = Progress(
        100_000, total_updates=9500, start=10_000, label="walker_walk", stream=stream, interval=1e9, clock=clock
    )
    progress.update(10_000, 500)
    progress.evaluated(234.46)
    run_rounds(progress.update, clock, rounds=5, frames=10_000, updates=500)
    progress.close()
    # Rounds of 40 s: 25 frames/s and 2.5 updates/s. 85,000 frames at 0.01 s and 8,500 updates at 0.3 s are 3,400 s.
    last = stream.getvalue().splitlines()[-1]
    assert last == (
        "walker_walk  15,000/100,000 frames  15%  1,000 updates  25.0 frames/s  2.5 updates/s  56:40 left"
        "  evaluation 234.5"
    )


def test_plain_lines_keep_their_distance_and_overwrite_nothing():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(1_000_000, stream=stream, interval=30, clock=clock)
    for second in range(1, 100):
        clock.now = 1000 + second
        progress.update(10 * second, 0)
    assert stream.getvalue().splitlines() == [
        f"{frames}/1,000,000 frames  0%  10.0 frames/s{left}"
        # 999,690 frames at 10 a second are 99,969 s = 27 h 46 min 9 s; before the second frame nobody knows.
        for frames, left in ((10, ""), (310, "  1d 03h left"), (610, "  1d 03h left"), (910, "  1d 03h left"))
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
        "50/100 frames  50%  5.0 frames/s",
        "100/100 frames  100%  10.0 frames/s  0:00 left",
    ]


def test_close_without_update_writes_nothing():
    stream = io.StringIO()
    Progress(100, stream=stream, clock=Clock()).close()
    assert stream.getvalue() == ""


def test_first_round_stops_counting():
    clock = Clock()
    pace = Pace(Point(899, 0, 0))
    pace.add(Point(900, 5000, 0))  # random frames
    pace.add(Point(1000, 5000, 100))  # tracing and pre-training
    assert pace.speeds(1000) == pytest.approx((5000 / 101, 100 / 101))

    run_rounds(feed(pace, clock), clock, rounds=3, frames=5000, updates=100)
    assert pace.speeds(clock()) == pytest.approx((25.0, 2.5))


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
    progress = Progress(1000, total_updates=200, start=500, stream=stream, interval=0, clock=clock)
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
    assert [text.split("  ")[3] for text in drawn] == ["1 update", "2 updates", "3 updates"]
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


def test_the_return_of_an_earlier_session_is_shown_until_there_is_another():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(1000, start=500, last_evaluation=(400, 87.65), stream=stream, interval=0, clock=clock)
    progress.update(500, 70)
    progress.evaluated(90.0)
    clock.now += 1
    progress.update(501, 70)
    first, second = stream.getvalue().splitlines()
    assert first.endswith("evaluation 87.7")
    assert second.endswith("evaluation 90.0")


def test_the_speed_of_random_frames_is_called_a_lower_bound():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(1000, total_updates=20, stream=stream, interval=0, clock=clock)
    for frames, updates in ((80, 0), (90, 0), (100, 0), (100, 1), (100, 2)):
        clock.now += 1
        progress.update(frames, updates)
    # 10 random frames took 1 s, and so did the second update: 900 frames and 18 updates are 108 s.
    *before, last = stream.getvalue().splitlines()
    assert not any("left" in line for line in before)
    assert "over 1:48 left" in last
    for _ in range(2):
        clock.now += 2
        progress.update(110, 2)
        progress.update(120, 2)
    assert "over" not in stream.getvalue().splitlines()[-1]


class Session:
    """A whole run with a fake clock: `reports` has (clock, estimate, whether it is settled) at every report."""

    def __init__(self, *, total, prefill, pretrain, train_every, train_updates, eval_every, eval_frames, costs):
        self.total, self.prefill, self.train_every, self.train_updates = total, prefill, train_every, train_updates
        self.pretrain = pretrain
        self.eval_every, self.eval_frames, self.costs = eval_every, eval_frames, costs
        self.now, self.frames, self.updates, self.evaluated_at = 0.0, 0, 0, None
        self.reports, self.rounds = [], []

    def due(self, frames):
        return self.pretrain + (frames - self.prefill) // self.train_every * self.train_updates

    def go(self, until=None):
        """One session of the run, up to `until` frames: start-up, prefill, then rounds as the loop has them."""
        eval_frames = self.eval_frames if self.frames else 0
        self.outlook = Outlook(self.total, self.due(self.total), self.eval_every, eval_frames, self.evaluated_at)
        self.now += 20  # environments start
        self.traced = set()
        while self.frames < self.prefill:
            self.step(self.costs["random"], frames=100)
        while True:
            while self.updates < self.due(self.frames):
                self.step(self.costs["update"], updates=1)
            grid = (self.frames - self.prefill) // self.eval_every
            if self.evaluated_at is None or grid > (self.evaluated_at - self.prefill) // self.eval_every or self.done:
                self.now += self.costs["evaluation"] + self.trace("evaluation", 3)
                self.outlook.evaluated(self.now)
                self.evaluated_at = self.frames
            self.rounds.append(len(self.reports))
            if self.done or self.frames >= (until or self.total):
                return self
            for _ in range(self.train_every // 50):
                self.step(self.costs["frame"], frames=50)

    @property
    def done(self):
        return self.frames >= self.total

    def step(self, each, frames=0, updates=0):
        kind = "update" if updates else "frame" if self.updates else "random"
        self.now += each * (frames + updates) + self.trace(kind, 15 if updates else 3)
        self.frames, self.updates = self.frames + frames, self.updates + updates
        self.outlook.add(Point(self.now, self.frames, self.updates))
        self.reports.append((self.now, self.outlook.left(), self.outlook.settled))

    def trace(self, kind, seconds):
        if kind in self.traced:
            return 0.0
        self.traced.add(kind)
        return seconds


# Seconds for one of each, but for an evaluation. The small run goes on for some minutes, the paper's for 23 days.
SMALL = {
    "total": 20_000,
    "prefill": 5000,
    "pretrain": 100,
    "train_every": 500,
    "train_updates": 50,
    "eval_every": 2500,
    "eval_frames": 2000,
    "costs": {"random": 1 / 200, "frame": 1 / 60, "update": 1 / 5, "evaluation": 37.0},
}
PAPER = {
    "total": 5_000_000,
    "prefill": 5000,
    "pretrain": 100,
    "train_every": 1000,
    "train_updates": 100,
    "eval_every": 10_000,
    "eval_frames": 1000,
    "costs": {"random": 1 / 200, "frame": 1 / 30, "update": 4.0, "evaluation": 40.0},
}


@pytest.mark.parametrize(("settings", "stop"), [(SMALL, None), (SMALL, 12_000), (PAPER, 20_000)])
def test_the_time_left_is_right_from_the_end_of_the_first_round_on(settings, stop):
    """stop: the session that is looked at begins there, as a resumed one."""
    session = Session(**settings)
    if stop:
        session.go(stop)
        session.reports, session.rounds = [], []
    if settings is PAPER:
        # The run's end is known from its costs: half a million updates need not be played.
        session.go(session.frames + 50_000)
        costs, updates = settings["costs"], session.due(settings["total"]) - session.updates
        rest = (settings["total"] - session.frames) * costs["frame"] + updates * costs["update"]
        end = session.now + rest + (settings["total"] - session.frames) // 10_000 * costs["evaluation"]
    else:
        end = session.go().now
    # rounds[0] is the pre-training, or where an earlier session stopped: rounds[1] ends the first round after it.
    seen = [(now, left) for now, left, _ in session.reports[session.rounds[1] - 1 :]]
    assert len(seen) > 100
    for now, left in seen:
        assert left == pytest.approx(end - now, rel=0.2, abs=10), f"after {now:.0f} of {end:.0f} s"


@pytest.mark.parametrize("settings", [SMALL, PAPER])
def test_no_time_left_is_given_from_random_frames_or_tracing(settings):
    session = Session(**settings).go(settings["prefill"] + settings["train_every"])
    pretraining = [report for report in session.reports if report[1] is not None]
    # Nothing before the second update; then at least the updates that are due, and less than the truth.
    assert session.reports.index(pretraining[0]) == settings["prefill"] // 100 + 1
    costs, (_, left, settled) = settings["costs"], pretraining[0]
    updates = (session.due(settings["total"]) - 2) * costs["update"]
    truth = updates + (settings["total"] - settings["prefill"]) * costs["frame"]
    assert updates < left < truth
    assert not settled


def test_without_evaluations_of_this_session_one_takes_as_long_as_its_frames():
    outlook = Outlook(total_frames=1000, total_updates=0, eval_every=100, eval_frames=50, evaluated_at=500)
    for time, frames in ((0, 500), (5, 510), (7, 520)):
        outlook.add(Point(time, frames, 10))
    # The second interval: 0.2 s a frame. 480 frames and the evaluations at 600, 700, 800, 900 and 1,000.
    assert outlook.left() == pytest.approx(480 * 0.2 + 5 * 50 * 0.2)
    outlook.evaluated(10)
    assert outlook.left() == pytest.approx(480 * 0.2 + 5 * 3)  # of which one is over and one has begun: 520 to 1,000
    outlook.add(Point(11, 530, 10))
    outlook.evaluated(12)
    # 30 frames in 1 + 2 s; the first evaluation, which is traced, no longer counts: 5 more after 530 frames.
    assert outlook.left() == pytest.approx(470 * 3 / 20 + 5 * 1)


def test_the_time_left_follows_the_last_minutes(monkeypatch):
    monkeypatch.setattr(progress_module, "WINDOW", 100)
    outlook = Outlook(10_000, 0, 0, 0, None)
    time = frames = 0
    for each, count in ((0.1, 300), (0.5, 21)):
        for _ in range(count):
            time, frames = time + 10 * each, frames + 10
            outlook.add(Point(time, frames, 0))
    assert outlook.left() == pytest.approx((10_000 - frames) * 0.5)


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


def test_frames_that_are_collected_beside_updates_take_no_time_of_their_own():
    """Rounds of 100 frames and 10 updates of 2 s, which hide all frames but the last ten, waited for in 5 s."""
    outlook, now = Outlook(1000, 100, 0, 0, None), 0.0
    for number in range(5):
        for update in range(10):
            outlook.add(Point(now := now + 2.0, 100 * number + 9 * update, 10 * number + update + 1))
        outlook.add(Point(now := now + 5.0, 100 * number + 100, 10 * number + 10))
    assert outlook.settled
    assert outlook.left() == pytest.approx(50 * 2.0 + 5 * 5.0, rel=0.1)


def test_warnings_of_the_package_are_lines_of_the_run_and_nobody_elses(caplog):
    said = []
    with progress_module.warnings_said(said.append):
        logging.getLogger("dreamer.replay.episodes").warning("%s is damaged", "a.npz")
        logging.getLogger("dreamer.replay.episodes").info("nothing")
        logging.getLogger("other").warning("theirs")
    assert said == ["a.npz is damaged"]
    assert [record.getMessage() for record in caplog.records] == ["theirs"]
    logging.getLogger("dreamer.replay.episodes").warning("later")
    assert said == ["a.npz is damaged"]
    assert caplog.records[-1].getMessage() == "later"
