"""Seconds from the start of a process to its first update, beside a garbage collector that is left as it comes.

    python benchmarks/start.py --configs dmc debug     # where starting is all that takes time
    python benchmarks/start.py                         # the paper's sizes: the update itself takes seconds too

Both ways take turns, every time in a process of its own, after one that is not counted: the first reads TensorFlow's
files from the disk. `dreamer.start` and `dreamer.cli.tensorflow` say what they do about the collector, and why.
"""

import contextlib
import json
import pathlib
import sys
import time
import types

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

from benchmarks import common, train_step  # noqa: E402

WAYS = ("as it comes", "ours")
PARTS = {"loaded": "TensorFlow loaded after, s", "first": "first update finished after, s"}


def measure(way, config, actions, started):
    """{part: seconds since `started`} in this process."""
    from dreamer import start
    from dreamer.cli import tensorflow

    if way == "as it comes":
        start._uncollected = contextlib.nullcontext
        tensorflow.gc = types.SimpleNamespace(get_freeze_count=lambda: 1)  # frozen already, it says
    common.set_up_tensorflow("float32")
    loaded = time.time() - started
    subject = train_step.KINDS["ours"](actions, config)
    common.finish(subject.train(train_step.random_batch(config, actions)))
    return {"loaded": loaded, "first": time.time() - started}


def in_words(seen):
    """The table and the ratio. seen: {way: {part: seconds}}."""
    rows = [["", *WAYS], *([label, *(f"{seen[way][part]:.2f}" for way in WAYS)] for part, label in PARTS.items())]
    before, ours = (seen[way]["first"] for way in WAYS)
    return f"{common.table(rows)}\n\nuntil the first update, as it comes / ours: {before / ours:.2f}x"


def main(words=None):
    """Read the command line and run."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--actions", type=common.positive, default=6, help="dimensions of the action (6)")
    parser.add_argument("--rounds", type=common.positive, default=5, help="processes of each way, medians taken (5)")
    parser.add_argument("--measure", choices=WAYS, help=common.argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=common.argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    config = common.load_config(parser, arguments)
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, config, arguments.actions, arguments.started)))
        return
    sizes = ["--actions", str(arguments.actions), *common.size_words(arguments)]
    results = {way: [] for way in WAYS}
    for turn in range(1 + arguments.rounds):
        for way in WAYS if turn else WAYS[:1]:
            seconds = common.child("start.py", ["--measure", way, *sizes])
            if turn:
                results[way].append(seconds)
    print(f"{common.machine()}\n")
    print(in_words({way: common.medians(seen) for way, seen in results.items()}))


if __name__ == "__main__":
    common.run(main)
