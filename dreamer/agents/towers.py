"""The training step of Dreamer on several devices at once: each has a part of every batch, and one step is applied.

Weights, optimisers and draws are those of one device, so that a state of several opens on one and the other way round;
only the order of sums differs. What the loss makes of the whole batch, the free nats of its mean KL and the images that
a state is told apart from, is computed of all parts, and its gradients are handed back to them.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from dreamer.agents import RunError
from dreamer.agents.dreamer import Dreamer, Noise
from dreamer.keys import Keys
from dreamer.types import Batch
from dreamer.world_model.world_model import contrastive_loss

Pair = tuple[tf.Tensor, tf.Tensor]  # of contrastive_loss: features and predicted means of the images


def spread(agent: Any, config: Keys) -> None:
    """Let the agent train on config.gpus GPUs. Raises RunError where it cannot."""
    count = config.gpus
    if count == 1:
        return
    if not isinstance(agent, Dreamer):
        raise RunError(f"--gpus {count}: only Dreamer trains on several GPUs, --method {config.method} takes one")
    if config.xla == "true":
        raise RunError(f"--gpus {count}: XLA compiles a step for one GPU, leave out --xla true")
    if config.replay.batch % count:
        raise RunError(f"--gpus {count}: expected a divisor of replay.batch, which is {config.replay.batch}")
    devices = [device.name for device in tf.config.list_logical_devices("GPU")]
    if len(devices) < count:
        raise RunError(f"--gpus {count}: TensorFlow sees {len(devices)} here")
    agent.train = tf.function(Towers(agent, devices[:count]).train, autograph=False)  # type: ignore[method-assign]


class Towers:
    """Trains an agent on devices, named as TensorFlow names them, whose number divides the batch."""

    def __init__(self, agent: Dreamer, devices: Sequence[str]):
        self._agent, self._devices = agent, devices

    def train(self, batch: Batch) -> dict[str, tf.Tensor]:
        """Dreamer.train, of a batch that is divided between the devices."""
        agent, count, noise = self._agent, len(self._devices), self._agent.noise(batch)
        parts, pairs = [], list[Pair]()

        def collect(features: tf.Tensor, predicted: tf.Tensor) -> tf.Tensor:
            pairs.append((features, predicted))
            return tf.zeros(features.shape[:2])

        for number, device in enumerate(self._devices):
            with tf.device(device):
                parts.append(agent.losses(*_part(batch, noise, number, count), (number, count), collect))
        targets, upstream, joint = self._joint([part.metrics["kl"] for part in parts], pairs)
        gradients: dict[str, list] = {name: [] for name in agent.optimizers}
        for device, part, target, reached_by in zip(self._devices, parts, targets, upstream, strict=True):
            with tf.device(device):
                for name, optimizer in agent.optimizers.items():
                    tape, loss, more, given = part.tapes[name], part.scaled[name], [], []
                    if name == "model":
                        more, given = target, [optimizer.scale(x) for x in reached_by]
                        with tape:  # without what `joint` has
                            loss = optimizer.scale(part.metrics["model_loss"] - _sum(part.metrics, joint))
                    gradients[name].append(optimizer.gradients(tape, [loss, *more], [tf.ones([]), *given]))
        steps = {
            name: optimizer.apply([_mean(list(shares)) for shares in zip(*gradients[name], strict=True)])
            for name, optimizer in agent.optimizers.items()
        }
        metrics = {name: _mean([part.metrics[name] for part in parts]) for name in parts[0].metrics}
        metrics["model_loss"] += _sum(joint, joint) - _sum(metrics, joint)
        return agent.updated(metrics | joint, steps, tf.concat([part.features for part in parts], 1))

    def _joint(
        self, kls: list[tf.Tensor], pairs: list[Pair]
    ) -> tuple[list[list[tf.Tensor]], list[list[tf.Tensor]], dict[str, tf.Tensor]]:
        """What is one loss of the whole batch: tensors of each part, the gradients that reach them, losses by name.

        kls: the mean KL of each part; pairs: of each part, where the model is contrastive. The gradients are n times
        those of the loss, since the parts' are averaged.
        """
        model = self._agent.world_model
        inputs = [[kl] if model.free_nats_of_the_mean else [] for kl in kls]
        if pairs:
            inputs = [[*tensors, *pair] for tensors, pair in zip(inputs, pairs, strict=True)]
        losses = {}
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            if model.free_nats_of_the_mean:
                losses["kl_loss"] = model.kl_loss(tf.stack(kls))
            if pairs:
                features, predicted = (tf.concat(tensors, 0) for tensors in zip(*pairs, strict=True))
                losses["state_loss"] = tf.reduce_mean(contrastive_loss(features, predicted))
            total = len(kls) * _sum(losses, losses)
        return inputs, tape.gradient(total, inputs), losses


def _part(batch: Batch, noise: Noise, number: int, count: int) -> tuple[Batch, Noise]:
    """Part `number` of `count`: its sequences, and what the whole batch would have drawn for them."""

    def cut(x: tf.Tensor, axis: int = 0) -> tf.Tensor:
        return tf.split(x, count, axis)[number]

    return tf.nest.map_structure(cut, batch), Noise(cut(noise.posterior), cut(noise.imagined, 1), noise.seeds)


def _mean(tensors: list[tf.Tensor]) -> tf.Tensor:
    return tf.add_n(tensors) / len(tensors)


def _sum(values: dict[str, tf.Tensor], names: dict[str, tf.Tensor]) -> tf.Tensor:
    return tf.add_n([tf.zeros([]), *(values[name] for name in names)])
