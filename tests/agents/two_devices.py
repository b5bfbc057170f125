"""Trains agents on two logical CPU devices and on one, for test_towers.py: differences as JSON on the last line.

A process of its own, because TensorFlow takes the number of devices once.
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).parent))

from conftest import small_agent, small_batch

from dreamer.agents.towers import Towers
from dreamer.types import ActionSpace

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()])
DEVICES = [device.name for device in tf.config.list_logical_devices("CPU")]
CASES = {
    "pixels": {},
    "discount head": {"space": ActionSpace(3, True), "model": {"discount_head": True}},
    "contrastive": {"model": {"observation": "contrastive"}},
    "free nats of each state": {"model": {"free_nats": 0.1, "free_nats_per": "state"}},
    "rewards only": {"model": {"observation": "none"}},
    "no value": {"behavior": {"bootstrap": False}},
    "probe": {"model": {"observation": "none", "probe_decoder": True}},
}


def weights(agent):
    return np.concatenate([np.ravel(w) for part in (agent.world_model, agent.actor, agent.value) for w in part.weights])


def trained(towers, updates, *, space=None, graph=False, **sections):
    """The agent and the metrics of its last update; towers: on both devices."""
    agent = small_agent(space, **sections)
    train = Towers(agent, DEVICES).train if towers else agent.train.python_function
    train = tf.function(train) if graph else train
    for number in range(updates):
        metrics = train(small_batch(batch=4, seed=number))
    return agent, {name: float(value) for name, value in metrics.items()}


def compare(updates=3, **case):
    one, two = (trained(towers, updates, **case) for towers in (False, True))
    names = [name for name in one[1] if name != "actor_entropy"]  # whose draws are those of other states
    return {
        "weights": float(np.abs(weights(one[0]) - weights(two[0])).max()),
        "metrics": {name: [one[1][name], two[1][name]] for name in names},
        "draws": bool(np.array_equal(one[0].random.state, two[0].random.state)),
    }


seen = {name: compare(**case) for name, case in CASES.items()}
seen["graph"] = compare(graph=True)
kl = trained(False, 1)[1]["kl"]
for name, share in (("below the free nats", 1.001), ("above the free nats", 0.999)):
    seen[name] = compare(updates=1, model={"free_nats": share * kl})
agent = small_agent()
parts = [
    float(agent.world_model.loss(tf.nest.map_structure(lambda x, rows=rows: x[rows], batch), noise[rows])[2]["kl"])
    for batch in [small_batch(batch=4)]
    for noise in [agent.noise(batch).posterior]
    for rows in (slice(0, 2), slice(2, 4))
]
seen["kl of the parts and of the whole"] = [*parts, kl]
concrete = tf.function(Towers(agent, DEVICES).train).get_concrete_function(small_batch(batch=4))
operations = concrete.graph.get_operations()
seen["placed"] = {
    kind: sorted({op.device for op in operations if op.type == kind}) for kind in ("Conv2D", "Conv2DBackpropFilter")
}
print(json.dumps(seen))
