import numpy as np

from dreamer.training.evaluation import errors_against_horizon, held_out_windows


def numbered_episode(length):
    return {
        "image": np.arange(length, dtype=np.uint8)[:, None, None, None] * np.ones((1, 64, 64, 3), np.uint8),
        "action": np.arange(length, dtype=np.float32)[:, None],
        "reward": np.arange(length, dtype=np.float32),
        "discount": np.ones(length, np.float32),
        "is_first": np.arange(length) == 0,
        "position": np.zeros((length, 2), np.float32),
    }


def test_windows_are_spread_evenly_and_reach_the_last_step():
    batch = held_out_windows(numbered_episode(100), sequences=3, length=20)
    np.testing.assert_array_equal(batch.reward[:, 0], [0, 40, 80])
    np.testing.assert_array_equal(batch.reward[:, -1], [19, 59, 99])
    np.testing.assert_array_equal(batch.image[:, :, 0, 0, 0], batch.reward)
    np.testing.assert_array_equal(batch.action[..., 0], batch.reward)
    np.testing.assert_array_equal(batch.is_first[:, 0], [True, True, True])
    assert not batch.is_first[:, 1:].any()


def test_a_short_episode_gives_short_windows():
    assert held_out_windows(numbered_episode(7), sequences=2, length=20).reward.shape == (2, 7)


def test_image_errors_count_the_imagined_steps_only_and_compare_with_the_last_seen_frame():
    truth = np.zeros((2, 4, 1, 2, 3))
    model = np.zeros((2, 4, 1, 2, 3))
    truth[0, :, ...] = np.array([0.0, 0.1, 0.3, 0.5])[:, None, None, None]
    model[:, :2] = 0.9  # Reconstructions of what was seen do not count.
    model[1, 3, 0, 0, 0] = 1.0
    errors, repeat = errors_against_horizon(truth, model, context=2)
    # Six values a frame, two sequences.
    np.testing.assert_allclose(errors, [6 * 0.3**2 / 2, (6 * 0.5**2 + 1) / 2])
    np.testing.assert_allclose(repeat, [6 * 0.2**2 / 2, 6 * 0.4**2 / 2])


def test_reward_errors_by_hand():
    truth = np.array([[9.0, 1.0, 2.0, 4.0], [9.0, 0.0, 0.0, 3.0]])
    model = np.array([[0.0, 0.0, 2.5, 3.0], [0.0, 0.0, 0.5, 3.0]])
    errors, repeat = errors_against_horizon(truth, model, context=2)
    np.testing.assert_allclose(errors, [0.25, 0.5])
    np.testing.assert_allclose(repeat, [0.5, 9.0])
