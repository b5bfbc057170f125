"""How long an update should take on this machine, from a second of its main products.

Most of an update's arithmetic is in two places: the convolutions of B T images, forward and backward, and H imagined
steps from as many states. Both are timed as they are trained, on a CPU with a part of the rows. A GPU computes them
faster than it can be told to: there an update takes at least as long as it takes to start all of its kernels.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from dreamer import keys
from dreamer.agents.build import build_agent
from dreamer.nets.device import on_gpu
from dreamer.types import ActionSpace, State
from dreamer.world_model.rssm import feature
from dreamer.world_model.world_model import preprocess

KERNELS = 9989  # of an update at the paper's sizes, as benchmarks/kernels.py counts them
ACTIONS = 6
_CHAIN = 200  # small operations, each of which waits for the one before


class Speed(NamedTuple):
    """Seconds: images, imagination: of the two main parts of an update; launch: of starting one kernel."""

    images: float
    imagination: float
    launch: float

    @property
    def update(self) -> float:
        """Seconds that an update is expected to take."""
        return max(self.images + self.imagination, KERNELS * self.launch)


def measure(run: keys.Keys, seconds: float = 1.0) -> Speed:
    """Time the main products of the Dreamer that `run` describes, for about `seconds` without tracing."""
    agent: Any = build_agent(run, ActionSpace(ACTIONS, discrete=False), seed=0)
    rows = run.replay.batch * run.replay.length
    images, states = (rows, rows) if on_gpu() else (-(-rows // 25), -(-rows // 5))
    pixels, start = tf.zeros([images, 64, 64, 3], tf.uint8), agent.world_model.rssm.initial(states)
    small, horizon = tf.Variable(tf.zeros([8, 8])), run.behavior.horizon
    return Speed(
        images=rows / images * _seconds(lambda: _learn_images(agent, pixels), seconds / 2),
        imagination=rows / states * horizon * _seconds(lambda: _learn_step(agent, start), seconds / 2),
        launch=_seconds(lambda: _chain(small), seconds / 10) / _CHAIN,
    )


def _learn_images(agent: Any, images: tf.Tensor) -> list[tf.Tensor]:
    """Gradients of encoder and decoder, for images [M, 64, 64, 3]."""
    model = agent.world_model
    with tf.GradientTape() as tape:
        embed = model.encoder(preprocess(images))
        features = tf.zeros([images.shape[0], model.rssm.stoch + model.rssm.deter])
        loss = tf.reduce_mean(tf.square(model.decoder(features))) + tf.reduce_mean(tf.cast(embed, tf.float32))
    return tape.gradient(loss, [*model.encoder.trainable_variables, *model.decoder.trainable_variables])


def _learn_step(agent: Any, state: State) -> list[tf.Tensor]:
    """Gradients of actor and value of one imagined step, from states of M rows."""
    model = agent.world_model
    with tf.GradientTape() as tape:
        action = agent.actor.distribution(feature(state)).sample(tf.constant([0, 0]))
        after = feature(model.rssm.img_step(state, action, tf.ones_like(state.stoch)))
        loss = tf.reduce_mean(model.reward(after) + agent.value(after))
    return tape.gradient(loss, [*agent.actor.trainable_variables, *agent.value.trainable_variables])


def _chain(variable: tf.Variable) -> tf.Tensor:
    x = tf.convert_to_tensor(variable)
    for _ in range(_CHAIN):
        x = tf.tanh(x)
    return x


def _seconds(function: Callable[[], Any], budget: float) -> float:
    """The median time of a call, of as many as begin within `budget` seconds."""
    compiled = tf.function(function, autograph=False)
    _finish(compiled())
    times: list[float] = []
    while not times or sum(times) < budget:
        start = time.perf_counter()
        _finish(compiled())
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _finish(result: Any) -> None:
    for tensor in tf.nest.flatten(result):
        tensor.numpy()
