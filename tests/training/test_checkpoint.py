import numpy as np
import pytest
import tensorflow as tf

from dreamer import config
from dreamer.agents.dreamer import Dreamer
from dreamer.training.checkpoint import Checkpoint, CheckpointError
from dreamer.types import ActionSpace, Batch


def tiny_agent(seed):
    c = config.load(["debug"])
    sections = ("model", "actor", "value", "behavior", "optimizer", "explore")
    return Dreamer(ActionSpace(2, False), **{name: c[name] for name in sections}, seed=seed)


def some_batch():
    random = np.random.default_rng(0)
    return Batch(
        image=tf.constant(random.integers(0, 256, (2, 4, 64, 64, 3), np.uint8)),
        action=tf.constant(random.uniform(-1, 1, (2, 4, 2)), tf.float32),
        reward=tf.constant(random.uniform(0, 1, (2, 4)), tf.float32),
        discount=tf.ones([2, 4]),
        is_first=tf.constant(np.arange(4)[None].repeat(2, 0) == 0),
    )


class Draws:
    def __init__(self, text):
        self.text = text

    def state(self):
        return self.text

    def restore(self, text):
        self.text = text


def test_a_restored_agent_goes_on_exactly_like_the_saved_one(tmp_path):
    batch, agent = some_batch(), tiny_agent(0)
    for _ in range(2):
        agent.train(batch)
    Checkpoint(tmp_path, agent.checkpoint(), {"replay": Draws("at 7")}).save()
    expected = [{key: float(value) for key, value in agent.train(batch).items()} for _ in range(2)]

    other, draws = tiny_agent(1), Draws("at 0")
    checkpoint = Checkpoint(tmp_path, other.checkpoint(), {"replay": draws})
    assert checkpoint.exists
    checkpoint.restore()
    assert int(other.updates) == 2
    assert draws.text == "at 7"
    # Equal metrics in the second step too: weights, moments, step counts and random numbers were all restored.
    assert [{key: float(value) for key, value in other.train(batch).items()} for _ in range(2)] == expected


def test_only_the_newest_checkpoint_stays(tmp_path):
    variable = tf.Variable(1.0)
    checkpoint = Checkpoint(tmp_path, {"variable": variable}, {})
    assert not checkpoint.exists
    for value in (2.0, 3.0):
        variable.assign(value)
        checkpoint.save()
    variable.assign(0.0)
    Checkpoint(tmp_path, {"variable": variable}, {}).restore()
    assert variable.numpy() == 3.0
    assert len(list(tmp_path.glob("*.index"))) == 1


def test_a_checkpoint_of_another_model_or_a_damaged_one_is_named(tmp_path):
    Checkpoint(tmp_path, {"variable": tf.Variable([1.0, 2.0])}, {}).save()
    with pytest.raises(CheckpointError, match="cannot be restored .*damaged, or of another model"):
        Checkpoint(tmp_path, {"variable": tf.Variable([1.0, 2.0, 3.0])}, {}).restore()
    with pytest.raises(CheckpointError, match="cannot be restored"):
        Checkpoint(tmp_path, {"something_else": tf.Variable([1.0, 2.0])}, {}).restore()
    (data,) = tmp_path.glob("*.data*")
    data.write_bytes(data.read_bytes()[:3])
    with pytest.raises(CheckpointError, match="cannot be restored"):
        Checkpoint(tmp_path, {"variable": tf.Variable([1.0, 2.0])}, {}).restore()
