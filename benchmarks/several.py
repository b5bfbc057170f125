"""Agent steps a second with several environments that one agent acts in, for act.py --envs."""

import contextlib
import os
import time

from benchmarks import common, sleeping


def measure(config, counts, steps, turns, sleep):
    """{count: {"seconds" per agent step, "gain" beside the first count}}: medians over turns of `steps` agent steps.

    The counts take turns, since the speed of a machine drifts; a first turn is a warm-up. sleep: milliseconds of a step
    of an environment that takes the place of the config's; 0 for none.
    """
    common.set_up_tensorflow(config.precision)  # before it is imported, so that it keeps quiet

    from dreamer.agents.build import build_agent

    os.environ[sleeping.VARIABLE] = str(sleep / 1000)
    if sleep:
        keys = {"env.time_limit": sleeping.LENGTH, "env.action_repeat": 1}
        config = config.replace(suite="gym", task=sleeping.TASK, **keys)
    with contextlib.ExitStack() as resources:
        streams, agent = {}, None
        for count in counts:
            envs = [resources.enter_context(contextlib.closing(make(config, count))) for _ in range(count)]
            agent = agent or build_agent(config, envs[0].action_space, seed=0)
            streams[count] = together(envs, agent)
        seen = {count: [] for count in counts}
        for _ in range(1 + turns):
            for count, stream in streams.items():
                seen[count].append(seconds(stream, count, steps))
    first = seen[counts[0]]
    return {
        count: common.medians(
            [{"seconds": own, "gain": beside / own} for own, beside in zip(times[1:], first[1:], strict=True)]
        )
        for count, times in seen.items()
    }


def make(config, count):
    """One of `count` environments, as a run has it."""
    from dreamer import envs

    return envs.make(config.suite, config.task, training=True, beside=count > 1, **config.env)


def together(envs, agent):
    """Streams of these environments, which explore."""
    from dreamer.training.driver import Driver
    from dreamer.training.streams import Streams

    def seed_of(number):
        return lambda begun: 1000 * number + begun

    return Streams([Driver(env, agent, explore=True, seed_of=seed_of(n)) for n, env in enumerate(envs)])


def seconds(stream, count, steps):
    """Seconds per agent step of so many agent steps, rounded up to a step of all environments; resets included."""
    started, taken = time.perf_counter(), 0
    while taken < steps:
        stream.step()
        for error in stream.failed.values():
            raise common.BenchmarkError(str(error))
        taken += count
    return (time.perf_counter() - started) / taken


def report(seen):
    """The table and the ratios."""
    rows = [["environments", "agent steps a second", "beside the first"]]
    rows += [[count, f"{1 / row['seconds']:.1f}", f"{row['gain']:.2f}x"] for count, row in seen.items()]
    print(common.table(rows))
    first, *others = seen
    gains = ", ".join(f"{count}: {seen[count]['gain']:.2f}x" for count in others)
    print(f"\nagent steps a second of several environments / {first}: {gains}")
