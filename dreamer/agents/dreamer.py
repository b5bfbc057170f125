"""Dreamer (paper, Algorithm 1): a world model, and an actor and a value network trained in its imagination."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from dreamer import keys
from dreamer.agents.acting import Belief, Carry, Draws, Inputs, act_once, exploration_noise, rows_of
from dreamer.agents.build import shared
from dreamer.agents.snapshot import Snapshot
from dreamer.behavior.actor_critic import Actor, Value, actor_loss, imagine, value_loss
from dreamer.behavior.returns import lambda_return, reward_sum, trajectory_weights
from dreamer.nets.distributions import WHOLE, split
from dreamer.nets.layers import flatten_leading, seed_stream
from dreamer.nets.optimizer import Optimizer
from dreamer.types import PIXELS, ActionSpace, Batch, Space, State
from dreamer.world_model.rssm import feature
from dreamer.world_model.world_model import WorldModel, contrastive_loss, probe_seed_stream


class Noise(NamedTuple):
    """Draws of an update: posterior [B, T, S], imagined [H, N, S], standard normal; seeds [H, 2] of the actions."""

    posterior: tf.Tensor
    imagined: tf.Tensor
    seeds: tf.Tensor


class Losses(NamedTuple):
    """By network, "model", "actor", "value", "probe": tape of its loss, and the scaled loss. features: [H, N, F]."""

    tapes: dict[str, tf.GradientTape]
    scaled: dict[str, tf.Tensor]
    metrics: dict[str, tf.Tensor]
    features: tf.Tensor


class Dreamer:
    """The agent of the paper.

    inputs: Space of everything that it sees, by name.
    model, actor, value, behavior, optimizer, explore are the keyword arguments of configs/defaults.yaml's sections of
    the same names. loss_scale is for float16; xla compiles the training step.
    """

    def __init__(
        self,
        action_space: ActionSpace,
        inputs: Mapping[str, Space] = PIXELS,
        *,
        model: keys.Model,
        actor: keys.Actor,
        value: keys.Value,
        behavior: keys.Behavior,
        optimizer: keys.Optimizer,
        explore: keys.Explore,
        seed: int,
        loss_scale: bool = False,
        xla: bool = False,
    ):
        model, actor, value = dict(model), dict(actor), dict(value)
        model.pop("inputs", None)  # Names, of which `inputs` has the Spaces.
        learning_rates = {"model": model.pop("lr"), "actor": actor.pop("lr"), "value": value.pop("lr")}
        learning_rates["probe"] = learning_rates["model"]
        self._horizon, self._bootstrap = behavior["horizon"], behavior["bootstrap"]
        self._lambda = behavior["return_lambda"]
        self._explore, self._has_discount_head = dict(explore), model["discount_head"]
        self.action_space, self.inputs = action_space, dict(inputs)
        seeds = seed_stream(seed)
        width = model["stoch"] + model["deter"]
        self.world_model = WorldModel(
            action_space.size,
            inputs,
            gamma=behavior["discount"],
            seeds=seeds,
            probe_seeds=probe_seed_stream(seed),
            **model,
        )
        actions, discrete, groups = action_space
        self.actor = Actor(width, actions, discrete=discrete, groups=groups, seeds=seeds, **actor)
        self.value = Value(width, seeds=seeds, **value)
        variables = {
            "model": self.world_model.model_variables,
            "actor": self.actor.trainable_variables,
            "value": self.value.trainable_variables,
        }
        if self.world_model.probes:
            variables["probe"] = self.world_model.probe_variables
        settings = {"loss_scale": loss_scale, **optimizer}
        self.optimizers = {
            name: Optimizer(trained, lr=learning_rates[name], name=name, **settings)
            for name, trained in variables.items()
        }
        self.updates = tf.Variable(0, trainable=False, dtype=tf.int64, name="updates")
        self._groups = tf.Variable(groups, trainable=False, name="groups") if groups else None
        self.random = tf.random.Generator.from_seed(next(seeds), alg="philox")
        self._belief = Belief(self.world_model, action_space.size, self.random)
        rssm, mlp = self.world_model.rssm, self.actor.mlp
        encoding = self.world_model.encoding_layers
        read = [*encoding, rssm.input_layer, rssm.gru, rssm.posterior_hidden, rssm.posterior_out]
        self._snapshot = Snapshot(
            functools.partial(self.policy, random=self.random),
            self.inputs,
            [*read, *mlp.hidden, mlp.out],
            self.updates,
        )
        compiled = tf.function(self.train, jit_compile=True if xla else None, autograph=False)
        self.train = compiled  # type: ignore[method-assign]  # the same method, compiled

    def checkpoint(self) -> dict[str, Any]:
        """Networks, optimisers, update counter and random generator, by name."""
        return {
            "world_model": self.world_model,
            "actor": self.actor,
            "value": self.value,
            **{f"{name}_optimizer": optimizer for name, optimizer in self.optimizers.items()},
            "updates": self.updates,
            "random": self.random,
            # Which the shapes of weights do not tell.
            **({"groups": self._groups} if self._groups is not None else {}),
        }

    def train(self, batch: Batch) -> dict[str, tf.Tensor]:
        """One update of all three networks from a Batch. Returns scalar metrics."""
        losses = self.losses(batch, self.noise(batch))
        steps = {name: opt.step(losses.tapes[name], losses.scaled[name]) for name, opt in self.optimizers.items()}
        return self.updated(losses.metrics, steps, losses.features)

    def noise(self, batch: Batch) -> "Noise":
        """The draws of an update."""
        rows, steps = batch.discount.shape
        starts = rows * (steps - self._has_discount_head)
        return Noise(
            self._belief.noise(batch.reward.shape),
            self._belief.noise([self._horizon, starts]),
            tf.transpose(self.random.make_seeds(self._horizon)),
        )

    def losses(
        self,
        batch: Batch,
        noise: "Noise",
        part: tuple[int, int] = WHOLE,
        contrast: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = contrastive_loss,
    ) -> "Losses":
        """The three losses of a Batch, or of part (i, n) of one; and that of the probe, where there is one.

        Each tape covers one loss and each optimiser holds one network's variables, so that a gradient reaches a network
        from its own loss only.
        """
        with tf.GradientTape() as model_tape:
            model_loss, posterior, metrics = self.world_model.loss(batch, noise.posterior, contrast)
            model_scaled = self.optimizers["model"].scale(model_loss)

        with tf.GradientTape() as actor_tape:
            features = self._imagine(posterior, noise, part)  # [H, N, F]
            reward, discount = self.world_model.reward(features), self.world_model.discount(features)
            with tf.GradientTape() as value_tape:  # Opened this late, it has the features as constants.
                value = self.value(features)
            returns = lambda_return(reward, value, discount, self._lambda)  # [H - 1, N]
            starts = self._start_weights(batch.discount)
            weights = trajectory_weights(discount) * starts
            if self._bootstrap:
                policy_loss = actor_loss(returns, weights)
            else:  # The value network still learns the returns of this actor, for whoever looks at it.
                within = reward_sum(reward, self.world_model.going_on(discount))  # [N]
                policy_loss = actor_loss(within, starts * tf.ones_like(within))
            actor_scaled = self.optimizers["actor"].scale(policy_loss)

        with value_tape:
            critic_loss = value_loss(value[:-1], returns, weights)
            value_scaled = self.optimizers["value"].scale(critic_loss)

        metrics |= {
            "actor_loss": policy_loss,
            "value_loss": critic_loss,
            "imagined_reward": tf.reduce_mean(reward),
            "imagined_return": tf.reduce_mean(returns),
            "imagined_value": tf.reduce_mean(value[:-1]),
        }
        tapes = {"model": model_tape, "actor": actor_tape, "value": value_tape}
        scaled = {"model": model_scaled, "actor": actor_scaled, "value": value_scaled}
        if self.world_model.probes:
            with tf.GradientTape() as tapes["probe"]:
                metrics["probe_loss"] = self.world_model.probe_loss(posterior, batch.image)
                scaled["probe"] = self.optimizers["probe"].scale(metrics["probe_loss"])
        return Losses(tapes, scaled, metrics, features)

    def updated(
        self, metrics: dict[str, tf.Tensor], steps: dict[str, dict[str, tf.Tensor]], features: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Count the update whose steps were made, and return its metrics. features: imagined ones, [H, N, F]."""
        self.updates.assign_add(1)
        entropy = self.actor.distribution(features[0]).entropy(self.random.make_seeds(1)[:, 0], samples=1)
        numbers = {f"{name}_{key}": number for name, step in steps.items() for key, number in step.items()}
        return metrics | numbers | {"actor_entropy": tf.reduce_mean(entropy)}

    def _start_weights(self, discount: tf.Tensor) -> tf.Tensor | float:
        """Weight of every start state, [N] or 1: none for a terminal in the middle of a window. discount: [B, T].

        The losses are means over all N, so that such a start counts there with 0. Windows of the releases end with
        their episode: they have no terminal in the middle (ours).
        """
        return flatten_leading(discount[:, :-1], 0)[0] if self._has_discount_head else 1.0

    def _imagine(self, posterior: State, noise: "Noise", part: tuple[int, int]) -> tf.Tensor:
        """H steps from every posterior state [B, T, ...]: features [H, N, F]."""
        if self._has_discount_head:  # The last step may be terminal: nothing to imagine from there.
            posterior = tf.nest.map_structure(lambda x: x[:, :-1], posterior)
        start = tf.nest.map_structure(lambda x: flatten_leading(tf.stop_gradient(x), 1)[0], posterior)
        return imagine(
            self.world_model.rssm.img_step,
            lambda features, seed: self.actor.distribution(features).sample(seed, part),
            feature,
            start,
            noise.imagined,
            noise.seeds,
        )

    def initial(self, rows: int = 1) -> Carry:
        """Carry before the first step, for `rows` environments; `act` then knows the weights as they are now."""
        self._snapshot.take()
        return self._belief.initial(rows)

    def act(self, observation: Mapping[str, Any], carry: Carry, explore: bool) -> tuple[np.ndarray, Carry]:
        """One action [A] for one observation: a noisy sample when exploring, otherwise the mode."""
        return act_once(self.act_rows, self.inputs, observation, carry, explore)

    def act_rows(self, inputs: Inputs, is_first: np.ndarray, carry: Carry, explore: bool) -> tuple[np.ndarray, Carry]:
        """Actions [B, A] for B environments at once: those of `explore` or `evaluate`, sooner.

        The weights are those of the last update, or of `initial` where something else has changed them since.
        """
        return self._snapshot(inputs, is_first, carry, explore)

    @tf.function(autograph=False)
    def evaluate(self, inputs: Inputs, is_first: tf.Tensor, carry: Carry) -> tuple[tf.Tensor, Carry]:
        """Mode actions, see `policy`."""
        return self.policy(inputs, is_first, carry, self.random, explore=False)

    @tf.function(autograph=False)
    def explore(self, inputs: Inputs, is_first: tf.Tensor, carry: Carry) -> tuple[tf.Tensor, Carry]:
        """Sampled actions with noise, see `policy`."""
        return self.policy(inputs, is_first, carry, self.random, explore=True)

    def policy(
        self, inputs: Inputs, is_first: tf.Tensor, carry: Carry, random: tf.random.Generator | Draws, *, explore: bool
    ) -> tuple[tf.Tensor, Carry]:
        """Actions [B, A] and the new carry. inputs: [B, ...] by name, is_first: [B]; carry: (State, last action).

        random: a tf.random.Generator, or Draws, on which all that is random here depends. explore: sampled actions with
        noise, a Normal on continuous ones and epsilon-greedy on discrete ones, in each of their groups by itself; else
        the mode, discrete ones epsilon-greedy.
        """
        state = self._belief.filter(inputs, is_first, carry, random)
        policy = self.actor.distribution(feature(state))
        seed = random.make_seeds(1)[:, 0]
        discrete = self.action_space.discrete
        use_mode = not explore or (self._explore["mode"] and not discrete)
        action = policy.mode(seed) if use_mode else policy.sample(seed)
        if discrete:
            decay = linear(self._explore["epsilon"], self._explore["epsilon_end"], self._explore["epsilon_updates"])
            epsilon = decay(self.updates) if explore else self._explore["epsilon_eval"]
            parts = split(action, self.action_space.groups)
            uniform = tf.split(random.uniform([2, len(parts) * rows_of(action)]), len(parts), 1)
            action = tf.concat(
                [epsilon_greedy(part, epsilon, drawn) for part, drawn in zip(parts, uniform, strict=True)], -1
            )
        elif explore:
            action = exploration_noise(action, self._explore["noise"], random.normal(tf.shape(action)))
        return action, (state, action)

    def open_loop(self, batch: Batch, context: int) -> dict[str, tf.Tensor]:
        """What is predicted once the first `context` steps have been seen, by name; see WorldModel.open_loop."""
        return self._belief.open_loop(batch, context)


def build(config: keys.Keys, action_space: ActionSpace, inputs: Mapping[str, Space], *, seed: int) -> Dreamer:
    """The Dreamer of a config."""
    sections: dict[str, Any] = {"actor": config.actor, "value": config.value, "behavior": config.behavior}
    return Dreamer(action_space, inputs, **sections, **shared(config, seed))


def epsilon_greedy(action: tf.Tensor, epsilon: float | tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """With probability epsilon a uniformly random choice (paper, Appendix A). action: [B, A] one-hot.

    uniform: [2, B] in [0, 1); the first row decides whether, the second which.
    """
    choices = action.shape[-1]
    other = tf.one_hot(tf.cast(uniform[1] * choices, tf.int32), choices)
    return tf.where((uniform[0] < epsilon)[:, None], other, action)


def linear(start: float, end: float, steps: float) -> Callable[[tf.Tensor], tf.Tensor]:
    """Function of a step count that goes from `start` to `end` in `steps` steps and stays there."""

    def at(step: tf.Tensor) -> tf.Tensor:
        return start + (end - start) * tf.minimum(tf.cast(step, tf.float32) / steps, 1.0)

    return at
