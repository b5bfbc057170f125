"""A run that is given away: its agent and its curves up to there, without what only training needs."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from dreamer import config
from dreamer.agents import RunError
from dreamer.run import formats, layout, legacy, settings
from dreamer.run.commits import Commits
from dreamer.training.recorder import State, scores_text
from dreamer.training.restore import RestoredAgent, restore_agent, write_weights

COPIED, CUT = (layout.CONFIG, layout.RANDOM, layout.MACHINES), (layout.METRICS, layout.OPEN_LOOP)


def check_target(out: Path, run: Path) -> None:
    """Raise RunError unless `out` is a place for the agent of the run: new, empty, or of an earlier agent."""
    if out.exists() and not (out.is_dir() and (settings.agent_only(out) or not any(out.iterdir()))):
        raise RunError(f"{out}: expected a new or empty directory, or an earlier export of this form")
    if run.resolve() == out.resolve() or run.resolve() in out.resolve().parents:
        raise RunError(f"{out}: lies in the run {run}")


def write(logdir: Path, out: Path, *, best: bool, report: Callable[[str], None]) -> list[str]:
    """Write the agent of the run in `logdir` into the empty directory `out`; return the names of its files.

    `dreamer eval`, `imagine`, `scores`, `plot`, `report`, `dreamer.load` and --init_from open it; to train on in it is
    refused, since optimisers, draws and episodes are not there. best, report: see `restore_agent`.
    """
    run = config.load_file(logdir / layout.CONFIG)
    given: RestoredAgent = restore_agent(run, logdir, seed=0, best=best, report=report)
    scores = legacy.scores(logdir, given.frames)
    state = State(
        stage="finished",
        frames=given.frames,
        updates=int(given.agent.updates),
        scores=scores,
        inputs={name: [list(space.shape), space.dtype] for name, space in given.agent.inputs.items()},
    )
    values = dataclasses.asdict(state) | {"score": dict(scores).get(given.frames)}
    del values["round"]
    Commits(out / layout.COMMITS).write(
        values, {}, lambda prefix: write_weights(given.agent, prefix, only_networks=True)
    )
    for name in COPIED:
        if (logdir / name).is_file():
            shutil.copyfile(logdir / name, out / name)
    for name in CUT:  # a run may have gone on since, or its best state be an older one
        if (logdir / name).is_file():
            rows = _steps_until(logdir / name, given.frames, report)
            (out / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if scores:
        (out / layout.SCORES).write_text(scores_text(run, scores), encoding="utf-8")
    settings.write_agent_only(logdir, out)
    return sorted(path.name for path in out.iterdir())


def _steps_until(path: Path, frames: int, report: Callable[[str], None]) -> list[dict]:
    problems: list[str] = []
    rows = [row for row in formats.step_lines(path, problems) if row["step"] <= frames]
    for problem in problems:
        report(problem)
    return rows
