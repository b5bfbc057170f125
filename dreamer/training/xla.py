"""What `xla: auto` stands for on this machine: on a GPU the faster of both forms of the training step, as measured."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from dreamer import keys
from dreamer.run import formats, layout
from dreamer.training import machine
from dreamer.training.restore import read_weights, write_weights
from dreamer.types import Batch

UPDATES = 10  # that are timed of each form, after one that is traced and compiled
# What XLA says of a step that it cannot compile, or not within the memory of the GPU.
_UNFIT = (
    *(tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.InternalError),
    tf.errors.ResourceExhaustedError,
)
# What a measurement holds for: with others of these, the faster form may be the other one.
_KIND = ("gpus", "precision", "tensorflow")


class Measured(NamedTuple):
    """Seconds of an update in both forms; None where XLA does not compile the step."""

    with_xla: float | None
    without_xla: float

    @property
    def xla(self) -> bool:
        """Whether XLA is faster."""
        return self.with_xla is not None and self.with_xla < self.without_xla

    def in_words(self) -> str:
        """One line."""
        fast = "XLA does not compile it" if self.with_xla is None else f"{1e3 * self.with_xla:.0f} ms with XLA"
        return f"An update takes {1e3 * self.without_xla:.0f} ms, {fast}."


def settle(agent: Any, config: keys.Keys, logdir: Path, report: Callable[[str], None]) -> dict[str, Any]:
    """Give the agent the form of its training step that config.xla names; returns what machines.jsonl says of it.

    auto: measured on one GPU, which takes a minute or two and leaves the agent as it was; not where a start of this run
    has been measured on the same kind of machine. XLA never is faster on a CPU.
    """
    if config.xla != "auto" or config.gpus > 1 or not machine.facts()["gpus"]:
        return {"xla": config.xla == "true"}
    seen = _remembered(logdir)
    if seen is None:
        report("Measuring whether XLA makes the training step faster here, once for this run: a minute or two.")
        seen = measure(agent, config)
        report(seen.in_words())
    else:
        agent.train = form(agent, seen.xla)
    return {"xla": seen.xla, **seen._asdict()}


def form(agent: Any, xla: bool) -> Any:
    """The agent's training step as a graph, compiled with XLA or not."""
    return tf.function(agent.train.python_function, jit_compile=True if xla else None, autograph=False)


def measure(agent: Any, config: keys.Keys) -> Measured:
    """Train with both forms and set the agent back to what it was; it keeps the faster form, which is compiled."""
    batch, forms = _batch(agent, config), {xla: form(agent, xla) for xla in (True, False)}
    with tempfile.TemporaryDirectory(prefix="dreamer-xla-") as folder:
        write_weights(agent, Path(folder, "weights"))
        try:
            with_xla = _seconds(forms[True], batch)
        except _UNFIT:
            with_xla = None
        seen = Measured(with_xla, _seconds(forms[False], batch))
        read_weights(agent, Path(folder, "weights"))
    agent.train = forms[seen.xla]
    return seen


def _seconds(step: Callable[[Batch], dict[str, tf.Tensor]], batch: Batch) -> float:
    float(step(batch)["model_loss"])  # To read a number is to wait for a GPU.
    start = time.perf_counter()
    for _ in range(UPDATES):
        metrics = step(batch)
    float(metrics["model_loss"])
    return (time.perf_counter() - start) / UPDATES


def _remembered(logdir: Path) -> Measured | None:
    """What the newest start on this kind of machine measured, or remembered."""
    now, seen = machine.facts(), None
    for line in formats.step_lines(logdir / layout.MACHINES, []):
        fast, plain = line.get("with_xla"), line.get("without_xla")
        same = all(line.get(name) == now[name] for name in _KIND)
        if same and plain is not None and all(formats.is_number(x) for x in (plain, fast) if x is not None):
            seen = Measured(fast, plain)
    return seen


def _batch(agent: Any, config: keys.Keys) -> Batch:
    """A batch of the run's sizes, in the memory of the host, from which those of a training come too."""
    lead = (config.replay.batch, config.replay.length)
    with tf.device("CPU:0"):
        return Batch(
            inputs={name: tf.zeros([*lead, *space.shape], space.dtype) for name, space in agent.inputs.items()},
            action=tf.zeros([*lead, agent.action_space.size]),
            reward=tf.zeros(lead),
            discount=tf.ones(lead),
            is_first=tf.zeros(lead, tf.bool),
        )
