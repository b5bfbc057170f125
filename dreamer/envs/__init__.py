"""Environments behind one interface; nothing in here imports TensorFlow, nor a simulator before it is needed."""

import importlib.util
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from dreamer import DISTRIBUTION
from dreamer.envs import atari, dmc, dmlab, gymnasium, toy
from dreamer.envs.core import Env, EnvError, EnvRefused, unknown
from dreamer.envs.rendering import Rendering, choose, choose_leniently
from dreamer.envs.worker import Worker, WorkerDied
from dreamer.envs.wrappers import Checked, failing_as_env_error

__all__ = [
    "Checked",
    "Env",
    "EnvError",
    "EnvRefused",
    "NO_OPENGL",
    "WorkerDied",
    "canonical",
    "choose",
    "make",
    "missing",
    "other_tasks",
    "tasks",
    "unknown",
    "validate",
]


class Suite(NamedTuple):
    """A family of environments.

    constructor(task, **options): builds one; options are the keyword arguments that it takes.
    title: its name in figures.
    tasks: its main tasks; other_tasks: further ones that have a name here.
    same: the name here of a task, whichever of its names was given.
    accepts: whether a name that is in neither list is a task too; it may raise ValueError with a reason.
    also: what these names are, in words.
    rendering: "none" needs no renderer; "mujoco" renders on the OpenGL platform that the option `renderer` chooses;
        "software" brings a software renderer, which crashes a process that holds TensorFlow; "any" may be each of them.
    modules: top-level modules that it needs; install: how to get them.
    probe: the task that `dreamer doctor` starts, "" for none; remedy: what to do where that fails, "" for `install`.
    """

    title: str
    constructor: Callable[..., Env]
    options: tuple
    tasks: tuple
    other_tasks: tuple = ()
    same: Callable[[str], str] = lambda task: task
    accepts: Callable[[str], bool] = lambda task: False
    also: str = ""
    rendering: str = "none"
    modules: tuple = ()
    install: str = f"`make setup` installs it, or pip install {DISTRIBUTION}"
    probe: str = ""
    remedy: str = ""

    @property
    def opengl(self) -> bool:
        """Whether MuJoCo renders its images with OpenGL."""
        return self.rendering == "mujoco"


NO_OPENGL = {"MUJOCO_GL": "disable"}  # what MuJoCo reads where nothing is rendered
_FRAMES = ("action_repeat", "time_limit", "size")

# A new suite goes here.
SUITES = {
    "dmc": Suite(
        "DM Control",
        dmc.DMC,
        (*_FRAMES, "images", "camera", "shadow_map"),
        dmc.TASKS,
        dmc.OTHER_TASKS,
        same=lambda task: {other: name for name, other in dmc.ALIASES.items()}.get(task, task),
        rendering="mujoco",
        modules=("dm_control",),
    ),
    "atari": Suite(
        "Atari",
        atari.Atari,
        (*_FRAMES, "sticky", "noops", "full_actions", "life_loss", "training"),
        atari.TASKS,
        same=atari.name,
        accepts=atari.is_game,
        modules=("gymnasium", "ale_py"),
        install=f'`make setup` installs it, or pip install "{DISTRIBUTION}[atari]"',
        probe="pong",
    ),
    "dmlab": Suite(
        "DeepMind Lab",
        dmlab.DMLab,
        (*_FRAMES, "hold_out", "training", "level_cache"),
        dmlab.TASKS,
        dmlab.OTHER_TASKS,
        same=dmlab.short_name,
        accepts=dmlab.is_level,
        also="any other level by its full name, such as contributed/dmlab30/language_select_located_object",
        rendering="software",
        modules=("deepmind_lab",),
        install=dmlab.INSTALL,
        probe=dmlab.PROBE,
        remedy=dmlab.REMEDY,
    ),
    "gym": Suite(
        "Gymnasium",
        gymnasium.Gymnasium,
        (*_FRAMES, "images", "kwargs", "image", "info"),
        gymnasium.TASKS,
        accepts=lambda task: bool(gymnasium.find(task)),
        also="any id that gymnasium knows, or MODULE:ID (docs/your-own-environment.md)",
        rendering="any",
        modules=("gymnasium",),
        install=f'`make setup` installs it, or pip install "{DISTRIBUTION}[gym]"',
    ),
    "toy": Suite("Toy", toy.Dot, (*_FRAMES, "images"), toy.TASKS),
}


def tasks() -> dict[str, list[str]]:
    """Return the names of the paper's tasks by suite; starts and imports nothing."""
    return {name: list(suite.tasks) for name, suite in SUITES.items()}


def other_tasks() -> dict[str, list[str]]:
    """Return the names of all further tasks by suite; starts and imports nothing."""
    return {name: list(suite.other_tasks) for name, suite in SUITES.items()}


def validate(suite: str, task: str) -> None:
    """Raise ValueError, naming the nearest valid names, unless the suite has the task.

    Starts nothing, and imports nothing but gymnasium and the module in a task of the form MODULE:ID.
    """
    if suite not in SUITES:
        raise ValueError(unknown("suite", suite, SUITES))
    found = SUITES[suite]
    valid = [*found.tasks, *found.other_tasks]
    if task not in valid and not found.accepts(task):
        also = f", and {found.also}" if found.also else ""
        raise ValueError(unknown(f"task of {suite}", task, valid) + also)


def canonical(suite: str, task: str) -> str:
    """The one name, of all that `validate` lets pass for a task, under which its runs are kept and compared."""
    return SUITES[suite].same(task)


def missing(suite: str) -> str | None:
    """One line that says which module of a suite is not installed and how to get it; None if nothing is missing."""
    found = SUITES[suite]
    for name in found.modules:
        if importlib.util.find_spec(name) is None:
            return f"the suite {suite} needs the module {name}: {found.install}"
    return None


def make(
    suite: str,
    task: str,
    *,
    training: bool = False,
    images: bool = True,
    beside: bool = False,
    renderer: str = "auto",
    worker: bool = True,
    timeout: float = 300.0,
    start_timeout: float = 0.0,
    retries: int = 0,
    **options: Any,
) -> Checked:
    """Return a checked environment; one that may render in software is by default in a process of its own.

    training: whether its episodes are trained on or evaluate the agent; suites may differ in this.
    images: whether it renders; atari and dmlab, which observe nothing else, always do.
    beside: whether it is one of several, each of which is then in a process of its own, whatever renders it.
    renderer: "auto", "egl", "osmesa" or "glfw", see dreamer.envs.rendering.choose.
    worker: False keeps the environment in this process. For the suites of MuJoCo this only works where OpenGL renders
        on a GPU, because software rendering crashes a process that holds TensorFlow; MUJOCO_GL must name the platform.
    timeout: seconds that an answer of an environment in a process of its own may take; start_timeout: those that its
        start may take, 0 for as many.
    retries: a key of the section env that is for whoever runs the environment, and makes no difference here.
    options: the other keys of the config's section env; each suite takes its own among them.
    Raises ValueError for a suite, task or renderer that does not exist, EnvError where the environment cannot start,
    EnvRefused among them where that is because of the options.
    """
    validate(suite, task)
    found = SUITES[suite]
    unexpected = set(options).difference(*(other.options for other in SUITES.values()))
    if unexpected:
        raise TypeError(f"make() got options that no suite takes: {sorted(unexpected)}")
    options |= {"training": training, "images": images}
    kwargs = {"task": task, **{key: value for key, value in options.items() if key in found.options}}
    if problem := missing(suite):
        raise EnvError(problem)
    if worker and (beside or found.rendering != "none"):
        draws = images or found.rendering == "software"
        variables = _variables(found.rendering, renderer) if draws else NO_OPENGL
        times = {"timeout": timeout, "start_timeout": start_timeout}
        return Checked(Worker(found.constructor, kwargs, variables=variables, **times))
    if found.rendering == "mujoco" and images:
        _check_platform(choose(renderer))
    if found.rendering == "software":
        raise EnvError(f"worker=False: {suite} renders in software, which would crash this process beside TensorFlow")
    with failing_as_env_error(f"{task}: its constructor"):
        return Checked(found.constructor(**kwargs))


def _variables(rendering: str, renderer: str) -> dict[str, str]:
    """Environment variables of the process of an environment; they matter before anything is imported there."""
    if rendering == "mujoco":
        return choose(renderer).variables
    if rendering == "none":
        return {}
    # Most of gymnasium needs no OpenGL, so that it may well be missing.
    if rendering == "any" and (found := choose_leniently(renderer)):
        return found.variables
    # See Rendering.variables.
    return {"LP_NUM_THREADS": os.environ.get("LP_NUM_THREADS", "0")}


def _check_platform(rendering: Rendering) -> None:
    """Raise EnvError unless this process can render on a platform beside TensorFlow."""
    if rendering.software:
        raise EnvError(
            f"worker=False needs OpenGL on a GPU, but {rendering.backend} renders in software here "
            f"({rendering.gl_renderer}), which would crash this process beside TensorFlow: use worker=True"
        )
    if os.environ.get("MUJOCO_GL") != rendering.backend:
        raise EnvError(
            f"worker=False renders in this process: start it with MUJOCO_GL={rendering.backend} in its environment"
        )
