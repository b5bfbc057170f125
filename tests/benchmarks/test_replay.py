"""The benchmark of the replay."""

import numpy as np
import pytest

from benchmarks import replay


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    directory = tmp_path_factory.mktemp("episodes")
    assert replay.write_episodes(directory / "plain", 2, 52, compress=False) > 2 * 52 * 64 * 64 * 3
    assert replay.write_episodes(directory / "compressed", 2, 52, compress=True) > 0
    return directory


@pytest.mark.parametrize(("way", "kind"), list(zip(replay.WAYS, ("plain", "compressed", "compressed"), strict=True)))
def test_every_way_starts_and_delivers(episodes, way, kind):
    startup, take, count = replay.WAYS[way](episodes / kind)
    assert startup > 0
    assert count >= 1
    take(2)


def test_windows_of_the_alternatives_have_the_shapes_of_ours(episodes):
    with np.load(next((episodes / "compressed").glob("*.npz"))) as arrays:
        episode = {key: arrays[key] for key in arrays.files}
    windows = replay.stack_windows(np.random.default_rng(0), lambda: episode)
    assert windows["image"].shape == (replay.BATCH, replay.LENGTH, 64, 64, 3)
    assert windows["action"].shape == (replay.BATCH, replay.LENGTH, 6)


def test_figures_follow_from_the_measurements(monkeypatch, tmp_path, capsys):
    speeds = {"ours": 120.0, "decode per window": 5.0, "keep in memory": 150.0}
    measured = []

    def child(way, directory):
        measured.append((way, len(list(directory.glob("*.npz")))))
        return {"startup": 0.5, "speed": speeds[way], "cpu": 0.01, "peak": 8e8 + 1e7 * len(measured)}

    monkeypatch.setattr(replay, "measure_in_child", child)
    monkeypatch.setattr(replay, "ALTERNATIVE_EPISODES", 2)
    replay.compare(tmp_path, [1, 3], steps=50)
    assert measured == [("decode per window", 2), ("keep in memory", 2), ("ours", 1), ("ours", 3)]
    lines = capsys.readouterr().out.splitlines()
    assert "memory with 3 episodes / with 1: 1.012x" in lines
    assert lines[-1] == "batches of 50x50 from episodes of 50 steps, ours / decode per window: 24.0x"


def test_short_episodes_are_set_against_long_ones(monkeypatch, tmp_path, capsys):
    measured = []

    def child(way, directory):
        kind, files = directory.name, len(list(directory.glob("*.npz")))
        measured.append((way, kind, files))
        peak = {"short": 8e8, "long": 1e9}[kind]
        return {"startup": 0.25, "speed": {"short": 50.0, "long": 80.0}[kind], "cpu": 0.01, "peak": peak}

    monkeypatch.setattr(replay, "measure_in_child", child)
    replay.compare_short(tmp_path, long_steps=50, episodes=100)
    assert measured == [("ours", "short", 100), ("ours", "long", 3)] * replay.TURNS
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4:] == [
        "start-up with 100 episodes: 0.25 s",
        "memory, short / long: 0.80x",
        "CPU time of a batch, short / long: 1.00x",
        "time of a batch, short / long: 1.60x",
    ]
