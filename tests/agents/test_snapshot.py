"""Acting by one call on copies of the weights: the values, draws and weights of the policy itself."""

import numpy as np
import pytest
import tensorflow as tf

from dreamer.types import ActionSpace

STEPS = 4


@pytest.fixture(params=[False, True], ids=["continuous", "discrete"])
def space(request):
    return ActionSpace(3, request.param)


def observations(rows, seed=0):
    """Images [STEPS, B, 64, 64, 3], and where an episode begins in the midst, [STEPS, B]."""
    rng = np.random.default_rng(seed)
    first = np.zeros((STEPS, rows), bool)
    first[2, -1] = True
    return rng.integers(0, 256, (STEPS, rows, 64, 64, 3), dtype=np.uint8), first


def play(agent, act, rows):
    """Actions and carries of STEPS steps, from the same draws."""
    agent.random.reset_from_seed(5)
    carry, seen = agent.initial(rows), []
    for image, first in zip(*observations(rows), strict=True):
        action, carry = act({"image": image}, first, carry)
        seen += [np.array(x) for x in (action, *carry[0], carry[1])]
    return [*seen, agent.random.normal([3]).numpy()]  # and where the draws have come to


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_values_and_draws_are_those_of_the_policy_bit_for_bit(make_agent, precision, space, policy):
    precision(policy)
    agent = make_agent(space, explore={"epsilon": 0.5, "epsilon_eval": 0.5})
    for weight in (*agent.world_model.weights, *agent.actor.weights):  # no bias is 0, and none a number of few digits
        weight.assign_add(tf.random.stateless_uniform(weight.shape, [1, 2], -0.1, 0.1))
    for explore in (True, False):
        plain = agent.explore if explore else agent.evaluate
        for rows in (1, 3):
            expected = play(agent, plain, rows)
            acted = play(agent, lambda *step, explore=explore: agent.act_rows(*step, explore), rows)
            for one, other in zip(acted, expected, strict=True):
                np.testing.assert_array_equal(one, other)


def test_it_acts_with_the_weights_of_the_last_update(make_agent, make_batch):
    agent, (image, first) = make_agent(), observations(2)

    def acted():
        agent.random.reset_from_seed(5)
        return agent.act_rows({"image": image[0]}, first[0], carry, True)[0]

    carry = agent.initial(2)
    before = acted()
    agent.train(make_batch())
    learned = acted()
    assert not np.array_equal(learned, before)
    agent.random.reset_from_seed(5)
    np.testing.assert_array_equal(learned, agent.explore({"image": image[0]}, first[0], carry)[0])
    # What else changes weights, such as reading those of a state, is seen where an episode begins.
    agent.actor.mlp.out.bias.assign(tf.ones_like(agent.actor.mlp.out.bias))
    np.testing.assert_array_equal(acted(), learned)
    carry = agent.initial(2)
    assert not np.array_equal(acted(), learned)


def test_every_weight_that_acting_reads_is_a_copy(make_agent, precision):
    """A layer that the snapshot forgets would be read, and cast, at every step."""
    precision("mixed_bfloat16")
    agent = make_agent()
    image, first = observations(1)
    agent.act_rows({"image": image[0]}, first[0], agent.initial(), True)
    (call,) = agent._snapshot._calls.values()
    weights = {id(w.value.handle) for part in (agent.world_model, agent.actor) for w in part.variables}
    captured = call._function.captured_inputs
    assert len(captured) > 20
    assert not weights & {id(tensor) for tensor in captured}
    graph = call._function.graph
    read = {op.outputs[0].name for op in graph.get_operations() if op.type == "ReadVariableOp"}
    cast = {
        op.inputs[0].name for op in graph.get_operations() if op.type == "Cast" and op.outputs[0].dtype != "float32"
    }
    assert not read & cast
