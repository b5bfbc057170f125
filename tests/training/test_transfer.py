"""Networks of one run in another: what is taken, what is not, and what is refused."""

import contextlib
import json
import shutil

import numpy as np
import pytest

from dreamer import config, start
from dreamer.agents import RunError
from dreamer.agents.build import build_agent
from dreamer.run.commits import Commits
from dreamer.stops import Stops
from dreamer.training import loop
from dreamer.training.restore import restore_agent, write_weights
from dreamer.training.transfer import networks, take_networks
from dreamer.types import ActionSpace, Space

SPACE = ActionSpace(2, False)


def settings(**changes):
    return config.load(["toy", "debug"], {"precision": "float32", **changes})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of runs by name, written by hand, each with weights of its own."""
    folder = tmp_path_factory.mktemp("runs")
    kinds = {
        "dreamer": {},
        "planet": {"method": "planet"},
        "contrastive": {"model.observation": "contrastive"},
        "discrete": {"task": "dot_discrete"},
        "wide": {"model.units": 24, "actor.layers": 3},
    }
    for seed, (name, changes) in enumerate(kinds.items(), 10):
        run, logdir = settings(**changes), folder / name
        logdir.mkdir()
        run.save(logdir / "config.yaml")
        agent = build_agent(run, ActionSpace(5, True) if name == "discrete" else SPACE, seed=seed)
        agent.updates.assign(7)
        Commits(logdir / "checkpoints").write(
            {"frames": 1200, "score": None}, {}, lambda prefix, agent=agent: write_weights(agent, prefix)
        )
    return folder


def weights(agent):
    return {name: network.get_weights() for name, network in networks(agent).items()}


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("source", "changes", "taken", "line"),
    [
        (
            "planet",
            {},
            {"encoder", "rssm", "decoder", "reward_head"},
            "(planet on dot after 1,200 frames): took encoder, rssm, decoder, reward_head; new here actor, value.",
        ),
        (
            "dreamer",
            {"method": "planet"},
            {"encoder", "rssm", "decoder", "reward_head"},
            "(dreamer on dot after 1,200 frames): took encoder, rssm, decoder, reward_head; left there actor, value.",
        ),
        (
            "contrastive",
            {"model.discount_head": True},
            {"encoder", "rssm", "reward_head", "actor", "value"},
            "(contrastive on dot after 1,200 frames): took encoder, rssm, reward_head, actor, value; "
            "new here decoder, discount_head; left there state_head.",
        ),
    ],
)
def test_networks_of_the_same_name_are_taken_and_all_others_named(runs, source, changes, taken, line):
    agent = build_agent(settings(**changes), SPACE, seed=1)
    before, moments = weights(agent), [v.numpy() for v in agent.checkpoint()["model_optimizer"].variables]
    given = weights(restore_agent(config.load_file(runs / source / "config.yaml"), runs / source, seed=0).agent)
    assert take_networks(agent, runs / source) == f"From {runs / source} {line}"
    after = weights(agent)
    assert {name for name in after if not same(after[name], before[name])} == taken
    assert all(same(after[name], given[name]) for name in taken)
    assert int(agent.updates) == 0
    for one, other in zip(moments, agent.checkpoint()["model_optimizer"].variables, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (
            "discrete",
            "rssm has a kernel of 9 x 8 there and of 6 x 8 here; actor has a kernel of 8 x 5 there and of 8 x 4",
        ),
        ("wide", "reward_head has a kernel of 12 x 24 there and of 12 x 8 here; actor has 8 weights there and 4 here"),
    ],
)
def test_other_shapes_are_refused_by_name_and_nothing_is_taken(runs, source, complaint):
    agent = build_agent(settings(), SPACE, seed=1)
    before = weights(agent)
    with pytest.raises(RunError, match=f"--init_from .*{source} does not fit: {complaint}"):
        take_networks(agent, runs / source)
    assert all(same(network, before[name]) for name, network in weights(agent).items())


def test_what_embeds_vectors_and_predicts_them_is_taken_too_and_only_where_they_are_the_same(tmp_path):
    seen = {name: Space((2,), "float32") for name in ("joints", "pos")}
    run = settings(**{"model.inputs": "vectors", "learn.source": str(tmp_path)})
    run.save(tmp_path / "config.yaml")
    told = {name: [list(space.shape), space.dtype] for name, space in seen.items()}
    source = build_agent(run, SPACE, seen, seed=1)
    Commits(tmp_path / "checkpoints").write(
        {"frames": 1200, "score": None, "inputs": told}, {}, lambda prefix: write_weights(source, prefix)
    )
    agent = build_agent(run, SPACE, seen, seed=2)
    line = take_networks(agent, tmp_path)
    assert "updates): took vector_encoder, rssm, reward_head, actor, value, head of joints, head of pos." in line
    given = weights(source)
    assert all(same(values, given[name]) for name, values in weights(agent).items())
    others = build_agent(run, SPACE, {name: seen["pos"] for name in ("angles", "pos")}, seed=2)
    with pytest.raises(RunError, match="does not fit: its agent sees joints, pos, and this one angles, pos"):
        take_networks(others, tmp_path)


@pytest.mark.parametrize(("file", "complaint"), [("config.yaml", "No such file"), ("checkpoints", "no committed")])
def test_a_run_that_is_gone_is_named_with_the_key(file, complaint, runs, tmp_path):
    shutil.copytree(runs / "planet", tmp_path / "source")
    (tmp_path / "source" / file).rename(tmp_path / "elsewhere")
    with pytest.raises(RunError, match=f"^--init_from: .*{complaint}"):
        take_networks(build_agent(settings(), SPACE, seed=1), tmp_path / "source")


def train(logdir, **changes):
    run = settings(**changes)
    with Stops() as stops, contextlib.ExitStack() as resources:
        return loop.train(start.claim_logdir(run, logdir, resources), logdir, stops)


def test_a_new_run_begins_with_them_and_a_resumed_one_with_its_own(runs, tmp_path, capsys):
    source, logdir = tmp_path / "source", tmp_path / "run"
    shutil.copytree(runs / "planet", source)
    changes = {"init_from": str(source), "loop.prefill": 50, "loop.pretrain": 0}
    assert train(logdir, steps=50, **changes) == 0
    line = f"From {source} (planet on dot after 1,200 frames): took encoder, rssm, decoder, reward_head; new here"
    assert line in capsys.readouterr().err
    saved, given = (
        weights(restore_agent(config.load_file(folder / "config.yaml"), folder, seed=0).agent)
        for folder in (logdir, source)
    )
    assert same(saved["rssm"], given["rssm"])
    assert not same(saved["rssm"], weights(build_agent(settings(), SPACE, seed=1))["rssm"])
    shutil.rmtree(source)  # It is not needed any more.
    assert train(logdir, steps=80, **changes) == 0
    assert "took" not in capsys.readouterr().err
    assert json.loads((logdir / "scores.json").read_text())["xs"] == [50, 80]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"init_from": "nowhere"}, "--init_from: nowhere does not exist: expected the log directory of a run"),
        ({"init_from": "RUN", "method": "random"}, "random actions have no networks to take or to give"),
    ],
)
def test_what_is_no_run_is_told_before_anything_is_written(runs, tmp_path, changes, complaint):
    changes = {key: value.replace("RUN", str(runs / "dreamer")) for key, value in changes.items()}
    with pytest.raises(start.UsageError, match=complaint), contextlib.ExitStack() as resources:
        start.claim_logdir(settings(**changes), tmp_path / "run", resources)
    assert not (tmp_path / "run").exists()
