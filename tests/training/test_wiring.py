"""Every key of configs/defaults.yaml reaches what it is for: a run in which none has its default, and what it builds.

An agent that learns nothing takes the place of the networks, so that a whole run takes a second; the agents themselves
are built, and not trained.
"""

import collections
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dreamer import config, envs, seeds
from dreamer.agents import build
from dreamer.agents import dreamer as dreamer_module
from dreamer.agents import planet as planet_module
from dreamer.run import lock, settings
from dreamer.stops import Stops
from dreamer.training import faults, inspection, loop
from dreamer.types import ActionSpace, Space

# No value is the default, nor that of the overlays or of what a constructor takes for itself, and numbers differ from
# each other where they could be mistaken. A key that is not here fails the first test.
VALUES = {
    "suite": "toy",
    "task": "dot",
    "method": "planet",
    "seed": 5,
    "steps": 220,
    "precision": "float32",
    "init_from": "other",
    "xla": "true",
    "gpus": 2,
    "env.action_repeat": 5,
    "env.time_limit": 30,
    "env.size": 48,
    "env.camera": 3,
    "env.renderer": "osmesa",
    "env.worker": False,
    "env.shadow_map": 64,
    "env.sticky": 0.125,
    "env.noops": 7,
    "env.full_actions": True,
    "env.life_loss": False,
    "env.hold_out": False,
    "env.timeout": 77.0,
    "env.start_timeout": 99,
    "env.retries": 6,
    "env.kwargs": '{"a": 1}',
    "env.image": "render",
    "env.info": "won,goal.far",
    "env.level_cache": "maps",
    "envs.count": 2,
    "replay.batch": 3,
    "replay.length": 11,
    "replay.cross_ends": True,
    "replay.tanh_rewards": True,
    "replay.capacity": 71,
    "replay.prefetch": 2,
    "replay.compress": True,
    "logger.also": "wandb,mlflow",
    "logger.project": "walkers",
    "learn.source": "elsewhere",
    "learn.hold_out": 7,
    "model.deter": 12,
    "model.stoch": 5,
    "model.hidden": 13,
    "model.min_std": 0.2,
    "model.conv_depth": 1,
    "model.units": 14,
    "model.inputs": "image,vectors",
    "model.vector_layers": 2,
    "model.vector_std": 0.07,
    "model.observation": "contrastive",
    "model.probe_decoder": True,
    "model.reward_layers": 1,
    "model.discount_head": True,
    "model.discount_layers": 4,
    "model.discount_scale": 8.0,
    "model.kl_scale": 0.5,
    "model.free_nats": 1.5,
    "model.free_nats_per": "state",
    "model.lr": 1e-3,
    "actor.layers": 2,
    "actor.units": 15,
    "actor.init_std": 4.0,
    "actor.mean_scale": 3.0,
    "actor.min_std": 1e-3,
    "actor.lr": 2e-4,
    "value.layers": 5,
    "value.units": 16,
    "value.lr": 3e-4,
    "behavior.horizon": 9,
    "behavior.discount": 0.9,
    "behavior.return_lambda": 0.8,
    "behavior.bootstrap": False,
    "planner.horizon": 10,
    "planner.candidates": 20,
    "planner.best": 6,
    "planner.iterations": 3,
    "planner.value": True,
    "optimizer.epsilon": 1e-5,
    "loop.max_skipped": 8,
    "optimizer.clip": 50.0,
    "explore.noise": 0.35,
    "explore.mode": True,
    "explore.epsilon": 0.6,
    "explore.epsilon_end": 0.15,
    "explore.epsilon_updates": 1000,
    "explore.epsilon_eval": 0.05,
    "loop.prefill": 70,
    "loop.pretrain": 4,
    "loop.train_every": 24,
    "loop.train_updates": 3,
    "loop.eval_every": 100,
    "loop.eval_episodes": 2,
    "loop.eval_env": "shared",
    "loop.overlap": True,
    "loop.save_every": 40,
}
RUN = config.load([], VALUES)
# With several environments evaluations have their own: tests/training/test_shared_env.py has the other case.
TRAINED = RUN.replace(**{"loop.eval_env": "own"})
SPACE = ActionSpace(2, False)
INPUTS = {"image": Space((48, 48, 3), "uint8"), "position": Space((2,), "float32")}


def test_every_key_has_a_value_here_and_none_is_the_default():
    defaults = config.load([]).flat()
    assert VALUES.keys() == defaults.keys()
    assert [key for key in VALUES if VALUES[key] == defaults[key]] == []
    assert RUN.flat() == VALUES


def section(name, values):
    return {f"{name}.{key}": value for key, value in dict(values).items()}


class Calls:
    """What constructors and functions were called with: arguments by name, in order."""

    def __init__(self, monkeypatch):
        self._monkeypatch, self._seen = monkeypatch, collections.defaultdict(list)

    def note(self, owner, name, instead=None):
        """Record the calls of owner.name, which go on to what it was, or to `instead`."""
        original = instead or getattr(owner, name)

        def noting(*args, **kwargs):
            self._seen[name].append((args, kwargs))
            return original(*args, **kwargs)

        self._monkeypatch.setattr(owner, name, noting)

    def all(self, name):
        return [(args, dict(kwargs)) for args, kwargs in self._seen[name]]

    def one(self, name):
        (call,) = self.all(name)
        return call


@pytest.fixture
def calls(monkeypatch):
    return Calls(monkeypatch)


class Noting:
    """An environment that keeps the seeds of its episodes."""

    def __init__(self, env):
        self._env, self.seeds = env, []

    def __getattr__(self, name):
        return getattr(self._env, name)

    def send(self, method, argument):
        if method == "reset":
            self.seeds.append(argument)
        self._env.send(method, argument)


class Idle:
    """Stands in for an agent with networks: has the interface that the loop relies on, and learns nothing."""

    def __init__(self):
        self.updates = tf.Variable(0, dtype=tf.int64)
        self.random = tf.random.Generator.from_seed(1, alg="philox")
        self.explored, self.knew, self.batches = [], [], []

    def checkpoint(self):
        return {"updates": self.updates, "random": self.random}

    def initial(self):
        return None

    def act(self, observation, carry, explore):
        self.explored.append(explore)
        self.knew.append(int(self.updates))
        return np.zeros(2, np.float32), carry

    def train(self, batch):
        self.updates.assign_add(1)
        self.batches.append(batch)
        return {"model_skipped": tf.constant(0.0)}


class Run:
    """A run of the loop from end to end, and what came out of it."""

    def __init__(self, logdir, calls, monkeypatch):
        self.calls = calls
        self.agent, self.acting, self.envs, self.committed, self.evaluated = Idle(), Idle(), [], [], []
        agents = iter((self.agent, self.acting))  # loop.overlap has a copy collect

        def make(suite, task, **options):
            self.envs.append(Noting(original_make(suite, task, **options)))
            return self.envs[-1]

        def build_agent(given, action_space, inputs, *, seed):
            assert list(inputs) == ["image", "position"]
            return next(agents)

        def commit(recorder, **kwargs):
            self.committed.append(recorder.state.frames)
            return original_commit(recorder, **kwargs)

        def score(recorder, frames, score):
            self.evaluated.append((frames, int(self.agent.updates)))
            return original_score(recorder, frames, score)

        original_make, original_commit = envs.make, loop.Recorder.commit
        original_score = loop.Recorder.write_score
        calls.note(loop.envs, "make", make)
        calls.note(loop, "build_agent", build_agent)
        calls.note(loop.towers, "spread", lambda agent, given: None)
        calls.note(loop.xla, "settle")
        for name in ("EpisodeStore", "Windows", "Evaluator", "Progress"):
            calls.note(loop, name)
        calls.note(loop, "take_networks", lambda agent, source: f"Taken from {source}.")
        calls.note(loop.Logger, "settings")
        calls.note(loop, "Also", lambda *args: None)
        calls.note(faults, "check")
        calls.note(seeds, "derive")
        monkeypatch.setattr(loop.Recorder, "commit", commit)
        monkeypatch.setattr(loop.Recorder, "write_score", score)
        monkeypatch.setattr(loop, "COMMIT_SECONDS", float("inf"))  # the clock decides nothing here
        with Stops() as stops, lock.exclusive(logdir):
            # learn.source belongs to runs of another kind: tests/training/test_offline.py.
            assert loop.train(settings.agree(TRAINED, logdir), logdir, stops, kind=loop.Run) == 0
        self.lines = [json.loads(line) for line in (logdir / "metrics.jsonl").read_text().splitlines()]
        self.scores = json.loads((logdir / "scores.json").read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        return Run(tmp_path_factory.mktemp("runs"), Calls(monkeypatch), monkeypatch)


def expected(*sections):
    return {key: value for key, value in VALUES.items() if key.partition(".")[0] in sections}


def test_several_gpus_and_xla_are_asked_for_by_the_runs_keys(run):
    for (agent, given, *_), _ in (run.calls.one("spread"), run.calls.one("settle")):
        assert agent is run.agent
        assert given == TRAINED


def test_all_environments_get_every_key_of_theirs(run):
    made = run.calls.all("make")
    assert [options.pop("training") for _, options in made] == [True, True, False, False]
    assert all(options.pop("beside") and options.pop("images") for _, options in made)
    for (suite, task), options in made:
        assert {"suite": suite, "task": task, **section("env", options)} == expected("suite", "task", "env")


def test_inspecting_a_run_builds_the_environment_of_its_evaluation(calls, monkeypatch, tmp_path):
    class BuiltError(Exception):
        pass

    def built(suite, task, **options):
        raise BuiltError

    calls.note(inspection.envs, "make", built)
    with pytest.raises(BuiltError):
        inspection.evaluate(RUN, tmp_path, episodes=1, seed=0)
    (suite, task), options = calls.one("make")
    assert not options.pop("training", False)
    assert options.pop("images") is True
    assert options.pop("beside") is False
    assert {"suite": suite, "task": task, **section("env", options)} == expected("suite", "task", "env")


def test_the_replay_gets_every_key_of_its_own(run):
    store, windows = run.calls.one("EpisodeStore")[1], run.calls.one("Windows")[1]
    assert store.pop("action_repeat") == 5
    assert store.pop("commits") == 2
    assert store.pop("inputs") == INPUTS
    assert windows.pop("seed") == seeds.derive(5, "replay")
    received = {name: value for name, value in (store | windows).items() if name != "directory"}
    assert section("replay", received) == expected("replay")
    assert {tuple(batch.reward.shape) for batch in run.agent.batches} == {(3, 11)}
    assert len(run.agent.batches) == 22


def test_the_rest_of_the_loop_gets_its_keys(run):
    evaluator = run.calls.one("Evaluator")[1]
    assert (evaluator["episodes"], evaluator["tanh_rewards"], evaluator["task"]) == (2, True, "dot")
    (total,), progress = run.calls.one("Progress")
    # 4 updates belong to 70 frames, 3 more to every 24 after them.
    assert (total, progress["total_updates"], progress["eval_every"]) == (220, 4 + 3 * 6, 100)
    assert progress["label"] == "dot planet_contrastive"
    for (given, *_), options in run.calls.all("build_agent"):
        assert (given, options) == (TRAINED, {"seed": seeds.derive(5, "agent")})
    assert run.calls.one("settings")[0][-1] == TRAINED.flat()
    assert dict(run.calls.one("Also")[0][0]) == {"also": "wandb,mlflow", "project": "walkers"}
    assert run.calls.one("take_networks")[0] == (run.agent, Path("other"))
    # faults.check holds one limit for every round that had updates.
    limits = [args[4] for args, _ in run.calls.all("check")]
    assert limits == [8] * 6


def test_updates_evaluations_and_commits_happen_when_the_keys_say(run):
    """By hand, in two steps of 5 frames: 70 frames of prefill are 90, because whole episodes are played."""
    rounds = [(line["step"], line["train/updates"]) for line in run.lines if "train/updates" in line]
    assert rounds == [(90, 4), (120, 10), (150, 13), (180, 16), (210, 19), (220, 22)]
    assert run.evaluated == [(90, 4), (180, 16), (220, 22)]
    assert run.scores["xs"] == [90, 180, 220]
    # After the prefill, before the first update, with evaluations, at the end, and when 40 frames are not committed.
    assert run.committed == [90, 90, 90, 150, 180, 220]


def test_episodes_are_seeded_by_frames_and_explored(run):
    first, second, *evaluation = run.envs
    # The third random episode is the last one that may be needed: the second environment waits meanwhile.
    assert first.seeds == [seeds.derive(5, "collect", frames) for frames in (0, 60, 90, 150, 210)]
    assert second.seeds == [seeds.derive(5, "collect", frames, 1 << 32) for frames in (0, 90, 150, 210)]
    for n, env in enumerate(evaluation):
        assert env.seeds == [seeds.derive(5, "evaluate", frames, n) for frames in (90, 180, 220)]
    # Every action of a rewarded step: 130 frames collected, and 3 evaluations of 2 episodes of 30 frames.
    assert run.agent.explored == [False] * (3 * 2 * 30 // 5)
    assert run.acting.explored == [True] * (130 // 5)
    # By a copy that knows the updates made when the round began in which it acts (loop.overlap).
    assert run.acting.knew == [0] * 6 + [4] * 6 + [10] * 6 + [13] * 6 + [16] * 2
    assert {args[0] for args, _ in run.calls.all("derive")} == {5}


def networks(calls, module, method):
    """What an agent and its networks received, as keys of the config; built, and not trained."""
    calls.note(module, method)
    for name in ("WorldModel", "Optimizer", "Actor", "Value"):
        if hasattr(module, name):
            calls.note(module, name)
    agent = build.build_agent(RUN.replace(method=method.lower()), SPACE, INPUTS, seed=3)
    (space, inputs), given = calls.one(method)
    assert (space, inputs) == (SPACE, INPUTS)
    assert given.pop("seed") == 3
    assert given.pop("loss_scale") is False
    model = calls.one("WorldModel")[1]
    received = {"method": type(agent).__name__.lower(), "xla": str(given.pop("xla")).lower()}
    for name in ("behavior", "planner", "explore"):  # the agent keeps these
        received |= section(name, given.pop(name, {}))
    received |= section("model", model) | {"behavior.discount": model["gamma"]}
    received["model.inputs"] = given["model"]["inputs"]
    assert calls.one("WorldModel")[0] == (SPACE.size, INPUTS)
    probe = [optimizer for _, optimizer in calls.all("Optimizer") if optimizer["name"] == "probe"]
    assert [optimizer["lr"] for optimizer in probe] == [VALUES["model.lr"]]
    for _, optimizer in calls.all("Optimizer"):
        received[f"{optimizer['name']}.lr"] = optimizer["lr"]
        received |= section("optimizer", {name: optimizer[name] for name in ("epsilon", "clip")})
    for name in ("Actor", "Value"):
        if calls.all(name):
            received |= section(name.lower(), calls.one(name)[1])
    given.pop("gamma", None)
    assert given.keys() <= {"model", "actor", "value", "optimizer"}
    for extra in (
        "probe.lr",
        "model.gamma",
        "model.seeds",
        "model.probe_seeds",
        "actor.seeds",
        "actor.discrete",
        "actor.groups",
        "value.seeds",
    ):
        received.pop(extra, None)
    return received


SHARED = ("xla", "model", "optimizer", "explore")


def test_dreamer_and_its_networks_get_every_key_of_theirs(calls):
    received = networks(calls, dreamer_module, "Dreamer")
    sections = expected(*SHARED, "actor", "value", "behavior")
    assert received == sections | {"method": "dreamer"}


def test_planet_and_its_world_model_get_every_key_of_theirs(calls):
    received = networks(calls, planet_module, "PlaNet")
    sections = expected(*SHARED, "planner") | section("value", {"layers": 5, "units": 16})
    assert received == sections | {"method": "planet", "behavior.discount": 0.9}
