"""A plain Dreamer training step: what ours is measured against, and must equal.

Keras layers as they come, float32, loops written out in Python, no code of dreamer/. Continuous actions, no discount
head, the KL term after the mean: the settings of DM Control. The letters of the shapes are those of dreamer/types.py.
"""

import math
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import layers

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Noise(NamedTuple):
    """Standard-normal draws of one step. posterior: [B, T, S]; prior: [H, N, S]; action: [H, N, A]."""

    posterior: Any
    prior: Any
    action: Any


class Reference:
    """Networks, losses and updates of one agent; `config` as dreamer.config.load returns it."""

    def __init__(self, actions, config):
        self.config, self.actions = config, actions
        model = config.model
        depth, hidden, deter, stoch = model.conv_depth, model.hidden, model.deter, model.stoch
        width, embed = stoch + deter, 32 * depth
        self.encoder = keras.Sequential(
            [
                keras.Input((64, 64, 3)),
                layers.Conv2D(1 * depth, 4, strides=2, activation="relu"),
                layers.Conv2D(2 * depth, 4, strides=2, activation="relu"),
                layers.Conv2D(4 * depth, 4, strides=2, activation="relu"),
                layers.Conv2D(8 * depth, 4, strides=2, activation="relu"),
                layers.Flatten(),
            ]
        )
        self.decoder = keras.Sequential(
            [
                keras.Input((width,)),
                layers.Dense(embed),
                layers.Reshape((1, 1, embed)),
                layers.Conv2DTranspose(4 * depth, 5, strides=2, activation="relu"),
                layers.Conv2DTranspose(2 * depth, 5, strides=2, activation="relu"),
                layers.Conv2DTranspose(1 * depth, 6, strides=2, activation="relu"),
                layers.Conv2DTranspose(3, 6, strides=2),
            ]
        )
        self.rssm_input = keras.Sequential([keras.Input((stoch + actions,)), layers.Dense(hidden, "elu")])
        self.cell = layers.GRUCell(deter)
        self.cell.build((None, hidden))
        self.prior = dense_stack(deter, 2 * stoch, 1, hidden)
        self.posterior = dense_stack(deter + embed, 2 * stoch, 1, hidden)
        self.reward = dense_stack(width, 1, model.reward_layers, model.units)
        self.actor = dense_stack(width, 2 * actions, config.actor.layers, config.actor.units)
        self.value = dense_stack(width, 1, config.value.layers, config.value.units)

        world_model = (
            *(self.encoder, self.decoder, self.rssm_input, self.cell),
            *(self.prior, self.posterior, self.reward),
        )
        self.variables = {
            "model": [variable for part in world_model for variable in part.trainable_variables],
            "actor": self.actor.trainable_variables,
            "value": self.value.trainable_variables,
        }
        self.optimizers = {
            name: keras.optimizers.Adam(
                config[name].lr, epsilon=config.optimizer.epsilon, global_clipnorm=config.optimizer.clip
            )
            for name in self.variables
        }
        for name, optimizer in self.optimizers.items():
            optimizer.build(self.variables[name])

    @tf.function
    def train(self, batch):
        """One update of all three networks from a Batch, with noise drawn here. Returns scalars by name."""
        return self.update(batch, self.draw_noise(*batch.reward.shape))

    def draw_noise(self, batch, length):
        """Noise for B and T."""
        horizon, stoch = self.config.behavior.horizon, self.config.model.stoch
        return Noise(
            tf.random.normal([batch, length, stoch]),
            tf.random.normal([horizon, batch * length, stoch]),
            tf.random.normal([horizon, batch * length, self.actions]),
        )

    def update(self, batch, noise):
        """One update of all three networks. Returns their losses and gradient norms by name."""
        with tf.GradientTape() as model_tape:
            model_loss, features, metrics = self.model_loss(batch, noise.posterior)
        with tf.GradientTape() as actor_tape:
            imagined = self.imagine(features, noise.prior, noise.action)
            returns, weights = self.returns(imagined)
            actor_loss = -tf.reduce_mean(weights * returns)
        with tf.GradientTape() as value_tape:
            value = on_rows(self.value, tf.stop_gradient(imagined[:-1]))[..., 0]
            error = value - tf.stop_gradient(returns)
            value_loss = tf.reduce_mean(weights * (0.5 * error**2 + HALF_LOG_2PI))

        metrics |= {"model_loss": model_loss, "actor_loss": actor_loss, "value_loss": value_loss}
        tapes = {"model": model_tape, "actor": actor_tape, "value": value_tape}
        gradients = {name: tape.gradient(metrics[f"{name}_loss"], self.variables[name]) for name, tape in tapes.items()}
        for name, optimizer in self.optimizers.items():
            optimizer.apply(gradients[name], self.variables[name])
            metrics[f"{name}_grad_norm"] = tf.linalg.global_norm(gradients[name])
        return metrics

    def model_loss(self, batch, noise):
        """Loss of the world model, features [B, T, F] of the posterior, and the loss's terms by name."""
        image = tf.cast(batch.image, tf.float32) / 255.0 - 0.5
        count, length = batch.reward.shape
        embed = tf.reshape(self.encoder(tf.reshape(image, [count * length, 64, 64, 3])), [count, length, -1])
        stoch, deter = tf.zeros([count, self.config.model.stoch]), tf.zeros([count, self.config.model.deter])
        features, divergences = [], []
        for t in range(length):
            keep = 1.0 - tf.cast(batch.is_first[:, t, None], tf.float32)
            deter = self.transition(keep * stoch, keep * deter, batch.action[:, t])
            prior_mean, prior_std = self.gaussian(self.prior(deter))
            mean, std = self.gaussian(self.posterior(tf.concat([deter, embed[:, t]], -1)))
            stoch = mean + std * noise[:, t]
            features.append(tf.concat([stoch, deter], -1))
            squares = (std**2 + (mean - prior_mean) ** 2) / (2 * prior_std**2)
            divergences.append(tf.reduce_sum(tf.math.log(prior_std / std) + squares - 0.5, -1))
        features = tf.stack(features, 1)
        prediction = tf.reshape(on_rows(self.decoder, features), image.shape)
        reward = on_rows(self.reward, features)[..., 0]
        image_loss = tf.reduce_sum(0.5 * (prediction - image) ** 2 + HALF_LOG_2PI, [2, 3, 4])
        metrics = {
            "image_loss": tf.reduce_mean(image_loss),
            "reward_loss": tf.reduce_mean(0.5 * (reward - batch.reward) ** 2 + HALF_LOG_2PI),
            "kl": tf.reduce_mean(tf.stack(divergences, 1)),
        }
        kl_loss = self.config.model.kl_scale * tf.maximum(metrics["kl"], self.config.model.free_nats)
        return metrics["image_loss"] + metrics["reward_loss"] + kl_loss, features, metrics

    def imagine(self, features, noise, action_noise):
        """Features [H, N, F] of the steps that follow the states with features [B, T, F]."""
        model = self.config.model
        features = tf.stop_gradient(tf.reshape(features, [-1, model.stoch + model.deter]))
        stoch, deter = tf.split(features, [model.stoch, model.deter], -1)
        imagined = []
        for t in range(self.config.behavior.horizon):
            action = self.act(tf.stop_gradient(tf.concat([stoch, deter], -1)), action_noise[t])
            deter = self.transition(stoch, deter, action)
            mean, std = self.gaussian(self.prior(deter))
            stoch = mean + std * noise[t]
            imagined.append(tf.concat([stoch, deter], -1))
        return tf.stack(imagined)

    def returns(self, features):
        """lambda-returns and weights [H - 1, N] of imagined features [H, N, F]."""
        reward, value = on_rows(self.reward, features)[..., 0], on_rows(self.value, features)[..., 0]
        gamma, mix = self.config.behavior.discount, self.config.behavior.return_lambda
        last = len(value) - 1
        target, targets = value[last], []
        for t in reversed(range(last)):
            target = reward[t] + gamma * ((1 - mix) * value[t + 1] + mix * target)
            targets.insert(0, target)
        weights = tf.constant([gamma**t for t in range(last)])[:, None]
        return tf.stack(targets), weights

    def act(self, features, noise):
        """Actions [N, A] that the actor draws with standard-normal `noise`."""
        actor = self.config.actor
        mean, std = tf.split(self.actor(features), 2, -1)
        mean = actor.mean_scale * tf.tanh(mean / actor.mean_scale)
        std = tf.nn.softplus(std + math.log(math.exp(actor.init_std) - 1)) + actor.min_std
        return tf.tanh(mean + std * noise)

    def transition(self, stoch, deter, action):
        """The next deterministic state, [N, D]."""
        deter, _ = self.cell(self.rssm_input(tf.concat([stoch, action], -1)), [deter])
        return deter

    def gaussian(self, parameters):
        """Mean and standard deviation from [N, 2 S]."""
        mean, std = tf.split(parameters, 2, -1)
        return mean, tf.nn.softplus(std) + self.config.model.min_std


def dense_stack(inputs, outputs, hidden, units):
    """`hidden` layers of `units` ELU and a linear one: [N, inputs] -> [N, outputs]."""
    stack = [layers.Dense(units, "elu") for _ in range(hidden)]
    return keras.Sequential([keras.Input((inputs,)), *stack, layers.Dense(outputs)])


def on_rows(network, features):
    """Call a network on [X, Y, F] row by row: [X, Y, ...]."""
    result = network(tf.reshape(features, [-1, features.shape[-1]]))
    return tf.reshape(result, [*features.shape[:2], *result.shape[1:]])
