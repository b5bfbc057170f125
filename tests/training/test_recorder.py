"""What the record of a run does with files that have gone beyond the state which it goes on from."""

import json

import numpy as np
import pytest

from dreamer import config
from dreamer.run import layout, settings
from dreamer.training.recorder import Recorder


@pytest.fixture
def open_recorder(tmp_path):
    run = config.load(["toy", "debug"], {"seed": "3"})

    def open_one():
        return Recorder(settings.agree(run, tmp_path), tmp_path)

    return open_one


def commit(recorder, frames):
    recorder.state.frames = frames
    recorder.commit(
        score=None,
        draws=None,
        random_draws=None,
        sizes=dict.fromkeys((layout.METRICS, layout.OPEN_LOOP), 0),
        episode={},
        write_weights=lambda prefix: None,
    )


def scores(logdir):
    return json.loads((logdir / "scores.json").read_text())


def test_scores_of_evaluations_after_the_state_are_cut(open_recorder, tmp_path):
    recorder = open_recorder()
    recorder.claim()
    recorder.write_score(100, 1.0)
    commit(recorder, 100)
    recorder.write_score(200, 2.0)  # and a power cut before the next commit
    assert scores(tmp_path)["xs"] == [100, 200]
    again = open_recorder()
    assert scores(tmp_path)["xs"] == [100, 200], "nothing is written before the run is claimed"
    again.claim()
    assert scores(tmp_path) == {"task": "toy_dot", "method": "dreamer", "seed": 3, "xs": [100], "ys": [1.0]}
    assert again.state.scores == [[100, 1.0]]


def test_without_an_evaluation_in_the_state_there_is_no_file_of_scores(open_recorder, tmp_path):
    recorder = open_recorder()
    recorder.claim()
    commit(recorder, 50)
    recorder.write_score(100, 1.0)
    open_recorder().claim()
    assert not (tmp_path / "scores.json").exists()


def test_the_state_comes_back_as_it_was_committed(open_recorder):
    recorder = open_recorder()
    recorder.claim()
    state = recorder.state
    state.stage, state.updates, state.target, state.retried = "collect", 7, 150, 1
    state.unlogged, state.random_returns, state.skipped = [[1.5, 25]], [0.5, 2.5], {"model": 2}
    state.infos = [{"info.x_last": 0.25}, {}]
    state.round = [{"loss": np.float32(0.1)}, {"loss": np.float32(0.2)}]
    commit(recorder, 120)
    again = open_recorder().state
    assert again == state
