"""`dreamer train`."""

import argparse
import contextlib
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dreamer import config, stops
from dreamer.cli.arguments import UsageError, tell_replaced, to_path
from dreamer.cli.output import fail, say
from dreamer.cli.tensorflow import prepare
from dreamer.near import nearest
from dreamer.run.lock import IN_USE
from dreamer.start import check_task, claim_logdir, default_logdir

if TYPE_CHECKING:
    from dreamer.training.loop import Run

TRAIN_HELP = """\
usage: dreamer [train] [--configs NAME ...] [--KEY VALUE ...] [--logdir DIR] [--profile]

Train an agent, or go on with the run in the log directory.

  --configs NAME ...   overlays of configs/, or .yaml files of your own, laid over the
                       defaults in this order
  --KEY VALUE          value of a key, also --KEY=VALUE; wins over overlays
  --logdir DIR         where the run is kept (default: runs/SUITE_TASK/METHOD/SEED)
  --resume.allow KEY ...
                       keys that may have another value when a run goes on
  --profile            write a TensorBoard trace of 10 updates there
  --help               this text

`dreamer configs` lists keys and overlays, `dreamer tasks` the tasks. The same
command again resumes an interrupted run. These keys may change then:
{free}.
With --resume.allow these too, since they change what is learned:
{told}.

  dreamer --configs dmc --task walker_walk
  dreamer --configs dmc --task cheetah_run --seed 1 --steps 1e6 --logdir runs/cheetah"""


OPTIONS = ("configs", "logdir", "profile", "resume.allow", "help")  # those that are no keys


class TrainWords(NamedTuple):
    """What the words of `dreamer train` say: overlays, {key: text}, log directory, --resume.allow and --profile.

    single: (option, value) of those of one value, in their order.
    """

    overlays: list[str]
    overrides: dict[str, str]
    logdir: Path | None
    allowed: list[str]
    profile: bool
    single: list[tuple[str, str]]


def parse_train(words: list[str]) -> TrainWords:
    """Split the words of `dreamer train`. Raises UsageError."""
    overlays, overrides, logdir, allowed, profile = [], {}, None, [], False
    words, single = list(words), list[tuple[str, str]]()
    while words:
        word = words.pop(0)
        if not word.startswith("--") or word == "--":
            raise UsageError(f"unexpected argument {word!r}: keys are written --KEY VALUE, see `dreamer train --help`")
        if word == "--profile":
            profile = True
            continue
        name, equals, value = word[2:].partition("=")
        values = [value] if equals else []
        several = name in ("configs", "resume.allow")
        while not equals and words and not words[0].startswith("--") and (several or not values):
            values.append(words.pop(0))
        if not values or "" in values:
            raise UsageError(f"--{name} needs a value")
        single += [(f"--{name}", values[0])] * (not several)
        if name == "configs":
            overlays += values
        elif name == "resume.allow":
            allowed += values
        elif name == "logdir":
            try:
                logdir = to_path(values[0])
            except argparse.ArgumentTypeError as error:
                raise UsageError(f"--logdir: {error}") from error
        elif (near := nearest(name, OPTIONS)) and not _is_key(name):
            raise UsageError(f"unknown option --{name}: did you mean --{near[0]}?")
        else:
            overrides[name] = values[0]
    return TrainWords(overlays, overrides, logdir, allowed, profile, single)


def _is_key(name: str) -> bool:
    return any(key.name.endswith(name) for key in config.describe())


def train(words: list[str], active: stops.Stops) -> int:
    """`dreamer train`, which `active` can stop; returns the exit code."""
    if "--help" in words or "-h" in words:
        may = {
            kind: ", ".join(key.name for key in config.describe() if key.resume == kind) for kind in ("free", "told")
        }
        return say(TRAIN_HELP.format(**{kind: textwrap.fill(names, 79) for kind, names in may.items()}))
    from dreamer import envs

    given = parse_train(words)
    run = config.load(given.overlays, given.overrides)
    check_task(run)
    run = run.replace(task=envs.canonical(run.suite, run.task))
    logdir = given.logdir or default_logdir(run)
    return go_on(run, logdir, given, active)


def go_on(
    run: config.Config, logdir: Path, given: TrainWords, active: stops.Stops, *, kind: "type[Run] | None" = None
) -> int:
    """Begin the run in `logdir`, or go on with it, see loop.train; returns the exit code."""
    with contextlib.ExitStack() as resources:
        try:
            agreed = claim_logdir(run, logdir, resources, given.allowed)
        except BlockingIOError as error:
            return fail(error, IN_USE)
        tell_replaced(given.single)
        for line in agreed.notes:
            print(line, flush=True)
        of_run = agreed.previous is not None and run.precision == "auto"
        precision = prepare(agreed.config, of_run=of_run, emulate=not of_run)
        agreed = agreed._replace(config=agreed.config.replace(precision=precision))

        from dreamer.training import loop, restore

        try:
            return loop.train(agreed, logdir, active, profile=given.profile, kind=kind)
        except restore.RunError as error:
            raise UsageError(error) from error
