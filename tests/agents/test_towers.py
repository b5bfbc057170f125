"""Training on several devices: two logical CPU devices beside one, and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from dreamer import config
from dreamer.agents import RunError, towers
from dreamer.agents.build import build_agent
from dreamer.types import ActionSpace

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def seen():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [sys.executable, Path(__file__).with_name("two_devices.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_weights_metrics_and_draws_are_those_of_one_device(seen):
    cases = {name: case for name, case in seen.items() if "weights" in case}
    assert {"pixels", "discount head", "contrastive", "graph"} < set(cases)
    for name, case in cases.items():
        # Adam divides by the size of a gradient: where that is near 0, the order of its sum shows.
        assert case["weights"] < 1e-4, name
        assert case["draws"], name
        for key, (one, two) in case["metrics"].items():
            assert two == pytest.approx(one, rel=1e-4, abs=1e-5), (name, key)


def test_free_nats_are_those_of_the_mean_kl_of_the_whole_batch(seen):
    low, high = sorted(seen["kl of the parts and of the whole"][:2])
    whole = seen["kl of the parts and of the whole"][2]
    assert low < 0.99 * whole < 1.01 * whole < high, "parts that would decide differently show nothing"
    below, above = (seen[f"{name} the free nats"]["metrics"] for name in ("below", "above"))
    assert below["kl_loss"][1] == pytest.approx(1.001 * whole)
    assert above["kl_loss"][1] == pytest.approx(whole)
    assert above["model_grad_norm"][1] != pytest.approx(below["model_grad_norm"][1], rel=1e-4)


def test_both_devices_compute_forward_and_backward(seen):
    for devices in seen["placed"].values():
        assert [device[-5:] for device in devices] == ["CPU:0", "CPU:1"]


@pytest.fixture
def two_gpus(monkeypatch):
    gpus = [tf.config.LogicalDevice(f"/device:GPU:{number}", "GPU") for number in range(2)]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: gpus if kind == "GPU" else [])
    return gpus


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"replay.batch": 5}, "--gpus 2: expected a divisor of replay.batch, which is 5"),
        ({"gpus": 4, "replay.batch": 8}, "--gpus 4: TensorFlow sees 2 here"),
        ({"method": "planet"}, "--gpus 2: only Dreamer trains on several GPUs, --method planet takes one"),
        ({"xla": True}, "--gpus 2: XLA compiles a step for one GPU, leave out --xla true"),
    ],
)
def test_what_cannot_be_divided_is_refused(two_gpus, values, message):
    run = config.load(["toy", "debug"], {"gpus": 2, "replay.batch": 4} | values)
    agent = build_agent(run, ActionSpace(2, False), seed=0)
    before = agent.train
    with pytest.raises(RunError, match=f"^{message}$"):
        towers.spread(agent, run)
    assert agent.train is before


def test_one_gpu_changes_nothing_and_two_are_taken(two_gpus):
    run = config.load(["toy", "debug"], {"replay.batch": 4})
    agent = build_agent(run, ActionSpace(2, False), seed=0)
    before = agent.train
    towers.spread(agent, run)
    assert agent.train is before
    towers.spread(agent, run.replace(gpus=2))
    assert agent.train.python_function.__self__._devices == ["/device:GPU:0", "/device:GPU:1"]
