"""The gradient step on a GPU by precision, with and without XLA, and 1,000 frames of training with the best of them.

    python benchmarks/gpu.py            # the paper's sizes, at most 8 minutes
    python benchmarks/gpu.py --tiny     # networks of a few units: tries out the command, on a CPU too

Installs nothing and needs a TensorFlow that sees the GPU, as in the Docker image. Every row is measured in a process of
its own, batches come from the host's memory as in training, and blocks of --block steps are timed with one
synchronisation at their end. A row whose process takes longer than --limit seconds, or for which no time is left, says
so. Acting is one environment with the exploring agent; where nothing can be rendered, the toy task stands in and the
figure is without physics and rendering. 1,000 frames are 100 updates and, with an action repeat of 2, 500 agent steps.
Beside it stand the kernels of an update, counted by kernels.py.
The ratio on the last line is to the 90 frames a second that the paper's authors report for one V100.
"""

import contextlib
import json
import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

from benchmarks import act, common, kernels, train_step  # noqa: E402

FRAMES = 1000
PUBLISHED = 90  # frames a second
MINIMUM = 20  # seconds below which no further row is begun
TINY = {"configs": ["debug"], "set": ["env.time_limit=20"], "matmul": 256, "repeats": 2, "block": 2, "episodes": 1}


def measure_devices():
    """Names of the GPUs that TensorFlow sees."""
    common.set_up_tensorflow("auto")
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return {"gpus": [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus]}


def measure_acting(config, episodes):
    """Seconds per agent step by part, and the task; the toy task's where the config's cannot be rendered."""
    from dreamer import envs
    from dreamer.agents.build import build_agent

    common.set_up_tensorflow(config.precision)
    keywords = dict(config.env)
    try:
        env, task, problem = envs.make(config.suite, config.task, **keywords), config.task, ""
    except envs.EnvError as error:
        env, task, problem = envs.make("toy", "dot", **keywords), "dot", str(error)
    with contextlib.closing(env), tempfile.TemporaryDirectory(prefix="gpu-benchmark-") as directory:
        agent = build_agent(config, env.action_space, seed=0)
        seen = act.collect({"ours": env}, agent, episodes, directory)["ours"]
    return seen | {"task": task, "problem": problem}


class Budget:
    """Runs children while time is left."""

    def __init__(self, seconds, limit):
        self._end, self._limit = time.monotonic() + seconds, limit

    def child(self, script, words):
        """The child's result, or the reason in words why there is none."""
        left = self._end - time.monotonic()
        if left < MINIMUM:
            return "no time left"
        try:
            return common.child(script, words, timeout=min(left, self._limit))
        except common.BenchmarkError as error:
            return str(error).splitlines()[-1]


def report(steps, acting, needed, repeat, train_ratio):
    """The table and the ratio. steps: {(precision, xla): numbers or a reason}; acting: numbers or a reason.

    needed: floating-point operations of a step; repeat: frames per agent step; train_ratio: updates per frame.
    """
    rows = [["", "ms a step", "TFLOP/s", "of a product's", "first step after, s", "GPU memory, GB"]]
    for (precision, xla), seen in steps.items():
        name = f"{precision}, {'XLA' if xla else 'no XLA'}"
        if isinstance(seen, str):
            rows.append([name, *5 * ["-"]])
            continue
        rate = needed / seen["step"]
        memory = f"{seen['gpu_peak'] / 1e9:.2f}" if "gpu_peak" in seen else "-"
        cells = [f"{seen['step'] * 1e3:.2f}", f"{rate / 1e12:.2f}", f"{rate / seen['matmul']:.1%}"]
        rows.append([name, *cells, f"{seen['first']:.1f}", memory])
    print(common.table(rows))
    for (precision, xla), seen in steps.items():
        if isinstance(seen, str):
            print(f"{precision}, {'XLA' if xla else 'no XLA'}: {seen}")
    measured = {row: seen for row, seen in steps.items() if not isinstance(seen, str)}
    if isinstance(acting, str):
        raise common.BenchmarkError(f"acting could not be measured: {acting}")
    print(
        f"\nacting in {acting['task']}: {acting['all'] * 1e3:.2f} ms an agent step, policy {acting['policy'] * 1e3:.2f}"
    )
    if acting["problem"]:
        print(f"without physics and rendering, because {acting['problem']}")
    if not measured:
        raise common.BenchmarkError("no training step could be measured")
    (precision, xla), best = min(measured.items(), key=lambda item: item[1]["step"])
    training, collecting = FRAMES * train_ratio * best["step"], FRAMES / repeat * acting["all"]
    total = training + collecting
    print(f"\nfastest: dreamer --precision {precision} --xla {str(xla).lower()}")
    print(
        f"{FRAMES:,} frames with {precision}, {'XLA' if xla else 'no XLA'}: {total:.2f} s, training {training:.2f}, "
        f"acting {collecting:.2f}; {FRAMES / total:.0f} frames/s, / {PUBLISHED} published: "
        f"{FRAMES / total / PUBLISHED:.2f}x"
    )


def main(words=None):
    """Read the command line and run."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--tiny", action="store_true", help="networks of a few units; without a GPU on the CPU")
    parser.add_argument(
        "--precisions", nargs="+", choices=train_step.PRECISIONS, default=["bfloat16", "float16", "float32"]
    )
    parser.add_argument("--actions", type=common.positive, default=6, help="dimensions of the action (6)")
    parser.add_argument("--repeats", type=common.positive, default=5, help="timings of which the median is taken (5)")
    parser.add_argument("--block", type=common.positive, default=10, help="steps per timing (10)")
    parser.add_argument("--matmul", type=common.positive, default=8192, help="side of the matrix product (8192)")
    parser.add_argument("--episodes", type=common.positive, default=2, help="episodes to time acting with (2)")
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything (8)")
    parser.add_argument("--limit", type=float, default=150.0, help="seconds for one row (150)")
    parser.add_argument("--measure", choices=("devices", "acting"), help=common.argparse.SUPPRESS)
    parser.add_argument("--started", help=common.argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if arguments.tiny:
        parser.set_defaults(**TINY)
        arguments = parser.parse_args(words)
    config = common.load_config(parser, arguments)
    if config.xla != "auto":
        parser.error("xla: every row of this command says whether it is with XLA; leave the key out")
    if arguments.measure:
        seen = measure_devices() if arguments.measure == "devices" else measure_acting(config, arguments.episodes)
        print(json.dumps(seen))
        return

    budget = Budget(60 * arguments.minutes, arguments.limit)
    devices = budget.child("gpu.py", ["--measure", "devices"])
    if isinstance(devices, str):
        raise common.BenchmarkError(f"TensorFlow does not start: {devices}")
    if not devices["gpus"] and not arguments.tiny:
        raise common.BenchmarkError("TensorFlow sees no GPU here; --tiny tries this command out on the CPU")
    sizes = common.size_words(arguments)
    timing = ["--actions", arguments.actions, "--matmul", arguments.matmul, "--repeats", arguments.repeats]
    timing = ["--no-parts", *map(str, [*timing, "--block", arguments.block])]
    acting, steps = "no time left", {}
    counted = budget.child("kernels.py", ["--measure", "--actions", str(arguments.actions), *sizes])
    for number, precision in enumerate(arguments.precisions):
        for xla in (True, False):
            words = ["--measure", "ours", "--precision", precision, *timing, *sizes, *(["--xla"] if xla else [])]
            steps[precision, xla] = budget.child("train_step.py", words)
        if number == 0:  # before time can run out
            acting = budget.child("gpu.py", ["--measure", "acting", "--episodes", str(arguments.episodes), *sizes])

    print(common.machine())
    print(f"GPU: {', '.join(devices['gpus'])}" if devices["gpus"] else "No GPU: these are figures of the CPU.")
    if arguments.tiny:
        print("Networks of a few units: the figures only show that the command works.")
    print(
        f"batch {config.replay.batch}x{config.replay.length}, horizon {config.behavior.horizon}, "
        f"{arguments.actions} action dimensions, blocks of {arguments.block} steps\n"
    )
    needed = sum(train_step.operations(config, arguments.actions).values())
    print(f"{counted if isinstance(counted, str) else kernels.in_words(counted)}\n")
    report(steps, acting, needed, config.env.action_repeat, config.loop.train_updates / config.loop.train_every)


if __name__ == "__main__":
    common.run(main)
