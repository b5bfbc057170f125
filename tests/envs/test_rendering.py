import os
import subprocess

import pytest

from dreamer.envs import rendering
from dreamer.envs.core import EnvError
from dreamer.envs.rendering import Rendering, choose, choose_leniently


@pytest.fixture
def probes(monkeypatch):
    """Answers of the probe by backend, to be filled by the test, and the list of backends that were asked."""
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    rendering._choose.cache_clear()
    answers, asked = {}, []

    def probe(backend, timeout):
        asked.append(backend)
        if backend not in answers:
            raise rendering._ProbeFailed("library not found")
        return answers[backend]

    monkeypatch.setattr(rendering, "_probe", probe)
    yield answers, asked
    rendering._choose.cache_clear()


def test_finds_what_works_here_and_asks_once(monkeypatch):
    before = dict(os.environ)
    found = choose()
    assert found.backend in ("egl", "osmesa", "glfw")
    assert found.software == any(name in found.gl_renderer.lower() for name in ("llvmpipe", "softpipe", "swrast"))
    assert dict(os.environ) == before
    monkeypatch.setattr(subprocess, "run", None)
    assert choose() is found


def test_takes_the_first_that_works(probes):
    answers, asked = probes
    answers["egl"] = ("NVIDIA Corporation", "NVIDIA H100/PCIe/SSE2")
    answers["osmesa"] = ("Mesa", "llvmpipe (LLVM 15.0.6, 256 bits)")
    assert choose() == Rendering("egl", "NVIDIA H100/PCIe/SSE2", software=False)
    assert asked == ["egl"]


def test_goes_on_where_one_fails(probes):
    answers, asked = probes
    answers["glfw"] = ("Mesa/X.org", "llvmpipe (LLVM 15.0.6, 256 bits)")
    assert choose() == Rendering("glfw", "llvmpipe (LLVM 15.0.6, 256 bits)", software=True)
    assert asked == ["egl", "osmesa", "glfw"]


def test_a_name_tries_only_that(probes):
    answers, asked = probes
    answers["egl"] = ("NVIDIA Corporation", "NVIDIA H100/PCIe/SSE2")
    with pytest.raises(EnvError, match=r"osmesa: library not found \(Debian packages: libosmesa6\)"):
        choose("osmesa")
    assert asked == ["osmesa"]


def test_mujoco_gl_decides_under_auto(probes, monkeypatch):
    answers, asked = probes
    answers["egl"] = answers["osmesa"] = ("Mesa", "softpipe")
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert choose().backend == "osmesa"
    assert choose("egl").backend == "egl"


@pytest.mark.parametrize(
    ("value", "told"),
    [("foo", "'foo'"), ("off", "'off', which turns rendering off"), ("0", "'0', which turns rendering off")],
)
def test_a_mujoco_gl_that_is_no_platform_counts_only_where_something_must_render(probes, monkeypatch, value, told):
    answers, asked = probes
    answers["osmesa"] = ("Mesa", "softpipe")
    monkeypatch.setenv("MUJOCO_GL", value)
    with pytest.raises(ValueError, match=f"^MUJOCO_GL is {told}: expected egl, osmesa, glfw, or unset$"):
        choose()
    assert asked == []
    assert choose("osmesa").backend == "osmesa"
    assert choose_leniently().backend == "osmesa"
    assert choose_leniently("egl") is None  # the user's word


def test_glfw_without_a_display_says_that_the_variable_is_why(probes, monkeypatch):
    answers, asked = probes
    answers["egl"] = ("Mesa", "softpipe")
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    told = "Nothing else was tried, since MUJOCO_GL names it: unset, one tries egl and osmesa too"
    with pytest.raises(EnvError, match=f"glfw: library not found.*{told}$"):
        choose()
    assert asked == ["glfw"]
    assert choose_leniently().backend == "egl"
    del answers["egl"]
    rendering._choose.cache_clear()
    assert choose_leniently() is None
    with pytest.raises(EnvError, match="since env.renderer names it: auto tries egl and glfw too$"):
        choose("osmesa")


def test_nothing_works_names_the_packages_in_one_line(probes):
    with pytest.raises(EnvError) as caught:
        choose()
    message = str(caught.value)
    assert "\n" not in message
    for package in ("libegl1 libgl1-mesa-dri", "libosmesa6", "libglfw3 and a display"):
        assert package in message


def test_unknown_renderer_is_refused():
    with pytest.raises(ValueError, match='unknown renderer "vulkan": expected auto, egl, osmesa, glfw'):
        choose("vulkan")


def test_hanging_platform_is_named():
    with pytest.raises(EnvError, match="egl: no frame within 0.001 seconds"):
        choose("egl", timeout=0.001)


def test_failing_platform_gives_its_reason(monkeypatch):
    monkeypatch.setenv("MUJOCO_EGL_DEVICE_ID", "1000000")
    with pytest.raises(EnvError, match="egl: exit code 1, .*1000000.*libegl1"):
        choose("egl", timeout=3599.0)


def test_variables_name_the_platform(monkeypatch):
    monkeypatch.delenv("LP_NUM_THREADS", raising=False)
    osmesa = Rendering("osmesa", "llvmpipe", software=True)
    assert osmesa.variables == {"MUJOCO_GL": "osmesa", "PYOPENGL_PLATFORM": "osmesa", "LP_NUM_THREADS": "0"}
    monkeypatch.setenv("LP_NUM_THREADS", "8")
    glfw = Rendering("glfw", "x", software=False)
    assert glfw.variables == {"MUJOCO_GL": "glfw", "PYOPENGL_PLATFORM": "", "LP_NUM_THREADS": "8"}
