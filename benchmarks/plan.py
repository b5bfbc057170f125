"""Speed of PlaNet's planner, beside a Python loop over environments, iterations and imagined steps.

    python benchmarks/plan.py                                         # PlaNet's sizes, the task's environment beside it
    python benchmarks/plan.py --precision float32 --environments 1 4
    python benchmarks/plan.py --configs toy debug --matmul 256        # seconds, to try out the command

Ours is what acts in training: one function of TensorFlow filters the images of all environments and plans for all of
them. The loop makes the same plans with the same networks, as they are written down: environment by environment, and
operation by operation. Each number is a median after a warm-up, the two taking turns. "limit" is the time that the
planner's products would take at the rate of a square matrix product, measured in the same process; TensorFlow counts
two operations per multiply-add. The share of acting is that of planning in a step with the task's own environment.
The last line is the ratio for one environment.
"""

import contextlib
import json
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

import numpy as np  # noqa: E402

from benchmarks import common, train_step  # noqa: E402
from dreamer import envs  # noqa: E402


def operations(config, actions):
    """Floating-point operations of one plan, two per multiply-add: imagined steps and their rewards."""
    model, planner = config.model, config.planner
    deter, stoch, hidden, units = model.deter, model.stoch, model.hidden, model.units
    step = (stoch + actions) * hidden + 3 * deter * (hidden + deter) + deter * hidden + hidden * 2 * stoch
    reward = (stoch + deter) * units + (model.reward_layers - 1) * units**2 + units
    return 2 * (step + reward) * planner.candidates * planner.horizon * planner.iterations


def plan_in_python(agent, planner, state, noise, dreams):
    """PlaNet's Algorithm 2 as it is written, for one environment after the other: first actions [B, A].

    state: State [B, ...]; noise: [I, B, J, H, A], for the candidates; dreams: [I, B, J, H, S], for the imagined states.
    """
    import tensorflow as tf

    from dreamer.world_model.rssm import feature

    model, chosen = agent.world_model, []
    for row in range(len(state.deter)):
        mean, std = tf.zeros(noise.shape[-2:]), tf.ones(noise.shape[-2:])
        for iteration in range(planner.iterations):
            candidates = tf.clip_by_value(mean + std * noise[iteration, row], -1.0, 1.0)
            imagined = type(state)(*(tf.repeat(x[row][None], planner.candidates, 0) for x in state))
            returns = tf.zeros(planner.candidates)
            for step in range(planner.horizon):
                imagined = model.rssm.img_step(imagined, candidates[:, step], dreams[iteration, row, :, step])
                returns += model.reward(feature(imagined))
            elite = tf.gather(candidates, tf.math.top_k(returns, planner.best).indices)
            mean, std = tf.reduce_mean(elite, 0), tf.math.reduce_std(elite, 0)
        chosen.append(mean[0])
    return tf.stack(chosen)


def measure(config, environments, matmul, repeats):
    """{"matmul": operations a second, "environment": seconds of a step, "plans": {B: [ours, loop] in seconds}}."""
    from dreamer.agents.build import build_agent

    common.set_up_tensorflow(config.precision)
    import tensorflow as tf

    with contextlib.closing(envs.make(config.suite, config.task, **config.env)) as env:
        space, steps = env.action_space, environment_seconds(env, repeats)
    agent = build_agent(config, space, seed=0)
    planner, rng = config.planner, np.random.default_rng(0)

    def loop(inputs, is_first, carry):
        state = agent._belief.filter(inputs, is_first, carry, agent.random)
        sizes = [planner.iterations, len(is_first), planner.candidates, planner.horizon]
        draws = (agent.random.normal([*sizes, size]) for size in (space.size, config.model.stoch))
        return plan_in_python(agent, planner, state, *draws)

    plans = {}
    for rows in environments:
        image = tf.constant(rng.integers(0, 256, (rows, 64, 64, 3)), tf.uint8)
        carry = agent.world_model.rssm.initial(rows), tf.zeros([rows, space.size])
        inputs = {"image": image}, tf.ones([rows], bool), carry
        seen = []
        for _ in range(1 + repeats):
            seen.append([seconds(agent.evaluate, *inputs), seconds(loop, *inputs)])
        plans[rows] = np.median(seen[1:], 0).tolist()
    rate = train_step.matmul_rate(matmul, config.precision, repeats)
    return {"matmul": rate, "environment": steps, "actions": space.size, "plans": plans}


def seconds(function, *inputs):
    """Of one call, until its result is there."""
    started = time.perf_counter()
    common.finish(function(*inputs))
    return time.perf_counter() - started


def environment_seconds(env, repeats):
    """Median seconds of a step with random actions."""
    rng, times = np.random.default_rng(0), []
    env.reset(seed=0)
    for _ in range(2 + 10 * repeats):
        action = rng.uniform(-1, 1, env.action_space.size).astype(np.float32)
        started = time.perf_counter()
        if env.step(action)["is_last"]:
            env.reset(seed=0)
            continue
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def report(config, seen):
    """The table, and the ratio."""
    needed = operations(config, seen["actions"])
    rows = [["environments", "ours, s", "Python loop, s", "ratio", "limit, s", "of the limit", "share of acting"]]
    for count, (ours, loop) in seen["plans"].items():
        limit = int(count) * needed / seen["matmul"]
        share = ours / (ours + int(count) * seen["environment"])
        cells = [f"{ours:.4f}", f"{loop:.4f}", f"{loop / ours:.2f}x", f"{limit:.4f}", f"{limit / ours:.0%}"]
        rows.append([count, *cells, f"{share:.1%}"])
    print(common.table(rows))
    print(
        f"\na plan needs {needed / 1e9:.3g} GFLOP, a matrix product has {seen['matmul'] / 1e9:.4g} GFLOP/s; a step of "
        f"the environment takes {seen['environment'] * 1e3:.2f} ms"
    )
    ours, loop = next(iter(seen["plans"].values()))
    print(f"planning, ours / Python loop: {loop / ours:.2f}x")


def main(words=None):
    """Read the command line and run."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--precision", choices=train_step.PRECISIONS, default="float32", help="arithmetic (float32)")
    parser.add_argument(
        "--environments", type=common.positive, nargs="+", default=[1, 2, 4], metavar="B", help="batches (1 2 4)"
    )
    parser.add_argument("--matmul", type=common.positive, default=2048, help="side of the matrix product (2048)")
    parser.add_argument("--repeats", type=common.positive, default=5, help="measured turns (5)")
    parser.add_argument("--measure", action="store_true", help=common.argparse.SUPPRESS)
    parser.add_argument("--started", help=common.argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    config = common.load_config(parser, arguments).replace(method="planet", precision=arguments.precision)
    if arguments.measure:
        sizes = arguments.environments, arguments.matmul, arguments.repeats
        print(json.dumps(measure(config, *sizes)))
        return
    case = ["--measure", "--precision", arguments.precision, "--matmul", str(arguments.matmul)]
    case += ["--repeats", str(arguments.repeats), "--environments", *map(str, arguments.environments)]
    seen = common.child("plan.py", [*case, *common.size_words(arguments)])
    print(common.machine())
    planner = config.planner
    print(
        f"{config.task}, {arguments.precision}: {planner.iterations} iterations of {planner.candidates} plans over "
        f"{planner.horizon} steps\n"
    )
    report(config, seen)


if __name__ == "__main__":
    common.run(main)
