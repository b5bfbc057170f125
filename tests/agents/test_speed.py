"""What `dreamer doctor` says of the time that an update takes."""

import pytest

from dreamer import config
from dreamer.agents import speed


def test_an_update_takes_its_arithmetic_or_the_start_of_its_kernels():
    assert speed.Speed(images=2.0, imagination=1.0, launch=1e-6).update == 3.0
    assert speed.Speed(images=0.01, imagination=0.01, launch=1e-5).update == pytest.approx(speed.KERNELS * 1e-5)


def test_parts_are_scaled_to_all_rows_and_steps(monkeypatch):
    run = config.load(["debug"], {"replay.batch": 10, "replay.length": 10, "behavior.horizon": 7})
    compiled = []

    def seconds(function, budget):
        compiled.append(function())
        return 0.5

    monkeypatch.setattr(speed, "_seconds", seconds)
    seen = speed.measure(run)
    assert seen == (0.5 * 100 / 4, 0.5 * 100 / 20 * 7, 0.5 / 200)
    assert all(gradient is not None for part in compiled[:2] for gradient in part)
