import contextlib
import json

import imageio.v2 as imageio
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from dreamer.results import runs, video
from dreamer.training import evaluation
from dreamer.training.evaluation import CONTEXT, SEQUENCES, Evaluator, cut_windows, errors_against_horizon, windows_of
from dreamer.training.logger import Logger
from dreamer.types import PIXELS, ActionSpace, Batch


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
    chosen, starts, names = windows_of([numbered_episode(100), numbered_episode(100)], sequences=3, length=20)
    batch = cut_windows(chosen, starts, 20)
    np.testing.assert_array_equal(batch.reward[:, 0], [0, 40, 80])
    np.testing.assert_array_equal(batch.reward[:, -1], [19, 59, 99])
    np.testing.assert_array_equal(batch.image[:, :, 0, 0, 0], batch.reward)
    np.testing.assert_array_equal(batch.action[..., 0], batch.reward)
    np.testing.assert_array_equal(batch.is_first[:, 0], [True, True, True])
    assert not batch.is_first[:, 1:].any()
    assert names == ["from step 0", "from step 40", "from step 80"]


def test_windows_of_short_episodes_are_the_beginnings_of_those_at_least_as_long_as_the_first():
    lengths = [7, 6, 7, 21, 9, 20, 7]
    played = [numbered_episode(length) for length in lengths]
    chosen, starts, names = windows_of(played, sequences=4, length=20)
    assert [len(episode["reward"]) for episode in chosen] == [7, 7, 21, 9]
    assert starts == [0, 0, 0, 0]
    assert names == ["episode 1", "episode 3", "episode 4", "episode 5"]
    assert windows_of(played[:3], sequences=4, length=20)[2] == ["episode 1"] * 2 + ["episode 3"] * 2


@pytest.mark.parametrize(
    ("steps", "names"),
    [(20, ["episode 1", "episode 2"]), (21, ["episode 1", "episode 2"]), (25, ["from step 0", "from step 5"])],
)
def test_no_window_is_there_twice_while_there_are_others(steps, names):
    """An episode that is hardly longer than a window has no room for six of them."""
    chosen, starts, found = windows_of([numbered_episode(steps), numbered_episode(20)], length=20)
    assert (found[0], found[-1]) == tuple(names)
    assert cut_windows(chosen, starts, 20).reward.shape == (SEQUENCES, 20)


@pytest.mark.parametrize("episodes", range(1, 8))
def test_the_windows_that_are_shown_are_of_as_many_episodes_as_there_are(episodes):
    names = windows_of([numbered_episode(20)] * episodes)[2]
    assert len({names[n] for n in evaluation._SHOWN}) == min(episodes, len(evaluation._SHOWN))


def test_episodes_that_are_repeated_keep_their_order_and_none_is_left_out():
    assert evaluation.repeated("abc", 3) == ["a", "b", "c"]
    assert evaluation.repeated("abcd", 6) == ["a", "a", "b", "c", "c", "d"]


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


def test_numbers_of_any_size_have_errors_without_a_warning():
    truth = np.full((2, 4, 3), 1e37, np.float32)
    errors, repeat = errors_against_horizon(truth, np.zeros_like(truth), context=2)
    assert np.isinf(errors).all()
    np.testing.assert_array_equal(repeat, [0, 0])


class Predicting:
    """An agent whose world model predicts grey images and the reward 0.5 at every step."""

    inputs = PIXELS

    def initial(self):
        return None

    def act(self, observation, carry, explore):
        assert not explore
        return np.zeros(2, np.float32), carry

    def open_loop(self, batch, context):
        image = np.full((*batch.reward.shape, 64, 64, 3), 0.5, np.float32)
        return {"image": tf.constant(image), "reward": tf.fill(batch.reward.shape, 0.5)}


class Rewarding:
    """An environment of ten steps with reward 3."""

    action_space = ActionSpace(2, False)

    def reset(self, seed=None):
        self._count = 0
        return self._step(0.0)

    def step(self, action):
        self._count += 1
        return self._step(3.0)

    def _step(self, reward):
        flags = {"is_first": self._count == 0, "is_last": self._count == 10, "is_terminal": False}
        flags = {name: np.bool_(value) for name, value in flags.items()}
        return {"image": np.zeros((64, 64, 3), np.uint8), "reward": np.float32(reward), **flags}


class Silent:
    """A logger that keeps the scalars."""

    def scalars(self, frames, metrics):
        self.metrics = metrics

    def gif(self, *args, **kwargs):
        pass

    def open_loop(self, *args, **kwargs):
        pass


@pytest.mark.parametrize(("tanh_rewards", "predicted"), [(False, 3.0), (True, 0.99505475)])
def test_rewards_are_predicted_as_they_were_learned_and_scored_as_they_are(tmp_path, tanh_rewards, predicted):
    logger = Silent()
    evaluator = Evaluator(
        [Rewarding()], tmp_path, logger, episodes=1, seed_of=lambda *at: 0, tanh_rewards=tanh_rewards, task="toy_x"
    )
    assert evaluator.run(Predicting(), 100) == 30.0
    assert logger.metrics["eval/return"] == 30.0
    assert CONTEXT < 10
    assert logger.metrics["eval/open_loop_reward_error"] == pytest.approx((predicted - 0.5) ** 2, rel=1e-5)


def test_errors_of_vectors_have_lines_of_their_own_whatever_their_names(tmp_path):
    names = ("context", "step", "x", "x_repeat")

    class Seeing:
        def open_loop(self, batch, context):
            still = {name: tf.zeros([SEQUENCES, 9, 1]) for name in names}
            return still | {"reward": tf.zeros([SEQUENCES, 9])}

    ramp = np.broadcast_to(np.arange(9, dtype=np.float32)[:, None], (SEQUENCES, 9, 1))
    inputs = {name: (1 + n) * ramp for n, name in enumerate(names)}
    nothing = np.zeros((SEQUENCES, 9), np.float32)
    batch = Batch(inputs, nothing[..., None], nothing, nothing, nothing > 0)
    with contextlib.closing(Logger(tmp_path)) as logger:
        judge = Evaluator([], tmp_path, logger, episodes=0, seed_of=lambda at, n: 0, task="dot")
        metrics = judge.predict(Seeing(), batch, 40, starts=np.zeros(SEQUENCES))
    line = json.loads((tmp_path / "open_loop.jsonl").read_text())
    assert line["step"] == 40
    assert line["context"] == CONTEXT
    assert runs.predicted(line) == ["reward", "observation.context", "observation.step", "x", "observation.x_repeat"]
    assert line["x"][0] == (3 * CONTEXT) ** 2
    assert line["x_repeat"][0] == 3**2
    assert line["observation.x_repeat"][0] == (4 * CONTEXT) ** 2
    assert metrics["eval/open_loop_step_error"] == np.mean([(2 * n) ** 2 for n in range(CONTEXT, 9)])


def test_the_video_of_a_long_episode_is_half_as_large(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "_LONG", 11)
    Evaluator([Rewarding()], tmp_path, Silent(), episodes=1, seed_of=lambda *at: 0, task="toy_x").run(Predicting(), 100)
    with imageio.get_reader(tmp_path / "videos" / "0000000100-episode.mp4") as reader:
        assert reader.get_meta_data()["size"] == (256, 288)


def test_an_evaluation_leaves_a_large_video_of_its_episode_and_a_dream_with_its_legend(tmp_path):
    Evaluator([Rewarding()], tmp_path, Silent(), episodes=1, seed_of=lambda *at: 0, task="toy_x").run(Predicting(), 100)
    with imageio.get_reader(tmp_path / "videos" / "0000000100-episode.mp4") as reader:
        assert reader.get_meta_data()["size"] == (512, 544)
        assert reader.count_frames() == 11
    with Image.open(tmp_path / "videos" / "0000000100-open-loop.gif") as image:
        width, height = image.size
        assert image.n_frames >= 11
        header = np.asarray(image.convert("RGB"))[:100]
    # Three sequences side by side, three times as large, and above them what their colours mean.
    assert width > 3 * 192
    assert height > 3 * 192
    for color in (video.CONTEXT_COLOR, video.IMAGINED_COLOR):
        assert (np.abs(header.astype(int) - color) < 30).all(-1).sum() > 50


def test_images_are_kept_of_the_episodes_whose_beginnings_are_predicted(tmp_path):
    class Numbered(Rewarding):
        """Episodes of 10 steps, but the second of 60; their images are their number."""

        number = -1

        def reset(self, seed=None):
            self.number += 1
            return super().reset(seed)

        def _step(self, reward):
            last = self._count == (60 if self.number == 1 else 10)
            return super()._step(reward) | {"image": np.full((64, 64, 3), self.number, np.uint8), "is_last": last}

    class Seeing(Predicting):
        def open_loop(self, batch, context):
            self.seen = batch.image[:, :, 0, 0, 0].tolist()
            return super().open_loop(batch, context)

    agent = Seeing()
    judge = Evaluator([Numbered()], tmp_path, Silent(), episodes=5, seed_of=lambda *at: 0, task="toy_x")
    judge.run(agent, 100)
    assert agent.seen == [[number] * 11 for number in (0, 0, 1, 2, 3, 4)]
