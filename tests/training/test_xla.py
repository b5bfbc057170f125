"""`xla: auto`: measured on a GPU, remembered, and never taken on a CPU. The GPU is one in name only."""

import json

import numpy as np
import pytest
import tensorflow as tf

from dreamer import config
from dreamer.agents.build import build_agent
from dreamer.training import machine, xla
from dreamer.types import ActionSpace

SECONDS = {True: 0.033, False: 0.13}


@pytest.fixture
def run():
    return config.load(["toy", "debug"], {"xla": "auto", "replay.batch": 2, "replay.length": 3})


@pytest.fixture
def gpu(monkeypatch):
    """A machine with GPUs of a name; gpu("another") exchanges them."""
    facts = machine.facts

    def exchange(*names):
        monkeypatch.setattr(machine, "facts", lambda: facts() | {"gpus": list(names)})

    exchange("H100")
    return exchange


@pytest.fixture
def timed(monkeypatch):
    """Steps are not run but said to take SECONDS; which forms were timed is collected."""
    seen = []

    def seconds(step, batch):
        seen.append(compiled(step))
        return SECONDS[seen[-1]]

    monkeypatch.setattr(xla, "_seconds", seconds)
    return seen


def compiled(step):
    return step._jit_compile is True


def build(run):
    return build_agent(run, ActionSpace(2, False), seed=0)


def settle(run, logdir):
    """A start of the run: what it says to the user, which form its agent has, and the line it leaves."""
    said, agent = [], build(run)
    more = xla.settle(agent, run, logdir, said.append)
    machine.record(logdir, 0, more)
    line = json.loads((logdir / "machines.jsonl").read_text().splitlines()[-1])
    assert line["xla"] == compiled(agent.train)
    return said, line


def test_a_cpu_and_whoever_says_true_or_false_measure_nothing(run, tmp_path, timed, gpu):
    for value in ("true", "false"):
        said, line = settle(run.replace(xla=value), tmp_path)
        assert (said, line["xla"]) == ([], value == "true")
    gpu()
    said, line = settle(run, tmp_path)
    assert (said, line["xla"]) == ([], False)
    assert not timed
    assert "with_xla" not in line


def test_a_gpu_takes_the_faster_form_and_a_resume_remembers_it(run, tmp_path, timed, gpu, monkeypatch):
    said, line = settle(run, tmp_path)
    assert timed == [True, False]
    assert said[-1] == "An update takes 130 ms, 33 ms with XLA."
    assert (line["xla"], line["with_xla"], line["without_xla"]) == (True, 0.033, 0.13)
    for _ in range(2):  # the second one by the line of the first
        said, again = settle(run, tmp_path)
        assert said == []
        assert again == line
    assert len(timed) == 2
    gpu("V100")
    monkeypatch.setitem(SECONDS, True, 0.2)
    assert settle(run, tmp_path)[1]["xla"] is False
    assert len(timed) == 4
    gpu("H100")
    assert settle(run, tmp_path)[1]["xla"] is True
    assert len(timed) == 4


@pytest.mark.parametrize("error", [tf.errors.InvalidArgumentError, tf.errors.ResourceExhaustedError])
def test_a_step_that_does_not_compile_is_not_compiled(error, run, tmp_path, gpu, monkeypatch):
    def seconds(step, batch):
        if compiled(step):
            raise error(None, None, "Detected unsupported operations")
        return 0.1

    monkeypatch.setattr(xla, "_seconds", seconds)
    said, line = settle(run, tmp_path)
    assert said[-1] == "An update takes 100 ms, XLA does not compile it."
    assert (line["xla"], line["with_xla"]) == (False, None)
    monkeypatch.setattr(xla, "_seconds", None)
    assert settle(run, tmp_path) == ([], line)


def test_what_is_measured_is_forgotten_by_the_agent(run, monkeypatch):
    """Updates of the plain form, in the place of the compiled one too, which takes longer to compile than this runs."""
    agent, other = build(run), build(run)
    plain = agent.train
    monkeypatch.setattr(xla, "form", lambda agent, compiled: plain)
    monkeypatch.setattr(xla, "UPDATES", 2)
    before = [np.array(w) for w in agent.world_model.weights]
    updated = []
    read = xla.read_weights
    monkeypatch.setattr(xla, "read_weights", lambda *given: updated.append(int(agent.updates)) or read(*given))
    xla.measure(agent, run)
    assert updated == [6]
    assert int(agent.updates) == 0
    for one, weight in zip(before, agent.world_model.weights, strict=True):
        np.testing.assert_array_equal(one, weight)
    batch = xla._batch(agent, run)
    ours, theirs = ({k: float(v) for k, v in a.train(batch).items()} for a in (agent, other))
    assert ours == theirs
    for one, weight in zip(other.actor.weights, agent.actor.weights, strict=True):
        np.testing.assert_array_equal(one, weight)


def test_the_whole_step_compiles_and_equals_the_plain_one(run, monkeypatch):
    """Given the same noise, of which XLA draws another: losses, gradients and weights in float32."""

    def noise(shape, *given, **named):
        return tf.sin(tf.reshape(7.0 * tf.range(tf.reduce_prod(shape), dtype=tf.float32), shape))

    monkeypatch.setattr(tf.random, "stateless_normal", noise)
    seen = {}
    for fast in (True, False):
        agent = build(run)
        monkeypatch.setattr(agent._belief, "noise", noise_of(agent, noise))
        step, batch = xla.form(agent, fast), some_batch(agent, run)
        metrics = {name: float(value) for name, value in step(batch).items()}
        seen[fast] = (
            metrics,
            [np.array(w) for part in (agent.world_model, agent.actor, agent.value) for w in part.weights],
        )
        if fast:  # jit_compile is all or nothing: what does not compile is an error
            hlo = step.experimental_get_compiler_ir(batch)(stage="hlo")
            assert "while(" in hlo
            assert "<=" not in hlo.replace("=>", ""), "a size that is known only when it runs"
    for name, value in seen[False][0].items():
        assert seen[True][0][name] == pytest.approx(value, rel=2e-4, abs=1e-5), name
    for one, other in zip(seen[True][1], seen[False][1], strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)  # Adam's first step is the sign of a gradient


def noise_of(agent, noise):
    return lambda shape: noise([*shape, agent.world_model.rssm.stoch])


def some_batch(agent, run):
    batch, rng = xla._batch(agent, run), np.random.default_rng(0)
    image = rng.integers(0, 256, batch.image.shape, dtype=np.uint8)
    return batch._replace(inputs={"image": tf.constant(image)}, reward=tf.constant(rng.normal(size=(2, 3)), tf.float32))
