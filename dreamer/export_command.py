"""`dreamer export`: the policy of a run as a SavedModel."""

import argparse
from pathlib import Path

from dreamer import library


def add_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the options of the command to a parser, and return it."""
    parser.add_argument("--logdir", type=Path, required=True, metavar="RUN", help="log directory of the run")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the SavedModel goes")
    parser.add_argument(
        "--best", action="store_true", help="the agent of the best evaluation among the states kept, not the newest"
    )
    parser.add_argument(
        "--with",
        dest="parts",
        nargs="+",
        choices=["model"],
        default=[],
        help="what else: what the world model imagines",
    )
    return parser


def run(args: argparse.Namespace) -> list[str]:
    """Export, and return the lines to print. Raises what `library.export` does."""
    written = library.export(args.logdir, args.out, with_model="model" in args.parts, best=args.best)
    return [str(path) for path in written]
