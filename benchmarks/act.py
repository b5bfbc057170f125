"""Speed of collecting experience in DM Control, by part, beside environments that render every repeated frame.

    python benchmarks/act.py                                  # walker_walk with the paper's network
    python benchmarks/act.py --set task=quadruped_run
    python benchmarks/act.py --configs debug --set env.time_limit=20 --frames 10   # seconds, to try out the command
    python benchmarks/act.py --policy --configs atari         # the policy call alone, of any suite's networks; a minute
    python benchmarks/act.py --envs 1 2 4 8                   # envs.count, with environments of any suite
    python benchmarks/act.py --envs 1 2 4 8 --sleep 5         # with some that only sleep, 5 ms a step

Whole episodes are collected as the training loop does it (driver, agent that explores, environment in its worker,
episode file), the four ways taking turns, after a warm-up episode each:

    ours               the action repeat inside of the environment: one image per agent step
    small shadow map   the same with env.shadow_map at --shadow-map, which changes pixels: by how much is printed
    every frame        the same environment, the action repeat outside of it: every repeated frame is rendered
    plain dm_control   like every frame, rendered by dm_control's physics.render into its default framebuffer

Physics and rendering are measured in a process without TensorFlow; what remains of a worker's reply is the pipe and
the checks. The ratios on the last line are of agent steps per second.
"""

import contextlib
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

import numpy as np  # noqa: E402

from benchmarks import common, every_frame, several  # noqa: E402
from dreamer import envs  # noqa: E402
from dreamer.envs.dmc import DMC  # noqa: E402

MANY = 20  # further control steps that are taken without rendering to time the physics


def constructors(shadow_map):
    """{way: (constructor, keyword arguments of its own)}."""
    return {
        "ours": (DMC, {}),
        "small shadow map": (DMC, {"shadow_map": shadow_map}),
        "every frame": (every_frame.every_frame, {}),
        "plain dm_control": (every_frame.plain_dm_control, {}),
    }


class Timed:
    """An object whose named methods are timed by a Stopwatch: Timed(env, watch, step="environment")."""

    def __init__(self, subject, watch, **parts):
        self._subject, self._watch, self._parts = subject, watch, parts

    def __getattr__(self, name):
        value = getattr(self._subject, name)
        if name not in self._parts:
            return value

        def call(*arguments, **keywords):
            with self._watch.part(self._parts[name]):
                return value(*arguments, **keywords)

        return call


def collect(environments, agent, episodes, directory):
    """Collect with each of {way: Env} in turn; {way: {part: median seconds per agent step, "all" among them}}.

    "slower" among the parts is the median ratio of "all" to that of the first way in the same turn: a machine whose
    speed changes from minute to minute changes both.
    """
    from dreamer.replay.episodes import EpisodeStore
    from dreamer.training.driver import Driver
    from dreamer.training.loop import Stopwatch

    watch = Stopwatch()
    agent = Timed(agent, watch, act="policy")
    streams, seen = {}, {way: [] for way in environments}
    for number, (way, env) in enumerate(environments.items()):
        store = EpisodeStore(pathlib.Path(directory, str(number)), action_repeat=env.action_repeat)
        timed = Timed(env, watch, reset="environment", step="environment")
        driver = Driver(timed, agent, explore=True, seed_of=lambda begun: begun)
        streams[way] = driver, Timed(store, watch, add="storing")
    for _ in range(1 + episodes):
        for way, (driver, store) in streams.items():
            watch.take()
            while not (episode := driver.step()):
                pass
            store.add(episode)
            shares, seconds = watch.take()
            steps = len(episode["reward"]) - 1
            shares |= {"driver": 1.0 - sum(shares.values()), "all": 1.0}
            seen[way].append({part: share * seconds / steps for part, share in shares.items()})
    first = next(iter(seen.values()))
    for rows in seen.values():
        for row, beside in zip(rows, first, strict=True):
            row["slower"] = row["all"] / beside["all"]
    return {way: common.medians(rows[1:]) for way, rows in seen.items()}


def measure_collection(config, shadow_map, episodes):
    """`collect` with the config's agent, in workers."""
    from dreamer.agents.build import build_agent
    from dreamer.envs.worker import Worker
    from dreamer.envs.wrappers import Checked

    common.set_up_tensorflow(config.precision)
    variables = envs.choose(config.env.renderer).variables
    kwargs = {"task": config.task, "action_repeat": config.env.action_repeat, "time_limit": config.env.time_limit}
    with contextlib.ExitStack() as resources, tempfile.TemporaryDirectory(prefix="act-benchmark-") as directory:
        environments = {}
        for way, (constructor, own) in constructors(shadow_map).items():
            worker = Worker(constructor, {**kwargs, **own}, variables=variables)
            environments[way] = resources.enter_context(contextlib.closing(Checked(worker)))
        agent = build_agent(config, environments["ours"].action_space, seed=0)
        return collect(environments, agent, episodes, directory)


def measure_rendering(config, shadow_map, frames):
    """Seconds of a control step and of rendering a frame, and what a small shadow map does to pixels.

    Renders in this process, which must not hold TensorFlow.
    """
    os.environ.update(envs.choose(config.env.renderer).variables)  # before dm_control is imported

    def seconds(env):
        """Median seconds of a step, and the images."""
        env.reset(seed=0)
        rng = np.random.default_rng(0)
        times, images = [], []
        for _ in range(frames + 1):
            action = rng.uniform(-1, 1, env.action_space.size).astype(np.float32)
            started = time.perf_counter()
            step = env.step(action)
            times.append(time.perf_counter() - started)
            images.append(step["image"].astype(np.int16))
        env.close()
        return statistics.median(times[1:]), np.stack(images)

    limit = (MANY + 1) * (frames + 2)
    one, images = seconds(DMC(config.task, action_repeat=1, time_limit=limit))
    many, _ = seconds(DMC(config.task, action_repeat=1 + MANY, time_limit=limit))
    small, small_images = seconds(DMC(config.task, action_repeat=1, time_limit=limit, shadow_map=shadow_map))
    plain, _ = seconds(every_frame.plain_dm_control(config.task, action_repeat=1, time_limit=limit))
    physics = max(0.0, (many - one) / MANY)
    difference = np.abs(images - small_images)
    return {
        "physics": physics,
        "rendering": {
            "ours": one - physics,
            "small shadow map": small - physics,
            "every frame": one - physics,
            "plain dm_control": plain - physics,
        },
        "pixels": {
            "mean": float(difference.mean()),
            "max": int(difference.max()),
            "changed": float((difference > 0).any(-1).mean()),
        },
    }


def measure_policy(config, calls):
    """{(whether it explores, way): ms of a call for one environment}, and the ms of copying the weights, "copy".

    The ways take turns: "tf.function" is the policy as it is written, "ours" how agents act by it.
    """
    common.set_up_tensorflow(config.precision)  # before it is imported, so that it keeps quiet

    from dreamer.agents.build import build_agent
    from dreamer.types import ActionSpace

    agent = build_agent(config, ActionSpace(6, discrete=config.suite in ("atari", "dmlab")), seed=0)
    image, first = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8), np.zeros([1], bool)
    carry, ways, inputs = agent.initial(), {}, {"image": image}
    for explore in (True, False):
        plain = agent.explore if explore else agent.evaluate
        ways[explore, "tf.function"] = lambda plain=plain: plain(inputs, first, carry)[0].numpy()
        ways[explore, "ours"] = lambda explore=explore: agent.act_rows(inputs, first, carry, explore)
    ways["copy"] = agent.initial  # which begins with the weights as they are
    seen = {way: [] for way in ways}
    for way, call in 10 * list(ways.items()):
        for _ in range(1 + calls // 10):
            started = time.perf_counter()
            call()
            seen[way].append(1e3 * (time.perf_counter() - started))
    return {way: statistics.median(times[calls // 10 :]) for way, times in seen.items()}


def report_policy(seen):
    """The table of milliseconds per call, and the ratio."""
    rows = [["ms a policy call, one environment", "explore", "evaluate"]]
    rows += [[way, *(f"{seen[explore, way]:.2f}" for explore in (True, False))] for way in ("tf.function", "ours")]
    print(common.table(rows))
    print(f"\ncopying the weights, once after the updates of a round: {seen['copy']:.2f} ms")
    print(f"policy calls, ours / tf.function: {seen[True, 'tf.function'] / seen[True, 'ours']:.2f}x")


def report(collected, rendering, repeat):
    """The table of milliseconds per agent step, the price of the small shadow map, and the ratios."""
    rows = [["ms per agent step", *collected], ["policy"], ["physics"], ["rendering"], ["pipe, checks"], ["storing"]]
    rows += [["driver"], ["all"], ["agent steps a second"]]
    for way, seen in collected.items():
        images = repeat if way in ("every frame", "plain dm_control") else 1
        physics, rendered = repeat * rendering["physics"], images * rendering["rendering"][way]
        parts = [seen["policy"], physics, rendered, seen["environment"] - physics - rendered, seen["storing"]]
        parts += [seen["driver"], seen["all"]]
        for row, seconds in zip(rows[1:-1], parts, strict=True):
            row.append(f"{seconds * 1e3:.2f}")
        rows[-1].append(f"{1 / seen['all']:.1f}")
    print(common.table(rows))
    pixels = rendering["pixels"]
    print(
        f"\nthe small shadow map changes {pixels['changed']:.2%} of the pixels, by {pixels['mean']:.4f} of 255 grey "
        f"levels on average and {pixels['max']} at most"
    )
    ratios = {way: seen["slower"] for way, seen in collected.items()}
    print(
        f"collecting, small shadow map / ours: {1 / ratios['small shadow map']:.2f}x, "
        f"ours / every frame: {ratios['every frame']:.2f}x, ours / plain dm_control: {ratios['plain dm_control']:.2f}x"
    )


def main(words=None):
    """Read the command line and run."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--episodes", type=common.positive, default=5, help="measured episodes of each way (5)")
    parser.add_argument("--frames", type=common.positive, default=200, help="frames to time rendering with (200)")
    parser.add_argument("--shadow-map", type=common.positive, default=512, help="side of the small one, pixels (512)")
    parser.add_argument("--policy", action="store_true", help="only the policy call, without an environment")
    parser.add_argument("--calls", type=common.positive, default=500, help="policy calls of each kind (500)")
    parser.add_argument("--envs", type=common.positive, nargs="+", help="compare so many environments with the first")
    parser.add_argument("--steps", type=common.positive, default=400, help="agent steps of a turn, with --envs (400)")
    parser.add_argument("--sleep", type=float, default=0.0, help="milliseconds of a step, with --envs (0: none)")
    parser.add_argument("--measure", choices=("collection", "rendering"), help=common.argparse.SUPPRESS)
    parser.add_argument("--started", help=common.argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    config = common.load_config(parser, arguments)
    if arguments.policy:
        print(common.machine())
        report_policy(measure_policy(config, arguments.calls))
        return
    if arguments.envs:
        seen = several.measure(config, arguments.envs, arguments.steps, arguments.episodes, arguments.sleep)
        print(common.machine())
        what = f"a step sleeps {arguments.sleep:g} ms" if arguments.sleep else f"{config.suite} {config.task}"
        print(f"{what}, turns of {arguments.steps} agent steps\n")
        several.report(seen)
        return
    if config.suite != "dmc":
        parser.error(f"suite {config.suite} does not render with OpenGL: only dmc can be measured")
    if arguments.measure == "collection":
        print(json.dumps(measure_collection(config, arguments.shadow_map, arguments.episodes)))
        return
    if arguments.measure == "rendering":
        print(json.dumps(measure_rendering(config, arguments.shadow_map, arguments.frames)))
        return
    sizes = ["--episodes", str(arguments.episodes), "--frames", str(arguments.frames)]
    sizes += ["--shadow-map", str(arguments.shadow_map), *common.size_words(arguments)]
    rendering = common.child("act.py", ["--measure", "rendering", *sizes])
    collected = common.child("act.py", ["--measure", "collection", *sizes])
    print(common.machine())
    print(
        f"{config.task}, action repeat {config.env.action_repeat}, episodes of {config.env.time_limit} frames, "
        f"shadow map {arguments.shadow_map}\n"
    )
    report(collected, rendering, config.env.action_repeat)


if __name__ == "__main__":
    common.run(main)
