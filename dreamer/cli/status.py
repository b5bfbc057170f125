"""`dreamer status`: how far runs are, whoever started them."""

import time
from pathlib import Path

from dreamer.cli.arguments import UsageError, make_parser, parse, to_path
from dreamer.cli.output import say
from dreamer.sweep import status as runs
from dreamer.sweep import table


def status(words: list[str]) -> int:
    """`dreamer status`."""
    parser = make_parser("status", "Tell how far all runs in some folders are, as their own files tell.")
    parser.add_argument("folders", nargs="+", type=to_path, metavar="RUNS", help="a log directory, or a folder of them")
    parser.add_argument("--watch", action="store_true", help="until Ctrl-C: the table is drawn again and again")
    args = parse(parser, words)
    if missing := [folder for folder in args.folders if not folder.is_dir()]:
        raise UsageError(f"{missing[0]}: no such directory")
    if not any(runs.waiting(folder) or any(True for _ in runs.find(folder)) for folder in args.folders):
        raise UsageError(f"{args.folders[0]}: no run in this directory or below it")
    steps: dict[Path, int | None] = {}

    def rows() -> list[runs.Status]:
        found = [path for folder in args.folders for path in runs.find(folder)]
        steps.update({path: runs.steps_of(path) for path in found if path not in steps})
        begun = [runs.read(path, str(path), steps[path]) for path in found]
        return [*begun, *(row for folder in args.folders for row in runs.waiting(folder))]

    screen = table.Screen(rows)
    while args.watch and not screen.lost:
        screen.show()
        time.sleep(1)
    found = rows()
    return say("\n".join([*table.to_lines(found), table.summary(found)]))
