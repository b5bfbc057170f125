"""`dreamer learn`: training from stored episodes alone."""

import argparse
from pathlib import Path

from dreamer import config, stops
from dreamer.cli.arguments import UsageError, to_path
from dreamer.cli.output import say
from dreamer.cli.train import TrainWords, go_on, parse_train
from dreamer.run import layout
from dreamer.start import check_agent, load_tensorflow, open_config

LEARN_HELP = """\
usage: dreamer learn --from FOLDER --logdir DIR [--updates N] [--configs NAME ...]
                     [--KEY VALUE ...] [--profile]

Train an agent from stored episodes alone, with no environment, or go on with such a
run. FOLDER is not written to.

  --from FOLDER        a run, its episodes/, or any folder of episodes, such as
                       `dreamer import` makes
  --logdir DIR         where the new run is kept
  --updates N          training steps in all (default: as many as a run makes that
                       collects so many frames); a larger N goes on with a run
  --configs NAME ...   as for train
  --KEY VALUE          as for train; --task, and --suite and --env.action_repeat where
                       they differ from the defaults, say what a folder is of that is no
                       run's
  --help               this text

Settings are those of the run that FOLDER is of, but for what overlays and keys say;
without one, the defaults. Every learn.hold_out-th episode is held out: open_loop.jsonl
and eval/open_loop_image_error of metrics.jsonl tell how well the model predicts those.

  dreamer learn --from runs/dmc_walker_walk/dreamer/0 --logdir runs/offline --updates 1e5
  dreamer learn --from my_episodes --task my_robot --logdir runs/robot"""
# What a run has of its own, and does not hand down to one that learns from its episodes.
OWN = ("seed", "steps", "precision", "init_from", "xla", "gpus", "envs.count", "loop.overlap")
OWN += ("learn.source", "learn.hold_out")


def learn(words: list[str], active: stops.Stops) -> int:
    """`dreamer learn`, which `active` can stop; returns the exit code."""
    if "--help" in words or "-h" in words:
        return say(LEARN_HELP)
    given = parse_train(words)
    if given.logdir is None:
        raise UsageError("learn needs --logdir DIR, where the new run is kept")
    run = _settings(given, given.logdir)
    check_agent(run)
    if run.method == "random":
        raise UsageError("--method random learns nothing, from no episodes")

    load_tensorflow()  # with what it takes from a process, before anything else imports it

    from dreamer.training.offline import Offline

    return go_on(run, given.logdir, given, active, kind=Offline)


def _settings(given: TrainWords, logdir: Path) -> config.Config:
    """The settings that the words ask for, over those of the run that goes on, or of the run of the episodes."""
    overrides = dict(given.overrides)
    source, updates = overrides.pop("from", None), overrides.pop("updates", None)
    for key, option in (("steps", "--updates"), ("learn.source", "--from")):
        if key in overrides:
            raise UsageError(f"--{key}: for learn, that is {option}")
    folder, of = (None, None) if source is None else _folder(source, logdir)
    if (logdir / layout.CONFIG).is_file():
        base = open_config(logdir).flat()
        if base["learn.source"] == "none":
            raise UsageError(f"{logdir} holds a run that collects its own episodes: give another --logdir")
        folder = folder or Path(base["learn.source"])
        del base["precision"]  # that of the run, and not one that was asked for
    elif folder is None:
        raise UsageError("learn needs --from FOLDER: a run, or a folder of episodes")
    elif of:
        base = {key: value for key, value in open_config(of).flat().items() if key not in OWN}
        if base["method"] == "random":
            del base["method"]
    else:
        base = {}
    overrides["learn.source"] = str(folder)
    if updates is not None:
        overrides["steps"] = updates
    try:
        run = config.load(given.overlays, overrides, base)
    except config.ConfigError as error:
        raise UsageError(str(error).replace("--steps", "--updates")) from error
    if not base and "task" not in overrides and run.task == config.key("task").value:
        raise UsageError(f"{folder} is no run's: --task NAME, and --suite, say what its episodes are of")
    if updates is None and "steps" not in base:
        run = run.replace(steps=_usual_updates(run, folder))
    return run


def _folder(text: str, logdir: Path) -> tuple[Path, Path | None]:
    """The folder of episodes that --from means, and the run that they are of, if any. Raises UsageError."""
    try:
        path = to_path(text).resolve()
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"--from: {error}") from error
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise UsageError(f"--from: {path} {what}: expected a run, or a folder of episodes")
    runs = [path, path.parent] if path.name == layout.EPISODES else [path]
    of = next((run for run in runs if (run / layout.CONFIG).is_file()), None)
    folder = path / layout.EPISODES if of == path else path
    if not _stored(folder):
        raise UsageError(f"--from: {folder} has no episodes of ours: `dreamer import` takes those of other layouts")
    if path in (logdir.resolve(), *logdir.resolve().parents):
        raise UsageError(f"--logdir {logdir} lies in {path}, which is not written to: give another one")
    return folder, of


def _usual_updates(run: config.Config, folder: Path | None) -> int:
    """Updates that a run makes which collects as many frames as are stored."""
    assert folder
    frames = sum(length - 1 for _, length in _stored(folder)) * run.env.action_repeat
    rounds = max(0, frames - run.loop.prefill) // run.loop.train_every
    return max(1, run.loop.pretrain + rounds * run.loop.train_updates)


def _stored(folder: Path) -> list:
    from dreamer.replay.episodes import stored_episodes

    return stored_episodes(folder)
