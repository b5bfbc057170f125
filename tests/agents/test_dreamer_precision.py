"""Training in bfloat16: which arithmetic runs in it, and how far the losses are from float32."""

import numpy as np
import pytest
import tensorflow as tf

# Products, convolutions, their biases and activations, and what only moves or sums up their tensors, may run in
# bfloat16. Everything that a likelihood, a KL or a mean is made of may not.
LINEAR = {"MatMul", "BatchMatMulV2", "BiasAdd", "AddV2", "Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter"}
ACTIVATIONS = {"Elu", "EluGrad", "Relu", "ReluGrad"}
MOVES = {
    *("Cast", "ConcatV2", "DepthToSpace", "EnsureShape", "ExpandDims", "Fill", "Identity", "Pack", "Reshape"),
    *("Shape", "ShapeN", "Slice", "Split", "SplitV", "Squeeze", "StridedSlice", "StridedSliceGrad"),
    *("Transpose", "ZerosLike"),
}
# Sums over the batch: only as gradients of biases, whose accuracy tests/nets/test_layers.py holds to account.
BIAS_GRADIENTS = {"BiasAddGrad", "Sum"}


@pytest.fixture(scope="module")
def agents(make_agent):
    """The same weights in float32 and in bfloat16."""
    import keras

    before = keras.config.dtype_policy()
    result = {}
    for policy in ("float32", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        result[policy] = make_agent(model={"discount_head": True, "lr": 1e-4})
    keras.config.set_dtype_policy(before)
    return result


@pytest.fixture(scope="module")
def metrics(agents, make_batch):
    """The metrics of one step from equal random states."""
    result = {}
    for policy, agent in agents.items():
        agent.random.reset_from_seed(3)
        result[policy] = agent.train(make_batch())
    return result


def nodes(agent, batch):
    """(function name, node) of a compiled training step, loop bodies included."""
    graph = agent.train.get_concrete_function(batch).graph.as_graph_def()
    yield from (("train", node) for node in graph.node)
    for function in graph.library.function:
        yield from ((function.signature.name, node) for node in function.node_def)


def test_weights_moments_and_metrics_are_float32(agents, metrics):
    agent = agents["mixed_bfloat16"]
    assert agent.world_model.encoder.convs[0].compute_dtype == "bfloat16"
    for part in (agent.world_model, agent.actor, agent.value):
        assert {v.dtype for v in part.variables} == {"float32"}
    for optimizer in agent.optimizers.values():
        assert {str(v.dtype) for v in optimizer.adam.variables if len(v.shape)} == {"float32"}
    assert {value.dtype for value in metrics["mixed_bfloat16"].values()} == {tf.float32}


def test_only_products_and_activations_run_in_bfloat16(agents, metrics, make_batch):
    bfloat16 = tf.bfloat16.as_datatype_enum
    found = set()
    for function, node in nodes(agents["mixed_bfloat16"], make_batch()):
        if "T" not in node.attr or node.attr["T"].type != bfloat16:
            continue
        found.add(node.op)
        if node.op in BIAS_GRADIENTS:
            assert "grad" in f"{function}/{node.name}".lower(), (function, node.name)
        else:
            assert node.op in LINEAR | ACTIVATIONS | MOVES, (function, node.name, node.op)
    assert {"MatMul", "Conv2D", "Conv2DBackpropFilter"} <= found, "the walk must see the layers"
    assert all(node.attr["T"].type != bfloat16 for _, node in nodes(agents["float32"], make_batch()))


def test_losses_in_bfloat16_are_close_to_float32(metrics):
    """Bounds are a few times what eight bits of precision and H steps of imagination give."""
    exact, rounded = ({name: float(x) for name, x in metrics[p].items()} for p in ("float32", "mixed_bfloat16"))
    for name, relative, absolute in (
        ("image_loss", 1e-3, 0),
        ("reward_loss", 0.02, 0),
        ("discount_loss", 0.02, 0),
        ("kl", 0.05, 0),
        ("model_loss", 1e-3, 0),
        ("value_loss", 0.02, 0),
        ("actor_loss", 0, 0.02),
        ("imagined_reward", 0, 0.02),
        ("imagined_return", 0, 0.02),
        ("imagined_value", 0, 0.02),
        ("model_grad_norm", 0.05, 0),
        ("actor_grad_norm", 0.1, 0),
        ("value_grad_norm", 0.1, 0),
    ):
        assert rounded[name] == pytest.approx(exact[name], rel=relative, abs=absolute), name
    assert rounded["value_loss"] != exact["value_loss"], "bfloat16 must make some difference"


def test_behaviour_is_float32_in_bfloat16(agents):
    agent = agents["mixed_bfloat16"]
    features = tf.constant(np.random.default_rng(0).normal(size=(3, 2, 12)), tf.float32)
    dist = agent.actor.distribution(features)
    action = dist.sample([0, 1])
    results = {
        "mean": dist.mean,
        "std": dist.std,
        "sample": action,
        "log_prob": dist.log_prob(action),
        "entropy": dist.entropy([0, 1]),
        "mode": dist.mode([0, 1]),
        "value": agent.value(features),
        "reward": agent.world_model.reward(features),
        "discount": agent.world_model.discount(features),
        "image": agent.world_model.decoder(features),
    }
    for name, result in results.items():
        assert result.dtype == tf.float32, name
