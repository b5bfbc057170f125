import numpy as np
import pytest


@pytest.fixture
def make_episode():
    """Return a function that makes episodes whose every row says which episode and step it is.

    image[t] holds the number of the episode in channel 0 and the step in channels 1 and 2 (low and high byte);
    action[t] = (number, t), reward[t] = 1000 * number + t, except for step 0, where both are zero.
    """

    def make(number, length, terminal=False):
        step = np.arange(length)
        image = np.zeros((length, 64, 64, 3), np.uint8)
        image[..., 0] = number
        image[..., 1] = (step % 256)[:, None, None]
        image[..., 2] = (step // 256)[:, None, None]
        action = np.stack([np.full(length, number), step], 1).astype(np.float32)
        reward = (1000 * number + step).astype(np.float32)
        action[0], reward[0] = 0, 0
        is_terminal = (step == length - 1) & terminal
        return {
            "image": image,
            "action": action,
            "reward": reward,
            "discount": 1 - is_terminal.astype(np.float32),
            "is_first": step == 0,
            "is_last": step == length - 1,
            "is_terminal": is_terminal,
            "position": np.stack([step, -step, step], 1).astype(np.float32),
        }

    return make
