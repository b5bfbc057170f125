"""Frames a second of a whole run at the published train ratio, and where its time goes.

    python benchmarks/loop.py                                    # minutes: 40 updates of the paper's size
    python benchmarks/loop.py --frames 2000                      # steadier
    python benchmarks/loop.py --configs toy debug --round 10 --frames 20     # seconds, to try out the command
    python benchmarks/loop.py --overlap                          # with loop.overlap and without it
    python benchmarks/loop.py --overlap --configs small --sleep 5 --frames 2000    # where 5 ms a step are only waited

Runs `dreamer train` in a folder that is deleted again, and reads the time/ keys of its metrics.jsonl. Its rounds are
short, --round frames with their share of the config's updates (train_updates per train_every frames), and each ends
with an evaluation and a checkpoint. After two rounds as a warm-up (random frames, tracing, first evaluation), --frames
frames of rounds are measured. Medians of what one update, frame, evaluation, checkpoint and line of metrics cost are
then put together for --period frames of the config's own schedule. The ratio on the last line is that of all the time
to the time of training and acting.

--overlap measures frames a second of training and acting with loop.overlap and without it, and the share of the time in
which both went on. --sleep takes an environment in which a step sleeps so many milliseconds, and so many updates that
training takes as long as acting, which is where there is most to gain.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

from benchmarks import common, sleeping  # noqa: E402

WARM_UP = 2  # rounds
# What each part of the time is counted per.
PER = {
    "training": "update",
    "waiting_for_data": "update",
    "acting": "frame",
    "evaluation": "evaluation",
    "saving": "checkpoint",
    "logging": "line of metrics",
    "rest": "line of metrics",
}


def train(arguments, config, logdir, *, updates=None, **more):
    """Run `dreamer train` in short rounds and return the lines of its metrics.jsonl that have times.

    updates: of a round, by default its share of the config's; more: further keys, with __ for their dots.
    """
    prefill = config.env.time_limit
    updates = updates or max(1, round(arguments.round * config.loop.train_updates / config.loop.train_every))
    keys = {
        "steps": prefill + arguments.round * (WARM_UP - 1) + arguments.frames,
        "loop.prefill": prefill,
        "loop.pretrain": 1,
        "loop.train_every": arguments.round,
        "loop.train_updates": updates,
        "loop.eval_every": arguments.round,
        "loop.save_every": arguments.round,
        **{key.replace("__", "."): value for key, value in more.items()},
    }
    words = ["--configs", *arguments.configs] if arguments.configs else []
    words += [f"--{word}" for word in arguments.set] + [f"--{key}={value}" for key, value in keys.items()]
    command = [sys.executable, "-m", "dreamer", "train", *words, "--logdir", str(logdir)]
    variables = {sleeping.VARIABLE: str(getattr(arguments, "sleep", 0.0) / 1000)}
    path = os.pathsep.join([str(common.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables, "PYTHONPATH": path})
    if done.returncode:
        raise common.BenchmarkError(f"dreamer train: exit code {done.returncode}\n{done.stderr[-2000:].strip()}")
    lines = [json.loads(line) for line in (logdir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "time/seconds" in line]


def costs(lines):
    """{part: median seconds per unit of PER} from consecutive lines of metrics, the first ones being the warm-up."""
    rounds = []
    for before, line in zip(lines[WARM_UP - 1 :], lines[WARM_UP:], strict=False):
        counts = {
            "update": line["train/updates"] - before["train/updates"],
            "frame": line["step"] - before["step"],
            "evaluation": 1,
            "checkpoint": 1,
            "line of metrics": 1,
        }
        shares = {part: line.get(f"time/{part}", 0.0) for part in PER}
        shares["rest"] = 1.0 - sum(shares.values())
        rounds.append({part: share * line["time/seconds"] / counts[PER[part]] for part, share in shares.items()})
    if not rounds:
        raise common.BenchmarkError("no round was measured: take more --frames")
    return {part: statistics.median(numbers[part] for numbers in rounds) for part in PER}


def overlap(arguments, config, directory):
    """{"false": ..., "true": ...} by loop.overlap: medians of {"frames": a second, "training", "acting": shares ...}.

    Nothing but training and acting goes on in the rounds that are measured: evaluations and checkpoints are put off.
    """
    keys, updates = {"loop__eval_every": 10**9, "loop__save_every": 10**9}, None
    if arguments.sleep:
        keys |= {"suite": "gym", "task": sleeping.TASK, "env__time_limit": sleeping.LENGTH, "env__action_repeat": 1}
        config = config.replace(**{"env.time_limit": sleeping.LENGTH})
        cost = costs(train(arguments, config, directory / "first", **keys))
        updates = max(1, round(arguments.round * cost["acting"] / cost["training"]))
    measured = {}
    for value in ("false", "true"):
        lines = train(arguments, config, directory / value, updates=updates, loop__overlap=value, **keys)
        # The last round has frames to train on, and none to collect beside.
        rounds = list(zip(lines[WARM_UP - 1 : -1], lines[WARM_UP:-1], strict=False))
        if not rounds:
            raise common.BenchmarkError("no round was measured: take more --frames")
        measured[value] = common.medians(
            [
                {"frames": (line["step"] - before["step"]) / line["time/seconds"]}
                | {"updates": line["train/updates"] - before["train/updates"]}
                | {part: line.get(f"time/{part}", 0.0) for part in ("training", "acting", "overlap")}
                for before, line in rounds
            ]
        )
    return measured


def report_overlap(measured):
    """The table and the ratio."""
    rows = [["loop.overlap", "frames/s", "training", "waiting for frames", "acting beside the rest"]]
    for value, seen in measured.items():
        shares = [f"{seen[part]:.1%}" for part in ("training", "acting", "overlap")]
        rows.append([value, f"{seen['frames']:.1f}", *shares])
    print(common.table(rows))
    print(
        f"\nframes a second, loop.overlap true / false: {measured['true']['frames'] / measured['false']['frames']:.2f}x"
    )


def put_together(cost, schedule, frames):
    """{part: seconds} for `frames` frames of a schedule, the config's section `loop`."""
    counts = {
        "update": frames / schedule.train_every * schedule.train_updates,
        "frame": frames,
        "evaluation": frames / schedule.eval_every,
        "checkpoint": frames / schedule.save_every,
        "line of metrics": frames / schedule.train_every,
    }
    return {part: seconds * counts[PER[part]] for part, seconds in cost.items()}


def report(cost, seconds, frames):
    """The table and the ratio."""
    total = sum(seconds.values())
    rows = [["part", "ms each", "per", "seconds", "share"]]
    for part, spent in seconds.items():
        name = part.replace("_", " ")
        rows.append([name, f"{cost[part] * 1e3:.2f}", PER[part], f"{spent:.2f}", f"{spent / total:.2%}"])
    rows.append(["all", "", "", f"{total:.2f}", f"{frames / total:.2f} frames/s"])
    print(common.table(rows))
    print(
        f"\nthe loop, all / training and acting: {total / (seconds['training'] + seconds['acting']):.3f}x, "
        f"waiting for data {seconds['waiting_for_data'] / total:.2%} of the time"
    )


def main(words=None):
    """Read the command line and run."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--frames", type=common.positive, default=300, help="frames measured (300)")
    parser.add_argument("--round", type=common.positive, default=100, help="frames of a round (100)")
    parser.add_argument("--period", type=common.positive, default=10_000, help="frames put together (10,000)")
    parser.add_argument("--overlap", action="store_true", help="measure loop.overlap instead")
    parser.add_argument("--sleep", type=float, default=0.0, help="milliseconds of a step, with --overlap (0: none)")
    arguments = parser.parse_args(words)
    config = common.load_config(parser, arguments)
    if config.method == "random":
        parser.error("method random trains nothing")
    if arguments.frames < arguments.round:
        parser.error(f"--frames {arguments.frames}: at least one --round, {arguments.round}")
    if arguments.overlap:
        with tempfile.TemporaryDirectory(prefix="loop-benchmark-") as directory:
            measured = overlap(arguments, config, pathlib.Path(directory))
        task = f"a step sleeps {arguments.sleep:g} ms" if arguments.sleep else f"{config.suite} {config.task}"
        print(common.machine())
        print(f"{task}, {arguments.frames} frames, {measured['true']['updates']:.0f} updates per {arguments.round}\n")
        report_overlap(measured)
        return
    with tempfile.TemporaryDirectory(prefix="loop-benchmark-") as directory:
        cost = costs(train(arguments, config, pathlib.Path(directory) / "run"))
    schedule = config.loop
    print(common.machine())
    print(
        f"{config.suite} {config.task}, {arguments.frames} frames measured; {arguments.period:,} frames with "
        f"{schedule.train_updates} updates per {schedule.train_every:,}, an evaluation of {schedule.eval_episodes} "
        f"per {schedule.eval_every:,} and a checkpoint per {schedule.save_every:,}\n"
    )
    report(cost, put_together(cost, schedule, arguments.period), arguments.period)


if __name__ == "__main__":
    common.run(main)
