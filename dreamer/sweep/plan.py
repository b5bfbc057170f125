"""The runs of a sweep: the product of tasks, seeds and settings, each with the words that make it."""

import fnmatch
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dreamer import envs
from dreamer.config import Config, load
from dreamer.run.settings import agree
from dreamer.start import UsageError, check_task, default_logdir

MOST = 100_000  # runs of a sweep: a slip of the pen in --seeds should cost no memory
APART = ("suite", "task", "seed", "method")  # keys that the place of a run tells already


class Job(NamedTuple):
    """A run of a sweep. number: its place, from 0; name: its log directory below that of the sweep; words: its
    command line, without `dreamer`."""

    number: int
    name: str
    logdir: Path
    words: list[str]
    config: Config


def plan(
    overlays: Sequence[str],
    keys: Mapping[str, str],
    *,
    tasks: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    settings: Mapping[str, Sequence[str]] | None = None,
    out: Path,
    allowed: Sequence[str] = (),
) -> list[Job]:
    """All runs, one seed of everything before the next. overlays, keys, allowed: as for `dreamer train`.

    tasks: names, patterns and groups of the suite, none for that of the config; settings: {key: its values as texts}.
    Raises UsageError and ConfigError; two runs that are the same are one too.
    """
    settings = settings or {}
    base = load(overlays, keys)
    names = find_tasks(base.suite, tasks) if tasks else [base.task]
    if len(names) * len(seeds) * math.prod(map(len, settings.values())) > MOST:
        raise UsageError(f"more than {MOST:,} runs: give fewer --tasks, --seeds or values of --set")
    jobs: list[Job] = []
    folders, places = set[Path](), dict[tuple, Path]()
    for seed, task, values in itertools.product(seeds, names, list(itertools.product(*settings.values()))):
        chosen = {**keys, **dict(zip(settings, values, strict=True)), "task": task, "seed": str(seed)}
        run = load(overlays, chosen)
        run = run.replace(task=envs.canonical(run.suite, run.task))
        logdir = default_logdir(run, out / _folder(settings, values))
        words = ["train", *(["--configs", *overlays] if overlays else [])]
        words += [f"--{key}={value}" for key, value in chosen.items()]
        words += [*(["--resume.allow", *allowed] if allowed else []), f"--logdir={logdir}"]
        job = Job(len(jobs), str(logdir.relative_to(out)), logdir, words, run)
        if logdir in folders:
            raise UsageError(f"two runs would be kept in {logdir}: is a task, seed or value given twice?")
        if (same := places.setdefault(tuple(run.flat().values()), logdir)) != logdir:  # 1e-4 and 0.0001
            raise UsageError(f"the runs in {same} and {logdir} would be the same one: is a value given twice?")
        folders.add(logdir)
        jobs.append(job)
    for job in jobs[: len(jobs) // len(seeds)]:  # whatever the seed
        check_task(job.config)
    return jobs


def check(jobs: Iterable[Job], allowed: Sequence[str]) -> None:
    """Raise SettingsError where a run is there already and cannot go on: now, not hours later, when its turn comes."""
    for job in jobs:
        agree(job.config, job.logdir, allowed)


def find_tasks(suite: str, wanted: Iterable[str]) -> list[str]:
    """Tasks of a suite by name, by pattern ("walker_*") and by group ("dmc20": its tasks in the paper).

    Raises UsageError for a pattern that fits none, and for a group of another suite.
    """
    main, others = envs.tasks().get(suite, []), envs.other_tasks().get(suite, [])
    groups = {f"{name}{len(names)}": (name, names) for name, names in envs.tasks().items()}
    found: list[str] = []
    for name in wanted:
        if name in groups:
            of, names = groups[name]
            if of != suite:
                raise UsageError(f"--tasks {name}: these are of the suite {of}, and the configs are for {suite}")
            found += names
        elif re.search(r"[*?[]", name):
            fits = [task for task in (*main, *others) if fnmatch.fnmatchcase(task, name)]
            if not fits:
                raise UsageError(f"--tasks {name}: no task of {suite} fits, see `dreamer tasks --suite {suite}`")
            found += fits
        else:
            found.append(name)
    return list(dict.fromkeys(found))


def read_seeds(text: str) -> list[int]:
    """Seeds as they are typed: "0..4", "0,3,7", or both joined by commas. Raises ValueError."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,18})(?:\.\.(\d{1,18}))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if not first <= last < first + MOST:
            raise ValueError(f"expected seeds such as 0..4 or 0,3,7, got {text[:40]!r}")
        seeds += range(first, last + 1)
    return list(dict.fromkeys(seeds))


def read_setting(text: str) -> tuple[str, list[str]]:
    """A key and its values as they are typed: "actor.lr=8e-5,3e-5". Raises ValueError."""
    key, equals, values = text.removeprefix("--").partition("=")
    if not equals or not key or "" in (parts := [part.strip() for part in values.split(",")]):
        raise ValueError(f"expected KEY=VALUE,VALUE,..., got {text[:40]!r}")
    return key, parts


def _folder(settings: Mapping[str, Sequence[str]], values: Sequence[str]) -> str:
    """Where the runs of some values are, "" where the place below tells all: "actor.lr=3e-5"."""
    told = [
        f"{key}={re.sub('[/:]', '_', value)}"
        for (key, choices), value in zip(settings.items(), values, strict=True)
        if len(choices) > 1 and key not in APART
    ]
    return ",".join(told)
