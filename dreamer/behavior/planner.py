"""Planning with the cross-entropy method (Hafner et al., "Learning Latent Dynamics for Planning from Pixels", Alg. 2).

belief over plans   N(0, 1) --> C candidates --> their returns --> mean and deviation of the best K --> ... I times
"""

from collections.abc import Callable

import tensorflow as tf


def plan(
    evaluate: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], noise: tf.Tensor, seeds: tf.Tensor, best: int
) -> tf.Tensor:
    """Sequences of actions [B, H, A] that `evaluate` rates highly, one for each of B starting points.

    evaluate(candidates [B, C, H, A] in [-1, 1], seed [2]) -> returns [B, C]; noise: [I, B, C, H, A], standard normal,
    and seeds: [I, 2], for I iterations of C candidates; best: K of them, to which a belief is refitted.
    """

    def refit(belief: tuple[tf.Tensor, tf.Tensor], inputs: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        (mean, std), (noise, seed) = belief, inputs
        candidates = tf.clip_by_value(mean[:, None] + std[:, None] * noise, -1.0, 1.0)
        chosen = tf.math.top_k(evaluate(candidates, seed), best, sorted=False).indices  # [B, K]
        elite = tf.gather(candidates, chosen, batch_dims=1)  # [B, K, H, A]
        return tf.reduce_mean(elite, 1), tf.math.reduce_std(elite, 1)

    start = tf.zeros_like(noise[0, :, 0]), tf.ones_like(noise[0, :, 0])
    mean, _ = tf.foldl(refit, (noise, seeds), start)
    return mean
