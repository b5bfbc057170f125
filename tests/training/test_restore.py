import numpy as np
import pytest
import tensorflow as tf

from dreamer import config
from dreamer.agents.planet import PlaNet
from dreamer.agents.random import Random
from dreamer.training import restore
from dreamer.training.checkpoint import Checkpoint, CheckpointError
from dreamer.training.loop import updates_due
from dreamer.types import ActionSpace, Batch

SPACE = ActionSpace(2, False)
OBSERVATION = {"image": np.full((64, 64, 3), 90, np.uint8), "is_first": np.bool_(True)}


class Draws:
    """The sampler of the replay, which a checkpoint of a run holds too."""

    def state(self):
        return "at 3"

    def restore(self, text):
        raise AssertionError("the sampler is nothing to an agent that does not train")


@pytest.fixture(scope="module")
def run():
    return config.load(["toy", "debug"])


def save(run, logdir, seed):
    """What the loop leaves behind: an agent of random weights, in the run's newest checkpoint."""
    agent = restore.build_agent(run, SPACE, seed=seed)
    agent.updates.assign(7)
    Checkpoint(logdir / "checkpoints", agent.checkpoint(), {"replay": Draws()}).save()
    return agent


def weights(agent):
    return [variable.numpy() for name in ("world_model", "actor", "value") for variable in getattr(agent, name).weights]


def actions(agent):
    return [agent.act(OBSERVATION, agent.initial(), explore)[0] for explore in (False, True, True)]


def test_the_method_decides_the_agent(run):
    assert isinstance(restore.build_agent(run.replace(method="random"), SPACE, seed=0), Random)
    assert isinstance(restore.build_agent(run.replace(method="planet"), SPACE, seed=0), PlaNet)
    first, same, other = (restore.build_agent(run, SPACE, seed=seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(weights(first), weights(same), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(weights(first), weights(other), strict=True))


def test_xla_compiles_the_training_step(run):
    """That the compiled step trains is seen by the benchmark of tests/benchmarks/test_gpu.py, which runs it."""
    lead = (3, 5)
    batch = Batch(
        image=tf.zeros([*lead, 64, 64, 3], tf.uint8),
        action=tf.zeros([*lead, SPACE.size]),
        reward=tf.zeros(lead),
        discount=tf.ones(lead),
        is_first=tf.zeros(lead, tf.bool),
    )
    for xla in (False, True):
        agent = restore.build_agent(run.replace(xla=xla), SPACE, seed=0)
        assert agent.train.get_concrete_function(batch).function_def.attr["_XlaMustCompile"].b == xla


def test_weights_come_from_the_checkpoint_and_draws_from_the_seed(run, tmp_path):
    saved = save(run, tmp_path, seed=5)
    first, same, other = (restore.restore_agent(run, tmp_path, SPACE, seed=seed) for seed in (0, 0, 1))
    for agent in (first, same, other):
        assert all(np.array_equal(a, b) for a, b in zip(weights(agent), weights(saved), strict=True))
        assert int(agent.updates) == 7
    first, same, other = map(actions, (first, same, other))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_reading_leaves_every_file_alone(run, tmp_path):
    save(run, tmp_path, seed=0)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")}
    restore.restore_agent(run, tmp_path, SPACE, seed=0)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")} == before


def test_a_run_without_a_checkpoint_says_so_and_is_left_alone(run, tmp_path):
    with pytest.raises(restore.RunError, match="has no checkpoint yet"):
        restore.restore_agent(run, tmp_path, SPACE, seed=0)
    assert list(tmp_path.iterdir()) == []
    # Random actions need none.
    assert isinstance(restore.restore_agent(run.replace(method="random"), tmp_path, SPACE, seed=0), Random)


def test_a_checkpoint_that_is_replaced_while_it_is_read_gives_way_to_the_next(run, tmp_path, monkeypatch):
    agent = restore.build_agent(run, SPACE, seed=0)
    training = Checkpoint(tmp_path / "checkpoints", agent.checkpoint(), {"replay": Draws()})
    training.save()
    original, reads = Checkpoint.restore, []

    def replaced_meanwhile(checkpoint):
        reads.append(checkpoint)
        if len(reads) == 1:
            agent.updates.assign(9)
            training.save()  # deletes the one before it
        original(checkpoint)

    monkeypatch.setattr(Checkpoint, "restore", replaced_meanwhile)
    assert int(restore.restore_agent(run, tmp_path, SPACE, seed=0).updates) == 9
    assert len(reads) == 2


def test_a_damaged_checkpoint_is_an_error_and_no_endless_loop(run, tmp_path):
    save(run, tmp_path, seed=0)
    (data,) = (tmp_path / "checkpoints").glob("*.data*")
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot be restored"):
        restore.restore_agent(run, tmp_path, SPACE, seed=0)


def test_a_checkpoint_of_other_networks_is_an_error(run, tmp_path):
    save(run, tmp_path, seed=0)
    with pytest.raises(CheckpointError, match="of another model"):
        restore.restore_agent(run.replace(**{"model.deter": 9}), tmp_path, SPACE, seed=0)


def test_float16_brings_its_loss_scale(run, precision):
    for policy, scaled in (("float32", False), ("mixed_float16", True)):
        precision(policy)
        agent = restore.build_agent(run, SPACE, seed=0)
        loss = tf.constant(1.0)
        assert (float(agent.optimizers["model"].scale(loss)) > 1) == scaled


def test_frames_are_those_at_which_the_updates_were_due():
    schedule = {"prefill": 5000, "pretrain": 100, "train_every": 1000, "train_updates": 10}
    for frames in (5000, 6000, 23000):
        assert restore.frames_of(updates_due(frames, **schedule), **schedule) == frames
    # Interrupted before, in the middle of pre-training, and in the middle of the round at 7,000 frames.
    assert [restore.frames_of(updates, **schedule) for updates in (0, 40, 113)] == [0, 5000, 7000]
