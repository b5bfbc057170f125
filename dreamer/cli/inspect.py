"""`dreamer eval` and `dreamer imagine`: what the agent of a run does, and what its world model expects."""

import argparse
import os
from pathlib import Path
from typing import Any

from dreamer import config
from dreamer.agents import PLANNER
from dreamer.cli.arguments import Parser, UsageError, make_parser, parse, to_path, to_positive, to_seed
from dreamer.cli.output import fail
from dreamer.cli.tensorflow import prepare
from dreamer.run import layout
from dreamer.start import check_task, open_config

PLANNER_KEYS = tuple(key.name for key in config.describe() if key.name.startswith("planner."))
# These keys decide where and in which arithmetic an agent runs, and what is told of it: whoever inspects a run may sit
# at another machine, and ask what nobody has asked before.
INSPECT_MAY_CHANGE = ("precision", "env.renderer", "env.worker", "env.level_cache", "env.info")


def evaluate(words: list[str]) -> int:
    """`dreamer eval`."""
    parser = _run_parser("eval", "Play episodes with the newest checkpoint's mode actions: returns, as text and JSON.")
    parser.add_argument("--episodes", type=to_positive, default=10, metavar="N", help="how many (default: 10)")
    parser.add_argument(
        *("--envs.count",),
        dest="at_once",
        type=to_positive,
        metavar="N",
        help="play so many of them at once, each with draws of its own (default: one after another)",
    )
    parser.add_argument("--video", type=to_path, metavar="FILE.mp4", help="the first 12 of them, side by side")
    parser.add_argument(
        "--agent", choices=[PLANNER], help="plan every action in the world model, instead of asking the actor"
    )
    for key in PLANNER_KEYS:
        parser.add_argument(
            f"--{key}", dest=key, metavar="VALUE", help=f"with --agent {PLANNER} (default: that of the run)"
        )
    args = parse(parser, words)
    plans = {key: vars(args)[key] for key in PLANNER_KEYS if vars(args)[key] is not None}
    if plans and args.agent is None:
        raise UsageError(f"--{next(iter(plans))} is about plans: it goes with --agent {PLANNER}")
    run = _open_run(args, args.video, (".mp4",))
    run = config.load([], run.flat() | plans)
    return _inspect("evaluate", run, args, video_path=args.video, agent=args.agent, at_once=args.at_once)


def imagine(words: list[str]) -> int:
    """`dreamer imagine`."""
    parser = _run_parser(
        "imagine",
        "Show what the newest checkpoint's world model predicts open-loop: it sees 5 steps of each of some new "
        "episodes and imagines the next ones from the actions alone. Truth, model, error and rewards as a video.",
    )
    parser.add_argument(
        "--out",
        type=to_path,
        required=True,
        metavar="FILE",
        help="a .gif or .mp4; a .png has curves of vectors",
    )
    parser.add_argument(
        "--episodes", type=to_positive, default=5, metavar="N", help="columns of the video (default: 5)"
    )
    parser.add_argument("--horizon", type=to_positive, default=45, metavar="N", help="imagined steps (default: 45)")
    args = parse(parser, words)
    run = _open_run(args, args.out, (".gif", ".mp4", ".png"))
    return _inspect("imagine", run, args, out=args.out, horizon=args.horizon)


def _inspect(name: str, run: config.Config, args: argparse.Namespace, **options: Any) -> int:
    """Call a function of training.inspection with what all of them take, and with `options`."""
    from dreamer.training import inspection

    command = getattr(inspection, name)
    try:
        command(run, args.logdir, episodes=args.episodes, seed=args.seed, best=args.best, **options)
    except inspection.RunError as error:
        raise UsageError(error) from error
    except inspection.FAULTS as error:
        if isinstance(error, OSError) and error.filename:
            return fail(f"{error.filename}: {error.strerror}", 1)
        return fail(getattr(error, "message", error), 1)
    return 0


def _open_run(args: argparse.Namespace, out: Path | None, suffixes: tuple[str, ...]) -> config.Config:
    """The config of the run that a command inspects, once all is checked and set up for it. Raises UsageError."""
    if out is not None:
        if out.suffix not in suffixes or out.is_dir():
            raise UsageError(f"{out}: expected a file that ends with {' or '.join(suffixes)}")
        # Playing the episodes takes minutes: what would only fail when they are done is told before.
        folder = next(parent for parent in out.absolute().parents if parent.exists())
        if not (folder.is_dir() and os.access(folder, os.W_OK)):
            raise UsageError(f"{out}: cannot be written, {folder} is no directory that takes files")
    changes = {key: vars(args)[key] for key in INSPECT_MAY_CHANGE if vars(args)[key] is not None}
    run = open_config(args.logdir, changes)
    try:
        check_task(run)
    except UsageError as error:
        if run.learn.source == "none":
            raise
        raise UsageError(
            f"{args.logdir} learned from stored episodes, and there is no environment of its task to play: {error}; "
            f"{args.logdir / layout.VIDEOS} has what its model imagines of episodes held out"
        ) from error
    prepare(run, of_run=args.precision is None, emulate=True)
    return run


def _run_parser(command: str, description: str) -> Parser:
    parser = make_parser(command, description)
    parser.add_argument("--logdir", type=to_path, required=True, metavar="RUN", help="log directory of the run")
    parser.add_argument("--seed", type=to_seed, default=0, metavar="N", help="decides the episodes (default: 0)")
    parser.add_argument(
        "--best", action="store_true", help="the agent of the best evaluation among the states kept, not the newest"
    )
    for key in INSPECT_MAY_CHANGE:
        parser.add_argument(f"--{key}", dest=key, metavar="VALUE", help="as for train (default: that of the run)")
    return parser
