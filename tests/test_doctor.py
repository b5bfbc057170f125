import importlib.metadata
import json

import numpy as np
import pytest

from dreamer import doctor, envs
from dreamer.cli import main as cli
from dreamer.doctor import Check
from dreamer.envs import rendering


@pytest.fixture
def quick(monkeypatch):
    """A doctor that starts no processes: TensorFlow's facts, the renderer and the environment are made up."""

    class Env:
        action_space = envs.dmc.ActionSpace(size=1, discrete=False)

        def reset(self, seed=None):
            return {"is_last": np.bool_(False)}

        def step(self, action):
            assert action.shape == (1,)
            return {"is_last": np.bool_(True)}

        def close(self):
            pass

    facts = {"tensorflow": "2.21.0", "keras": "3.15.1", "devices": [["CPU", ""]], "gpu_capabilities": []}
    found = rendering.Rendering(backend="egl", gl_renderer="llvmpipe", software=True)
    monkeypatch.setattr(doctor, "_tensorflow_facts", lambda: facts)
    monkeypatch.setattr(doctor, "_in_a_process", lambda program: 2.5)
    monkeypatch.setattr(rendering, "choose", lambda: found)
    monkeypatch.setattr(envs, "make", lambda suite, task: Env())
    return facts


def by_name(checks) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_this_machine_can_train():
    checks = doctor.examine()
    assert doctor.can_train(checks), doctor.to_text(checks)
    found = by_name(checks)
    assert found["tensorflow"].value.startswith(importlib.metadata.version("tensorflow"))
    assert "CPU" in found["devices"].value
    assert {found[f"suite {name}"].status for name in ("dmc", "atari", "gym")} == {"ok"}
    assert found["suite atari"].value.startswith("57 tasks")
    assert "images a second" in found["frame rate"].value
    assert found["speed"].status == "ok"
    assert found["package mujoco"].value == importlib.metadata.version("mujoco")


def test_a_check_that_breaks_hides_no_other(quick, monkeypatch):
    everything = by_name(doctor.examine())

    def fail(*args):
        raise RuntimeError("two\nlines")

    for function in ("cpu_flags", "resolve_precision"):
        monkeypatch.setattr(doctor.hardware, function, fail)
    monkeypatch.setattr(doctor.shutil, "disk_usage", fail)
    monkeypatch.setattr(envs, "make", fail)
    broken = by_name(doctor.examine())
    failed = {name for name, check in broken.items() if check.status == "fail"}
    assert failed == {"disk", "precision", "suite dmc", "suite atari"}
    assert broken["disk"].value == "RuntimeError: two lines"
    assert broken["disk"].fix
    assert set(everything) - set(broken) == {"frame rate"}


def test_json_and_exit_code_agree(quick, monkeypatch, capsys):
    assert cli.main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["can_train"] is True
    assert {"name": "tensorflow", "status": "ok", "value": "2.21.0 with keras 3.15.1", "fix": ""} in told["checks"]
    monkeypatch.setattr(doctor, "_tensorflow_facts", lambda: {"error": "does not load"})
    assert cli.main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    (at,) = [index for index, line in enumerate(lines) if line.startswith("fail")]
    assert "does not load" in lines[at]
    assert "-> run `make setup`" in lines[at + 1]
    assert lines[-1] == "Training does not work here yet."


def test_nothing_renders(quick, monkeypatch):
    def fail(*args, **kwargs):
        raise envs.EnvError("no OpenGL platform renders here")

    monkeypatch.setattr(rendering, "choose", fail)
    monkeypatch.setattr(envs, "make", fail)
    found = by_name(doctor.examine())
    assert found["rendering"].status == found["suite dmc"].status == "fail"
    assert "apt-get install libegl1 " in found["rendering"].fix
    assert "libosmesa6" in found["rendering"].fix


def test_software_rendering_beside_a_gpu_names_the_variable(monkeypatch):
    found = rendering.Rendering(backend="egl", gl_renderer="llvmpipe", software=True)
    monkeypatch.setattr(rendering, "choose", lambda: found)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(doctor.hardware, "nvidia_gpu", lambda: False)
    assert doctor.check_rendering()[0].status == "ok"
    monkeypatch.setattr(doctor.hardware, "nvidia_gpu", lambda: True)
    assert doctor.check_rendering()[0].fix.endswith("EGL does not find its driver: docs/troubleshooting.md")
    monkeypatch.setenv("LIBGL_ALWAYS_SOFTWARE", "1")
    (check,) = doctor.check_rendering()
    assert (check.status, check.fix) == ("warn", "to render on the GPU: unset LIBGL_ALWAYS_SOFTWARE")


def test_rendering_that_a_variable_turns_off(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "off")
    (check,) = doctor.check_rendering()
    assert (check.status, check.fix) == ("fail", "unset MUJOCO_GL")


def test_packages_required_against_installed(tmp_path, monkeypatch):
    versions = {"good": "1.0", "old": "1.0"}

    def version(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(doctor.metadata, "version", version)
    path = tmp_path / "requirements.txt"
    path.write_text('# Why\n\ngood==1.0  # reason\nold==2.0\nabsent==3.0\nother==1 ; python_version < "3.0"\n')
    checks = doctor.check_packages(path)
    assert [(check.name, check.status) for check in checks] == [
        ("package good", "ok"),
        ("package old", "warn"),
        ("package absent", "fail"),
    ]
    assert checks[1].value == "1.0 installed, ==2.0 required"
    assert all(check.fix for check in checks[1:])


def test_packages_of_a_wheel_are_those_of_its_metadata(tmp_path, monkeypatch):
    lines = ["good>=1,<2", "old>=2", 'box2d>=2; extra == "gym"']
    monkeypatch.setattr(doctor.metadata, "requires", {"dreamer-tf2": lines}.__getitem__)
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "1.0")
    checks = doctor.check_packages(tmp_path / "requirements.txt")
    assert [(check.name, check.status) for check in checks] == [("package good", "ok"), ("package old", "warn")]


def test_a_gpu_that_tensorflow_does_not_see(monkeypatch):
    monkeypatch.setattr(doctor.hardware, "nvidia_gpu", lambda driver: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    facts = {"tensorflow": "2.21.0", "keras": "3", "devices": [["CPU", ""]]}
    _, devices = doctor.check_tensorflow(facts)
    assert devices.status == "warn"
    assert '"tensorflow[and-cuda]==2.21.0"' in devices.fix
    facts["devices"].append(["GPU", "NVIDIA H100"])
    _, devices = doctor.check_tensorflow(facts)
    assert (devices.status, devices.value) == ("ok", "CPU, GPU NVIDIA H100")


@pytest.mark.parametrize(("free", "status"), [(5e8, "fail"), (31e9, "warn"), (32e9, "ok")])
def test_disk_against_the_episodes_of_a_run(monkeypatch, free, status):
    # 5e6 frames held for 2 each are 2.5e6 images of 64 * 64 * 3 bytes, 30.72 GB, and 1 GB is left for the rest.
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": free}))
    (check,) = doctor.check_disk()
    assert check.status == status
    assert bool(check.fix) == (status != "ok")


def test_tensorflow_that_does_not_load(monkeypatch):
    monkeypatch.setattr(doctor, "_TENSORFLOW", "raise ImportError('no such library')")
    assert doctor._tensorflow_facts() == {"error": "does not load, exit code 1: ImportError: no such library"}
    monkeypatch.setattr(doctor, "_TENSORFLOW", "import os; os.abort()")
    assert doctor._tensorflow_facts()["error"].startswith("does not load, exit code -6")


def test_suites_that_cannot_be_loaded(monkeypatch):
    monkeypatch.setattr(envs.importlib.util, "find_spec", lambda name: None)
    (lab,) = doctor.check_suite("dmlab")
    assert (lab.status, lab.value) == ("warn", "the suite dmlab needs the module deepmind_lab")
    assert "docker build --target dmlab" in lab.fix
    (atari,) = doctor.check_suite("atari")
    assert (atari.status, atari.value) == ("warn", "the suite atari needs the module gymnasium")
    assert 'pip install "dreamer-tf2[atari]"' in atari.fix
    (gym,) = doctor.check_suite("gym")
    assert (gym.status, gym.value) == ("warn", "the suite gym needs the module gymnasium")
    assert 'pip install "dreamer-tf2[gym]"' in gym.fix


def test_seconds_of_an_update_and_hours_beside_the_published_ones(monkeypatch):
    monkeypatch.setattr(doctor, "_in_a_process", lambda program: 3.6)
    (check,) = doctor.check_speed({"tensorflow": "2.21.0"})
    # 100,000 updates for a million frames; 1e6 / 90 / 3600 hours.
    assert check.value == (
        "about 3.6 s an update at full size, so 100 hours of updates for a million frames; published: 3.1 hours in all "
        "with one V100"
    )
    monkeypatch.setattr(doctor, "_in_a_process", lambda program: {"error": "not loaded within 300 seconds"})
    (check,) = doctor.check_speed({"tensorflow": "2.21.0"})
    assert (check.status, check.value) == ("warn", "not measured: not loaded within 300 seconds")
    assert doctor.check_speed({"error": "does not load"}) == []
