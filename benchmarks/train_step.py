"""Time of the gradient step of world model, actor and value, beside a plain Keras implementation in float32.

    python benchmarks/train_step.py                                   # the paper's sizes
    python benchmarks/train_step.py --set replay.batch=10             # any key of configs/defaults.yaml
    python benchmarks/train_step.py --configs dmc small --overhead    # what of a step does not depend on the batch
    python benchmarks/train_step.py --configs debug --matmul 256      # seconds, to try out the command

Every column is measured in a process of its own: the whole step first (median after one warm-up), then its parts,
compiled by themselves. "Behaviour" is what the other parts leave of the whole step. TFLOP/s count two operations per
multiply-add of the products and convolutions that the losses need; beside it stands what one square matrix product
reaches in the same precision on the same machine. The plain implementation is benchmarks/reference.py with TensorFlow
as it comes. The ratio on the last line compares it with ours in the precision that `auto` takes here.

--overhead measures ours alone, with the batch and with one row of it: what is left then is the time to start some 5,000
operations, or as good as, and the share of the whole step that it makes is the last line.
"""

import json
import pathlib
import resource
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

from benchmarks import common  # noqa: E402
from dreamer import hardware  # noqa: E402

PRECISIONS = ("float32", "bfloat16", "float16")


class Ours:
    """dreamer/ as it trains."""

    def __init__(self, actions, config):
        from dreamer.agents.build import build_agent
        from dreamer.types import ActionSpace

        self._agent = build_agent(config, ActionSpace(actions, False), seed=0)
        self._stoch = config.model.stoch
        self.train = self._agent.train
        self.model_variables = self._agent.world_model.trainable_variables

    def model_loss(self, batch):
        """Loss of the world model."""
        import tensorflow as tf

        return self._agent.world_model.loss(batch, tf.random.normal([*batch.reward.shape, self._stoch]))[0]

    def apply_ones(self):
        """Three optimiser steps of gradients that cost nothing."""
        import tensorflow as tf

        networks = {"model": self._agent.world_model, "actor": self._agent.actor, "value": self._agent.value}
        results = []
        for name, optimizer in self._agent.optimizers.items():
            with tf.GradientTape() as tape:
                total = tf.add_n([tf.reduce_sum(v) for v in networks[name].trainable_variables])
                scaled = optimizer.scale(total)
            results.append(optimizer.step(tape, scaled))
        return results


class Plain:
    """benchmarks/reference.py."""

    def __init__(self, actions, config):
        from benchmarks.reference import Reference

        self._reference = Reference(actions, config)
        self.train = self._reference.train
        self.model_variables = self._reference.variables["model"]

    def model_loss(self, batch):
        """Loss of the world model."""
        return self._reference.model_loss(batch, self._reference.draw_noise(*batch.reward.shape).posterior)[0]

    def apply_ones(self):
        """Three optimiser steps of gradients that cost nothing."""
        import tensorflow as tf

        for name, optimizer in self._reference.optimizers.items():
            variables = self._reference.variables[name]
            optimizer.apply([tf.ones_like(variable) for variable in variables], variables)
        return tf.constant(0)


KINDS = {"ours": Ours, "reference": Plain}


def random_batch(config, actions):
    """A Batch of the config's sizes in the memory of the host, where tf.data leaves it."""
    import numpy as np
    import tensorflow as tf

    from dreamer.types import Batch

    rng = np.random.default_rng(0)
    lead = (config.replay.batch, config.replay.length)
    with tf.device("CPU:0"):
        return Batch(
            inputs={"image": tf.constant(rng.integers(0, 256, (*lead, 64, 64, 3), np.uint8))},
            action=tf.constant(rng.uniform(-1, 1, (*lead, actions)), tf.float32),
            reward=tf.constant(rng.uniform(0, 1, lead), tf.float32),
            discount=tf.ones(lead),
            is_first=tf.constant(np.arange(lead[1])[None].repeat(lead[0], 0) == 0),
        )


def measure(kind, config, *, actions, repeats, block, parts, started):
    """Seconds to the first finished step (since `started`) and of a step, and peak memory; with `parts` theirs too."""
    import tensorflow as tf

    subject = KINDS[kind](actions, config)
    batch = random_batch(config, actions)
    common.finish(subject.train(batch))
    seen = {"first": time.time() - started}
    seen["step"] = common.median_seconds(lambda: subject.train(batch), repeats=repeats, block=block)
    seen["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    if tf.config.list_physical_devices("GPU"):
        seen["gpu_peak"] = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    if parts:

        def gradients():
            with tf.GradientTape() as tape:
                loss = subject.model_loss(batch)
            return tape.gradient(loss, subject.model_variables)

        for name, function in {
            "forward": lambda: subject.model_loss(batch),
            "gradients": gradients,
            "optimizers": subject.apply_ones,
        }.items():
            compiled = tf.function(function, autograph=False)  # AutoGraph cannot read a lambda
            seen[name] = common.median_seconds(compiled, repeats=repeats, block=block)
    return seen


def matmul_rate(size, precision, repeats):
    """Operations per second of a square matrix product."""
    import tensorflow as tf

    x = tf.cast(tf.random.normal([size, size]), precision)
    return 2 * size**3 / common.median_seconds(lambda: tf.linalg.matmul(x, x), repeats=repeats)


def operations(config, actions):
    """Floating-point operations that one step needs, two per multiply-add, of world model and behaviour.

    Per layer and row: one product forward, one for the gradient of the weights where the loss trains them, and one
    for that of the input where a gradient goes on from there.
    """
    model, horizon = config.model, config.behavior.horizon
    rows = config.replay.batch * config.replay.length
    depth, width, embed = model.conv_depth, model.stoch + model.deter, 32 * model.conv_depth

    def stack(inputs, outputs, layers, units):
        sizes = [inputs, *layers * [units], outputs]
        return [a * b for a, b in zip(sizes[:-1], sizes[1:], strict=True)]

    # Side of the output, kernel, channels in and out. Of a transposed convolution the side of the input counts.
    encoder = [(31, 4, 3, depth), (14, 4, depth, 2 * depth), (6, 4, 2 * depth, 4 * depth), (2, 4, 4 * depth, 8 * depth)]
    decoder = [(1, 5, embed, 4 * depth), (5, 5, 4 * depth, 2 * depth), (13, 6, 2 * depth, depth), (30, 6, depth, 3)]
    encoder, decoder = (
        [(side * kernel) ** 2 * a * b for side, kernel, a, b in layers] for layers in (encoder, decoder)
    )
    transition = (model.stoch + actions) * model.hidden + 3 * model.deter * (model.hidden + model.deter)
    prior = sum(stack(model.deter, 2 * model.stoch, 1, model.hidden))
    posterior = sum(stack(model.deter + embed, 2 * model.stoch, 1, model.hidden))
    reward = sum(stack(width, 1, model.reward_layers, model.units))
    actor = stack(width, 2 * actions, config.actor.layers, config.actor.units)
    value = stack(width, 1, config.value.layers, config.value.units)

    world = 3 * (sum(encoder) + width * embed + sum(decoder) + transition + prior + posterior + reward) - encoder[0]
    imagined = 2 * (transition + prior + reward + sum(value)) + 3 * sum(actor) - actor[0]
    fitted = 2 * sum(value) - value[0]  # The value's own gradient; its forward product is among the imagined ones.
    return {
        "world model": 2 * rows * world,
        "behaviour": 2 * rows * (horizon * imagined + (horizon - 1) * fitted),
    }


def report(columns, needed, size):
    """The table and the ratio. columns: {"reference float32": numbers, "ours bfloat16": ...}, ours in `auto` last."""
    total = sum(needed.values())

    def row(name, number, form):
        return [name, *(form.format(number(seen)) for seen in columns.values())]

    seconds = "{:.3f}"
    print(
        common.table(
            [
                ["", *columns],
                row("whole step, s", lambda s: s["step"], seconds),
                row("  world model forward", lambda s: s["forward"], seconds),
                row("  world model backward", lambda s: s["gradients"] - s["forward"], seconds),
                row("  behaviour", lambda s: s["step"] - s["gradients"] - s["optimizers"], seconds),
                row("  optimisers", lambda s: s["optimizers"], seconds),
                row("TFLOP/s", lambda s: total / s["step"] / 1e12, "{:.2f}"),
                row(f"  of a {size}^3 product's", lambda s: s["matmul"] / 1e12, "{:.2f}"),
                row("  share", lambda s: total / s["step"] / s["matmul"], "{:.0%}"),
                row("first step finished after, s", lambda s: s["first"], "{:.1f}"),
                row("peak memory, GB", lambda s: s["peak"] / 1e9, "{:.2f}"),
            ]
        )
    )
    (plain, reference), *ours = columns.items()
    ratios = [f"{plain} / {name}: {reference['step'] / seen['step']:.2f}x" for name, seen in ours]
    print("\ntraining step, " + ", ".join(ratios))


def overhead(arguments, config, precision):
    """Print the time of the step with the batch and with one row, and the share of the one in the other."""
    seconds = {}
    for rows in (config.replay.batch, 1):
        sizes = [*common.size_words(arguments), f"replay.batch={rows}"]
        words = ["--measure", "ours", "--precision", precision, "--no-parts", "--matmul", "8", "--repeats"]
        seen = [
            common.child("train_step.py", [*words, str(arguments.repeats), "--actions", str(arguments.actions), *sizes])
            for _ in range(arguments.rounds)
        ]
        seconds[rows] = common.medians(seen)["step"]
    print(common.machine())
    print(common.table([["rows of the batch", "step, ms"], *([str(n), f"{s * 1e3:.1f}"] for n, s in seconds.items())]))
    share = seconds[1] / seconds[config.replay.batch]
    print(f"\ntraining step, {precision}, one row / {config.replay.batch} rows: {share:.2f}")


def main(words=None):
    """Read the command line and run."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--actions", type=common.positive, default=6, help="dimensions of the action (6)")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, help="of ours (float32 and what `auto` takes)")
    parser.add_argument("--repeats", type=common.positive, default=5, help="timings of which the median is taken (5)")
    parser.add_argument("--rounds", type=common.positive, default=1, help="processes per column, medians taken (1)")
    parser.add_argument("--overhead", action="store_true", help="only the share of a step that is not the batch's")
    parser.add_argument("--matmul", type=common.positive, default=4096, help="side of the matrix product (4096)")
    for name in ("--measure", "--precision"):
        parser.add_argument(name, help=common.argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=common.argparse.SUPPRESS)
    parser.add_argument("--block", type=common.positive, default=1, help=common.argparse.SUPPRESS)
    for name in ("--xla", "--no-parts"):
        parser.add_argument(name, action="store_true", help=common.argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    config = common.load_config(parser, arguments)
    if config.method != "dreamer" or config.model.discount_head or config.model.free_nats_per != "mean":
        parser.error("the plain implementation is Dreamer's, without a discount head and with free nats after the mean")
    if arguments.measure:
        print(json.dumps(measure_here(arguments, config)))
        return

    auto, reason = hardware.resolve_precision("auto", hardware.cpu_flags(), [])
    precisions = arguments.precisions or list(dict.fromkeys(["float32", auto]))
    if arguments.overhead:
        if config.replay.batch == 1:
            parser.error("--overhead: compares with one row of a batch, expected a replay.batch of at least 2")
        for precision in precisions:
            overhead(arguments, config, precision)
        return
    cases = [("reference", "float32"), *(("ours", precision) for precision in precisions)]
    sizes = ["--actions", str(arguments.actions), "--repeats", str(arguments.repeats), *common.size_words(arguments)]
    results = {case: [] for case in cases}
    for _ in range(arguments.rounds):
        for kind, precision in cases:
            case = ["--measure", kind, "--precision", precision, "--matmul", str(arguments.matmul)]
            results[kind, precision].append(common.child("train_step.py", [*case, *sizes]))
    needed = operations(config, arguments.actions)
    print(common.machine())
    print(
        f"batch {config.replay.batch}x{config.replay.length}, horizon {config.behavior.horizon}, {arguments.actions} "
        f"action dimensions; a step needs "
        f"{', '.join(f'{name} {count / 1e9:.1f}' for name, count in needed.items())} GFLOP; auto is {auto}: {reason}\n"
    )
    report({" ".join(case): common.medians(seen) for case, seen in results.items()}, needed, arguments.matmul)


def measure_here(arguments, config):
    """Measure one column in this process."""
    if arguments.measure == "reference":
        import tensorflow  # noqa: F401  # as it comes: oneDNN where TensorFlow chooses it
    common.set_up_tensorflow(arguments.precision)
    import tensorflow as tf

    if arguments.measure == "reference":
        tf.config.optimizer.set_experimental_options({"remapping": True})  # TensorFlow's own default
    seen = measure(
        arguments.measure,
        config.replace(xla=True) if arguments.xla else config,
        actions=arguments.actions,
        repeats=arguments.repeats,
        block=arguments.block,
        parts=not arguments.no_parts,
        started=arguments.started,
    )
    return seen | {"matmul": matmul_rate(arguments.matmul, arguments.precision, arguments.repeats)}


if __name__ == "__main__":
    common.run(main)
