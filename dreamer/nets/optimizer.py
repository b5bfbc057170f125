"""Adam with global-norm clipping and, for float16, a dynamic loss scale."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf


class Adam(keras.optimizers.Adam):
    """Keras' own, with one operation for each variable in place of some twenty: traced and taken in less time.

    Kingma & Ba (2015), in the form before their section 2.1: the rate is corrected for the first steps, not the
    moments, and epsilon is added to the root of the second moment as it is.
    """

    def apply(self, grads: Sequence[tf.Tensor], trainable_variables: Sequence[Any]) -> None:
        """One step. grads: one for each variable that this was built with, in that order and of its shape.

        What Keras offers beside it, such as weight decay and averages, is left out.
        """
        step = tf.cast(self.iterations.value + 1, tf.float32)
        powers = {"beta1_power": self.beta_1**step, "beta2_power": self.beta_2**step}
        rate = tf.cast(self.learning_rate.value, tf.float32)  # kept in Keras' floatx, which is the user's to choose
        settings = {"beta1": self.beta_1, "beta2": self.beta_2, "epsilon": self.epsilon, "lr": rate}
        moments = zip(self._momentums, self._velocities, strict=True)
        for gradient, variable, (m, v) in zip(grads, trainable_variables, moments, strict=True):
            handles = {"var": variable.value.handle, "m": m.value.handle, "v": v.value.handle}
            tf.raw_ops.ResourceApplyAdam(**handles, **powers, **settings, grad=gradient)
        self.iterations.assign_add(1)


class Optimizer(tf.Module):
    """Minimises one loss over one set of variables (paper, Appendix A: Adam, gradient norm clipped to 100).

    A step whose gradient is not finite changes nothing and reports skipped = 1; with a loss scale it also halves the
    scale. Checkpoints hold the moments, the step count and the scale.
    """

    def __init__(
        self, variables: Iterable[Any], *, lr: float, epsilon: float, clip: float, loss_scale: bool = False, name: str
    ):
        super().__init__(name=name)
        self._variables = list(variables)
        self._clip, self._lr = clip, lr
        self.adam = Adam(lr, epsilon=epsilon)
        if loss_scale:
            self.adam = keras.optimizers.LossScaleOptimizer(self.adam)
        self.adam.build(self._variables)
        self._scaled = loss_scale

    def keep_rate(self) -> None:
        """Take the learning rate of the constructor again, after a checkpoint has brought the one it was saved with."""
        adam = self.adam.inner_optimizer if self._scaled else self.adam
        adam.learning_rate = self._lr

    def network(self) -> tf.Module:
        """What a checkpoint of this holds of the network: its variables, without moments and loss scale."""
        return only_variables(self._variables)

    def as_written(self, scaled: bool) -> tf.Module:
        """What a checkpoint of this holds that was written with a loss scale, or without one.

        Where this one differs in that, the moments and the step count are the same, and a loss scale is begun anew.
        """
        if scaled == self._scaled:
            return self
        written, adam = self.network(), self.adam.inner_optimizer if self._scaled else self.adam
        written.adam = tf.Module() if scaled else adam
        if scaled:
            written.adam.inner_optimizer = adam
        return written

    def scale(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss to differentiate: multiplied by the loss scale where there is one. Call it under the tape."""
        return self.adam.scale_loss(loss) if self._scaled else loss

    def step(self, tape: tf.GradientTape, scaled_loss: tf.Tensor) -> dict[str, tf.Tensor]:
        """Differentiate, clip and apply. Returns {"grad_norm": before clipping, "skipped": 0 or 1}, scalars."""
        return self.apply(self.gradients(tape, scaled_loss))

    def gradients(self, tape: tf.GradientTape, target: Any, upstream: Any = None) -> list[tf.Tensor]:
        """Of the variables. target, upstream: the scaled loss, or tensors and the gradients that reach them."""
        gradients = tape.gradient(target, self._variables, upstream)
        missing = [v.path for v, g in zip(self._variables, gradients, strict=True) if g is None]
        if missing:
            raise ValueError(f"{self.name}: the loss does not depend on {', '.join(missing)}")
        return gradients

    def apply(self, gradients: list[tf.Tensor]) -> dict[str, tf.Tensor]:
        """Clip and apply gradients of the scaled loss; see `step`."""
        scale = tf.cast(self.adam.dynamic_scale, tf.float32) if self._scaled else 1.0
        norm = tf.linalg.global_norm(gradients) / scale
        finite = tf.math.is_finite(norm)
        # A NaN factor makes the loss scale see a norm that overflowed although every entry is finite.
        factor = tf.where(finite, self._clip / tf.maximum(norm, self._clip), math.nan)
        clipped = [g * tf.cast(factor, g.dtype) for g in gradients]
        if self._scaled:
            self.adam.apply(clipped, self._variables)  # Unscales, and skips non-finite gradients, by itself.
        else:
            tf.cond(finite, lambda: self._apply(clipped), lambda: tf.constant(0))
        return {"grad_norm": norm, "skipped": 1.0 - tf.cast(finite, tf.float32)}

    def _apply(self, gradients: list[tf.Tensor]) -> tf.Tensor:
        self.adam.apply(gradients, self._variables)
        return tf.constant(0)


def only_variables(variables: Iterable[Any]) -> tf.Module:
    """Something for the place of an Optimizer in a checkpoint that has nothing of it but the network's variables.

    Keras hides layers that are kept in lists from TensorFlow's checkpoints, so that the entry of the network itself
    lacks them.
    """
    network = tf.Module()
    network._variables = list(variables)
    return network
