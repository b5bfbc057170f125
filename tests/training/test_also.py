"""logger.also: what Weights & Biases and MLflow are told, and that they can end no run.

The packages are extras, too large for every development environment: doubles that keep what they are told take their
places here, and where the packages are installed, a test has them write without a network.
"""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import types

import numpy as np
import pytest

from dreamer import config, start
from dreamer.training.also import Also
from dreamer.training.logger import Logger


class Calls(list):
    """Keeps what is called, in order; `failing`: names of what raises instead."""

    def __init__(self):
        super().__init__()
        self.failing = set()

    def of(self, name, result=None):
        def call(*args, **kwargs):
            self.append((name, args, kwargs))
            if name in self.failing:
                raise ConnectionError(f"{name}: no route\nto host")
            return result

        return call

    def named(self, name):
        return [(args, kwargs) for called, args, kwargs in self if called == name]


@pytest.fixture
def wandb(monkeypatch):
    calls = Calls()
    run = types.SimpleNamespace(**{name: calls.of(name) for name in ("log", "define_metric", "finish")})
    double = types.ModuleType("wandb")
    double.__spec__ = importlib.util.spec_from_loader("wandb", None)
    double.init, double.Settings = calls.of("init", run), lambda **given: given
    double.Video = lambda file, format: (format, file.read())
    monkeypatch.setitem(sys.modules, "wandb", double)
    return calls


@pytest.fixture
def mlflow(monkeypatch):
    calls = Calls()
    created = types.SimpleNamespace(info=types.SimpleNamespace(run_id="run7"))
    client = types.SimpleNamespace(
        create_experiment=calls.of("create_experiment", "3"), create_run=calls.of("create_run", created)
    )
    for name in ("get_experiment_by_name", "log_batch", "update_run", "set_terminated"):
        setattr(client, name, calls.of(name))

    def log_artifact(run, path, folder):
        with open(path, "rb") as file:
            calls.append(("log_artifact", (run, os.path.basename(path), folder, file.read()), {}))

    client.log_artifact = log_artifact
    double, entities = types.ModuleType("mlflow"), types.ModuleType("mlflow.entities")
    double.MlflowClient = lambda: client
    entities.Metric = lambda key, value, timestamp, step: (key, value, step)
    entities.Param = lambda key, value: (key, value)
    monkeypatch.setitem(sys.modules, "mlflow", double)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    return calls


def keys(also, **others):
    return config.load([], {"logger.also": also, **others}).logger


def write(tmp_path, also, said=None, **others):
    """One start of a run: its settings, two lines of scalars and an animation."""
    report = [].append if said is None else said.append
    service = Also(keys(also, **others), tmp_path, {"seed": 3, "task": "dot"}, report)
    logger = Logger(tmp_path, also=service)
    logger.scalars(10, {"train/loss": np.float32(0.5), "train/norm": float("nan")})
    logger.gif("eval/open_loop", np.zeros((2, 4, 4, 3), np.uint8), 10, fps=5)
    logger.scalars(20, {"train/loss": 0.25})
    logger.close()


def test_wandb_gets_the_run_under_one_id_in_all_its_starts(tmp_path, wandb):
    for _ in range(2):
        write(tmp_path, "wandb", **{"logger.project": "walkers"})
    (first, second), logs = wandb.named("init"), wandb.named("log")
    assert first == second
    assert first[1]["id"] == json.loads((tmp_path / "loggers.json").read_text())["wandb"]
    assert (first[1]["project"], first[1]["resume"], first[1]["config"]) == (
        "walkers",
        "allow",
        {"seed": 3, "task": "dot"},
    )
    assert [args[0] for args, _ in logs[:3:2]] == [{"train/loss": 0.5, "step": 10}, {"train/loss": 0.25, "step": 20}]
    kind, image = logs[1][0][0]["eval/open_loop"]
    assert (kind, image[:4], logs[1][0][0]["step"]) == ("gif", b"GIF8", 10)
    assert len(wandb.named("finish")) == 2


def test_mlflow_gets_the_run_under_one_id_in_all_its_starts(tmp_path, mlflow):
    write(tmp_path, "mlflow")
    write(tmp_path, "mlflow")
    assert mlflow.named("get_experiment_by_name") == [(("dreamer",), {})]
    assert len(mlflow.named("create_run")) == 1
    assert mlflow.named("update_run") == [(("run7",), {"status": "RUNNING"})]
    params, *metrics = mlflow.named("log_batch")
    assert params == (("run7",), {"params": [("seed", "3"), ("task", "dot")]})
    assert [given["metrics"] for _, given in metrics] == [[("train/loss", 0.5, 10)], [("train/loss", 0.25, 20)]] * 2
    (run, name, folder, image), _ = mlflow.named("log_artifact")[0]
    assert (run, name, folder, image[:4]) == ("run7", "0000000010-open_loop.gif", "videos", b"GIF8")
    assert len(mlflow.named("set_terminated")) == 2


def test_mlflow_gets_names_of_vectors_in_the_characters_that_it_takes(tmp_path, mlflow):
    keys = config.load(["toy", "debug"], {"logger.also": "mlflow"}).logger
    with contextlib.closing(Also(keys, tmp_path, {}, pytest.fail)) as also:
        also.scalars(10, {"train/vector_q[0]*_loss": 0.5, "train/vector_arm.x-y z_loss": 2.0})
    _, given = mlflow.named("log_batch")[-1]
    assert given["metrics"] == [("train/vector_q_0___loss", 0.5, 10), ("train/vector_arm.x-y z_loss", 2.0, 10)]


@pytest.mark.parametrize(("failing", "left"), [("init", 0), ("log", 1)])
def test_one_that_fails_is_one_line_and_the_others_go_on(tmp_path, wandb, mlflow, failing, left):
    wandb.failing.add(failing)
    said = []
    write(tmp_path, "wandb,mlflow", said)
    assert said == [f"wandb failed ({failing}: no route to host): the run goes on without it."]
    assert len(wandb.named("log")) == left  # and no more after the first that failed
    assert len(mlflow.named("log_batch")) == 3
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [10, 20]


def test_a_note_of_ids_that_cannot_be_read_begins_new_runs(tmp_path, mlflow):
    (tmp_path / "loggers.json").write_text("[{")
    write(tmp_path, "mlflow")
    assert json.loads((tmp_path / "loggers.json").read_text()) == {"mlflow": "run7"}


def test_without_the_key_nothing_is_made(tmp_path):
    write(tmp_path, "none")
    assert not (tmp_path / "loggers.json").exists()


def test_a_missing_package_is_said_before_anything_is_made(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mlflow" else find(name))
    run = config.load(["toy", "debug"], {"logger.also": "mlflow"})
    with contextlib.ExitStack() as resources, pytest.raises(start.UsageError) as caught:
        start.claim_logdir(run, tmp_path / "run", resources)
    assert "logger.also mlflow: the package mlflow is not installed" in str(caught.value)
    assert "pip install 'dreamer-tf2[mlflow]', or mlflow-skinny alone" in str(caught.value)
    assert not (tmp_path / "run").exists()


REAL = """
import sys
from pathlib import Path
import numpy as np
from dreamer import config
from dreamer.training.also import Also

logdir = Path(sys.argv[1])
for step in (10, 20):
    said = []
    run = config.load([], {"logger.also": sys.argv[2], "logger.project": "walkers"})
    also = Also(run.logger, logdir, run.flat(), said.append)
    also.scalars(step, {"train/loss": 1 / step})
    from dreamer.results.video import encode_gif
    also.gif("eval/episode", encode_gif(np.zeros((2, 16, 16, 3), np.uint8), 5), step)
    also.close()
    assert said == [], said
"""


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_the_packages_themselves_write_without_a_network(name, tmp_path):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is an extra")
    store = tmp_path / "store"
    local = {"WANDB_MODE": "offline", "MLFLOW_TRACKING_URI": store.as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true"}
    done = subprocess.run(
        [sys.executable, "-c", REAL, str(tmp_path), name], env={**os.environ, **local}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "loggers.json").read_text())[name]
    if name == "wandb":
        starts = list((tmp_path / "wandb").glob(f"offline-run-*-{run}"))
        assert starts
        assert list((tmp_path / "wandb").rglob("*.gif"))
    else:
        (folder,) = store.glob(f"*/{run}")
        assert [line.split()[1:] for line in (folder / "metrics" / "train" / "loss").read_text().splitlines()] == [
            ["0.1", "10"],
            ["0.05", "20"],
        ]
        assert (folder / "params" / "model.deter").read_text() == "200"
        assert sorted(path.name for path in (folder / "artifacts" / "videos").iterdir()) == [
            "0000000010-episode.gif",
            "0000000020-episode.gif",
        ]
