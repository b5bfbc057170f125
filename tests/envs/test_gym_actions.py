"""Actions of gymnasium's spaces, and those that it has and we have not."""

import numpy as np
import pytest
from gymnasium import spaces

from dreamer.envs import EnvRefused
from dreamer.envs.gym_actions import translate
from dreamer.types import ActionSpace


def one_hot(sizes, choices):
    return np.concatenate([np.eye(n, dtype=np.float32)[choice] for n, choice in zip(sizes, choices, strict=True)])


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (spaces.MultiDiscrete([3, 2, 2]), [2, 0, 1]),
        (spaces.MultiDiscrete([3, 2, 2], start=[5, 0, -1]), [7, 0, 0]),
        (spaces.MultiDiscrete([[3, 2], [2, 4]]), [[2, 0], [1, 3]]),
        (spaces.MultiBinary(3), [1, 0, 1]),
        (spaces.MultiBinary([2, 2]), [[1, 0], [1, 1]]),
    ],
)
def test_several_choices_are_groups_of_one_hot_numbers(space, expected):
    ours, to_env = translate(space, "task")
    multi = isinstance(space, spaces.MultiDiscrete)
    sizes = tuple(space.nvec.ravel()) if multi else (2,) * np.size(expected)
    assert ours == ActionSpace(sum(sizes), True, sizes)
    action = to_env(one_hot(sizes, np.ravel(expected) - (np.ravel(space.start) if multi else 0)))
    np.testing.assert_array_equal(action, expected)
    assert action in space


def test_a_single_choice_has_no_groups():
    ours, to_env = translate(spaces.MultiDiscrete([4], start=[2]), "task")
    assert ours == ActionSpace(4, True)
    np.testing.assert_array_equal(to_env(one_hot([4], [1])), [3])


@pytest.mark.parametrize(
    ("space", "problem"),
    [
        (spaces.Box(0, 5, (2,), np.int64), "whole numbers are choices: let it be MultiDiscrete, with one entry"),
        (spaces.Box(0, 255, (2,), np.uint8), "whole numbers are choices"),
        (spaces.Box(-1, 1, (0,)), "this one has no numbers"),
        (spaces.Dict(a=spaces.Discrete(2)), "kind Dict.*; put its parts together in an ActionWrapper"),
        (spaces.Tuple([spaces.Discrete(2)]), "kind Tuple.*; put its parts together in an ActionWrapper"),
        (spaces.Text(3), "kind Text.*: expected a Discrete space, MultiDiscrete, MultiBinary, or a Box of floats$"),
    ],
)
def test_other_actions_are_refused_with_what_would_do(space, problem):
    with pytest.raises(EnvRefused, match=f"^task has actions of the .*{problem}"):
        translate(space, "task")
