"""A run that is given away as its agent: everything opens it that does not train, and says the same of it."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import dreamer
from dreamer.cli.main import main
from dreamer.run import commits

FORMAT0 = Path(__file__).resolve().parents[1] / "run" / "format0"
KEYS = {"loop.prefill": 50, "loop.eval_every": 50, "steps": 200, "seed": 5}
FILES = [
    "checkpoints",
    "config.yaml",
    "machines.jsonl",
    "metrics.jsonl",
    "open_loop.jsonl",
    "random.json",
    "run.json",
    "scores.json",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(a run, its agent alone)."""
    folder = tmp_path_factory.mktemp("agent_only")
    dreamer.train(["toy", "debug"], folder / "run", KEYS)
    dreamer.export(folder / "run", folder / "agent", form="run")
    return folder / "run", folder / "agent"


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def actions(agent):
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    carry, taken = None, []
    for step, image in enumerate(images):
        action, carry = agent.act(image, carry, seed=step)
        taken.append(action)
    return np.array(taken)


def test_it_is_small_and_the_same_agent(made):
    run, agent = made
    assert sorted(path.name for path in agent.iterdir()) == FILES
    names = [name for name, _ in tf.train.list_variables(str(next(agent.glob("checkpoints/*/weights.index"))))]
    assert not any(word in name for name in names for word in ("adam", "momentum", "velocity", "random"))
    whole, alone = dreamer.load(run), dreamer.load(agent)
    assert (alone.frames, alone.updates) == (whole.frames, whole.updates)
    np.testing.assert_array_equal(actions(alone), actions(whole))
    assert dreamer.scores(agent)[-1]["return"] == dreamer.scores(run)[-1]["return"]
    assert dreamer.metrics(agent) == dreamer.metrics(run)


def test_the_commands_say_the_same_of_it(made, tmp_path, capsys):
    said = []
    for folder in made:
        assert main(["eval", "--logdir", str(folder), "--episodes", "2"]) == 0
        assert main(["imagine", "--logdir", str(folder), "--out", str(tmp_path / "dream.gif"), "--horizon", "5"]) == 0
        said.append(capsys.readouterr().out.replace(str(folder), "RUN"))
    assert said[0] == said[1]
    assert main(["scores", str(made[1])]) == 0
    assert main(["report", str(made[1]), "--out", str(tmp_path / "report.html")]) == 0


def test_it_is_not_trained_on_but_another_run_begins_with_it(made, tmp_path, capsys):
    _, agent = made
    before = contents(agent)
    words = [word for key, value in KEYS.items() for word in (f"--{key}", str(value))]
    for steps in ("200", "300"):
        command = ["--configs", "toy", "debug", *words, "--logdir", str(agent), "--steps", steps]
        capsys.readouterr()
        assert main(command) == 2
        assert capsys.readouterr().err == (
            f"dreamer: {agent} holds the agent of a run without what training needs (`dreamer export --form run`): "
            f"`dreamer eval` plays it, and --init_from {agent} begins a new run with its networks in another --logdir\n"
        )
    assert contents(agent) == before
    command = ["--configs", "toy", "debug", *words, "--logdir", str(tmp_path), "--init_from", str(agent)]
    assert main(command) == 0
    assert "took encoder, rssm, decoder, reward_head, actor, value." in capsys.readouterr().err


def test_the_best_one_is_given_on_request(made, tmp_path):
    run = Path(shutil.copytree(made[0], tmp_path / "run"))
    path = min((run / "checkpoints").glob("*/state.json"))  # of the oldest state kept
    state = json.loads(path.read_text()) | {"score": 99.0}
    del state["checksum"]
    path.write_text(json.dumps(state | {"checksum": commits._state_checksum(state)}))
    best = dreamer.load(run, best=True)
    assert best.frames < dreamer.load(run).frames
    dreamer.export(run, tmp_path / "best", best=True, form="run")
    assert dreamer.load(tmp_path / "best").frames == best.frames == dreamer.scores(tmp_path / "best")[-1]["frames"]
    assert dreamer.metrics(tmp_path / "best") == [row for row in dreamer.metrics(run) if row["step"] <= best.frames]
    np.testing.assert_array_equal(actions(dreamer.load(tmp_path / "best", best=True)), actions(best))


def test_one_of_an_older_format_and_of_an_agent_alone(made, tmp_path):
    old = Path(shutil.copytree(FORMAT0, tmp_path / "old"))
    for source in (old, made[1]):
        dreamer.export(source, tmp_path / "out", form="run")  # an earlier one gives way
        np.testing.assert_array_equal(actions(dreamer.load(tmp_path / "out")), actions(dreamer.load(source)))
        assert json.loads((tmp_path / "out" / "run.json").read_text())["agent_only"] is True


def test_nothing_else_is_overwritten(made, tmp_path, capsys):
    run, agent = made
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dreamer.export(run, tmp_path / "policy")
    taken = [tmp_path / "mine", tmp_path / "mine" / "thesis.txt", tmp_path / "policy", run, run / "checkpoints"]
    before = contents(run), contents(tmp_path)
    capsys.readouterr()
    for out in taken:
        assert main(["export", "--logdir", str(run), "--out", str(out), "--form", "run"]) == 2, out
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["export", "--logdir", str(run), "--out", str(agent)]) == 2  # nor an agent by a policy
    assert main(["export", "--logdir", str(run), "--out", str(tmp_path / "x"), "--form", "run", "--with", "model"]) == 2
    with pytest.raises(ValueError, match="^form: expected savedmodel or run, got onnx$"):
        dreamer.export(run, tmp_path / "x", form="onnx")
    assert (contents(run), contents(tmp_path)) == before


def test_a_run_kept_in_an_earlier_export_is_not_removed_with_it(made, tmp_path, capsys):
    run, agent = made
    dreamer.export(run, tmp_path / "policy")
    for out, form in ((Path(shutil.copytree(agent, tmp_path / "agent")), "run"), (tmp_path / "policy", "savedmodel")):
        mine = shutil.copytree(run, out / "mine")
        before = contents(out)
        assert main(["export", "--logdir", str(mine), "--out", str(out), "--form", form]) == 2
        assert capsys.readouterr().err == f"dreamer: {out}: holds the run {mine}, which would be gone with it\n"
        assert contents(out) == before


def test_what_cannot_be_read_of_the_run_is_named(made, tmp_path, capsys):
    run = Path(shutil.copytree(made[0], tmp_path / "run"))
    command = ["export", "--logdir", str(run), "--out", str(tmp_path / "out"), "--form", "run"]
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"format": 2}))
    assert main(command) == 2
    assert capsys.readouterr().err.startswith(f"dreamer: {run} has format 2, and this release")
    (run / "run.json").unlink()
    (run / "run.json").mkdir()
    assert main(command) == 2
    assert capsys.readouterr().err == f"dreamer: {run}/run.json: is a directory, expected a file\n"
    assert list(tmp_path.iterdir()) == [run]


def test_scores_that_are_no_numbers_stay_out_of_the_state(made, tmp_path):
    run = Path(shutil.copytree(made[0], tmp_path / "run"))
    text = json.dumps(
        json.loads((run / "scores.json").read_text()) | {"xs": [-float("inf"), 50], "ys": [1, float("nan")]}
    )
    (run / "scores.json").write_text(text)
    dreamer.export(run, tmp_path / "out", form="run")
    (state,) = (tmp_path / "out").glob("checkpoints/*/state.json")
    assert json.loads(state.read_text())["scores"] == []
