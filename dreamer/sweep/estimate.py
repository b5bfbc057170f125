"""What runs will take: disk by the size of their episodes, hours by what was measured.

Hours are those of this sweep's own runs as soon as one with the same settings has gone some rounds; before, of the full
size, those of benchmarks/README.md.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from dreamer.config import Config, load
from dreamer.sweep.plan import Job

ROW = 12_288 + 136  # bytes of an agent step on disk: its image, and what walker_walk has beside it
COMPRESSED = 4  # walker_walk; cartpole shrinks to a fortieth
CHECKPOINTS = 0.3e9  # of full size: three, and a fourth while it is written
SEEN = 2.8e6 / 500  # bytes that a step of an evaluation leaves, in videos/ and for TensorBoard
UPDATE, UPDATE_XLA = 0.13, 0.033  # seconds of an update of full size on an NVIDIA H100
STEP = 0.0052  # of an agent step there, rendered on the GPU
EVALUATION = 0.02  # of one of an evaluation, its video included
UPDATE_CPU, STEP_CPU = 1.9, 0.025  # on 2 cores with AMX, with software rendering
SIZES = (
    *("model.deter", "model.stoch", "model.hidden", "model.conv_depth", "model.units"),
    *("actor.layers", "actor.units", "value.layers", "value.units", "replay.batch", "replay.length"),
)


class Hours(NamedTuple):
    """Hours of a run; None: nobody has measured it."""

    gpu: float | None
    cpu: float | None


def disk(config: Config) -> float:
    """Bytes of a run at its end, at most."""
    steps = config.steps / config.env.action_repeat
    rows = min(steps, config.replay.capacity or math.inf) * ROW / (COMPRESSED if config.replay.compress else 1)
    return rows + (CHECKPOINTS if _is_full_size(config) else 0) + _evaluated(config) * SEEN


def hours(config: Config) -> Hours:
    """Hours of a run of full size, by benchmarks/README.md: on an NVIDIA H100, and on 2 cores with AMX."""
    if not _is_full_size(config) or config.method != "dreamer":
        return Hours(None, None)
    steps = config.steps / config.env.action_repeat
    updates = config.loop.pretrain + config.steps / config.loop.train_every * config.loop.train_updates
    evaluated = _evaluated(config)
    update = UPDATE if config.xla == "false" else UPDATE_XLA  # auto: what is faster there
    gpu = updates * update + steps * STEP + evaluated * EVALUATION
    return Hours(gpu / 3600, (updates * UPDATE_CPU + (steps + evaluated) * STEP_CPU) / 3600)


def measured(jobs: Sequence[Job], rates: Sequence[float | None]) -> list[float | None]:
    """Hours of each job by the rates, frames a second, of those with the same settings but for task and seed."""
    groups: dict[tuple, list[float]] = {}
    kinds = [_kind(job.config) for job in jobs]
    for kind, rate in zip(kinds, rates, strict=True):
        if rate:
            groups.setdefault(kind, []).append(rate)
    found = (groups.get(kind) for kind in kinds)
    return [job.config.steps * len(of) / sum(of) / 3600 if of else None for job, of in zip(jobs, found, strict=True)]


def _evaluated(config: Config) -> float:
    """Agent steps of all evaluations, if their episodes end with the limit of time."""
    episodes = config.steps / config.loop.eval_every * config.loop.eval_episodes
    return episodes * config.env.time_limit / config.env.action_repeat


def _kind(config: Config) -> tuple:
    return tuple(config.replace(task="", seed=0).flat().values())


def _is_full_size(config: Config) -> bool:
    ours, full = config.flat(), load().flat()
    return all(ours[key] == full[key] for key in SIZES)


def to_text(jobs: Sequence[Job], own: Sequence[float | None]) -> str:
    """A line for each run with frames, disk and hours, and one with the sums; own: what `measured` returns."""
    known = [hours(job.config) for job in jobs]
    cells: list[tuple[str, ...]] = [("run", "", "frames", "disk", "hours: these runs", "on an H100", "on 2 cores, AMX")]
    for job, mine, by in zip(jobs, own, known, strict=True):
        times = map(_hours, (mine, by.gpu, by.cpu))
        cells.append((str(job.number), job.name, f"{job.config.steps:,}", _gigabytes(disk(job.config)), *times))
    totals = [_sum(own), _sum([by.gpu for by in known]), _sum([by.cpu for by in known])]
    whole = _gigabytes(sum(disk(job.config) for job in jobs))
    frames = f"{sum(job.config.steps for job in jobs):,}"
    cells.append(("", f"{len(jobs)} run{'s' if len(jobs) != 1 else ''}", frames, whole, *map(_hours, totals)))
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    forms = [f"{'<' if column == 1 else '>'}{width}" for column, width in enumerate(widths)]
    return "\n".join("  ".join(map(format, line, forms)).rstrip() for line in cells)


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _hours(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB"
