import numpy as np
import pytest

from dreamer.envs import make
from dreamer.envs.toy import GOAL, SPEED, best_return, frame_reward


def make_dot(task, time_limit=25, action_repeat=1):
    return make("toy", task, action_repeat=action_repeat, time_limit=time_limit)


def play(env, policy, seed):
    step = env.reset(seed=seed)
    start, rewards, steps = step["position"], [], [step]
    while not step["is_last"]:
        step = env.step(policy(step["position"]))
        rewards.append(step["reward"])
        steps.append(step)
    return start, float(np.sum(rewards)), steps


def steer(position):
    return np.clip((GOAL - position) / SPEED, -1, 1).astype(np.float32)


def steer_discrete(position):
    x, y = GOAL - position
    if max(abs(x), abs(y)) < SPEED / 2:
        return np.eye(5, dtype=np.float32)[0]
    if abs(x) >= abs(y):
        return np.eye(5, dtype=np.float32)[2 if x > 0 else 1]
    return np.eye(5, dtype=np.float32)[4 if y > 0 else 3]


@pytest.mark.parametrize(("task", "policy"), [("dot", steer), ("dot_discrete", steer_discrete)])
def test_the_best_policy_reaches_the_best_return(task, policy):
    env = make_dot(task)
    for seed in range(5):
        start, total, steps = play(env, policy, seed)
        assert total == pytest.approx(best_return(start, discrete=task == "dot_discrete", frames=25), rel=1e-5)
        assert len(steps) == 26
        assert not steps[-1]["is_terminal"]


def test_best_return_by_hand():
    # From (0.25, 0.5): 0.15, 0.05 and 0 from the goal after each move.
    assert best_return([0.25, 0.5], discrete=False, frames=3) == pytest.approx(0.5 + 1 + 1)
    assert best_return([0.25, 0.5], discrete=True, frames=3) == pytest.approx(0.5 + 1 + 1)
    # From (0.25, 0.25): both coordinates at once; one by one the farther stays at 0.25, then 0.15, 0.15, 0.05.
    assert best_return([0.25, 0.25], discrete=False, frames=4) == pytest.approx(0.5 + 1 + 1 + 1)
    assert best_return([0.25, 0.25], discrete=True, frames=4) == pytest.approx(0 + 0.5 + 0.5 + 1)


def test_rewards_fall_from_one_to_nothing_around_the_goal():
    offsets = [(0, 0.1), (0.12, 0), (0.1, 0.16), (0, 0.2)]
    rewards = [frame_reward(np.array([GOAL + dx, GOAL - dy])) for dx, dy in offsets]
    np.testing.assert_allclose(rewards, [1.0, 0.8, 0.4, 0.0], atol=1e-9)


def test_no_random_episode_beats_the_best_return():
    env, random = make_dot("dot"), np.random.default_rng(0)
    for seed in range(20):
        start, total, _ = play(env, lambda _: random.uniform(-1, 1, 2).astype(np.float32), seed)
        assert total <= best_return(start, discrete=False, frames=25) + 1e-6


def test_seeds_decide_the_start_and_the_image_shows_the_dot():
    env = make_dot("dot")
    first, again, other = (env.reset(seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first["image"], again["image"])
    assert not np.array_equal(first["image"], other["image"])
    rows, columns = np.nonzero((first["image"] == 250).all(-1))
    center = np.array([columns.mean() + 0.5, rows.mean() + 0.5])
    np.testing.assert_allclose((center - 7) / (64 - 14), first["position"], atol=0.01)


def test_action_repeat_sums_rewards_and_the_time_limit_counts_frames():
    single, double = make_dot("dot", time_limit=5), make_dot("dot", time_limit=5, action_repeat=2)
    action = np.array([0.5, -0.25], np.float32)
    single.reset(seed=3), double.reset(seed=3)
    rewards = [single.step(action)["reward"] for _ in range(5)]
    steps = [double.step(action) for _ in range(3)]
    np.testing.assert_allclose(
        [step["reward"] for step in steps], [sum(rewards[:2]), sum(rewards[2:4]), rewards[4]], rtol=1e-6
    )
    assert [bool(step["is_last"]) for step in steps] == [False, False, True]
