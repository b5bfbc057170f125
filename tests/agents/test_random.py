import numpy as np

from dreamer.agents.random import Random
from dreamer.types import ActionSpace

COUNT = 3000


def draws(agent, count=COUNT):
    return np.stack([agent.act({"anything": None}, agent.initial(), explore=True)[0] for _ in range(count)])


def test_continuous_actions_are_uniform():
    actions = draws(Random(ActionSpace(3, False), seed=0))
    assert actions.shape == (COUNT, 3)
    assert actions.dtype == np.float32
    for dimension in actions.T:
        counts = np.histogram(dimension, 10, (-1, 1))[0]
        assert counts.sum() == COUNT
        # Chi-squared with 9 degrees of freedom is above 33.7 once in 10,000.
        assert ((counts - COUNT / 10) ** 2 / (COUNT / 10)).sum() < 33.7
    assert np.abs(np.corrcoef(actions.T) - np.eye(3)).max() < 0.1


def test_discrete_actions_are_uniform_and_one_hot():
    actions = draws(Random(ActionSpace(4, True), seed=0))
    assert actions.shape == (COUNT, 4)
    assert actions.dtype == np.float32
    assert set(np.unique(actions)) == {0.0, 1.0}
    assert (actions.sum(-1) == 1).all()
    assert ((actions.sum(0) - COUNT / 4) ** 2 / (COUNT / 4)).sum() < 21.1  # 3 degrees of freedom, 1 in 10,000.


def test_several_choices_are_uniform_and_independent():
    first, second = np.split(draws(Random(ActionSpace(5, True, (2, 3)), seed=0)), [2], -1)
    assert (first.sum(-1) == 1).all()
    assert (second.sum(-1) == 1).all()
    counts = first.T @ second  # [2, 3] pairs
    assert ((counts - COUNT / 6) ** 2 / (COUNT / 6)).sum() < 25.7  # 5 degrees of freedom, 1 in 10,000.


def test_actions_depend_on_the_seed_only():
    space = ActionSpace(2, False)
    first = draws(Random(space, seed=5), 10)
    np.random.seed(0)  # noqa: NPY002  A global generator must make no difference.
    agent = Random(space, seed=5)
    other_inputs = np.stack([agent.act({"image": k}, k, explore=bool(k % 2))[0] for k in range(10)])
    np.testing.assert_array_equal(first, other_inputs)
    assert not np.array_equal(first, draws(Random(space, seed=6), 10))


def test_the_carry_is_handed_through():
    agent = Random(ActionSpace(2, False), seed=0)
    carry = object()
    assert agent.act({}, carry, explore=False)[1] is carry
