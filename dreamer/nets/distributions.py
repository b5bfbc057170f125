"""Distributions of the model and the actor. Parameters are taken to float32 before anything is computed with them."""

import functools
import math
from collections.abc import Callable

import tensorflow as tf
import tensorflow_probability as tfp

from dreamer.nets.gradients import custom_gradient

tfd = tfp.distributions

# Largest float32 below 1: the inverse of tanh is finite there.
_BELOW_ONE = 1.0 - 2.0**-24
WHOLE = (0, 1)  # the first part of one


def normal(mean: tf.Tensor, std: tf.Tensor | float = 1.0, event_ndims: int = 1) -> tfp.distributions.Distribution:
    """Normal(mean, std) independent over the last `event_ndims` dimensions: log_prob sums over them, in float32."""
    mean = _at_least_float32(mean)
    return tfd.Independent(tfd.Normal(mean, tf.cast(std, mean.dtype)), event_ndims)


def unit_normal_log_prob(mean: tf.Tensor, value: tf.Tensor, event_ndims: int) -> tf.Tensor:
    """ln N(value; mean, 1), summed over the last `event_ndims` dimensions: that of `normal`, for images.

    mean, value: [..., *event] with equal shapes -> [...] float32. There are so many pixels that every pass over them
    counts on a CPU, and TensorFlow Probability makes nine (benchmarks/README.md): two are left forward, two backward.
    """

    @custom_gradient
    def log_prob(mean: tf.Tensor, value: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            for _ in range(event_ndims):
                upstream = upstream[..., None]
            to_mean = upstream * (value - mean)
            return to_mean, -to_mean

        event = range(-event_ndims, 0)
        constant = 0.5 * math.log(2.0 * math.pi) * math.prod(mean.shape[axis] for axis in event)
        return -0.5 * tf.reduce_sum(tf.math.squared_difference(mean, value), event) - constant, gradient

    return log_prob(_at_least_float32(mean), _at_least_float32(value))


def bernoulli(logit: tf.Tensor) -> tfp.distributions.Distribution:
    """Bernoulli over soft targets: log_prob(p) = p ln sigmoid(logit) + (1 - p) ln sigmoid(-logit), in float32."""
    return tfd.Bernoulli(logits=_at_least_float32(logit), dtype=tf.float32)


class TanhNormal:
    """a = tanh(x), x ~ Normal(mean, std): actions in (-1, 1) with a reparameterised sample. Parameters: [..., A]."""

    def __init__(self, mean: tf.Tensor, std: tf.Tensor):
        self.mean, self.std = _at_least_float32(mean), _at_least_float32(std)
        self._base = tfd.Normal(self.mean, self.std)

    def sample(self, seed: tf.Tensor, part: tuple[int, int] = WHOLE) -> tf.Tensor:
        """[..., A]; seed: int32 or int64 [2]. Gradients reach mean and std. part: see `_part_of`."""
        normal = functools.partial(tf.random.stateless_normal, dtype=self.mean.dtype)
        noise = _part_of(normal, tf.shape(self.mean), seed, part)
        return tf.tanh(self.mean + self.std * noise)

    def log_prob(self, action: tf.Tensor) -> tf.Tensor:
        """[..., A] in [-1, 1] -> [...]; an action at the border counts as the float32 number next to it."""
        return self._log_prob_before_tanh(tf.atanh(tf.clip_by_value(action, -_BELOW_ONE, _BELOW_ONE)))

    def entropy(self, seed: tf.Tensor, samples: int = 100) -> tf.Tensor:
        """Monte Carlo estimate of -E[ln p(a)]: [...], in nats."""
        return -tf.reduce_mean(self._log_prob_before_tanh(self._draw([samples], seed)), 0)

    def mode(self, seed: tf.Tensor, samples: int = 100) -> tf.Tensor:
        """The likeliest of `samples` draws, chosen for each batch element by itself: [..., A] (TF1 release).

        The TF2 release takes the draw that is likeliest in the first row for all rows; with one row they are the same.
        """
        draws = self._draw([samples], seed)
        best = tf.argmax(self._log_prob_before_tanh(draws), 0)
        chosen = tf.one_hot(best, samples, axis=0, dtype=draws.dtype)[..., None]
        return tf.tanh(tf.reduce_sum(draws * chosen, 0))

    def _draw(self, shape: list[int], seed: tf.Tensor) -> tf.Tensor:
        noise = tf.random.stateless_normal(tf.concat([shape, tf.shape(self.mean)], 0), seed, dtype=self.mean.dtype)
        return self.mean + self.std * noise

    def _log_prob_before_tanh(self, x: tf.Tensor) -> tf.Tensor:
        # ln(1 - tanh(x)^2), in the form that does not cancel for large |x|.
        log_slope = 2.0 * (math.log(2.0) - x - tf.nn.softplus(-2.0 * x))
        return tf.reduce_sum(self._base.log_prob(x) - log_slope, -1)


class OneHot:
    """Categorical over A one-hot actions with straight-through gradients (paper, Section 3). logits: [..., A].

    groups: sizes of several choices that are made at once, whose one-hot vectors make up the action; they are
    independent, given the logits. () for one choice.
    """

    def __init__(self, logits: tf.Tensor, groups: tuple[int, ...] = ()):
        self._groups = groups
        self._logits = _at_least_float32(logits)
        self._dists = [tfd.OneHotCategorical(logits=part, dtype=tf.float32) for part in self._split(self._logits)]

    def sample(self, seed: tf.Tensor, part: tuple[int, int] = WHOLE) -> tf.Tensor:
        """[..., A] one-hot by Gumbel arg-max; its gradient is that of the probabilities. seed: int32 or int64 [2].

        part: see `_part_of`.
        """
        uniform = functools.partial(tf.random.stateless_uniform, minval=1e-30)
        gumbel = -tf.math.log(-tf.math.log(_part_of(uniform, tf.shape(self._logits), seed, part)))
        parts = []
        for dist, noise in zip(self._dists, self._split(gumbel), strict=True):
            logits, probs = dist.logits_parameter(), dist.probs_parameter()
            one_hot = tf.one_hot(tf.argmax(logits + noise, -1), logits.shape[-1])
            parts.append(one_hot + (probs - tf.stop_gradient(probs)))
        return self._joined(parts)

    def log_prob(self, action: tf.Tensor) -> tf.Tensor:
        """[..., A] one-hot -> [...]."""
        return self._sum([dist.log_prob(part) for dist, part in zip(self._dists, self._split(action), strict=True)])

    def entropy(self, seed: tf.Tensor | None = None, samples: int | None = None) -> tf.Tensor:
        """Exact entropy [...], in nats; neither seed nor samples are needed."""
        return self._sum([dist.entropy() for dist in self._dists])

    def mode(self, seed: tf.Tensor | None = None) -> tf.Tensor:
        """[..., A]: the likeliest action; the seed is not used."""
        return self._joined([tf.cast(dist.mode(), tf.float32) for dist in self._dists])

    def _split(self, x: tf.Tensor) -> list[tf.Tensor]:
        return split(x, self._groups)

    @staticmethod
    def _joined(parts: list[tf.Tensor]) -> tf.Tensor:
        return tf.concat(parts, -1) if len(parts) > 1 else parts[0]

    @staticmethod
    def _sum(parts: list[tf.Tensor]) -> tf.Tensor:
        return tf.add_n(parts) if len(parts) > 1 else parts[0]


def split(action: tf.Tensor, groups: tuple[int, ...]) -> list[tf.Tensor]:
    """The parts [..., n] of an action [..., A], one for each size n of `groups`; the action itself without groups."""
    return tf.split(action, groups, -1) if groups else [action]


def _part_of(draw: Callable[..., tf.Tensor], shape: tf.Tensor, seed: tf.Tensor, part: tuple[int, int]) -> tf.Tensor:
    """Draws of a shape; where that is part (i, n) of a whole of n times the rows, those that the whole would draw."""
    number, count = part
    if count == 1:
        return draw(shape, seed)
    return draw(tf.concat([count * shape[:1], shape[1:]], 0), seed)[number * shape[0] :][: shape[0]]


def _at_least_float32(x: tf.Tensor) -> tf.Tensor:
    """float16 and bfloat16 become float32; float32 and float64 stay as they are."""
    return tf.cast(x, tf.float32) if x.dtype in (tf.float16, tf.bfloat16) else x
