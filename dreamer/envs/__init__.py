"""Environments behind one interface; nothing in here imports TensorFlow, nor dm_control before it is needed."""

import os
from collections.abc import Callable
from typing import NamedTuple

from dreamer.envs import dmc, toy
from dreamer.envs.core import Env, EnvError, unknown
from dreamer.envs.rendering import choose
from dreamer.envs.worker import Worker, WorkerDied
from dreamer.envs.wrappers import Checked

__all__ = ["Env", "EnvError", "WorkerDied", "choose", "make", "other_tasks", "tasks", "validate"]


class Suite(NamedTuple):
    """A family of environments: constructor(task, **kwargs), its main tasks, and others that it can build.

    opengl: whether its images are rendered with OpenGL, by cameras and with shadows.
    """

    constructor: Callable[..., Env]
    tasks: tuple
    other_tasks: tuple
    opengl: bool


# A new suite goes here.
SUITES = {
    "dmc": Suite(dmc.DMC, dmc.TASKS, dmc.OTHER_TASKS, opengl=True),
    "toy": Suite(toy.Dot, toy.TASKS, (), opengl=False),
}


def tasks() -> dict[str, list[str]]:
    """Return the names of the paper's tasks by suite; starts and imports nothing."""
    return {name: list(suite.tasks) for name, suite in SUITES.items()}


def other_tasks() -> dict[str, list[str]]:
    """Return the names of all further tasks by suite; starts and imports nothing."""
    return {name: list(suite.other_tasks) for name, suite in SUITES.items()}


def validate(suite: str, task: str) -> None:
    """Raise ValueError, naming the nearest valid names, unless the suite has the task; starts and imports nothing."""
    if suite not in SUITES:
        raise ValueError(unknown("suite", suite, SUITES))
    valid = [*SUITES[suite].tasks, *SUITES[suite].other_tasks]
    if task not in valid:
        raise ValueError(unknown(f"task of {suite}", task, valid))


def make(
    suite: str,
    task: str,
    *,
    action_repeat: int = 2,
    time_limit: int = 1000,
    camera: int = -1,
    renderer: str = "auto",
    worker: bool = True,
    shadow_map: int = 0,
) -> Env:
    """Return a checked environment; one that renders with OpenGL is by default in a process of its own.

    action_repeat, time_limit [frames], camera, shadow_map [pixels]: see DMC; only OpenGL has the last two.
    renderer: "auto", "egl", "osmesa" or "glfw", see dreamer.envs.rendering.choose.
    worker: False keeps the environment in this process, which only works where OpenGL renders on a GPU, because
        software rendering crashes a process that holds TensorFlow. MUJOCO_GL must then name the platform.
    Raises ValueError for a suite, task or renderer that does not exist, EnvError where the environment cannot start.
    """
    validate(suite, task)
    constructor = SUITES[suite].constructor
    kwargs = {"task": task, "action_repeat": action_repeat, "time_limit": time_limit}
    if not SUITES[suite].opengl:
        return Checked(constructor(**kwargs))
    rendering = choose(renderer)
    kwargs |= {"camera": camera, "shadow_map": shadow_map}
    if worker:
        return Checked(Worker(constructor, kwargs, variables=rendering.variables))
    if rendering.software:
        raise EnvError(
            f"worker=False needs OpenGL on a GPU, but {rendering.backend} renders in software here "
            f"({rendering.gl_renderer}), which would crash this process beside TensorFlow: use worker=True"
        )
    if os.environ.get("MUJOCO_GL") != rendering.backend:
        raise EnvError(
            f"worker=False renders in this process: start it with MUJOCO_GL={rendering.backend} in its environment"
        )
    return Checked(constructor(**kwargs))
