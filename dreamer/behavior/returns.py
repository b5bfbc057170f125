"""Returns of imagined trajectories (paper, Section 3, eqs. 4-6).

Features f_1 ... f_H are the imagined successors of a start state; all tensors here are time-major.

    tau             1        2       ...     H-1        H
    reward         r_1      r_2      ...    r_{H-1}   (r_H, unused)
    discount       g_1      g_2      ...    g_{H-1}   (g_H, unused)     between f_tau and f_{tau+1}
    value          v_1      v_2      ...    v_{H-1}    v_H              v_H is the bootstrap
    return         V_1      V_2      ...    V_{H-1}                     V_H = v_H starts the recursion
    weight          1       g_1      ...    g_1 ... g_{H-2}
"""

import tensorflow as tf


def reward_sum(reward: tf.Tensor, going_on: tf.Tensor) -> tf.Tensor:
    """V_R of the start states (eq. 4), what "No value" maximises: r_1 + ... + r_H, each as likely as it is reached.

    reward: [H, ...]; going_on: [H, ...] without a discount, 1 or the probability that f_tau is no terminal -> [...].
    Eq. 4 discounts nothing: the horizon bounds the sum, and r_H gives the last imagined action its gradient.
    """
    reached = tf.math.cumprod(going_on, 0, exclusive=True)
    return tf.reduce_sum(tf.stop_gradient(reached) * reward, 0)


def lambda_return(reward: tf.Tensor, value: tf.Tensor, discount: tf.Tensor, lambda_: float) -> tf.Tensor:
    """V_lambda (eq. 6) by its recursion: V_tau = r_tau + g_tau ((1 - lambda) v_{tau+1} + lambda V_{tau+1}), V_H = v_H.

    reward, value, discount: [H, ...] with H >= 2 -> [H - 1, ...]. lambda 0 gives one-step returns, lambda 1 the
    discounted sum of all rewards plus the last value (eq. 5 with k = H).
    """
    horizon = value.shape[0]
    target, targets = value[horizon - 1], []
    for tau in reversed(range(horizon - 1)):
        target = reward[tau] + discount[tau] * ((1.0 - lambda_) * value[tau + 1] + lambda_ * target)
        targets.append(target)
    return tf.stack(targets[::-1])


def trajectory_weights(discount: tf.Tensor) -> tf.Tensor:
    """Weight of step tau, w_1 = 1, w_tau = g_1 ... g_{tau-1}, without gradient. [H, ...] -> [H - 1, ...]."""
    return tf.stop_gradient(tf.math.cumprod(tf.concat([tf.ones_like(discount[:1]), discount[:-2]], 0), 0))
