"""How many kernels an update takes, counted in its graph and in what XLA makes of it: a proxy for launches on a GPU.

    python benchmarks/kernels.py            # of the paper's loops, 50 steps and 15 imagined ones

Counted on narrow networks, whose graphs have the operations of wide ones. Loops count as often as they turn. What moves
no data, or only numbers that the host keeps for itself (shapes, indices), is no kernel.
"""

import collections
import json
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

from benchmarks import common, train_step  # noqa: E402

NARROW = {"replay.batch": 2, "model.conv_depth": 2, "model.deter": 8, "model.stoch": 4, "model.hidden": 8}
NARROW |= {f"{section}.units": 8 for section in ("model", "actor", "value")}
LOOPS, BRANCHES, CALLS = (
    ("While", "StatelessWhile"),
    ("If", "StatelessIf"),
    ("PartitionedCall", "StatefulPartitionedCall"),
)
FREE = {"Const", "Placeholder", "Identity", "IdentityN", "StopGradient", "PreventGradient", "NoOp", "_Arg", "_Retval"}
FREE |= {"Reshape", "ExpandDims", "Squeeze", "ReadVariableOp", "Shape", "Size", "Rank", "BroadcastGradientArgs"}
FREE |= {
    "TensorListReserve",
    "TensorListFromTensor",
    "TensorListGetItem",
    "TensorListSetItem",
    "TensorListElementShape",
}
FREE |= {"EmptyTensorList", "TensorListPushBack", "TensorListPopBack", "TensorListLength", "Bitcast"}
MOVES_NOTHING = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call"}
MOVES_NOTHING |= {"partition-id", "replica-id", "after-all"}
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%\S+ = .*?[\]\})] ([a-z][a-z0-9-]*)\(")


def in_graph(concrete):
    """(kernels, {name of a loop: turns}) of a concrete function."""
    import tensorflow as tf

    graph, turns = concrete.graph.as_graph_def(), {}
    functions = {function.signature.name: function.node_def for function in graph.library.function}
    on_host = {tf.int32.as_datatype_enum, tf.resource.as_datatype_enum, tf.variant.as_datatype_enum}

    def count(nodes):
        return sum(map(of, nodes))

    def of(node):
        if node.op in LOOPS:
            (limit,) = [n for n in graph.node if n.name == node.input[1].split(":")[0]]
            turns[node.name] = int(tf.make_ndarray(limit.attr["value"].tensor))
            return turns[node.name] * count(functions[node.attr["body"].func.name])
        if node.op in BRANCHES:
            return max(count(functions[node.attr[f"{name}_branch"].func.name]) for name in ("then", "else"))
        if node.op in CALLS:
            return count(functions[node.attr["f"].func.name])
        kinds = {node.attr[name].type for name in ("T", "dtype", "DstT") if name in node.attr}
        return 0 if node.op in FREE or (kinds and kinds <= on_host) else 1

    return count(graph.node), turns


def in_hlo(text, turns):
    """Kernels of a computation that XLA has optimised, as text. turns: of the graph's loops, by their names."""
    counts, loops, name, entry = collections.Counter(), collections.defaultdict(list), None, None
    for line in text.splitlines():
        head = re.match(r"(ENTRY )?%(\S+) \(", line)
        if head:
            name, entry = head[2], head[2] if head[1] else entry
        elif found := _INSTRUCTION.match(line):
            if found[1] == "while":
                known = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
                source = re.search(r'op_name="([^"]*)"', line)
                near = [loop for loop in turns if source and loop in source[1]]
                times = int(known[1]) if known else turns[max(near, key=len)]
                loops[name].append((re.search(r"body=%([^\s,]+)", line)[1], times))
            counts[name] += found[1] not in MOVES_NOTHING

    def total(computation):
        return counts[computation] + sum(times * total(body) for body, times in loops[computation])

    return total(entry)


def measure(config, actions):
    """{"plain", "xla"}: kernels of an update of the config's loops on narrow networks, as they are on this machine."""
    from dreamer.agents.build import build_agent
    from dreamer.training import xla
    from dreamer.types import ActionSpace

    narrow = config.replace(**NARROW)
    agent = build_agent(narrow, ActionSpace(actions, False), seed=0)
    batch = train_step.random_batch(narrow, actions)
    plain, turns = in_graph(agent.train.get_concrete_function(batch))
    hlo = xla.form(agent, True).experimental_get_compiler_ir(batch)(stage="optimized_hlo")
    return {"plain": plain, "xla": in_hlo(hlo, turns)}


def in_words(seen):
    """One line."""
    return (
        f"kernels an update: {seen['plain']:,} plain, {seen['xla']:,} with XLA; "
        f"plain / XLA: {seen['plain'] / seen['xla']:.1f}x"
    )


def main(words=None):
    """Read the command line and run."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--actions", type=common.positive, default=6, help="dimensions of the action (6)")
    parser.add_argument("--measure", action="store_true", help=common.argparse.SUPPRESS)
    parser.add_argument("--started", help=common.argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    config = common.load_config(parser, arguments)
    common.set_up_tensorflow("float32")
    seen = measure(config, arguments.actions)
    print(json.dumps(seen) if arguments.measure else in_words(seen))


if __name__ == "__main__":
    common.run(main)
