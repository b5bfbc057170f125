"""Updates that are skipped because a gradient is not finite: counted over rounds, and an error at the limit."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from dreamer.training import faults
from dreamer.training.recorder import State
from dreamer.types import Batch

AGENT = types.SimpleNamespace(updates=tf.Variable(40))


def batch(reward=1.0):
    lead = (2, 3)
    return Batch(
        {"image": np.zeros((*lead, 64, 64, 3), np.uint8)}, *(np.full(lead, reward, np.float32) for _ in range(3)), None
    )


def remedies(precision="bfloat16", tanh_rewards=False):
    return faults.Remedies({"model": 6e-4, "actor": 8e-5, "value": 8e-5}, precision, tanh_rewards)


def check(state, tmp_path, limit=5, reward=1.0, given=None, **skipped):
    results = {f"{name}_skipped": np.array(values, np.float32) for name, values in skipped.items()}
    results["model_loss"] = np.array([np.nan] * len(next(iter(results.values()))), np.float32)
    drawn = batch(reward)._replace(is_first=np.zeros((2, 3), bool))
    faults.check(results, drawn, AGENT, state, limit, tmp_path, given or remedies())


def test_only_updates_in_a_row_count_also_over_rounds(tmp_path):
    state = State()
    check(state, tmp_path, model=[1, 1, 1, 1, 0, 1], actor=[0, 0, 1, 0, 0, 0])
    assert state.skipped == {"model": 1, "actor": 0}
    check(state, tmp_path, model=[1, 1, 1], actor=[0, 0, 1])
    assert state.skipped == {"model": 4, "actor": 1}
    with pytest.raises(faults.TrainingError, match="of the model was NaN or infinite in 5 updates in a row"):
        check(state, tmp_path, model=[1], actor=[1])


def test_the_first_steps_of_a_loss_scale_do_not_end_a_run(tmp_path):
    """Keras begins at 2**15 and halves it with every step that overflows: far less than the default limit."""
    from dreamer import config

    limit = config.load().loop.max_skipped
    assert limit > 3 * 15
    check(State(), tmp_path, limit=limit, model=[1] * 15 + [0] * 85)


def test_the_error_names_what_was_not_finite_and_keeps_the_batch(tmp_path):
    with pytest.raises(faults.TrainingError) as error:
        check(State(), tmp_path, model=[0] * 6, value=[1] * 6)
    line = str(error.value)
    assert "gradient of the value" in line
    assert "not finite: model_loss" in line
    assert "the same command with --value.lr 3e-05 --resume.allow value.lr goes on from it" in line
    assert "\n" not in line
    with np.load(tmp_path / "faults" / "00000040.npz", allow_pickle=False) as kept:
        assert set(kept.files) == {"image", *Batch._fields} - {"inputs"}


def test_huge_rewards_get_the_advice_that_helps(tmp_path):
    told = (
        r"largest reward of the batch 1e\+20.*with --replay.tanh_rewards true --resume.allow replay.tanh_rewards goes"
    )
    with pytest.raises(faults.TrainingError, match=told):
        check(State(), tmp_path, reward=1e20, model=[1] * 6)
    with pytest.raises(faults.TrainingError, match="with --model.lr 0.0002 --resume.allow model.lr goes on"):
        check(State(), tmp_path, reward=1e20, model=[1] * 6, given=remedies(tanh_rewards=True))


@pytest.mark.parametrize(
    ("precision", "told"),
    [
        ("float16", "with --precision float32 --resume.allow precision goes on from it"),
        ("bfloat16", "--resume.allow actor.lr goes on from it; so does --precision float32 --resume.allow precision"),
        ("float32", "with --actor.lr 3e-05 --resume.allow actor.lr goes on from it"),
    ],
)
def test_the_remedy_depends_on_the_precision(precision, told):
    assert remedies(precision).words("actor").endswith(told)


def test_weights_that_are_not_finite_are_not_written():
    network = keras.layers.Dense(2)
    network.build((None, 1))
    network.kernel.assign([[1.0, np.inf]])
    agent = types.SimpleNamespace(checkpoint=lambda: {"updates": tf.Variable(3), "actor": network})
    with pytest.raises(faults.TrainingError, match="a weight of the actor is NaN or infinite"):
        faults.check_weights(agent, remedies())
    network.kernel.assign([[1.0, 2.0]])
    faults.check_weights(agent, remedies())


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device", "runs/x"), "runs/x: No space left on device"),
        (OSError("cannot write"), "cannot write"),
        (ValueError("two\n  lines"), "two lines"),
        (ValueError(), "ValueError"),
    ],
)
def test_errors_are_one_line(error, line):
    assert faults.one_line(error) == line
