import numpy as np
import pytest
import tensorflow as tf

from dreamer import config
from dreamer.agents.build import build_agent
from dreamer.agents.planet import PlaNet
from dreamer.agents.random import Random
from dreamer.run.commits import CommitError, Commits
from dreamer.training import restore
from dreamer.types import ActionSpace, Batch

SPACE = ActionSpace(2, False)
OBSERVATION = {"image": np.full((64, 64, 3), 90, np.uint8), "is_first": np.bool_(True)}


@pytest.fixture(scope="module")
def run():
    return config.load(["toy", "debug"])


def commit(agent, logdir, score=None):
    state = {"frames": 50 * int(agent.updates), "score": score}
    return Commits(logdir / "checkpoints").write(state, {}, lambda prefix: restore.write_weights(agent, prefix))


def save(run, logdir, seed, updates=7, score=None):
    """What the loop leaves behind: an agent of random weights, in the run's newest committed state."""
    agent = build_agent(run, SPACE, seed=seed)
    agent.updates.assign(updates)
    commit(agent, logdir, score)
    return agent


def weights(agent):
    return [variable.numpy() for name in ("world_model", "actor", "value") for variable in getattr(agent, name).weights]


def actions(agent):
    return [agent.act(OBSERVATION, agent.initial(), explore)[0] for explore in (False, True, True)]


def test_the_method_decides_the_agent(run):
    assert isinstance(build_agent(run.replace(method="random"), SPACE, seed=0), Random)
    assert isinstance(build_agent(run.replace(method="planet"), SPACE, seed=0), PlaNet)
    first, same, other = (build_agent(run, SPACE, seed=seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(weights(first), weights(same), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(weights(first), weights(other), strict=True))


def test_xla_compiles_the_training_step(run):
    """That the compiled step trains is seen by the benchmark of tests/benchmarks/test_gpu.py, which runs it."""
    lead = (3, 5)
    batch = Batch(
        inputs={"image": tf.zeros([*lead, 64, 64, 3], tf.uint8)},
        action=tf.zeros([*lead, SPACE.size]),
        reward=tf.zeros(lead),
        discount=tf.ones(lead),
        is_first=tf.zeros(lead, tf.bool),
    )
    for xla in (False, True):
        agent = build_agent(run.replace(xla=xla), SPACE, seed=0)
        assert agent.train.get_concrete_function(batch).function_def.attr["_XlaMustCompile"].b == xla


def test_weights_come_from_the_checkpoint_and_draws_from_the_seed(run, tmp_path):
    saved = save(run, tmp_path, seed=5)
    restored = [restore.restore_agent(run, tmp_path, SPACE, seed=seed) for seed in (0, 0, 1)]
    assert [(frames, best) for _, frames, best in restored] == [(350, False)] * 3
    first, same, other = (agent for agent, _, _ in restored)
    for agent in (first, same, other):
        assert all(np.array_equal(a, b) for a, b in zip(weights(agent), weights(saved), strict=True))
        assert int(agent.updates) == 7
    first, same, other = map(actions, (first, same, other))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("method", ["dreamer", "planet"])
@pytest.mark.parametrize(("before", "after"), [("mixed_float16", "float32"), ("float32", "mixed_float16")])
def test_a_run_goes_on_in_another_precision(run, tmp_path, precision, method, before, after):
    """In float16 the optimisers have a loss scale around them, which the checkpoint has then, too."""
    run = run.replace(method=method)
    precision(before)
    saved = build_agent(run, SPACE, seed=1)
    for optimizer in saved.optimizers.values():
        scaled = hasattr(optimizer.adam, "inner_optimizer")
        adam = optimizer.adam.inner_optimizer if scaled else optimizer.adam
        assert scaled == (before == "mixed_float16")
        for number, variable in enumerate(adam.variables):
            variable.assign(tf.cast(tf.fill(variable.shape, number + 3), variable.dtype))
    saved.updates.assign(7)
    restore.write_weights(saved, tmp_path / "weights")
    precision(after)
    agent = build_agent(run, SPACE, seed=2)
    restore.read_weights(agent, tmp_path / "weights")
    assert int(agent.updates) == 7
    for name, optimizer in agent.optimizers.items():
        theirs = saved.optimizers[name]
        for variable, other in zip(optimizer._variables, theirs._variables, strict=True):
            np.testing.assert_array_equal(variable, other)
        ours, before_it = (getattr(of.adam, "inner_optimizer", of.adam) for of in (optimizer, theirs))
        for variable, other in zip(ours.variables, before_it.variables, strict=True):
            rate = variable is ours.learning_rate
            assert variable.shape == other.shape
            assert rate or np.array_equal(variable, other)
        if after == "mixed_float16":
            assert float(optimizer.adam.dynamic_scale) == 2.0**15


def test_reading_leaves_every_file_alone(run, tmp_path):
    save(run, tmp_path, seed=0)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")}
    restore.restore_agent(run, tmp_path, SPACE, seed=0)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")} == before


def test_a_run_without_a_checkpoint_says_so_and_is_left_alone(run, tmp_path):
    with pytest.raises(restore.RunError, match="has no committed state yet"):
        restore.restore_agent(run, tmp_path, SPACE, seed=0)
    assert list(tmp_path.iterdir()) == []
    # Random actions need none.
    assert isinstance(restore.restore_agent(run.replace(method="random"), tmp_path, SPACE, seed=0)[0], Random)


def test_a_state_that_is_replaced_while_it_is_read_gives_way_to_the_next(run, tmp_path, monkeypatch):
    agent = save(run, tmp_path, seed=0)
    original, reads = Commits.read, []

    def replaced_meanwhile(commits, folder):
        reads.append(folder.name)
        if len(reads) == 1:
            for updates in (8, 9, 10):  # the second of them takes the first state away
                agent.updates.assign(updates)
                commit(agent, tmp_path)
        return original(commits, folder)

    monkeypatch.setattr(Commits, "read", replaced_meanwhile)
    assert int(restore.restore_agent(run, tmp_path, SPACE, seed=0)[0].updates) == 10
    assert reads == ["000001", "000004"]


def test_a_damaged_state_is_an_error_and_no_endless_loop(run, tmp_path):
    save(run, tmp_path, seed=0)
    (data,) = (tmp_path / "checkpoints").glob("*/weights.data*")
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(CommitError, match="checksum"):
        restore.restore_agent(run, tmp_path, SPACE, seed=0)


def test_the_best_state_by_evaluation_may_be_asked_for(run, tmp_path):
    for updates, score in ((1, 5.0), (2, 9.0), (3, 1.0), (4, None)):
        save(run, tmp_path, seed=0, updates=updates, score=score)
    for best, expected in ((False, 4), (True, 2)):
        restored = restore.restore_agent(run, tmp_path, SPACE, seed=0, best=best)
        assert (int(restored.agent.updates), restored.frames, restored.best) == (expected, 50 * expected, best)
    (data,) = (tmp_path / "checkpoints" / "000002").glob("weights.data*")
    data.write_bytes(b"")
    said = []
    restored = restore.restore_agent(run, tmp_path, SPACE, seed=0, best=True, report=said.append)
    assert (int(restored.agent.updates), restored.frames, restored.best) == (4, 200, False)
    assert len(said) == 1


@pytest.mark.parametrize("changes", [{"model.deter": 9}, {"method": "planet"}, {"model.discount_head": True}])
def test_a_state_of_other_networks_is_an_error(run, tmp_path, changes):
    save(run, tmp_path, seed=0)
    agent = build_agent(run.replace(**changes), SPACE, seed=0)
    with pytest.raises(CommitError, match="does not fit the networks of this run's settings"):
        restore.read_weights(agent, tmp_path / "checkpoints" / "000001" / "weights")


@pytest.mark.parametrize("name", ["a[1]", "a\\b", "[a", "*?{}"])
def test_names_that_are_patterns_to_tensorflow(run, tmp_path, name):
    logdir = tmp_path / name / "run"
    saved = save(run, logdir, seed=3)
    (tmp_path / "a1" / "run").mkdir(parents=True)  # which the pattern a[1] fits
    restored = restore.restore_agent(run, logdir, SPACE, seed=0).agent
    assert all(np.array_equal(a, b) for a, b in zip(weights(saved), weights(restored), strict=True))
    assert restore.restore_agent(run, logdir, seed=0).agent.action_space == SPACE
    other = build_agent(run, SPACE, seed=1)
    restore.read_weights(other, next((logdir / "checkpoints").glob("0*")) / "weights")
    assert int(other.updates) == 7


def test_a_restored_agent_goes_on_exactly_like_the_saved_one(run, tmp_path):
    generator = np.random.default_rng(0)
    batch = Batch(
        inputs={"image": tf.constant(generator.integers(0, 256, (2, 4, 64, 64, 3), np.uint8))},
        action=tf.constant(generator.uniform(-1, 1, (2, 4, 2)), tf.float32),
        reward=tf.constant(generator.uniform(0, 1, (2, 4)), tf.float32),
        discount=tf.ones([2, 4]),
        is_first=tf.constant(np.arange(4)[None].repeat(2, 0) == 0),
    )
    agent = build_agent(run, SPACE, seed=0)
    for _ in range(2):
        agent.train(batch)
    restore.write_weights(agent, tmp_path / "weights")
    expected = [{key: float(value) for key, value in agent.train(batch).items()} for _ in range(2)]
    other = build_agent(run, SPACE, seed=1)
    restore.read_weights(other, tmp_path / "weights")
    assert int(other.updates) == 2
    # Equal metrics in the second step too: weights, moments, step counts and random numbers were all restored.
    assert [{key: float(value) for key, value in other.train(batch).items()} for _ in range(2)] == expected


def test_the_learning_rate_is_that_of_the_config_and_not_of_the_state(run, tmp_path):
    save(run, tmp_path, seed=0)
    agent = build_agent(run.replace(**{"actor.lr": 3e-5}), SPACE, seed=0)
    restore.read_weights(agent, tmp_path / "checkpoints" / "000001" / "weights")
    rates = {name: float(optimizer.adam.learning_rate) for name, optimizer in agent.optimizers.items()}
    assert rates == pytest.approx({"model": run.model.lr, "actor": 3e-5, "value": run.value.lr})


def test_a_float16_run_is_inspected_in_float32(run, tmp_path, precision, capfd):
    """It has a loss scale in its optimisers, which acting does not need."""
    precision("mixed_float16")
    saved = save(run, tmp_path, seed=3)
    precision("float32")
    agent, *_ = restore.restore_agent(run, tmp_path, SPACE, seed=0)
    assert all(np.array_equal(a, b) for a, b in zip(weights(agent), weights(saved), strict=True))
    assert capfd.readouterr() == ("", "")


def test_float16_brings_its_loss_scale(run, precision):
    for policy, scaled in (("float32", False), ("mixed_float16", True)):
        precision(policy)
        agent = build_agent(run, SPACE, seed=0)
        loss = tf.constant(1.0)
        assert (float(agent.optimizers["model"].scale(loss)) > 1) == scaled


def test_several_choices_are_known_from_the_weights_and_must_be_the_same(run, tmp_path):
    agent = build_agent(run, ActionSpace(5, True, (2, 3)), seed=0)
    commit(agent, tmp_path)
    assert restore.restore_agent(run, tmp_path, seed=0).agent.action_space == agent.action_space
    for groups in ((3, 2), (2, 2, 1), ()):
        other = build_agent(run, ActionSpace(5, True, groups), seed=0)
        with pytest.raises(CommitError, match="does not fit the networks of this run's settings"):
            restore.read_weights(other, tmp_path / "checkpoints" / "000001" / "weights")
