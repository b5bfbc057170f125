"""`dreamer configs`, `tasks` and `doctor`: what there is to choose from, and what this machine offers."""

import json
import os
import shutil
import sys

from dreamer import config
from dreamer.cli.arguments import UsageError, make_parser, parse
from dreamer.cli.output import say, wrap
from dreamer.run import settings

LEGEND = (
    "--KEY VALUE on the command line sets any of these (* differs from the defaults).",
    "When a run goes on, `free` keys may change, `told` ones with --resume.allow KEY, and no others.",
    "In parentheses at the end: whose default it is (paper, TF1 or TF2 release, PlaNet, ours), and what others have.",
)


def format_configs(keys: list[config.Key], values: dict, overlays: dict[str, str], width: int | None) -> str:
    """The table of `dreamer configs`, wrapped to width columns; width None puts every key on one line."""
    name_width = max(len(key.name) for key in keys)
    value_width = max(len(settings.yaml(value)) for value in values.values())
    lines = [part for line in LEGEND for part in wrap("", line, width)]
    lines += ["", "general"]
    section = ""
    for key in keys:
        if key.name.rpartition(".")[0] != section:
            section = key.name.rpartition(".")[0]
            lines += ["", section]
        parts = [key.unit, str(key.allowed) if key.allowed else "", key.resume if key.resume != config.FIXED else ""]
        limits = "; ".join(filter(None, parts))
        mark = " " if values[key.name] == key.value else "*"
        head = f"{mark} {key.name:<{name_width}}  {settings.yaml(values[key.name]):<{value_width}}  "
        lines += wrap(head, f"[{limits}] {key.meaning}", width)
    lines += ["", "overlays (--configs NAME ...)"]
    for name, comment in overlays.items():
        lines += wrap(f"  {name:<{max(map(len, overlays))}}  ", comment, width)
    return "\n".join(lines)


def configs(words: list[str]) -> int:
    """`dreamer configs`."""
    parser = make_parser(
        "configs", "List every key with its value, unit, allowed values and meaning, and all overlays."
    )
    parser.add_argument("overlays", nargs="*", metavar="OVERLAY", help="show the values after these overlays")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parse(parser, words)
    keys, values = config.describe(), config.load(args.overlays).flat()
    comments = {name: config.overlay_comment(name) for name in config.overlays()}
    if args.json:
        listed = [
            {
                "key": key.name,
                "value": values[key.name],
                "default": key.value,
                "type": key.type.__name__,
                "unit": key.unit,
                "allowed": str(key.allowed) if key.allowed else None,
                "resume": key.resume,
                "meaning": key.meaning,
                "source": key.source,
            }
            for key in keys
        ]
        return say(json.dumps({"keys": listed, "overlays": comments}, indent=2))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() or "COLUMNS" in os.environ else None
    return say(format_configs(keys, values, comments, width))


def tasks(words: list[str]) -> int:
    """`dreamer tasks`."""
    parser = make_parser("tasks", "List the tasks of every suite, as the key `task` takes them.")
    parser.add_argument("--suite", help="only this suite")
    args = parse(parser, words)

    from dreamer import envs

    suites = envs.tasks()
    if args.suite is not None and args.suite not in suites:
        raise UsageError(f"unknown suite {args.suite!r}: there are {', '.join(suites)}")
    lines = []
    for suite in suites if args.suite is None else [args.suite]:
        also = envs.SUITES[suite].also
        lines += [suite, *(f"  {task}" for task in suites[suite]), *([f"  {also}"] if also else []), ""]
        if others := envs.other_tasks()[suite]:
            lines += [f"{suite}, not in the paper", *(f"  {task}" for task in others), ""]
    return say("\n".join(lines[:-1]))


def doctor(words: list[str]) -> int:
    """`dreamer doctor`."""
    parser = make_parser(
        "doctor", "Tell what this machine offers and what is missing. The exit code is 0 if training would work."
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parse(parser, words)

    from dreamer import doctor

    checks = doctor.examine()
    say(doctor.to_json(checks) if args.json else doctor.to_text(checks))
    return 0 if doctor.can_train(checks) else 1
