"""`dreamer sweep`: many runs from one command."""

import argparse
import errno
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dreamer import stops
from dreamer.cli import arguments, show, train
from dreamer.cli.arguments import SEVERAL, Parser, UsageError, make_parser, parse_known, to_path, to_positive, to_seed
from dreamer.cli.output import fail, say
from dreamer.sweep import engines, estimate, plan, table
from dreamer.sweep import status as runs
from dreamer.sweep.engines import local, ray, slurm

REPORT = "report.html"
RETRIES = 3
# Options that an engine does not have.
OPTIONS_WITHOUT = {
    "local": ("address", "cpus", "submit", "sbatch"),
    "ray": ("gpus", "submit", "sbatch"),
    "slurm": ("gpus", "per_gpu", "address", "cpus", "report"),
}


def sweep(words: list[str], active: stops.Stops) -> int:
    """`dreamer sweep`, which `active` can stop; returns the exit code."""
    args, rest = parse_known(_parser(), words)
    given = train.parse_train(rest)
    _check(args, given)
    jobs = plan.plan(
        given.overlays,
        {key: value for key, value in given.overrides.items() if key != "task"},
        tasks=args.tasks or ([given.overrides["task"]] if "task" in given.overrides else []),
        seeds=args.seeds,
        settings=_settings(args.set),
        out=args.out,
        allowed=given.allowed,
    )
    if args.index is not None:
        if args.index >= len(jobs):
            raise UsageError(f"--index {args.index}: there are the runs 0 to {len(jobs) - 1}")
        jobs = [jobs[args.index]]
    if args.dry_run:
        return say(_listed(jobs))
    if args.index is not None:
        return train.train(jobs[0].words[1:], active)
    plan.check(jobs, given.allowed)
    arguments.tell_replaced(given.single)
    if args.engine == "slurm":
        return _slurm(args, given, jobs)
    view = View(jobs)
    screen = table.Screen(view.rows)

    def watch(outcomes: dict[int, engines.Outcome], changed: bool) -> None:
        view.outcomes = outcomes
        screen.show(changed)

    with active.noting():
        view.outcomes = _work(args, jobs, active, watch)
    screen.close()
    return _end(args, jobs, view, active)


class View:
    """The rows of a sweep's table: what its engine knows, and what the files of its runs say."""

    def __init__(self, jobs: Sequence[plan.Job]):
        self.outcomes: dict[int, engines.Outcome] = {}
        self._jobs, self._ended = jobs, dict[int, runs.Status]()

    def rows(self) -> list[runs.Status]:
        """One per run, in their order."""
        return [self._ended.get(job.number) or self._row(job) for job in self._jobs]

    def _row(self, job: plan.Job) -> runs.Status:
        row = runs.read(job.logdir, job.name, job.config.steps)
        state = self.outcomes.get(job.number, engines.Outcome(engines.WAITING)).state
        if state == engines.WAITING and row.state == runs.RUNNING:  # by another sweep, or by hand
            return row
        row = row._replace(state=state)
        if state == runs.FINISHED:  # and changes no more
            self._ended[job.number] = row
        return row


def _work(
    args: argparse.Namespace, jobs: list[plan.Job], active: stops.Stops, watch: engines.Show
) -> dict[int, engines.Outcome]:
    common: dict[str, Any] = {"retries": _retries(args), "stops": active, "show": watch, "logs": args.out / runs.LOGS}
    if args.engine == "ray":
        cluster = {"address": args.address, "workers": args.workers, "cpus": args.cpus or 1}
        return ray.work(jobs, per_gpu=args.per_gpu or 1, **cluster, **common)
    local.check_gpus(args.gpus or ())
    _prepare(args.out, jobs)
    slots = local.slots(args.workers or 1, args.gpus or (), args.per_gpu or 1)
    return local.work(jobs, slots=slots, **common)


def _retries(args: argparse.Namespace) -> int:
    return RETRIES if args.retries is None else args.retries


def _prepare(out: Path, jobs: Sequence[plan.Job]) -> None:
    """Make the folder of the logs, and note there what is to be made, for `dreamer status`."""
    folder = out / runs.LOGS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        runs.write_planned(out, jobs)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UsageError(f"--out: cannot write to {folder}: {error.strerror}") from error


def _slurm(args: argparse.Namespace, given: train.TrainWords, jobs: list[plan.Job]) -> int:
    """Write the script of an array job for the runs that are not finished, and submit it if that is asked for."""
    left = [job.number for job in jobs if not runs.is_finished(job.logdir, job.config.steps)]
    if not left:
        return say(f"All {len(jobs)} runs are finished.")
    words = ["sweep", *(["--configs", *given.overlays] if given.overlays else [])]
    words += [f"--{key}={value}" for key, value in given.overrides.items()]
    words += [*(["--resume.allow", *given.allowed] if given.allowed else [])]
    words += [*(["--tasks", *args.tasks] if args.tasks else []), f"--seeds={','.join(map(str, args.seeds))}"]
    words += [f"--set={key}={','.join(values)}" for key, values in args.set or ()] + [f"--out={args.out}"]
    _prepare(args.out, jobs)
    script = slurm.write(
        words,
        left,
        workers=args.workers,
        retries=_retries(args),
        options=args.sbatch,
        out=args.out,
        logs=args.out / runs.LOGS,
    )
    return say(slurm.submit(script) if args.submit else f"{script}\nsbatch {shlex.quote(str(script))} submits it.")


def _end(args: argparse.Namespace, jobs: list[plan.Job], view: View, active: stops.Stops) -> int:
    """The table of how all came out; returns the exit code."""
    rows = view.rows()
    say("\n".join([*table.to_lines(rows), table.summary(rows)]))
    failed = [job for job in jobs if view.outcomes.get(job.number, engines.Outcome("")).state == engines.FAILED]
    for job in failed:
        fail(f"{job.name}: {view.outcomes[job.number].reason} ({args.out / runs.LOGS / job.name}.log)", 1)
    if active.signal:
        say(f"Stopped{'' if failed else ' and saved'}. The same command goes on from there.")
        return 128 + active.signal
    if args.report:
        try:
            show.report([str(args.out), "--out", str(args.out / REPORT)])
        except UsageError as error:  # no run has been evaluated
            return fail(error, 1)
    return 1 if failed else 0


def _listed(jobs: Sequence[plan.Job]) -> str:
    """The runs with their frames, what they take on the disk and how long: `--dry-run`."""
    rates = [runs.read(job.logdir, job.name, job.config.steps).rate for job in jobs]
    return estimate.to_text(jobs, estimate.measured(jobs, rates))


def _check(args: argparse.Namespace, given: train.TrainWords) -> None:
    """Raise UsageError for words that do not go together."""
    if given.logdir or given.profile:
        raise UsageError(f"--{'logdir' if given.logdir else 'profile'} is for one run: a sweep has --out")
    if "seed" in given.overrides:
        raise UsageError("--seed is for one run: a sweep has --seeds, such as --seeds 0..4")
    if args.tasks and "task" in given.overrides:
        raise UsageError("--task and --tasks: give one of them")
    for key in _settings(args.set):
        if key in ("task", "seed"):
            raise UsageError(f"--set {key}=...: a sweep has --{key}s for that")
        if key in given.overrides:
            raise UsageError(f"--set {key}=...: it is given by --{key} too")
    alone = ("workers", "gpus", "per_gpu", "address", "cpus", "submit", "sbatch", "report", "retries")
    if args.index is not None and (idle := [option for option in alone if getattr(args, option) is not None]):
        raise UsageError(
            f"--{idle[0].replace('_', '-')} does not go with --index, which trains one run in this process and ends"
        )
    if args.engine == "local" and args.per_gpu and not args.gpus:
        raise UsageError("--per-gpu needs --gpus, such as --gpus 0,1 --per-gpu 2")
    if strange := [option for option in OPTIONS_WITHOUT[args.engine] if getattr(args, option)]:
        raise UsageError(f"--{strange[0].replace('_', '-')} does not go with --engine {args.engine}")
    if args.gpus and args.workers:
        raise UsageError("--gpus and --workers: with GPUs, --per-gpu tells how many runs there are at once")


def _settings(given: Sequence[tuple[str, list[str]]] | None) -> dict[str, list[str]]:
    settings: dict[str, list[str]] = {}
    for key, values in given or ():
        if key in settings:
            raise UsageError(f"--set {key} is given twice: write --set {key}={','.join([*settings[key], *values])}")
        settings[key] = values
    return settings


def _typed(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """A reader that raises ValueError, for argparse, which keeps only the message of its own error."""

    def convert(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


def _gpus(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if "" in names or len(set(names)) < len(names):
        raise ValueError(f"expected GPUs such as 0,1, got {text[:40]!r}")
    return names


def _parser() -> Parser:
    parser = make_parser(
        "sweep",
        "Train all runs of a product of tasks, seeds and settings, each as `dreamer train` does, which takes the other "
        "words: --configs, --KEY VALUE, --resume.allow. The same command again skips what is finished, goes on with "
        "what is not, and tries again what failed.",
    )
    parser.usage = "dreamer sweep [--configs NAME ...] [--KEY VALUE ...] [OPTION ...]"
    add = parser.add_argument
    add("--tasks", **SEVERAL, metavar="TASK", help="names, patterns such as 'walker_*', groups such as dmc20")
    add("--seeds", type=_typed(plan.read_seeds), default=[0], metavar="SEEDS", help="0..4 or 0,3,7 (default: 0)")
    add(
        *("--set",),
        **SEVERAL,
        type=_typed(plan.read_setting),
        metavar="KEY=V,V",
        help="values of a key, each with every task and seed",
    )
    add("--out", type=to_path, default=Path("runs"), metavar="DIR", help="where the runs are kept (default: runs)")
    add("--dry-run", action="store_true", help="list the runs, with the hours and the disk that they take")
    add("--index", type=to_seed, metavar="N", help="train the N-th of them, from 0, in this process")
    add("--retries", type=to_seed, metavar="N", help=f"so often a run that failed is started again ({RETRIES})")
    add("--report", action="store_true", default=None, help=f"write {REPORT} into --out at the end")
    add("--engine", choices=("local", "ray", "slurm"), default="local", help="who starts them (local)")
    add("--workers", type=to_positive, metavar="N", help="runs at once (default: 1)")
    add("--gpus", type=_typed(_gpus), metavar="0,1", help="GPUs to train on, one run on each")
    add("--per-gpu", type=to_positive, metavar="N", help="runs at once on each GPU (default: 1)")
    add("--address", metavar="HOST:PORT", help="ray: of a cluster that runs; auto finds it (default: this machine)")
    add("--cpus", type=to_positive, metavar="N", help="ray: cores that a run takes (default: 1)")
    add("--submit", action="store_true", default=None, help="slurm: hand the script of the array job to sbatch, too")
    add("--sbatch", metavar="='--gres=gpu:1 ...'", help="slurm: options of sbatch, for the script")
    return parser
