"""The package as a library: agents of runs in programs of others, training from a script, what a run has written."""

import concurrent.futures
import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import dreamer
from dreamer import config, library, seeds
from dreamer.agents.build import build_agent
from dreamer.agents.dreamer import Dreamer
from dreamer.agents.planet import PlaNet
from dreamer.run.commits import CommitError, Commits
from dreamer.run.lock import exclusive
from dreamer.training import inspection, loop
from dreamer.training.restore import write_weights
from dreamer.types import ActionSpace

FORMAT0 = Path(__file__).resolve().parent / "run" / "format0"
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)


def make_run(logdir, **changes):
    """A run by hand: the toy task, and networks of random weights."""
    run = config.load(["toy", "debug"], {"precision": "float32", **changes})
    logdir.mkdir(parents=True, exist_ok=True)
    run.save(logdir / "config.yaml")
    space = ActionSpace(5, True) if run.task == "dot_discrete" else ActionSpace(2, False)
    agent = build_agent(run, space, seed=1)
    if run.method != "random":
        agent.updates.assign(14)
        Commits(logdir / "checkpoints").write(
            {"frames": 320, "score": None}, {}, lambda prefix: write_weights(agent, prefix)
        )
    return logdir


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Log directories by name, made once."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        "dreamer": make_run(folder / "dreamer"),
        "discrete": make_run(folder / "discrete", task="dot_discrete", **{"explore.epsilon_eval": 0.3}),
        "planet": make_run(folder / "planet", method="planet"),
        "random": make_run(folder / "random", method="random"),
        "blind": make_run(folder / "blind", **{"model.observation": "none", "model.discount_head": True}),
    }


@pytest.fixture(scope="module")
def agent(runs):
    return dreamer.load(runs["dreamer"])


def test_importing_the_package_costs_no_tensorflow():
    code = (
        "import dreamer, sys; dreamer.load, dreamer.train, dreamer.episodes, dir(dreamer);"
        "print(sorted({'tensorflow', 'keras', 'tensorflow_probability', 'matplotlib', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
    assert set(dreamer.__all__) <= set(dir(dreamer))
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        dreamer.lode  # noqa: B018


@pytest.mark.parametrize(("name", "kind"), [("dreamer", Dreamer), ("discrete", Dreamer), ("planet", PlaNet)])
def test_actions_are_those_of_an_evaluation(runs, name, kind, monkeypatch, capsys):
    policy = dreamer.load(runs[name], seed=4).session()
    evaluated, original = [], kind.act

    def note(agent, observation, carry, explore):
        action, carry = original(agent, observation, carry, explore)
        evaluated.append(action)
        return action, carry

    monkeypatch.setattr(kind, "act", note)
    inspection.evaluate(config.load_file(runs[name] / "config.yaml"), runs[name], episodes=2, seed=4)
    played = []
    with contextlib.closing(dreamer.environment(runs[name])) as env:
        for episode in range(2):
            step = env.reset(seed=seeds.derive(4, "inspect_episode", episode))
            while not step["is_last"]:
                played.append(policy(step["image"], step["is_first"]))
                step = env.step(played[-1])
    np.testing.assert_array_equal(played, evaluated)
    assert len(np.unique(played, axis=0)) > 1


def test_an_agent_tells_what_it_is(agent, runs):
    assert (agent.frames, agent.updates, agent.best) == (320, 14, False)
    assert agent.action_space == ActionSpace(2, False)
    assert dreamer.load(runs["discrete"]).action_space == ActionSpace(5, True)
    assert agent.config.model.deter == 8
    assert set(agent.networks) == {"world_model", "actor", "value"}
    assert repr(agent) == "<dreamer of toy_dot after 320 frames, 14 updates>"


def test_with_a_seed_all_follows_from_the_arguments(agent):
    first, carry = agent.act(IMAGES[0], seed=3)
    assert first.shape == (2,)
    assert first.dtype == np.float32
    second, _ = agent.act(IMAGES[1], carry, seed=4)
    agent.act(IMAGES[0])  # draws of its own, in between
    np.testing.assert_array_equal(agent.act(IMAGES[0], seed=3)[0], first)
    np.testing.assert_array_equal(agent.act(IMAGES[1], carry, seed=4)[0], second)
    assert not np.array_equal(agent.act(IMAGES[0], seed=5)[0], first)
    assert not np.array_equal(agent.act(IMAGES[0], seed=3, explore=True)[0], first)
    (batched,), carries = agent.act(IMAGES[:1], seed=3)
    np.testing.assert_array_equal(batched, first)
    assert all(isinstance(field, np.ndarray) for field in (*carries.state, carries.action))


def test_a_batch_has_a_memory_for_each_row(agent):
    actions, carry = agent.act(IMAGES)
    assert actions.shape == (3, 2)
    np.testing.assert_array_equal(carry.action, actions)
    _, fresh = agent.act(IMAGES, carry, is_first=[False, True, False], seed=1)
    _, kept = agent.act(IMAGES, carry, seed=1)
    begun = agent.act(IMAGES, seed=1)[1].state.deter
    np.testing.assert_array_equal(fresh.state.deter[1], begun[1])
    np.testing.assert_array_equal(fresh.state.deter[[0, 2]], kept.state.deter[[0, 2]])
    assert not np.array_equal(kept.state.deter[1], begun[1])
    policy = agent.session()
    assert policy(IMAGES).shape == (3, 2)
    with pytest.raises(ValueError, match=r"^images: 1 of them, but the carry is of 3$"):
        policy(IMAGES[0])
    policy.reset()
    assert policy(IMAGES[0]).shape == (2,)


def test_what_a_world_model_expects(agent):
    images, actions = np.stack([IMAGES, IMAGES[::-1]]), np.zeros((2, 3, 2), np.float32)
    future = np.linspace(-1, 1, 20, dtype=np.float32).reshape(2, 5, 2)
    states = agent.observe(images, actions)
    assert states.deter.shape == (2, 3, 8)
    prediction = agent.predict(images, actions, future)
    assert prediction.images.shape == (2, 5, 64, 64, 3)
    assert prediction.images.min() >= 0
    assert prediction.images.max() <= 1
    assert prediction.rewards.shape == (2, 5)
    np.testing.assert_allclose(prediction.discounts, 0.9, rtol=1e-6)
    np.testing.assert_array_equal(agent.reward(prediction.states), prediction.rewards)
    np.testing.assert_array_equal(agent.decode(prediction.states), prediction.images)
    # It follows both from what was seen and from what is done.
    assert not np.array_equal(agent.predict(images[::-1], actions, future).rewards, prediction.rewards)
    assert not np.array_equal(agent.predict(images, actions, -future).rewards, prediction.rewards)
    # One imagined step is the transition by hand.
    last = type(states)(*(field[:, -1] for field in states))
    deter = agent.networks["world_model"].rssm.transition(last, future[:, 0]).numpy()
    np.testing.assert_allclose(agent.imagine(last, future).states.deter[:, 0], deter, rtol=1e-5, atol=1e-6)
    assert agent.value(states).shape == (2, 3)
    assert agent.embed(IMAGES).shape == (3, 64)
    # The deterministic state of the first step is the same whichever way it is computed.
    carried = agent.act(IMAGES[0])[1].state.deter[0]
    np.testing.assert_allclose(states.deter[0, 0], carried, rtol=1e-5, atol=1e-6)


def test_what_a_run_lacks_is_refused_or_none(runs, agent, tmp_path):
    with pytest.raises(ValueError, match=r"has no value network: PlaNet plans"):
        dreamer.load(runs["planet"]).value(agent.act(IMAGES)[1].state)
    with pytest.raises(ValueError, match=r"is a run of random actions: there is no agent in it$"):
        dreamer.load(runs["random"])
    blind = dreamer.load(runs["blind"])
    zeros = np.zeros((1, 1, 2), np.float32)
    prediction = blind.predict(IMAGES[None, :1], zeros, zeros)
    assert prediction.images is None
    assert 0 < prediction.discounts[0, 0] < 1
    with pytest.raises(ValueError, match=r"nowhere does not exist: expected the log directory of a run$"):
        dreamer.load(tmp_path / "nowhere")
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "config.yaml").touch()
    with pytest.raises(ValueError, match=r"so it is no run: below it there are .*a$"):
        dreamer.episodes(tmp_path / "runs")
    config.load(["toy"]).save(tmp_path / "runs" / "a" / "config.yaml")
    with pytest.raises(ValueError, match="has no committed state yet"):
        dreamer.load(tmp_path / "runs" / "a")


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda agent: agent.act(IMAGES[0] / 255), "images: expected uint8 .*, got float64"),
        (lambda agent: agent.act(IMAGES[0, :32]), r"got uint8 \[32, 64, 3\]"),
        (lambda agent: agent.act(IMAGES[None]), r"\[64, 64, 3\] or \[B, 64, 64, 3\], got"),
        (lambda agent: agent.observe(IMAGES, np.zeros((3, 2))), r"\[B, T, 64, 64, 3\], got"),
        (
            lambda agent: agent.observe(IMAGES[None], np.zeros((1, 3, 4))),
            r"expected the shape \[1, 3, 2\], got \[1, 3, 4\]",
        ),
        (lambda agent: agent.imagine(agent.act(IMAGES)[1].state, np.zeros((2, 5, 2))), r"shape \[3, any, 2\], got"),
        (lambda agent: agent.act(IMAGES[:0]), r"^images: expected at least one, got none, \[0, 64, 64, 3\]$"),
        (lambda agent: agent.observe(IMAGES[None, :0], np.zeros((1, 0, 2))), "^images: expected at least one"),
        (lambda agent: agent.act(IMAGES, 3), "^carry: expected what act has returned, or None, got int$"),
        (
            lambda agent: agent.imagine(agent.act(IMAGES)[1], np.zeros((3, 5, 2))),
            "^state: expected a State, .*got Carry$",
        ),
        (lambda agent: agent.reward(IMAGES), "^state: expected a State, .*got ndarray$"),
        (
            lambda agent: agent.imagine(agent.observe(IMAGES[None], np.zeros((1, 3, 2))), np.zeros((1, 5, 2))),
            r"^state: expected one for each row, deter \[B, D\], got deter \[1, 3, 8\]$",
        ),
    ],
)
def test_bad_arguments_get_one_line(agent, call, line):
    with pytest.raises(ValueError, match=line) as error:
        call(agent)
    assert "\n" not in str(error.value)


def test_another_precision_is_that_of_the_agent_alone(runs):
    import keras

    before = keras.config.dtype_policy().name
    agent = dreamer.load(runs["dreamer"], precision="bfloat16")
    assert keras.config.dtype_policy().name == before == "float32"
    assert agent.networks["world_model"].encoder.compute_dtype == "bfloat16"
    assert agent.act(IMAGES)[0].dtype == np.float32
    assert agent.embed(IMAGES).dtype == np.float32


def test_weights_of_other_settings_are_a_fault(runs, tmp_path):
    make_run(tmp_path)
    config.load(["toy", "debug"], {"actor.layers": 2}).save(tmp_path / "config.yaml")
    with pytest.raises(CommitError, match="does not fit the networks of this run's settings"):
        dreamer.load(tmp_path)


def test_threads_may_begin_together(capfd):
    """Each keeps what TensorFlow prints from the standard error, which belongs to all of them."""
    before = os.fstat(2)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert len(set(map(tuple, pool.map(lambda _: library.start.load_tensorflow(), range(64))))) == 1
    assert os.fstat(2) == before


def test_a_daemon_without_streams():
    program = "import dreamer.start as start\nassert start.load_tensorflow() == []"
    line = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(program)} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", line], env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}).returncode == 0


@pytest.mark.parametrize("how", ["functions", "strategy"])
def test_a_tensorflow_with_which_nothing_works_is_told(how, tmp_path):
    with contextlib.ExitStack() as undone:
        if how == "functions":
            tf.config.run_functions_eagerly(True)
            undone.callback(tf.config.run_functions_eagerly, False)
        else:
            undone.enter_context(tf.distribute.MirroredStrategy(["CPU:0"]).scope())
        with pytest.raises(ValueError, match="with which dreamer cannot work"):
            dreamer.train(["toy", "debug"], tmp_path / "run", steps=150)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"] == []


def test_a_log_directory_that_tensorflow_cannot_name(tmp_path):
    with pytest.raises(ValueError, match="TensorFlow needs a name in UTF-8"):
        dreamer.train(["toy", "debug"], os.fsdecode(os.fsencode(tmp_path) + b"/\xff"), steps=150)
    assert list(tmp_path.iterdir()) == []


def test_training_tells_of_hardware_that_is_not_used(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(library.start, "note_on_devices", lambda: "a GPU is hidden")
    monkeypatch.setattr(loop, "work", lambda *arguments, **options: "done")
    dreamer.train(["toy", "debug"], tmp_path, precision="float32")
    assert capsys.readouterr().out.splitlines() == ["a GPU is hidden", "precision float32: as asked for", "done"]


def test_training_is_that_of_the_command(tmp_path, capsys):
    keys = {"seed": 3, "actor.lr": 1e-3, "precision": "float32"}
    ours = dreamer.train(["toy", "debug"], tmp_path / "ours", keys, steps=150)
    assert ours == tmp_path / "ours"
    assert f"Finished at 150 frames in {ours}." in capsys.readouterr().out
    words = ["--configs", "toy", "debug", "--steps", "150", "--logdir", str(tmp_path / "theirs")]
    words += [word for key, value in keys.items() for word in (f"--{key}", str(value))]
    done = subprocess.run([sys.executable, "-m", "dreamer", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    mine, theirs = (
        {path.name.partition(".tfevents")[0] for path in (tmp_path / side).iterdir()} for side in ("ours", "theirs")
    )
    assert mine == theirs
    for name in ("config.yaml", "run.json", "random.json"):
        assert (ours / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes(), name
    rows, others = dreamer.scores(ours), dreamer.scores([tmp_path / "theirs"])
    assert [row["frames"] for row in rows] == [100, 150]
    assert [row.pop("path") for row in rows] == [str(ours / "scores.json")] * 2
    assert [row["actor.lr"] for row in dreamer.scores(ours, ["actor.lr"])] == [1e-3] * 2
    with pytest.raises(ValueError, match=r"^unknown key --deter"):
        dreamer.scores(ours, ["deter"])
    for row, other in zip(rows, others, strict=True):
        assert row["return"] == pytest.approx(other["return"], abs=1e-3)
        assert row.keys() == {"task", "method", "seed", "frames", "return"}
    for mine, theirs in zip(dreamer.episodes(ours), dreamer.episodes(tmp_path / "theirs"), strict=True):
        np.testing.assert_allclose(mine["action"], theirs["action"], atol=1e-4)
    # The same call goes on, and other settings are refused with the line of the command.
    assert dreamer.train(["toy", "debug"], ours, keys, steps=150) == ours
    assert "is finished at 150 frames" in capsys.readouterr().out
    assert dreamer.train(["toy", "debug"], ours, keys | {"precision": "auto"}, steps=150) == ours
    assert "precision float32: that of the run" in capsys.readouterr().out.splitlines()
    with pytest.raises(ValueError, match="holds a run with other settings"):
        dreamer.train(["toy", "debug"], ours, keys | {"seed": 4}, steps=150)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"configs": "tyo"}, "unknown overlay 'tyo': did you mean toy"),
        ({"actor_lr": 1}, r"unknown key actor_lr \(keys of dreamer.train\): did you mean .*actor.lr"),
        ({"keys": {"actor.lrr": 1}}, "unknown key actor.lrr .*: did you mean actor.lr"),
        ({"steps": -1}, "^steps: expected a whole number"),
        ({"configs": "toy", "task": "dott"}, 'unknown task of toy "dott"'),
        ({"configs": ["toy", "debug"], "task": "dot_discrete", "method": "planet"}, "plans continuous actions"),
        ({"env": lambda: None}, "env: expected a class or function at the top of a module"),
        ({"env": 3}, "got an object of type int"),
    ],
)
def test_what_cannot_be_trained_is_told_in_one_line(tmp_path, arguments, line):
    with pytest.raises(ValueError, match=line) as error:
        dreamer.train(logdir=tmp_path / "run", **arguments)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_faults_are_exceptions(tmp_path):
    with exclusive(tmp_path), pytest.raises(BlockingIOError, match="is in use by another process"):
        dreamer.train(["toy", "debug"], tmp_path, method="random")
    make_run(tmp_path / "damaged")
    for path in (tmp_path / "damaged" / "checkpoints").glob("*/weights.data*"):
        path.write_bytes(b"")
    with pytest.raises(RuntimeError, match="its checksum is not the one that was written, and no state") as error:
        dreamer.train(["toy", "debug"], tmp_path / "damaged", precision="float32")
    assert "\n" not in str(error.value)


SCRIPT = """
import dreamer
from gym_examples import Counting

class Mine(Counting):
    pass

for number, env in enumerate((Counting, Mine)):
    run = dreamer.train("debug", f"run{number}", env=env, method="random")
    with_env = dreamer.environment(run)
    print(type(with_env).__name__, with_env.reset(0)["image"].shape, dreamer.metrics(run)[0]["step"])
    with_env.close()
"""


def test_an_environment_of_ones_own(tmp_path):
    """Of a module, which any command finds again, and of the script itself, which no other process does."""
    shutil.copy(Path(__file__).parent / "envs" / "gym_examples.py", tmp_path)
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("Checked")] == ["Checked (64, 64, 3) 102"] * 2
    saved = [config.load_file(tmp_path / f"run{number}" / "config.yaml") for number in (0, 1)]
    assert [run.task for run in saved] == ["gym_examples:Counting", "__main__:Mine"]
    assert [run.env.worker for run in saved] == [True, False]
    assert all(run.suite == "gym" and run.model.discount_head for run in saved)
    for number, code in ((0, 0), (1, 2)):
        words = [sys.executable, "-m", "dreamer", "eval", "--logdir", f"run{number}", "--episodes", "1"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
    assert done.stderr.startswith("dreamer: the environment Mine of this run was defined in a script or a notebook")


def test_what_a_run_has_written_as_plain_rows(tmp_path):
    episodes = list(dreamer.episodes(FORMAT0))
    assert [len(episode["reward"]) for episode in episodes] == [26] * 6
    assert episodes[0]["image"].shape == (26, 64, 64, 3)
    lines = [json.loads(line) for line in (FORMAT0 / "metrics.jsonl").read_text().splitlines()]
    assert dreamer.metrics(FORMAT0) == lines
    scores = json.loads((FORMAT0 / "scores.json").read_text())
    rows = dreamer.scores(FORMAT0)
    assert [(row["frames"], row["return"]) for row in rows] == list(zip(scores["xs"], scores["ys"], strict=True))
    assert {row["task"] for row in rows} == {"toy_dot"}
    # Damage costs no more than itself.
    make_run(tmp_path, method="random")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nhalf')
    (tmp_path / "episodes").mkdir()
    (tmp_path / "episodes" / "0000000000-26.npz").write_bytes(b"no episode")
    with pytest.warns(UserWarning, match=r"metrics.jsonl: line 2 is not"):
        assert dreamer.metrics(tmp_path) == [{"step": 1}]
    with pytest.warns(UserWarning, match=r"0000000000-26.npz cannot be read as an episode.*: left out"):
        assert list(dreamer.episodes(tmp_path)) == []
    with pytest.warns(UserWarning, match="no scores.json in this directory"):
        assert dreamer.scores(tmp_path) == []


def test_keys_may_be_numbers_of_numpy_and_overlays_paths(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("method: random\n")
    run = dreamer.train(
        ["toy", "debug", mine], tmp_path / "run", steps=np.int64(60), keys={"env.sticky": np.float32(0.5)}
    )
    values = config.load_file(run / "config.yaml")
    assert (values.method, values.steps, values.env.sticky) == ("random", 60, 0.5)
    # One key that may change is a word, as one overlay is.
    with pytest.raises(ValueError, match="--resume.allow seed: this key cannot change"):
        dreamer.train(["toy", "debug", mine], run, allow="seed", steps=60)


def test_a_run_of_an_agent_that_this_release_does_not_have(tmp_path):
    config.load(["toy", "debug"]).save(tmp_path / "config.yaml")
    text = (tmp_path / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("method: dreamer", "method: nope"))
    for call in (dreamer.load, dreamer.metrics, lambda run: dreamer.export(run, tmp_path / "policy")):
        with pytest.raises(ValueError, match=r"^--method: expected one of dreamer \| planet \| random, got 'nope'$"):
            call(tmp_path)
