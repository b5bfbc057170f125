"""The command `dreamer`.

The only place that sets environment variables, devices and the global precision. Environments are spawned, and a
spawned process imports this module again, so that nothing here imports TensorFlow before a command needs it.
"""

import argparse
import contextlib
import difflib
import errno
import json
import math
import os
import re
import shutil
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import NamedTuple

from dreamer import __version__, config, stops
from dreamer.config import ConfigError
from dreamer.run import formats, settings

# These keys decide where and in which arithmetic an agent runs: whoever inspects a run may sit at another machine.
INSPECT_MAY_CHANGE = ("precision", "env.renderer", "env.worker", "env.level_cache")

# What the system says about a path that the user has no way to, rather than about a fault of the program.
UNUSABLE = (
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
)
PATH_BYTES, NAME_BYTES = 4095, 255  # what Linux and its file systems take
RUNS_NAMED = 6  # where a folder of runs was given in the place of one

LEGEND = (
    "--KEY VALUE on the command line sets any of these (* differs from the defaults).",
    "When a run goes on, `free` keys may change, `told` ones with --resume.allow KEY, and no others.",
    "In parentheses at the end: whose default it is (paper, TF1 or TF2 release, PlaNet, ours), and what others have.",
)

HELP = """\
usage: dreamer [COMMAND] ...

  dreamer --configs dmc --task walker_walk     train; `train` is the default command

commands:
{commands}

  dreamer COMMAND --help                       what a command takes
  dreamer --version                            the version"""

TRAIN_HELP = """\
usage: dreamer [train] [--configs NAME ...] [--KEY VALUE ...] [--logdir DIR] [--profile]

Train an agent, or go on with the run in the log directory.

  --configs NAME ...   overlays of configs/, laid over the defaults in this order
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


class UsageError(ValueError):
    """Bad command line; the message is shown as it is."""


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 bad input, 128 + n stopped by signal n."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        with stops.Stops() as active:
            return _dispatch(words, active)
    except (UsageError, ConfigError, settings.SettingsError) as error:
        return _fail(error, 2)
    except stops.Stopped as error:
        return _fail(f"stopped by {error}", error.code)
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("dreamer"):
            raise
        return _fail(f"the package {error.name} is not installed: `make setup` installs it, see `dreamer doctor`", 1)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _fail(f"no space left on the disk: {error.filename or error.strerror}", 1)
        if error.errno in UNUSABLE and _is_named(error.filename, words):
            return _fail(f"{formats.shown(error.filename)}: {error.strerror}", 2)
        raise


class TrainWords(NamedTuple):
    """What the words of `dreamer train` say: overlays, {key: text}, log directory, --resume.allow and --profile."""

    overlays: list[str]
    overrides: dict[str, str]
    logdir: Path | None
    allowed: list[str]
    profile: bool


def parse_train(words: list[str]) -> TrainWords:
    """Split the words of `dreamer train`. Raises UsageError."""
    overlays, overrides, logdir, allowed, profile = [], {}, None, [], False
    words = list(words)
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
        if name == "configs":
            overlays += values
        elif name == "resume.allow":
            allowed += values
        elif name == "logdir":
            try:
                logdir = _path(values[0])
            except argparse.ArgumentTypeError as error:
                raise UsageError(f"--logdir: {error}") from error
        else:
            overrides[name] = values[0]
    return TrainWords(overlays, overrides, logdir, allowed, profile)


def claim_logdir(
    run: config.Config, logdir: Path, resources: contextlib.ExitStack, allowed: list[str]
) -> settings.Settings:
    """Take the log directory, and agree with the run in it on the settings; of the run itself nothing is written.

    The directory is this process's own until `resources` closes. Raises UsageError if it cannot be written,
    SettingsError if the run in it has other settings, BlockingIOError if another process holds it.
    """
    settings.agree(
        run, logdir, allowed
    )  # before the lock too, so that a refusal leaves not even the lock's file behind
    try:
        resources.enter_context(settings.exclusive(logdir))
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UsageError(f"cannot write to the log directory {logdir}: {error.strerror}") from error
    return settings.agree(run, logdir, allowed)  # again: another process may have started here in the meantime


def format_configs(keys: list[config.Key], values: dict, overlays: dict[str, str], width: int | None) -> str:
    """The table of `dreamer configs`, wrapped to width columns; width None puts every key on one line."""
    name_width = max(len(key.name) for key in keys)
    value_width = max(len(settings.yaml(value)) for value in values.values())
    lines = [part for line in LEGEND for part in _wrap("", line, width)]
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
        lines += _wrap(head, f"[{limits}] {key.meaning}", width)
    lines += ["", "overlays (--configs NAME ...)"]
    for name, comment in overlays.items():
        lines += _wrap(f"  {name:<{max(map(len, overlays))}}  ", comment, width)
    return "\n".join(lines)


def _dispatch(words: list[str], active: stops.Stops) -> int:
    if words[:1] in (["--help"], ["-h"], ["help"]):
        return _show(HELP.format(commands="\n".join(f"  {name:<9}{text}" for name, (_, text) in COMMANDS.items())))
    if words[:1] == ["--version"]:
        return _show(f"dreamer {__version__}")
    if not words or words[0].startswith("-"):
        words = ["train", *words]
    name, *words = words
    if name not in COMMANDS:
        near = difflib.get_close_matches(name[:60], COMMANDS, n=1, cutoff=0.0)[0]
        raise UsageError(f"unknown command {name[:60]!r}: did you mean {near!r}? There are {', '.join(COMMANDS)}")
    if name == "train":
        return _train(words, active)
    return COMMANDS[name][0](words)


def _train(words: list[str], active: stops.Stops) -> int:
    if "--help" in words or "-h" in words:
        may = {
            kind: ", ".join(key.name for key in config.describe() if key.resume == kind) for kind in ("free", "told")
        }
        return _show(TRAIN_HELP.format(**{kind: textwrap.fill(names, 79) for kind, names in may.items()}))
    from dreamer import envs

    given = parse_train(words)
    run = config.load(given.overlays, given.overrides)
    _check_task(run)
    run = run.replace(task=envs.canonical(run.suite, run.task))
    # Names of levels and of environments may hold slashes and colons.
    name = re.sub("[/:]", "_", f"{run.suite}_{run.task}")
    logdir = given.logdir or Path("runs") / name / run.method / str(run.seed)
    with contextlib.ExitStack() as resources:
        try:
            agreed = claim_logdir(run, logdir, resources, given.allowed)
        except BlockingIOError as error:
            return _fail(error, 1)
        for line in agreed.notes:
            print(line, flush=True)
        of_run = agreed.previous is not None and run.precision == "auto"
        precision = _prepare(agreed.config, of_run=of_run, emulate=not of_run)
        agreed = agreed._replace(config=agreed.config.replace(precision=precision))

        from dreamer.training import loop, restore

        try:
            return loop.train(agreed, logdir, active, profile=given.profile)
        except restore.RunError as error:
            raise UsageError(error) from error


def _eval(words: list[str]) -> int:
    parser = _run_parser("eval", "Play episodes with the newest checkpoint's mode actions: returns, as text and JSON.")
    parser.add_argument("--episodes", type=_positive, default=10, metavar="N", help="how many (default: 10)")
    parser.add_argument("--video", type=_path, metavar="FILE.mp4", help="the first 12 of them, side by side")
    args = _parse(parser, words)
    if args is None:
        return 0
    run = _open_run(args, args.video, (".mp4",))
    return _inspect("evaluate", run, args, video_path=args.video)


def _imagine(words: list[str]) -> int:
    parser = _run_parser(
        "imagine",
        "Show what the newest checkpoint's world model predicts open-loop: it sees 5 steps of each of some new "
        "episodes and imagines the next ones from the actions alone. Truth, model, error and rewards as a video.",
    )
    parser.add_argument("--out", type=_path, required=True, metavar="FILE", help="the video, .gif or .mp4")
    parser.add_argument("--episodes", type=_positive, default=5, metavar="N", help="columns of the video (default: 5)")
    parser.add_argument("--horizon", type=_positive, default=45, metavar="N", help="imagined steps (default: 45)")
    args = _parse(parser, words)
    if args is None:
        return 0
    run = _open_run(args, args.out, (".gif", ".mp4"))
    return _inspect("imagine", run, args, out=args.out, horizon=args.horizon)


def _inspect(name: str, run: config.Config, args: argparse.Namespace, **options) -> int:
    """Call a function of training.inspection with what all of them take, and with `options`."""
    from dreamer.training import inspection

    command = getattr(inspection, name)
    try:
        command(run, args.logdir, episodes=args.episodes, seed=args.seed, best=args.best, **options)
    except inspection.RunError as error:
        raise UsageError(error) from error
    except inspection.FAULTS as error:
        if isinstance(error, OSError) and error.filename:
            return _fail(f"{error.filename}: {error.strerror}", 1)
        return _fail(getattr(error, "message", error), 1)
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
    path = args.logdir / "config.yaml"
    if not path.is_file():
        raise UsageError(f"{args.logdir} {_what_is_missing(args.logdir)}")
    try:
        saved = config.load_file(path).flat()
    except ConfigError as error:
        raise UsageError(f"{args.logdir} cannot be opened by this version of dreamer: {error}") from error
    run = config.load([], saved | {key: vars(args)[key] for key in INSPECT_MAY_CHANGE if vars(args)[key] is not None})
    _check_task(run)
    _prepare(run, of_run=args.precision is None, emulate=True)
    return run


def _what_is_missing(logdir: Path) -> str:
    if not logdir.is_dir():
        return "does not exist: --logdir takes the log directory of a run"
    runs = [str(path.parent) for depth in (1, 2, 3) for path in sorted(logdir.glob("*/" * depth + "config.yaml"))]
    more = f" and {len(runs) - RUNS_NAMED} more" if len(runs) > RUNS_NAMED else ""
    below = f": below it there are {', '.join(runs[:RUNS_NAMED])}{more}" if runs else ""
    return f"holds no config.yaml, so it is no run{below}"


def _run_parser(command: str, description: str) -> "_Parser":
    parser = _parser(command, description)
    parser.add_argument("--logdir", type=_path, required=True, metavar="RUN", help="log directory of the run")
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="decides the episodes (default: 0)")
    parser.add_argument(
        "--best", action="store_true", help="the agent of the best evaluation among the states kept, not the newest"
    )
    for key in INSPECT_MAY_CHANGE:
        parser.add_argument(f"--{key}", dest=key, metavar="VALUE", help="as for train (default: that of the run)")
    return parser


def _positive(text: str) -> int:
    if not (number := _whole(text)):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text[:40]!r}")
    return number


def _seed(text: str) -> int:
    if (number := _whole(text)) is None:
        raise argparse.ArgumentTypeError(f"expected a whole number, 0 or above, got {text[:40]!r}")
    return number


def _whole(text: str) -> int | None:
    """A whole number that 64 bits take, None for any other text."""
    number = int(text) if text.isdecimal() and len(text) < 20 else None
    return number if number is not None and number < 2**63 else None


def _path(text: str) -> Path:
    """A path with ~ and ~user replaced, for argparse: told here if no file can ever have it."""
    try:
        path = Path(text).expanduser()
        parts = [os.fsencode(path), *map(os.fsencode, path.parts)]
    except (RuntimeError, UnicodeEncodeError) as error:
        problem = "there is no such user" if isinstance(error, RuntimeError) else "it is no valid text"
        raise argparse.ArgumentTypeError(f"{formats.shown(text)}: {problem}") from error
    if b"\0" in parts[0]:
        raise argparse.ArgumentTypeError(f"{formats.shown(text)}: a path cannot hold a NUL")
    if len(parts[0]) > PATH_BYTES or max(map(len, parts[1:]), default=0) > NAME_BYTES:
        raise argparse.ArgumentTypeError(f"{formats.shown(text)}: longer than a file system takes")
    try:
        path.stat()
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            raise argparse.ArgumentTypeError(f"{formats.shown(text)}: {error.strerror}") from error
    return path


def _check_task(run: config.Config) -> None:
    from dreamer import envs

    try:
        envs.validate(run.suite, run.task)
    except ValueError as error:
        raise UsageError(error) from error
    if problem := envs.missing(run.suite):
        raise UsageError(problem)
    if envs.SUITES[run.suite].opengl and run.env.renderer == "auto":
        _check_platform()


def _check_platform() -> None:
    """Raises UsageError if the user's MUJOCO_GL is no platform: found out while rendering, it would be a fault."""
    from dreamer.envs.rendering import BACKENDS

    given = os.environ.get("MUJOCO_GL", "").lower()
    if given not in ("", *BACKENDS):
        raise UsageError(f"MUJOCO_GL is {given[:40]!r}: expected {', '.join(BACKENDS)}, or unset")


def _prepare(run: config.Config, *, of_run: bool, emulate: bool) -> str:
    """Set the variables, devices and precision that the run asks for, before anything imports what reads them.

    of_run, emulate: see `set_up_tensorflow`. Returns the precision that it came to. Raises UsageError.
    """
    from dreamer import envs

    if not run.env.worker and envs.SUITES[run.suite].opengl:
        # This process will render, and dm_control reads the platform when it is imported.
        os.environ.update(envs.choose(run.env.renderer).variables)
    return set_up_tensorflow(run.precision, of_run=of_run, emulate=emulate)


def set_up_tensorflow(precision: str, *, of_run: bool = False, emulate: bool = True) -> str:
    """Set everything that TensorFlow and Keras take from a whole process; print and return the precision it came to.

    of_run: the precision is that of a run so far, and not what the user asks for. emulate: it may be one that this
    machine only emulates; else that is a UsageError.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Without it TensorFlow takes all memory of a GPU at once, and none is left for rendering there.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    # Keras would follow a setting meant for other projects of the user; ours only works on TensorFlow.
    os.environ["KERAS_BACKEND"] = "tensorflow"

    with _quiet_imports():
        import keras
        import tensorflow as tf

        from dreamer import hardware

        capabilities = hardware.gpu_capabilities()
    if not capabilities:
        # The remapper fuses products with their biases into kernels that do not use AMX: a step takes a fifth longer.
        tf.config.optimizer.set_experimental_options({"remapping": False})
    flags = hardware.cpu_flags()
    if not emulate and precision in ("bfloat16", "float16"):
        native, _ = hardware.resolve_precision("auto", flags, capabilities)
        if native == "float32" or (precision == "float16" and not capabilities):
            raise UsageError(
                f"this run computes in {precision}, which this machine only emulates: --precision {precision} goes on "
                "so, slowly; --precision float32 --resume.allow precision changes its arithmetic from here on"
            )
    precision, reason = hardware.resolve_precision(precision, flags, capabilities)
    reason = reason.replace("as asked for", "that of the run") if of_run else reason
    keras.config.set_dtype_policy(hardware.KERAS_POLICY[precision])
    print(f"precision {precision}: {reason}", flush=True)
    return precision


@contextlib.contextmanager
def _quiet_imports():
    """Hold back what TensorFlow's libraries print to the standard error while they load, unless loading fails.

    They write to the file descriptor before any setting of theirs is in force.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(saved, 2)
            held.seek(0)
            sys.stderr.write(held.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _configs(words: list[str]) -> int:
    parser = _parser("configs", "List every key with its value, unit, allowed values and meaning, and all overlays.")
    parser.add_argument("overlays", nargs="*", metavar="OVERLAY", help="show the values after these overlays")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = _parse(parser, words)
    if args is None:
        return 0
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
        return _show(json.dumps({"keys": listed, "overlays": comments}, indent=2))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() or "COLUMNS" in os.environ else None
    return _show(format_configs(keys, values, comments, width))


def _tasks(words: list[str]) -> int:
    parser = _parser("tasks", "List the tasks of every suite, as the key `task` takes them.")
    parser.add_argument("--suite", help="only this suite")
    args = _parse(parser, words)
    if args is None:
        return 0

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
    return _show("\n".join(lines[:-1]))


def _doctor(words: list[str]) -> int:
    parser = _parser(
        "doctor", "Tell what this machine offers and what is missing. The exit code is 0 if training would work."
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = _parse(parser, words)
    if args is None:
        return 0

    from dreamer import doctor

    checks = doctor.examine()
    _show(doctor.to_json(checks) if args.json else doctor.to_text(checks))
    return 0 if doctor.can_train(checks) else 1


def _plot(words: list[str]) -> int:
    parser = _results_parser("plot", "Draw learning curves of runs: a figure per suite, and one of all tasks together.")
    parser.add_argument("--published", action="store_true", help="draw published curves and scores beside them")
    parser.add_argument("--out", type=_path, required=True, metavar="FILE_OR_DIR", help="a .png, a .pdf or a directory")
    args = _parse(parser, words)
    if args is None:
        return 0

    from dreamer.results import plot, published

    chosen = {"tasks": args.tasks, "methods": args.methods, "window": args.bin}
    with _results_errors(args.out):
        beside = published.load() if args.published else None
        written = plot.main_figure(args.runs, args.out, published=beside, **chosen)
    return _show("\n".join(str(path) for path in written))


def _scores(words: list[str]) -> int:
    parser = _results_parser(
        "scores", "Print the returns of runs beside Dreamer's published ones at the same number of frames."
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = _parse(parser, words)
    if args is None:
        return 0

    from dreamer.results import compare, curves, published

    with _results_errors():
        theirs = published.load()
        entries = curves.collect(args.runs, args.tasks, args.methods)
        rows = compare.rows(entries, theirs, args.bin, curves.mixed_settings(entries))
    return _show(compare.to_json(rows) if args.json else compare.to_text(rows, theirs.sources["curves"]))


def _report(words: list[str]) -> int:
    parser = _results_parser(
        "report",
        "Write one HTML page about runs, which needs no network: scores beside the paper's, curves, videos, errors of "
        "the world model, settings, time.",
    )
    parser.add_argument("--out", type=_path, required=True, metavar="FILE.html", help="where the page goes")
    args = _parse(parser, words)
    if args is None:
        return 0

    from dreamer.results import report

    with _results_errors(args.out):
        written = report.write(args.runs, args.out, tasks=args.tasks, methods=args.methods, window=args.bin)
    return _show(str(written))


def _results_parser(command: str, description: str) -> "_Parser":
    """For the commands that show many runs."""
    parser = _parser(command, description)
    parser.add_argument(
        "runs", nargs="+", type=_path, metavar="RUN", help="log directory, a folder of them, a score file"
    )
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="only these; 'walker_*' is a pattern")
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="only these, patterns too")
    parser.add_argument(
        "--bin", type=_frames, metavar="FRAMES", help="average over so many frames (default: only very long curves)"
    )
    return parser


def _frames(text: str) -> float:
    """A number of frames, for argparse: at least one, and no more than any run has."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 1 <= number <= 1e15:
        raise argparse.ArgumentTypeError(f"expected a number of frames from 1 to 1e15, got {text[:40]!r}")
    return number


@contextlib.contextmanager
def _results_errors(out: Path | None = None):
    """Turn what results/ raises for input that it cannot use, or an `out` that cannot be written, into UsageError."""
    try:
        yield
    except ValueError as error:
        raise UsageError(error) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UsageError(f"{formats.shown(error.filename or out)}: {error.strerror}") from error


def _is_named(filename, words: list[str]) -> bool:
    """Whether a path is one of the command line's words, or lies below one."""
    path = Path(os.path.abspath(str(filename)))
    values = [word.partition("=")[2] if word.startswith("--") else word for word in words]
    given = {Path(os.path.abspath(os.path.expanduser(value))) for value in values if value}
    return filename is not None and not given.isdisjoint({path, *path.parents})


COMMANDS = {
    "train": (_train, "Train an agent, or go on with a run (the default)."),
    "eval": (_eval, "Play episodes with the agent of a run and print their returns."),
    "imagine": (_imagine, "Show what the world model of a run predicts."),
    "configs": (_configs, "List every key and overlay."),
    "tasks": (_tasks, "List the tasks of every suite."),
    "doctor": (_doctor, "Tell what this machine offers and what is missing."),
    "scores": (_scores, "Print the returns of runs beside the published ones."),
    "plot": (_plot, "Draw learning curves of runs."),
    "report": (_report, "Write one page about runs: scores, curves, videos, settings, time."),
}


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError(f"{message} (see `{self.prog} --help`)")


def _parser(command: str, description: str) -> _Parser:
    return _Parser(prog=f"dreamer {command}", description=description, allow_abbrev=False)


def _parse(parser: _Parser, words: list[str]) -> argparse.Namespace | None:
    if "--help" in words or "-h" in words:
        _show(parser.format_help().rstrip())
        return None
    return parser.parse_args(words)


def _wrap(head: str, text: str, width: int | None) -> list[str]:
    if width is None:
        return [f"{head}{text}".rstrip()]
    # A terminal narrower than the columns before the text gets long lines rather than one letter a line.
    width = max(width, len(head) + 24)
    return textwrap.wrap(
        text, width, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False
    ) or [head.rstrip()]


def _show(text: str) -> int:
    try:
        try:
            print(text, flush=True)
        except UnicodeEncodeError:
            # A terminal without Unicode, or a file whose name is none.
            print(text.encode("ascii", "backslashreplace").decode(), flush=True)
    except BrokenPipeError:
        # `dreamer configs | head`: the reader has what it wanted; the interpreter must not flush into the pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _fail(message, code: int) -> int:
    print(f"dreamer: {formats.one_line(message)}", file=sys.stderr, flush=True)
    return code
