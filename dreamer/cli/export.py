"""`dreamer export`: the agent of a run, for whoever has no use for its episodes."""

import sys
import warnings
from pathlib import Path

from dreamer import library
from dreamer.cli.arguments import SEVERAL, UNUSABLE, UsageError, make_parser, parse, to_path
from dreamer.cli.output import fail, say
from dreamer.run import formats


def export(words: list[str]) -> int:
    """`dreamer export`."""
    parser = make_parser(
        "export",
        "Write the agent of a run: its policy as a SavedModel, which needs nothing but TensorFlow to act, or a run "
        "with its networks and curves, for dreamer's own commands.",
    )
    parser.add_argument("--logdir", type=to_path, required=True, metavar="RUN", help="log directory of the run")
    parser.add_argument("--out", type=to_path, required=True, metavar="DIR", help="where it goes")
    parser.add_argument(
        "--form",
        choices=library.FORMS,
        default=library.FORMS[0],
        help="savedmodel (default), or run: `dreamer eval`, imagine, scores and `dreamer.load` open it",
    )
    parser.add_argument(
        "--best", action="store_true", help="the agent of the best evaluation among the states kept, not the newest"
    )
    parser.add_argument(
        "--with",
        dest="parts",
        **SEVERAL,
        choices=["model"],
        default=[],
        help="what else a SavedModel holds: the model's imagination",
    )
    args = parse(parser, words)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"dreamer: {message}", file=sys.stderr, flush=True)
            written = library.export(args.logdir, args.out, "model" in args.parts, best=args.best, form=args.form)
    except ValueError as error:
        raise UsageError(error) from error
    except OSError as error:
        if error.errno not in UNUSABLE:
            raise
        read = error.filename is not None and args.logdir in Path(error.filename).parents
        raise UsageError(f"{formats.shown(error.filename if read else args.out)}: {error.strerror}") from error
    except RuntimeError as error:
        return fail(error, 1)
    return say("\n".join(map(str, written)))
