"""Steps of the optimiser against Adam written in float64 NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dreamer.nets.optimizer import Optimizer

LR, BETA1, BETA2 = 0.01, 0.9, 0.999
START = [np.array([[1.0, -2.0], [0.5, 3.0]]), np.array([0.0, 4.0, -1.0])]
GRADIENT = [np.array([[3.0, 0.0], [-4.0, 0.001]]), np.array([12.0, -1e-6, 0.0])]  # Norm 13.


def numpy_adam(gradients, *, epsilon, clip):
    """Values after one step per entry of `gradients`: Kingma & Ba with their epsilon hat, added to sqrt(v)."""
    values, m, v = ([np.array(x) for x in START], [0.0] * 2, [0.0] * 2)
    for t, gradient in enumerate(gradients, 1):
        norm = np.sqrt(sum(np.sum(g**2) for g in gradient))
        gradient = [g * min(1.0, clip / norm) for g in gradient]
        rate = LR * np.sqrt(1 - BETA2**t) / (1 - BETA1**t)
        for i, g in enumerate(gradient):
            m[i] = BETA1 * m[i] + (1 - BETA1) * g
            v[i] = BETA2 * v[i] + (1 - BETA2) * g**2
            values[i] = values[i] - rate * m[i] / (np.sqrt(v[i]) + epsilon)
    return values


def make(*, epsilon=1e-7, clip=100.0, loss_scale=False):
    """Variables at START, their optimiser, and a compiled step whose loss has the gradient that it is given."""
    variables = [keras.Variable(x.astype(np.float32)) for x in START]
    optimizer = Optimizer(variables, lr=LR, epsilon=epsilon, clip=clip, loss_scale=loss_scale, name="test")

    @tf.function
    def step(*gradient):
        with tf.GradientTape() as tape:
            loss = tf.add_n([tf.reduce_sum(g * x) for g, x in zip(gradient, variables, strict=True)])
            scaled = optimizer.scale(loss)
        return optimizer.step(tape, scaled)

    def run(gradient):
        return {name: float(x) for name, x in step(*(tf.constant(g, tf.float32) for g in gradient)).items()}

    return variables, optimizer, run


def state(optimizer, variables):
    """Everything that a step changes, but for the loss scale."""
    inner = optimizer.adam.inner_optimizer if optimizer._scaled else optimizer.adam
    return [np.array(x) for x in (*variables, *inner.variables)]


def moved(variables):
    return [np.array(x) - start for x, start in zip(variables, START, strict=True)]


@pytest.mark.parametrize("loss_scale", [False, True])
@pytest.mark.parametrize("clip", [100.0, 1.3], ids=["norm_under_clip", "norm_over_clip"])
@pytest.mark.parametrize("epsilon", [1e-7, 1e-4, 0.1])
def test_steps_equal_adam_in_numpy(epsilon, clip, loss_scale):
    variables, _, run = make(epsilon=epsilon, clip=clip, loss_scale=loss_scale)
    second = [np.ones((2, 2)), np.array([-3.0, 0.5, 0.0])]
    for done, gradient in enumerate([GRADIENT, second, GRADIENT], 1):
        metrics = run(gradient)
        norm = np.sqrt(sum(np.sum(g**2) for g in gradient))
        assert metrics == {"grad_norm": pytest.approx(norm, rel=1e-5), "skipped": 0.0}
        expected = numpy_adam([GRADIENT, second, GRADIENT][:done], epsilon=epsilon, clip=clip)
        for result, value in zip(variables, expected, strict=True):
            np.testing.assert_allclose(result, value, rtol=1e-5, atol=1e-6)


def test_first_step_by_hand():
    """m = 0.1 g and v = 0.001 g^2, so that a step is lr g / (|g| + epsilon / sqrt(0.001)): 31.6 epsilon."""
    variables, _, run = make(epsilon=0.1, clip=1.3)
    run(GRADIENT)
    clipped = [g / 10 for g in GRADIENT]  # 1.3 / 13
    for result, g in zip(moved(variables), clipped, strict=True):
        np.testing.assert_allclose(result, -LR * g / (np.abs(g) + 0.1 / np.sqrt(0.001)), rtol=2e-3, atol=1e-7)


@pytest.mark.parametrize("loss_scale", [False, True])
@pytest.mark.parametrize("steps", [300, 1_000, 3_000])
def test_the_rate_is_corrected_for_as_many_steps_as_were_taken(steps, loss_scale):
    """With moments of 0 so late, a step is the rate times 0.1 g / (sqrt(0.001) |g|)."""
    variables, optimizer, run = make(loss_scale=loss_scale)
    (optimizer.adam.inner_optimizer if loss_scale else optimizer.adam).iterations.assign(steps)
    run([np.full((2, 2), 3.0), np.array([2.0, -5.0, 1.0])])
    rate = LR * np.sqrt(1 - BETA2 ** (steps + 1)) / (1 - BETA1 ** (steps + 1))
    size = rate * 0.1 / np.sqrt(0.001)
    np.testing.assert_allclose(moved(variables)[0], -size, rtol=2e-5)
    np.testing.assert_allclose(moved(variables)[1], [-size, size, -size], rtol=2e-5)


@pytest.mark.parametrize("name", ["float16", "float64"])
def test_steps_do_not_depend_on_keras_floatx(name):
    """Which is the user's: ~/.keras/keras.json may set it."""
    before = keras.config.floatx()
    variables, _, run = make()
    run(GRADIENT)
    keras.config.set_floatx(name)
    try:
        others, _, run = make()
        run(GRADIENT)
    finally:
        keras.config.set_floatx(before)
    for one, other in zip(variables, others, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3 if name == "float16" else 1e-6)


def test_clipping_uses_the_norm_over_all_variables():
    """Each variable's own norm is below the clip, the norm of both is not."""
    variables, _, run = make(epsilon=0.1, clip=4.0)
    gradient = [np.full((2, 2), 1.5), np.array([4.0, 0.0, 0.0])]  # Norms 3 and 4, together 5.
    assert run(gradient)["grad_norm"] == pytest.approx(5.0)
    expected = numpy_adam([[0.8 * g for g in gradient]], epsilon=0.1, clip=100.0)
    for result, value in zip(variables, expected, strict=True):
        np.testing.assert_allclose(result, value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss_scale", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(bad, loss_scale):
    variables, optimizer, run = make(loss_scale=loss_scale)
    run(GRADIENT)
    before = state(optimizer, variables)
    metrics = run([np.array([[bad, 1.0], [1.0, 1.0]]), np.ones(3)])
    assert metrics["skipped"] == 1.0
    assert not np.isfinite(metrics["grad_norm"])
    for old, new in zip(before, state(optimizer, variables), strict=True):
        np.testing.assert_array_equal(old, new)
    # The next step goes on as if the skipped one had not been.
    assert run(GRADIENT)["skipped"] == 0.0
    for result, value in zip(variables, numpy_adam([GRADIENT] * 2, epsilon=1e-7, clip=100.0), strict=True):
        np.testing.assert_allclose(result, value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss_scale", [False, True])
def test_a_step_reported_as_skipped_changes_nothing_when_only_the_norm_overflows(loss_scale):
    variables, optimizer, run = make(loss_scale=loss_scale)
    run(GRADIENT)
    before = state(optimizer, variables)
    assert run([np.full((2, 2), 1e25), np.ones(3)])["skipped"] == 1.0
    for old, new in zip(before, state(optimizer, variables), strict=True):
        np.testing.assert_array_equal(old, new)


def test_loss_scale_multiplies_the_loss_and_halves_when_a_step_is_skipped():
    _, optimizer, run = make(loss_scale=True)
    scale = float(optimizer.adam.dynamic_scale)
    assert scale > 1
    assert float(optimizer.scale(tf.constant(2.0))) == 2 * scale
    run(GRADIENT)
    assert float(optimizer.adam.dynamic_scale) == scale
    run([np.full((2, 2), np.nan), np.ones(3)])
    assert float(optimizer.adam.dynamic_scale) == scale / 2


def test_without_loss_scale_the_loss_is_left_alone():
    _, optimizer, _ = make()
    assert float(optimizer.scale(tf.constant(2.0))) == 2.0


def test_a_variable_that_the_loss_does_not_depend_on_is_named():
    used, unused = (keras.Variable(np.ones(2, np.float32), name=name) for name in ("used", "left_out"))
    optimizer = Optimizer([used, unused], lr=LR, epsilon=1e-7, clip=100.0, name="model")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(used.value)
    with pytest.raises(ValueError, match="model: the loss does not depend on left_out"):
        optimizer.step(tape, loss)


@pytest.mark.parametrize("loss_scale", [False, True])
def test_a_checkpoint_holds_moments_step_count_and_scale(tmp_path, loss_scale):
    variables, optimizer, run = make(loss_scale=loss_scale)
    run(GRADIENT)
    if loss_scale:
        run([np.full((2, 2), np.nan), np.ones(3)])
    path = tf.train.Checkpoint(optimizer=optimizer).save(tmp_path / "checkpoint")
    run(GRADIENT)

    resumed, other, resumed_run = make(loss_scale=loss_scale)
    resumed_run([np.ones((2, 2)), np.ones(3)])
    tf.train.Checkpoint(optimizer=other).restore(path).assert_existing_objects_matched()
    for variable, value in zip(resumed, numpy_adam([GRADIENT], epsilon=1e-7, clip=100.0), strict=True):
        variable.assign(value)
    resumed_run(GRADIENT)
    for result, expected in zip(resumed, variables, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-7)
    if loss_scale:
        assert float(other.adam.dynamic_scale) == float(optimizer.adam.dynamic_scale)


def test_a_checkpoint_of_keras_own_adam_goes_on(tmp_path):
    """As runs of earlier versions have: two steps of Keras, then one of ours from its moments and step count."""
    second = [np.ones((2, 2)), np.array([-3.0, 0.5, 0.0])]
    variables = [keras.Variable(x.astype(np.float32)) for x in START]
    optimizer = Optimizer(variables, lr=LR, epsilon=1e-4, clip=100.0, name="test")
    optimizer.adam = keras.optimizers.Adam(LR, epsilon=1e-4)
    optimizer.adam.build(variables)
    for gradient in (GRADIENT, second):
        optimizer.adam.apply([tf.constant(g, tf.float32) for g in gradient], variables)
    path = tf.train.Checkpoint(optimizer=optimizer).save(tmp_path / "checkpoint")

    resumed, other, run = make(epsilon=1e-4)
    tf.train.Checkpoint(optimizer=other).restore(path).assert_consumed()
    run(GRADIENT)
    for result, value in zip(resumed, numpy_adam([GRADIENT, second, GRADIENT], epsilon=1e-4, clip=100.0), strict=True):
        np.testing.assert_allclose(result, value, rtol=1e-5, atol=1e-6)
