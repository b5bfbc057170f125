"""The exported policy in a process that has TensorFlow and nothing of ours."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import dreamer
from dreamer import config
from dreamer.agents.build import build_agent
from dreamer.cli.main import main
from dreamer.envs import toy
from dreamer.run.commits import Commits
from dreamer.training.restore import write_weights
from dreamer.types import ActionSpace, Space, State

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), np.uint8)
# Runs a script with every package refused that an export must not need.
ALONE = """
import runpy, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("dreamer", "tensorflow_probability", "tf_keras"):
            raise ModuleNotFoundError(f"refused: {name}")

sys.meta_path.insert(0, Refuse())
try:
    import dreamer
except ModuleNotFoundError:
    runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


SPACES = {"dot": ActionSpace(2, False), "dot_discrete": ActionSpace(5, True), "pad": ActionSpace(5, True, (2, 3))}
FILES = ("saved_model.pb", "variables", "signature.json", "example.py")


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """export(task, method) -> log directory and export, made once each."""
    made = {}

    def make(task="dot", method="dreamer", **changes):
        if (task, method) not in made:
            folder = tmp_path_factory.mktemp("run")
            # A run in bfloat16: an export is in float32, and so is not asked what its machine can do.
            task_of_toy = {"task": task if task in toy.TASKS else "dot_discrete"}
            run = config.load(["toy", "debug"], {**task_of_toy, "method": method, "precision": "bfloat16"})
            run.save(folder / "config.yaml")
            agent = build_agent(run, SPACES[task], seed=1)
            state = {"frames": 320, "score": None}
            Commits(folder / "checkpoints").write(state, {}, lambda prefix: write_weights(agent, prefix))
            dreamer.export(folder, folder / "export", with_model=True)
            made[task, method] = folder
        return made[task, method], made[task, method] / "export"

    return make


@pytest.mark.parametrize(("task", "method"), [(task, "dreamer") for task in SPACES] + [("dot", "planet")])
def test_the_example_acts_as_the_agent_does_without_this_package(export, tmp_path, task, method):
    run, out = export(task, method)
    np.savez(tmp_path / "episode.npz", image=IMAGES)
    command = [sys.executable, "-c", ALONE, out / "example.py", tmp_path / "episode.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    alone = [[float(word) for word in line.split()] for line in done.stdout.splitlines()]
    agent, carry, expected = dreamer.load(run, precision="float32"), None, []
    for step, image in enumerate(IMAGES):
        action, carry = agent.act(image, carry, seed=step)
        expected.append(action)
    np.testing.assert_allclose(alone, expected, atol=1e-5)
    assert len(np.unique(expected, axis=0)) > 1
    if groups := SPACES[task].groups:
        assert agent.action_space == SPACES[task]
        parts = np.split(np.array(alone), np.cumsum(groups)[:-1], -1)
        assert all((part.sum(-1) == 1).all() for part in parts)


def test_rows_of_a_batch_begin_episodes_on_their_own(export):
    run, out = export()
    agent, act = dreamer.load(run, precision="float32"), tf.saved_model.load(str(out)).signatures["explore"]
    _, carry = agent.act(IMAGES[:2])
    first = np.array([False, True])
    expected, after = agent.act(IMAGES[:2], carry, is_first=first, explore=True, seed=7)
    state = {"stoch": carry.state.stoch, "deter": carry.state.deter, "action": carry.action}
    state = {name: tf.constant(value) for name, value in state.items()}
    result = act(image=tf.constant(IMAGES[:2]), is_first=tf.constant(first), seed=tf.constant(7, tf.int64), **state)
    np.testing.assert_allclose(result["action"], expected, atol=1e-5)
    np.testing.assert_allclose(result["deter"], after.state.deter, atol=1e-5)


def test_what_it_imagines_is_what_the_agent_imagines(export):
    run, out = export()
    agent, imagine = dreamer.load(run, precision="float32"), tf.saved_model.load(str(out)).signatures["imagine"]
    state = agent.act(IMAGES[:2])[1].state
    actions = np.random.default_rng(1).uniform(-1, 1, (2, 4, 2)).astype(np.float32)
    expected = agent.imagine(State(*state), actions, seed=5)
    inputs = {"stoch": state.stoch, "deter": state.deter, "actions": actions, "seed": np.int64(5)}
    result = imagine(**{name: tf.constant(value) for name, value in inputs.items()})
    for name in ("images", "rewards", "discounts"):
        np.testing.assert_allclose(result[name], getattr(expected, name), atol=1e-5)


def test_the_signature_is_that_of_the_functions(export):
    _, out = export()
    functions = json.loads((out / "signature.json").read_text())["functions"]
    loaded = tf.saved_model.load(str(out)).signatures
    assert set(functions) == set(loaded) == {"act", "explore", "imagine"}
    for name, described in functions.items():
        specs = loaded[name].structured_input_signature[1]
        inputs = {entry["name"]: (entry["shape"], entry["dtype"]) for entry in described["inputs"]}
        assert inputs == {key: (spec.shape.as_list(), spec.dtype.name) for key, spec in specs.items()}
        outputs = {entry["name"]: (entry["shape"], entry["dtype"]) for entry in described["outputs"]}
        specs = loaded[name].structured_outputs
        assert outputs == {key: (spec.shape.as_list(), spec.dtype.name) for key, spec in specs.items()}
        assert all(entry["meaning"] for entry in described["inputs"] + described["outputs"])


def test_the_command_and_what_it_does_not_overwrite(export, tmp_path, capsys):
    run, _ = export()
    for _ in range(2):  # an earlier export gives way
        assert main(["export", "--logdir", str(run), "--out", str(tmp_path / "policy")]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines == [str(tmp_path / "policy" / name) for name in FILES]
    assert set(tf.saved_model.load(str(tmp_path / "policy")).signatures) == {"act", "explore"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    for taken in (tmp_path / "mine", tmp_path / "mine" / "thesis.txt"):
        with pytest.raises(ValueError, match="expected a new or empty directory, or an earlier export$"):
            dreamer.export(run, taken)
        assert main(["export", "--logdir", str(run), "--out", str(taken)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    for inside in (run, run / "checkpoints" / "000009"):
        assert main(["export", "--logdir", str(run), "--out", str(inside)]) == 2
    assert main(["export", "--logdir", str(run), "--out", str(tmp_path / "mine" / "thesis.txt" / "policy")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3


@pytest.mark.filterwarnings("always:.*TensorFlow loads nothing")
@pytest.mark.parametrize("name", ["policy [1]", "policy\\1"])
def test_a_place_from_which_tensorflow_cannot_load_is_told(name, export, tmp_path, capsys, monkeypatch):
    run, _ = export()
    assert main(["export", "--logdir", str(run), "--out", str(tmp_path / name)]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(r"TensorFlow loads nothing from a path with [ or \: move it, or load '.' there")
    with pytest.raises((OSError, tf.errors.OpError), match="matching files"):  # or there would be nothing to tell
        tf.saved_model.load(str(tmp_path / name))
    monkeypatch.chdir(tmp_path / name)
    assert set(tf.saved_model.load(".").signatures) == {"act", "explore"}


def test_vectors_may_have_any_names(tmp_path):
    names = ["a b", "a.b", "seed", "rewards", "0", "joints"]
    inputs = {name: Space((2,), "float32") for name in sorted(names)}
    run = config.load(["toy", "debug"], {"model.inputs": "vectors", "precision": "float32"})
    run.save(tmp_path / "config.yaml")
    agent = build_agent(run, SPACES["dot"], inputs, seed=1)
    told = {name: [[2], "float32"] for name in inputs}
    Commits(tmp_path / "checkpoints").write(
        {"frames": 320, "score": None, "inputs": told}, {}, lambda prefix: write_weights(agent, prefix)
    )
    dreamer.export(tmp_path, tmp_path / "export", with_model=True)
    rows = np.random.default_rng(0).normal(size=(3, len(inputs), 2)).astype(np.float32)
    np.savez(tmp_path / "episode.npz", **{name: rows[:, n] for n, name in enumerate(inputs)})
    script = [sys.executable, "-c", ALONE, "example.py", str(tmp_path / "episode.npz")]
    done = subprocess.run(script, capture_output=True, text=True, timeout=300, cwd=tmp_path / "export")
    assert done.returncode == 0, done.stderr
    loaded, carry, first = dreamer.load(tmp_path), None, {name: rows[:, n] for n, name in enumerate(inputs)}
    for step, line in enumerate(done.stdout.splitlines()[-3:]):
        action, carry = loaded.act({name: values[step] for name, values in first.items()}, carry, seed=step)
        np.testing.assert_allclose(np.array(line.split(), float), action, atol=1e-4)
    described = json.loads((tmp_path / "export" / "signature.json").read_text())["functions"]
    seen = [entry["name"] for entry in described["act"]["inputs"]][: len(inputs)]
    assert seen == ["observation_0", "a_b", "observation_a_b", "joints", "observation_rewards", "observation_seed"]
    assert {"rewards", "observation_rewards"} <= {entry["name"] for entry in described["imagine"]["outputs"]}
    with pytest.raises(ValueError, match="^joints: has values that are not finite$"):
        loaded.act({**{name: np.zeros(2) for name in inputs}, "joints": np.full(2, np.nan)})
