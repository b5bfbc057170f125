"""Planning with the cross-entropy method (Hafner et al., "Learning Latent Dynamics for Planning from Pixels", Alg. 2).

belief over plans   N(0, 1) --> C candidates --> their returns --> mean and deviation of the best K --> ... I times
"""

from collections.abc import Callable

import tensorflow as tf

from dreamer.types import State


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


def predicted_return(
    step: Callable[[State, tf.Tensor, tf.Tensor], State],
    reward: Callable[[State], tf.Tensor],
    start: State,
    actions: tf.Tensor,
    noise: tf.Tensor,
    *,
    discount: Callable[[State], tf.Tensor] | None = None,
    value: Callable[[State], tf.Tensor] | None = None,
) -> tf.Tensor:
    """What a world model expects of action sequences: [M]. start: State [M, ...]; actions: [M, H, A]; noise: [M, H, S].

    step(state, action, noise) is one imagined step; reward, discount and value tell [M] of a state. Without a value the
    return is r_1 + ... + r_H, as PlaNet plans. With one it is eq. 5 with k = H, and takes the discounts too:
    r_1 + g_1 r_2 + ... + g_1 ... g_{H-2} r_{H-1} + g_1 ... g_{H-1} v_H.
    """
    # Step by step, and not scanned: what a step leaves behind for the next one is still in a processor's cache.
    state, total, weight = start, tf.zeros(tf.shape(actions)[:1]), tf.ones(tf.shape(actions)[:1])
    for action, draw in zip(tf.unstack(actions, axis=1), tf.unstack(noise, axis=1), strict=True):
        if value and discount and state is not start:
            total += weight * reward(state)
            weight *= discount(state)
        state = step(state, action, draw)
        if not value:
            total += reward(state)
    return total + weight * value(state) if value else total
