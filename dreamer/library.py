"""What `import dreamer` offers: agents of runs, training, and what a run has written. docs/library.md shows all of it.

Bad input raises ValueError and a fault of the files, the machine or an environment RuntimeError or OSError, each with
the one line that the command would print. TensorFlow is imported where it is needed, and no setting of the process
stays behind but that Keras runs on TensorFlow.
"""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamer import agents, config, envs, hardware, seeds, start, stops
from dreamer.replay import episodes as replay
from dreamer.results import runs as run_files
from dreamer.results import scores as score_files
from dreamer.run import files, formats, layout

if TYPE_CHECKING:
    from dreamer.agents.trained import TrainedAgent

Folder = str | os.PathLike
FORMS = ("savedmodel", "run")  # of an export


def load(logdir: Folder, best: bool = False, *, precision: str | None = None, seed: int = 0) -> "TrainedAgent":
    """The trained agent of the run in `logdir`, as its newest committed state has it. No environment is needed.

    best: the state whose evaluation was the best of those kept. precision: another than the run's. seed: decides what
    is drawn; actions are those of `dreamer eval --seed`.
    Raises ValueError for a run without an agent (yet), RuntimeError for a damaged one.
    """
    run = _open(logdir, precision=precision)
    name, _ = start.choose_precision(run.precision)

    from dreamer.agents.trained import TrainedAgent
    from dreamer.training import restore

    with _precision(name):
        agent, frames, is_best = restore.restore_agent(
            run, Path(logdir), seed=seeds.derive(seed, "inspect_agent"), best=best, report=_warn
        )
    return TrainedAgent(agent, run, frames=frames, best=is_best)


def environment(logdir: Folder, **keys: Any) -> envs.Env:
    """The environment in which the agent of a run is evaluated: reset(seed), step(action), close(); see envs.Env.

    keys: others for the section env of its config, such as renderer="osmesa". Raises ValueError where this machine
    does not have it, RuntimeError where it cannot start.
    """
    run = _open(logdir, **{f"env.{name}": value for name, value in keys.items()})
    start.check_task(run)
    start.prepare_rendering(run)
    return envs.make(run.suite, run.task, images=agents.sees_images(run), **run.env)


def train(
    configs: Folder | Iterable[Folder] = (),
    logdir: Folder | None = None,
    keys: Mapping[str, object] | None = None,
    *,
    env: Callable | None = None,
    allow: str | Iterable[str] = (),
    profile: bool = False,
    **more: Any,
) -> Path:
    """Train, or go on with the run in `logdir`, as the command does; return the log directory when it is finished.

    configs: overlays, or files of one's own, in this order. keys and more: values of keys, `{"actor.lr": 1e-4}` or
    `steps=1e6`. allow: as --resume.allow. env: a class or function that makes a gymnasium environment, which brings the
    overlay gym. It must have a name of its own at the top of a module, or of a script or notebook, and its MODULE:NAME
    becomes the key task. Of a module, it runs in a process of its own; of a script or notebook it runs in this one, and
    `environment` finds it there only.

    SIGINT saves and raises KeyboardInterrupt: the same call goes on. Raises ValueError for what cannot be, RuntimeError
    and OSError for faults.
    """
    overlays = [os.fspath(name) for name in ([configs] if isinstance(configs, str | os.PathLike) else configs)]
    values = _plain({**(keys or {}), **more})
    if env is not None:
        overlays += [] if "gym" in overlays else ["gym"]
        values["task"] = envs.gymnasium.name_of(env)
        if values["task"].startswith("__main__:"):  # which another process cannot import
            values = {"env.worker": False} | values
    run = config.load(overlays, values, where="keys of dreamer.train")
    start.check_task(run)
    run = run.replace(task=envs.canonical(run.suite, run.task))
    logdir = start.default_logdir(run) if logdir is None else Path(logdir)
    with contextlib.ExitStack() as resources:
        agreed = start.claim_logdir(run, logdir, resources, [allow] if isinstance(allow, str) else list(allow))
        for line in agreed.notes:
            print(line, flush=True)
        of_run = agreed.previous is not None and run.precision == "auto"
        run = agreed.config
        start.prepare_rendering(run)
        name, line = start.choose_precision(run.precision, of_run=of_run, emulate=not of_run)
        for told in filter(None, (start.note_on_devices(), line)):
            print(told, flush=True)

        from dreamer.training import faults, loop

        agreed = agreed._replace(config=run.replace(precision=name))
        with _precision(name), stops.Interrupts() as interrupts:
            try:
                print(loop.work(agreed, logdir, interrupts, profile=profile), flush=True)
            except loop.FAULTS as error:
                raise RuntimeError(faults.one_line(error, logdir)) from error
    return logdir


def episodes(logdir: Folder) -> Iterator[dict[str, np.ndarray]]:
    """The episodes that a run has stored, oldest first, as dicts of arrays [L, ...], types.py being their legend.

    image [L, 64, 64, 3] uint8, action [L, A], reward, discount, is_first, is_last, is_terminal [L], and what else the
    environment observes. Damaged files are left out with a warning. Raises ValueError where there is no run.
    """
    _open(logdir)
    return _episodes(Path(logdir) / layout.EPISODES)


def _episodes(folder: Path) -> Iterator[dict[str, np.ndarray]]:
    for path in replay.stored_paths(folder):
        try:
            yield replay.load(path)
        except replay.ReplayError as error:  # or deleted by the run, which goes on meanwhile
            _warn(f"{error}: left out")


def metrics(logdir: Folder) -> list[dict]:
    """The lines of metrics.jsonl, in the order of the file: `pandas.DataFrame(dreamer.metrics(run))`.

    Each has step, in frames, and the metrics of a round or of an evaluation; what a line lacks is NaN to pandas.
    """
    _open(logdir)
    problems: list[str] = []
    rows = list(formats.step_lines(Path(logdir) / layout.METRICS, problems))
    for problem in problems:
        _warn(problem)
    return rows


def scores(runs: Folder | Iterable[Folder], keys: Iterable[str] = ()) -> list[dict]:
    """A row for every evaluation of all runs at or below some folders: `pandas.DataFrame(dreamer.scores("runs"))`.

    Each has task, method, seed, frames, the mean return there, path of the score file, and the run's values of `keys`
    ("actor.lr"), None where nothing tells. Files that cannot be used are left out with a warning. Raises ValueError
    for one that is itself among `runs`, and for an unknown key.
    """
    keys = [config.key(key).name for key in keys]
    entries, problems = score_files.find([runs] if isinstance(runs, str | os.PathLike) else runs)
    found, more = run_files.read_settings(entries)
    for problem in [*problems, *(more if keys else [])]:
        _warn(problem)
    return [
        {
            "task": run.scores.task,
            "method": run.scores.method,
            "seed": run.scores.seed,
            "frames": frames,
            "return": value,
            "path": str(run.scores.path),
            **{key: run_files.setting(run, key) for key in keys},
        }
        for run in found
        for frames, value in zip(run.scores.xs, run.scores.ys, strict=True)
    ]


def export(
    logdir: Folder, out: Folder, with_model: bool = False, *, best: bool = False, form: str = "savedmodel"
) -> list[Path]:
    """Write the agent of a run into the directory `out`; returns what stands there then.

    form "savedmodel": its policy, which needs nothing but TensorFlow; see agents.export. with_model adds the model's
    imagination. form "run": a run with the agent and the curves, for `load` and the commands, in which nothing can be
    trained on; see training.agent_only.
    An earlier export of the same form gives way as a whole. Raises ValueError where `out` holds something else or
    the run itself, or lies in a folder of the run.
    """
    run, out = Path(logdir), Path(out)
    if form not in FORMS:
        raise ValueError(f"form: expected {' or '.join(FORMS)}, got {formats.shown(form)}")
    if with_model and form == "run":
        raise ValueError("with the model: a run holds it anyway, this is for the form savedmodel")
    _open(run)
    start.load_tensorflow()  # quietly

    from dreamer.agents import export as policy
    from dreamer.training import agent_only, restore

    writer = policy if form == "savedmodel" else agent_only
    writer.check_target(out, run)
    if out.resolve() in run.resolve().parents:  # an earlier export, in which it was kept
        raise ValueError(f"{formats.shown(out)}: holds the run {formats.shown(run)}, which would be gone with it")
    with files.replacing_folder(out) as partial:
        if form == "run":
            with _precision("float32"):
                names = agent_only.write(run, partial, best=best, report=_warn)
        else:
            names = policy.export(load(run, best=best, precision="float32"), partial, with_model=with_model)
    if form == "savedmodel" and restore.is_pattern(out.absolute()):
        _warn(f"{formats.shown(out)}: TensorFlow loads nothing from a path with [ or \\: move it, or load '.' there")
    return [out / name for name in names]


def _plain(values: Mapping[str, object]) -> dict[str, Any]:
    """Values of keys, those of NumPy as Python's."""
    return {key: value.item() if isinstance(value, np.generic) else value for key, value in values.items()}


def _open(logdir: Folder, **changes: Any) -> config.Config:
    changes = _plain({key: value for key, value in changes.items() if value is not None})
    return start.open_config(Path(logdir), changes)


@contextlib.contextmanager
def _precision(name: str) -> Iterator[None]:
    """What is built in the block computes in a precision; the policy of the process is as before then."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(hardware.KERAS_POLICY[name])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _warn(line: str) -> None:
    warnings.warn(line, stacklevel=3)
