"""`dreamer import`: episodes of other layouts as ours."""

from pathlib import Path
from typing import TYPE_CHECKING

from dreamer.cli.arguments import UsageError, make_parser, parse, to_path, to_positive
from dreamer.cli.output import fail, say
from dreamer.run import formats, layout
from dreamer.run.files import replacing_folder

if TYPE_CHECKING:
    from dreamer.replay.convert import Source

KEYS = {
    "image": "the images",
    "next": "the images that follow, with --format arrays",
    "action": "the actions",
    "reward": "the rewards",
    "terminal": "what tells that a step is a terminal",
    "timeout": "what tells that an episode ends without one",
}


def import_episodes(words: list[str]) -> int:
    """`dreamer import`."""
    parser = make_parser(
        "import",
        "Take episodes of other layouts into ours, for `dreamer learn --from FOLDER`: files of the published Dreamer "
        "and PlaNet, a Minari data set (HDF5), or arrays of your own. Every file or episode is a line that says what "
        "was taken, or why not.",
    )
    parser.add_argument("source", type=to_path, metavar="SRC", help="an .npz, a folder of them, or a Minari data set")
    parser.add_argument("--out", type=to_path, required=True, metavar="FOLDER", help="new folder for the episodes")
    parser.add_argument(
        "--format",
        choices=["dreamer", "minari", "arrays"],
        help="dreamer: a file is an episode, and actions led to the image of their row; arrays: transitions, whose "
        "actions follow from the image of their row (default: by what is there)",
    )
    parser.add_argument(
        "--action_repeat", type=to_positive, default=1, metavar="N", help="frames of one action (default: 1)"
    )
    parser.add_argument("--choices", type=to_positive, metavar="N", help="number of actions, where they are indices")
    parser.add_argument(
        "--size", type=int, choices=range(32, 129, 16), default=64, metavar="N", help="pixels of a side (default: 64)"
    )
    for name, what in KEYS.items():
        parser.add_argument(f"--{name}", metavar="KEY", help=f"key of {what}")
    args = parse(parser, words)

    from dreamer.replay import foreign
    from dreamer.replay.convert import Refused, Source

    names = {name: vars(args)[name] for name in KEYS if vars(args)[name] is not None}
    if not args.source.exists():
        raise UsageError(f"{formats.shown(args.source)} does not exist")
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise UsageError(f"--out {formats.shown(args.out)} exists already: expected a new folder")
    if (args.source / layout.CONFIG).is_file() and (args.source / layout.EPISODES).is_dir():
        raise UsageError(
            f"{formats.shown(args.source)} is a run, whose episodes need no other layout: `dreamer learn --from` "
            "trains from them"
        )
    try:
        form = args.format or foreign.format_of(args.source, names)
        source = Source(args.source, form, names, args.choices or 0, args.size)
    except Refused as error:
        raise UsageError(error) from error
    if not (foreign.npz_files(args.source) or source.format == "minari"):
        raise UsageError(f"{formats.shown(args.source)} has no .npz files")
    return _take(source, args.out, args.action_repeat)


def _take(source: "Source", out: Path, action_repeat: int) -> int:
    from dreamer.replay import foreign
    from dreamer.replay.episodes import EpisodeStore, ReplayError

    class NothingTaken(Exception):
        pass

    taken = steps = refused = 0
    try:
        with replacing_folder(out.absolute()) as folder:
            store = EpisodeStore(folder, action_repeat=action_repeat, inputs=source.inputs)
            for where, episode, remarks in foreign.read(source):
                problem = "; ".join(remarks) if episode is None else None
                if episode is not None:
                    try:
                        store.add(episode)
                    except ReplayError as error:
                        if isinstance(error.__cause__, OSError):  # a full disk
                            raise
                        problem = str(error).removeprefix("episode refused: ")
                if episode is None or problem:
                    refused += 1
                    say(f"refused {where}: {formats.one_line(problem)}")
                    continue
                count = len(episode["reward"]) - 1
                taken, steps = taken + 1, steps + count
                ends = "a terminal" if episode["is_terminal"][-1] else "no terminal"
                notes = f" ({'; '.join(remarks)})" if remarks else ""
                say(f"took {where}: {count} steps, {ends} at the end{notes}")
            if not taken:
                raise NothingTaken
    except NothingTaken:
        return fail(f"nothing of {formats.shown(source.path)} could be taken", 2)
    except ReplayError as error:
        return fail(error, 1)
    return say(f"{out}: {taken:,} episodes, {steps:,} steps taken as {source.format}; {refused:,} refused")
