"""Frames a second of a whole run at the published train ratio, and where its time goes.

    python benchmarks/loop.py                                    # minutes: 40 updates of the paper's size
    python benchmarks/loop.py --frames 2000                      # steadier
    python benchmarks/loop.py --configs toy debug --round 10 --frames 20     # seconds, to try out the command

Runs `dreamer train` in a folder that is deleted again, and reads the time/ keys of its metrics.jsonl. Its rounds are
short, --round frames with their share of the config's updates (train_updates per train_every frames), and each ends
with an evaluation and a checkpoint. After two rounds as a warm-up (random frames, tracing, first evaluation), --frames
frames of rounds are measured. Medians of what one update, frame, evaluation, checkpoint and line of metrics cost are
then put together for --period frames of the config's own schedule. The ratio on the last line is that of all the time
to the time of training and acting.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

from benchmarks import common  # noqa: E402

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


def train(arguments, config, logdir):
    """Run `dreamer train` in short rounds and return the lines of its metrics.jsonl that have times."""
    prefill = config.env.time_limit
    updates = max(1, round(arguments.round * config.loop.train_updates / config.loop.train_every))
    keys = {
        "steps": prefill + arguments.round * (WARM_UP - 1) + arguments.frames,
        "loop.prefill": prefill,
        "loop.pretrain": 1,
        "loop.train_every": arguments.round,
        "loop.train_updates": updates,
        "loop.eval_every": arguments.round,
        "loop.save_every": arguments.round,
    }
    words = ["--configs", *arguments.configs] if arguments.configs else []
    words += [f"--{word}" for word in arguments.set] + [f"--{key}={value}" for key, value in keys.items()]
    command = [sys.executable, "-m", "dreamer", "train", *words, "--logdir", str(logdir)]
    path = os.pathsep.join([str(common.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
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
    arguments = parser.parse_args(words)
    config = common.load_config(parser, arguments)
    if config.method == "random":
        parser.error("method random trains nothing")
    if arguments.frames < arguments.round:
        parser.error(f"--frames {arguments.frames}: at least one --round, {arguments.round}")
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
