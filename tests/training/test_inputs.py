"""Runs that see vectors, beside images of any size or instead of them: from the command to what opens the run."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import dreamer
from dreamer import agents, config, library
from dreamer.agents import RunError
from dreamer.cli.main import main
from dreamer.training.driver import Driver
from dreamer.types import Space
from tests.training.test_resume import KEYS, assert_equal, left_behind, train, train_in_pieces

SPACES = {"image": Space((64, 64, 3), "uint8"), "b": Space((2,), "float32"), "aa": Space((1,), "float32")}
KINDS = {"vectors": "position", "both": "image,vectors"}
QUICK = {**KEYS, "steps": "120", "loop.eval_episodes": "1", "replay.tanh_rewards": "false"}


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("image", ["image"]),
        ("vectors", ["aa", "b"]),
        ("vectors, image", ["image", "aa", "b"]),
        ("*", ["image", "aa", "b"]),
        ("a*", ["aa"]),
        ("b,image,b", ["image", "b"]),
    ],
)
def test_names_and_patterns(wanted, names):
    run = config.load(["toy"], {"model.inputs": wanted})
    assert list(agents.inputs_of(run, SPACES)) == names
    assert agents.sees_images(run) == ("image" in names)


@pytest.mark.parametrize(
    ("wanted", "named"), [("speed", "'speed'"), ("image,c*", "'c*'"), ("", "''"), ("image,", "''")]
)
def test_a_name_that_fits_nothing_is_refused_with_what_there_is(wanted, named):
    with pytest.raises(RunError, match="observes image, b, aa, and no") as error:
        agents.inputs_of(config.load(["toy"], {"model.inputs": wanted}), SPACES)
    assert str(error.value).endswith(named)


@pytest.fixture(scope="module", params=KINDS)
def run(request, tmp_path_factory):
    """(kind, logdir) of a run, made once."""
    logdir = tmp_path_factory.mktemp("runs") / request.param
    settings = {**QUICK, "model.inputs": KINDS[request.param], "env.size": "48"}
    assert train(config.load(["toy", "debug"], settings), logdir) == 0
    return request.param, logdir


def test_what_it_leaves_and_what_a_run_in_pieces_does(run, tmp_path):
    kind, logdir = run
    files = {path.suffix for path in (logdir / "videos").iterdir()}
    assert files == ({".png"} if kind == "vectors" else {".mp4", ".gif"})
    lines = [json.loads(line) for line in (logdir / "open_loop.jsonl").read_text().splitlines()]
    assert all(("image" in line) == (kind == "both") and "position" in line for line in lines)
    episode = np.load(sorted((logdir / "episodes").iterdir())[0])
    assert ("image" in episode) == (kind == "both")
    assert kind == "vectors" or episode["image"].shape[1:] == (48, 48, 3)
    settings = config.load_file(logdir / "config.yaml")
    assert train_in_pieces(settings, tmp_path / "run", np.random.default_rng(4), pieces=2) == 2
    assert_equal(left_behind(tmp_path / "run"), left_behind(logdir))


def test_the_library_opens_it_without_its_environment(run):
    kind, logdir = run
    agent = dreamer.load(logdir)
    assert {name: space.shape for name, space in agent.inputs.items()} == (
        {"position": (2,)} if kind == "vectors" else {"image": (48, 48, 3), "position": (2,)}
    )
    rng = np.random.default_rng(0)
    seen = {"image": rng.integers(0, 256, (2, 3, 48, 48, 3), np.uint8), "position": rng.random((2, 3, 2))}
    seen = {name: seen[name] for name in agent.inputs}
    actions = rng.uniform(-1, 1, (2, 5, 2))
    first, _ = agent.act({name: value[:, 0] for name, value in seen.items()})
    assert first.shape == (2, 2)
    alone, _ = agent.act({name: value[0, 0] for name, value in seen.items()})
    assert alone.shape == (2,)
    dream = agent.predict(seen, actions[:, :3], actions[:, 3:])
    assert dream.vectors["position"].shape == (2, 2, 2)
    assert (dream.images is None) == (kind == "vectors")
    if kind == "vectors":
        np.testing.assert_array_equal(agent.act(seen["position"][:, 0], seed=1)[0], agent.act(_now(seen), seed=1)[0])
        with pytest.raises(ValueError, match=r"position: expected float32 of the shape \[2\] or \[B, 2\], got float32"):
            agent.act(np.zeros(3))
    else:
        with pytest.raises(ValueError, match="this agent sees image, position: expected a dict of them"):
            agent.act(seen["image"][:, 0])
        with pytest.raises(ValueError, match="position missing"):
            agent.act({"image": seen["image"][:, 0]})
        with pytest.raises(ValueError, match="expected as many of each"):
            agent.act({"image": seen["image"][:, 0], "position": np.zeros((3, 2))})


def _now(seen):
    return {name: value[:, 0] for name, value in seen.items()}


def test_an_exported_policy_acts_as_the_agent_does(run, tmp_path):
    _, logdir = run
    library.export(logdir, tmp_path / "policy", with_model=True)
    loaded = tf.saved_model.load(str(tmp_path / "policy"))
    agent, act = dreamer.load(logdir, precision="float32"), loaded.signatures["act"]
    rng = np.random.default_rng(1)
    seen = {
        name: (rng.integers(0, 256, (2, *s.shape)) if name == "image" else rng.random((2, *s.shape))).astype(s.dtype)
        for name, s in agent.inputs.items()
    }
    sizes = {"stoch": 4, "deter": 8, "action": 2}
    state = {name: tf.zeros([2, size]) for name, size in sizes.items()}
    inputs = {name: tf.constant(value) for name, value in seen.items()}
    out = act(is_first=tf.constant([True, True]), seed=tf.constant(3, tf.int64), **inputs, **state)
    np.testing.assert_allclose(out["action"], agent.act(seen, seed=3)[0], atol=1e-6)
    dream = loaded.signatures["imagine"](
        stoch=out["stoch"], deter=out["deter"], actions=tf.zeros([2, 3, 2]), seed=tf.constant(0, tf.int64)
    )
    assert dream["position"].shape == (2, 3, 2)
    assert ("images" in dream) == ("image" in agent.inputs)


def test_eval_imagine_and_report_show_what_there_is(run, tmp_path, capsys):
    kind, logdir = run
    assert main(["eval", "--logdir", str(logdir), "--episodes", "2"]) == 0
    curves = tmp_path / "curves.png"
    assert main(["imagine", "--logdir", str(logdir), "--out", str(curves), "--episodes", "2", "--horizon", "6"]) == 0
    said = capsys.readouterr().out
    assert ("image  error" in said) == (kind == "both")
    assert "position error" in said
    assert np.ptp(np.asarray(Image.open(curves))) > 200
    assert main(["report", str(logdir), "--out", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text()
    assert ("data:image/png" in page) == (kind == "vectors") or kind == "both"
    # For people it is rendered all the same.
    assert main(["eval", "--logdir", str(logdir), "--episodes", "1", "--video", str(tmp_path / "x.mp4")]) == 0
    assert (tmp_path / "x.mp4").stat().st_size > 1000
    code = main(["imagine", "--logdir", str(logdir), "--out", str(tmp_path / "x.gif"), "--horizon", "6"])
    assert code == (2 if kind == "vectors" else 0)
    assert ("has model.inputs position, and so no images" in capsys.readouterr().err) == (kind == "vectors")


def test_dm_control_from_states_renders_nothing(monkeypatch):
    """Where no OpenGL platform works at all, too."""
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setenv("PYOPENGL_PLATFORM", "nothing")
    run = config.load(["dmc", "proprio"], {"task": "cup_catch", "env.time_limit": 20})
    env = dreamer.envs.make(run.suite, run.task, images=agents.sees_images(run), **run.env)
    try:
        spaces = agents.inputs_of(run, env.observation_spaces)
        assert spaces == {"position": Space((4,), "float32"), "velocity": Space((4,), "float32")}

        class Still:
            def initial(self):
                return None

            def act(self, observation, carry, explore):
                return np.zeros(2, np.float32), carry

        driver = Driver(env, Still(), explore=False, seed_of=lambda n: n)
        while not (episode := driver.step()):
            pass
        assert "image" not in episode
        assert np.ptp(episode["velocity"]) > 0
    finally:
        env.close()


def test_sizes_that_no_network_fits_are_refused_before_anything_is_made(tmp_path, capsys):
    for size in ("70", "16", "144"):
        assert main(["--configs", "toy", "debug", "--env.size", size, "--logdir", str(tmp_path / "run")]) == 2
        assert "--env.size: expected" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
