"""Hours and disk by hand."""

import pytest

from dreamer.config import load
from dreamer.sweep import estimate, plan

FULL = load(["dmc"])


def test_disk_of_a_run_as_the_guide_has_it():
    """docs/troubleshooting.md: 31.1 GB of episodes for 5 million frames of walker_walk, and 1.4 GB of videos."""
    episodes = 2.5e6 * 12_424
    assert estimate.disk(FULL) == pytest.approx(episodes + 0.3e9 + 500 * 2.8e6, rel=1e-6)
    assert episodes == pytest.approx(31.1e9, rel=0.005)
    kept = FULL.replace(**{"replay.capacity": 500_000})
    assert estimate.disk(FULL) - estimate.disk(kept) == pytest.approx(2e6 * 12_424)
    packed = FULL.replace(**{"replay.compress": True})
    assert estimate.disk(FULL) - estimate.disk(packed) == pytest.approx(episodes * 3 / 4)


def test_hours_of_full_size_by_hand():
    updates = 100 + 5000 * 100
    slow, quick = estimate.hours(FULL), estimate.hours(FULL.replace(xla=True))
    beside = 2.5e6 * 0.0052 + 500 * 500 * 0.02
    assert quick.gpu == pytest.approx((updates * 0.033 + beside) / 3600)
    assert slow.gpu == pytest.approx((updates * 0.13 + beside) / 3600)
    assert 8 < quick.gpu < 12
    assert 400 < slow.cpu < 500
    assert estimate.hours(load(["dmc", "small"])) == (None, None)
    assert estimate.hours(load(["dmc", "planet"])) == (None, None)


def test_what_was_measured_counts_for_runs_with_the_same_settings(tmp_path):
    jobs = plan.plan(
        ["toy"], {"steps": "7200"}, tasks=["dot", "dot_discrete"], settings={"actor.lr": ["1e-4", "2e-4"]}, out=tmp_path
    )
    assert estimate.measured(jobs, [1.0, None, 3.0, None]) == [1.0, None, 1.0, None]
    lines = estimate.to_text(jobs, [1.0, None, 1.0, None]).splitlines()
    assert lines[1].split() == ["0", "actor.lr=1e-4/toy_dot/dreamer/0", "7,200", "0.2", "GB", "1.0", "-", "-"]
    assert lines[-1].split() == ["4", "runs", "28,800", "0.7", "GB", "-", "-", "-"]
