"""Which OpenGL platform works on this machine, found out in processes of their own.

A platform is tried out by rendering with it, never beside TensorFlow: Mesa's software renderer and TensorFlow both
carry LLVM, and the first frame ends in a segmentation fault when they share a process.
"""

import functools
import json
import os
import subprocess
import sys
from typing import NamedTuple

from dreamer.envs.core import EnvError

# What each backend needs on Debian, in the order in which they are tried: EGL and OSMesa need no display.
PACKAGES = {"egl": "libegl1 libgl1-mesa-dri libopengl0", "osmesa": "libosmesa6", "glfw": "libglfw3 and a display"}
BACKENDS = tuple(PACKAGES)
TIMEOUT = 60.0  # seconds that a platform has to render one frame
_OFF = ("off", "disable", "disabled", "false", "0")  # what MuJoCo takes for no rendering at all
_SOFTWARE = ("llvmpipe", "softpipe", "swrast", "software rasterizer", "mesa offscreen")

# Renders one small model and prints one line of JSON. It leaves without the exit handlers, which fail under OSMesa.
_PROBE = """
import json, os
import mujoco
model = mujoco.MjModel.from_xml_string(
    '<mujoco><worldbody><light pos="0 0 3"/><geom size=".5" rgba="1 0 0 1"/></worldbody></mujoco>')
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 64, 64)
renderer.update_scene(data)
image = renderer.render()
if image.min() == image.max():
    raise RuntimeError("the rendered image is blank")
from OpenGL import GL
print(json.dumps([GL.glGetString(name).decode() for name in (GL.GL_VENDOR, GL.GL_RENDERER)]), flush=True)
os._exit(0)
"""


class Rendering(NamedTuple):
    """A working OpenGL platform: its MuJoCo name, what it says it renders with, and whether that is the CPU."""

    backend: str
    gl_renderer: str
    software: bool

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables that a process needs to render this way, set before it imports dm_control.

        A frame of 64x64 is one tile of Mesa's software renderer, so its threads only spin: without them
        (LP_NUM_THREADS=0) the same pixels come at the same rate for about half the processor time.
        """
        # Without a name PyOpenGL takes the system's own, as GLFW needs it; it must not be one that the user has set.
        platform = self.backend if self.backend != "glfw" else ""
        threads = os.environ.get("LP_NUM_THREADS", "0")
        return {"MUJOCO_GL": self.backend, "PYOPENGL_PLATFORM": platform, "LP_NUM_THREADS": threads}


def named_platform() -> str:
    """The OpenGL platform that MUJOCO_GL names, "" where it is not set. Raises ValueError where it names none."""
    given = os.environ.get("MUJOCO_GL", "").strip().lower()
    if given in ("", *BACKENDS):
        return given
    off = ", which turns rendering off" if given in _OFF else ""
    raise ValueError(f"MUJOCO_GL is {given[:40]!r}{off}: expected {', '.join(BACKENDS)}, or unset")


def choose(renderer: str = "auto", *, timeout: float = TIMEOUT) -> Rendering:
    """Return the first OpenGL platform that renders, of EGL, OSMesa and GLFW; the answer is kept for this process.

    renderer: "auto", or the only platform to try; under "auto" a MUJOCO_GL set by the user is that platform.
    timeout: seconds that a platform has to render one frame.
    Raises ValueError for an unknown name, EnvError with the reasons and the missing packages where nothing renders.
    """
    if renderer not in ("auto", *BACKENDS):
        raise ValueError(f'unknown renderer "{renderer}": expected auto, {", ".join(BACKENDS)}')
    only, why = renderer, "env.renderer names it: auto"
    if renderer == "auto":
        only, why = named_platform(), "MUJOCO_GL names it: unset, one"
    if not only:
        return _choose(BACKENDS, timeout)
    try:
        return _choose((only,), timeout)
    except EnvError as error:
        others = " and ".join(name for name in BACKENDS if name != only)
        raise EnvError(f"{error}. Nothing else was tried, since {why} tries {others} too") from error


def choose_leniently(renderer: str = "auto") -> Rendering | None:
    """As `choose`, for who may not need it: a MUJOCO_GL that leads to nothing does not count; None: nothing does."""
    try:
        return choose(renderer)
    except (EnvError, ValueError):
        if renderer != "auto" or not os.environ.get("MUJOCO_GL"):
            return None
    try:
        return _choose(BACKENDS, TIMEOUT)
    except EnvError:
        return None


@functools.cache
def _choose(backends: tuple[str, ...], timeout: float) -> Rendering:
    failures = []
    for backend in backends:
        try:
            vendor, gl_renderer = _probe(backend, timeout)
        except _ProbeFailed as error:
            failures.append(f"{backend}: {error} (Debian packages: {PACKAGES[backend]})")
        else:
            software = any(name in f"{vendor} {gl_renderer}".lower() for name in _SOFTWARE)
            return Rendering(backend=backend, gl_renderer=gl_renderer, software=software or backend == "osmesa")
    raise EnvError(f"no OpenGL platform renders here; {'; '.join(failures)}")


class _ProbeFailed(Exception):
    """One platform does not render; the message says why."""


def _probe(backend: str, timeout: float) -> tuple[str, str]:
    """Return GL_VENDOR and GL_RENDERER of a backend after it has rendered a frame in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if key != "PYOPENGL_PLATFORM"}
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env={**environment, "MUJOCO_GL": backend},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        raise _ProbeFailed(f"no frame within {timeout:g} seconds") from None
    if probe.returncode:
        lines = probe.stderr.strip().splitlines() or ["no message"]
        raise _ProbeFailed(f"exit code {probe.returncode}, {lines[-1].strip()}")
    vendor, gl_renderer = json.loads(probe.stdout.splitlines()[-1])
    return vendor, gl_renderer
