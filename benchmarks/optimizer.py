"""A step of Adam for all that an agent learns, beside Keras' own: some twenty operations for each variable.

    python benchmarks/optimizer.py                      # the paper's sizes
    python benchmarks/optimizer.py --configs dmc debug  # where starting the operations is all that takes time

Both have the variables of world model, actor and value, and gradients that are there already, in a process that has
traced something before. The first step has its tracing in it, as that of a run has.
"""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

from benchmarks import common  # noqa: E402

KINDS = ("Keras", "ours")


def make(kind, shapes):
    """A function of no arguments that takes a step of Adam; compiled, and not yet traced."""
    import keras
    import tensorflow as tf

    from dreamer.nets import optimizer

    variables = [keras.Variable(keras.random.normal(shape)) for shape in shapes]
    gradients = [tf.random.normal(shape) for shape in shapes]
    adam = {"Keras": keras.optimizers.Adam, "ours": optimizer.Adam}[kind](1e-3)
    adam.build(variables)

    def step():
        adam.apply(gradients, variables)
        return adam.iterations.value + 0

    return tf.function(step, autograph=False)


def measure(shapes, repeats, rounds):
    """{kind: {"first", "step"}}: median seconds over `rounds` optimisers of each kind, which take turns."""
    seen = {kind: [] for kind in KINDS}
    common.finish(make("Keras", [()])())
    for _ in range(rounds):
        for kind in KINDS:
            step = make(kind, shapes)
            started = time.perf_counter()
            common.finish(step())
            first = time.perf_counter() - started
            seen[kind].append({"first": first, "step": common.median_seconds(step, repeats=repeats)})
    return {kind: common.medians(of_kind) for kind, of_kind in seen.items()}


def in_words(seen):
    """The table and the ratios. seen: {kind: {"first", "step"}}, seconds."""
    rows = [["", *KINDS]]
    rows.append(["first step, s", *(f"{seen[kind]['first']:.2f}" for kind in KINDS)])
    rows.append(["a step, ms", *(f"{seen[kind]['step'] * 1e3:.2f}" for kind in KINDS)])
    first, step = (seen["Keras"][part] / seen["ours"][part] for part in ("first", "step"))
    return f"{common.table(rows)}\n\nAdam, Keras / ours: first step {first:.2f}x, a step {step:.2f}x"


def main(words=None):
    """Read the command line and run."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--actions", type=common.positive, default=6, help="dimensions of the action (6)")
    parser.add_argument("--repeats", type=common.positive, default=20, help="steps of which the median is taken (20)")
    parser.add_argument("--rounds", type=common.positive, default=3, help="optimisers of each kind (3)")
    arguments = parser.parse_args(words)
    config = common.load_config(parser, arguments)
    common.set_up_tensorflow("float32")
    from dreamer.agents.build import build_agent
    from dreamer.types import ActionSpace

    agent = build_agent(config, ActionSpace(arguments.actions, False), seed=0)
    networks = (agent.world_model, agent.actor, agent.value)
    shapes = [tuple(variable.shape) for network in networks for variable in network.trainable_variables]
    print(f"{common.machine()}\n{len(shapes)} variables\n")
    print(in_words(measure(shapes, arguments.repeats, arguments.rounds)))


if __name__ == "__main__":
    common.run(main)
