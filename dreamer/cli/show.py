"""`dreamer plot`, `scores` and `report`: what came out of runs."""

import argparse
import contextlib
import errno
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dreamer import config
from dreamer.cli.arguments import SEVERAL, Parser, UsageError, make_parser, parse, to_frames, to_path
from dreamer.cli.output import say
from dreamer.run import formats


def plot(words: list[str]) -> int:
    """`dreamer plot`."""
    parser = _results_parser("plot", "Draw learning curves of runs: a figure per suite, and one of all together.")
    parser.add_argument("--published", action="store_true", help="draw published curves and scores beside them")
    parser.add_argument(
        "--out", type=to_path, required=True, metavar="FILE_OR_DIR", help="a .png, .pdf or .svg, or a directory"
    )
    parser.add_argument(
        "--x", metavar="KEY", help="draw final returns against this setting, such as behavior.horizon, not curves"
    )
    parser.add_argument(
        "--y", metavar="METRIC", help="draw this number of metrics.jsonl, such as train/kl, not the evaluation return"
    )
    args = parse(parser, words)
    if args.x is not None:
        _check_keys("--x", [args.x])
    for option, of_what in (("x", "for values of a key"), ("y", "of metrics")):
        if args.published and vars(args)[option] is not None:
            raise UsageError(
                f"--published goes with curves of returns: no published figure is known {of_what}, leave out --{option}"
            )

    from dreamer.results import against, plot, published

    chosen = {"window": args.bin, "metric": args.y, **_chosen(args)}
    with _results_errors(args.out):
        if args.x is not None:
            return say("\n".join(map(str, against.main_figure(args.runs, args.x, args.out, **chosen))))
        beside = published.load() if args.published else None
        written = plot.main_figure(args.runs, args.out, published=beside, **chosen)
    return say("\n".join(str(path) for path in written))


def scores(words: list[str]) -> int:
    """`dreamer scores`."""
    parser = _results_parser(
        "scores", "Print the returns of runs beside Dreamer's published ones at the same number of frames."
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parse(parser, words)

    from dreamer.results import compare, curves, published

    with _results_errors():
        theirs = published.load()
        entries = curves.collect(args.runs, **_chosen(args))
        rows = compare.rows(entries, theirs, args.bin, curves.mixed_settings(entries))
    return say(compare.to_json(rows) if args.json else compare.to_text(rows, theirs.sources["curves"]))


def report(words: list[str]) -> int:
    """`dreamer report`."""
    parser = _results_parser(
        "report",
        "Write one HTML page about runs, which needs no network: scores beside the paper's, curves, videos, errors of "
        "the world model, settings, time.",
    )
    parser.add_argument("--out", type=to_path, required=True, metavar="FILE.html", help="where the page goes")
    args = parse(parser, words)

    from dreamer.results import report

    with _results_errors(args.out):
        written = report.write(args.runs, args.out, window=args.bin, **_chosen(args))
    return say(str(written))


def _chosen(args: argparse.Namespace) -> dict[str, Any]:
    """What curves.collect is asked for."""
    from dreamer.results.curves import FOLDER

    _check_keys("--group-by", [key for key in args.group_by if key != FOLDER])
    return {"tasks": args.tasks, "methods": args.methods, "group_by": args.group_by}


def _check_keys(option: str, names: Iterable[str]) -> None:
    """Raise UsageError for what is no key of the settings."""
    for name in names:
        try:
            config.key(name)
        except config.ConfigError as error:
            raise UsageError(f"{option}: {error}") from error


def _results_parser(command: str, description: str) -> Parser:
    """For the commands that show many runs."""
    parser = make_parser(command, description)
    parser.add_argument(
        "runs", nargs="+", type=to_path, metavar="RUN", help="log directory, a folder of them, a score file"
    )
    parser.add_argument("--tasks", **SEVERAL, metavar="TASK", help="only these; 'walker_*' is a pattern")
    parser.add_argument("--methods", **SEVERAL, metavar="METHOD", help="only these, patterns too")
    parser.add_argument(
        *("--group-by",),
        **SEVERAL,
        default=[],
        metavar="KEY",
        help="keep runs apart that differ in these settings, such as actor.lr, or (`folder`) in the RUN that they are "
        "from: as many lines, rows, colours",
    )
    parser.add_argument(
        "--bin", type=to_frames, metavar="FRAMES", help="average over so many frames (default: only very long curves)"
    )
    return parser


@contextlib.contextmanager
def _results_errors(out: Path | None = None) -> Iterator[None]:
    """Turn what results/ raises for input that it cannot use, or an `out` that cannot be written, into UsageError."""
    try:
        yield
    except ValueError as error:
        raise UsageError(error) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UsageError(f"{formats.shown(error.filename or out)}: {error.strerror}") from error
