import os
import stat
import sys

import pytest

from dreamer import hardware


@pytest.mark.parametrize(
    ("name", "flags", "capabilities", "expected", "reason"),
    [
        ("auto", {"avx512_bf16", "avx2"}, [], "bfloat16", "CPU with avx512_bf16"),
        ("auto", {"amx_bf16"}, [], "bfloat16", "CPU with amx_bf16"),
        ("auto", {"avx2", "avx512f"}, [], "float32", "CPU without"),
        ("auto", set(), [], "float32", "CPU without"),
        ("auto", set(), [(8, 0)], "bfloat16", "compute capability 8.0"),
        ("auto", set(), [(9, 0), (7, 0)], "bfloat16", "compute capability 9.0"),
        ("auto", {"amx_bf16"}, [(7, 5)], "float32", "compute capability 7.5"),
        ("float32", {"amx_bf16"}, [(9, 0)], "float32", "as asked for"),
        ("bfloat16", {"amx_bf16"}, [], "bfloat16", "as asked for"),
        ("bfloat16", set(), [], "bfloat16", "only emulates it"),
        ("float16", {"amx_bf16"}, [], "float16", "slower"),
        ("float16", set(), [(7, 0)], "float16", "as asked for"),
    ],
)
def test_precision_follows_the_hardware(name, flags, capabilities, expected, reason):
    precision, why = hardware.resolve_precision(name, flags, capabilities)
    assert precision == expected
    assert reason in why
    assert hardware.KERAS_POLICY[precision] in ("float32", "mixed_bfloat16", "mixed_float16")


def test_flags_of_the_first_processor(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu amx_bf16\nvmx flags\t: x\nflags\t\t: y\n")
    assert hardware.cpu_flags(tmp_path / "cpuinfo") == {"fpu", "amx_bf16"}
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nFeatures\t: fp\n")
    assert hardware.cpu_flags(tmp_path / "cpuinfo") == set()
    assert hardware.cpu_flags(tmp_path / "absent") == set()


@pytest.fixture
def without_gpu(tmp_path, monkeypatch):
    """A machine without nvidia-smi and driver: the folder that is all of PATH, and where the driver would list GPUs."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path, tmp_path / "gpus"


def nvidia_smi(folder, *lines):
    path = folder / "nvidia-smi"
    path.write_text("\n".join(["#!/bin/sh", *lines]))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_no_gpu(without_gpu):
    _, driver = without_gpu
    assert not hardware.nvidia_gpu(driver)
    driver.mkdir()
    assert not hardware.nvidia_gpu(driver)
    assert hardware.unseen_gpu("2.21.0", driver) is None


def test_the_driver_lists_a_gpu(without_gpu, monkeypatch):
    _, driver = without_gpu
    (driver / "0000:01:00.0").mkdir(parents=True)
    assert hardware.nvidia_gpu(driver)
    (driver / "0000:02:00.0").mkdir()
    assert hardware.nvidia_gpus(driver) == 2
    assert 'pip install "tensorflow[and-cuda]==2.21.0"' in hardware.unseen_gpu("2.21.0", driver)
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        told = f'CUDA_VISIBLE_DEVICES is "{hidden}", which hides the NVIDIA GPU: unset it to train there'
        assert hardware.unseen_gpu("2.21.0", driver) == told
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert 'CUDA_VISIBLE_DEVICES is "7": GPUs count from 0; unset it, or' in hardware.unseen_gpu("2.21.0", driver)


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (['[ "$1" = -L ] && echo "GPU 0: NVIDIA H100 (UUID: GPU-1)"'], True),
        (["echo No devices found."], False),
        (["echo GPU 0: left over", "exit 9"], False),
    ],
)
def test_nvidia_smi_answers(without_gpu, lines, found):
    folder, driver = without_gpu
    nvidia_smi(folder, *lines)
    assert hardware.nvidia_gpu(driver) is found


def test_an_nvidia_smi_that_does_not_start(without_gpu):
    folder, driver = without_gpu
    nvidia_smi(folder)
    (folder / "nvidia-smi").write_text("#!/no/such/shell\n")
    assert not hardware.nvidia_gpu(driver)


@pytest.mark.parametrize(("value", "slow"), [("0", True), ("False", True), ("1", False), ("true", False)])
def test_a_variable_that_makes_a_cpu_slow_is_named(value, slow, monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", value)
    assert bool(hardware.slow_cpu()) is slow
    if slow:
        assert hardware.slow_cpu().startswith(f'TF_ENABLE_ONEDNN_OPTS is "{value}"')


@pytest.mark.parametrize("value", [None, "", "yes"])
@pytest.mark.parametrize(
    ("flags", "slow"),
    [({"avx2"}, True), ({"avx2", "avx512f"}, True), ({"avx2", "avx_vnni"}, False), ({"avx2", "amx_bf16"}, False)]
    + [({"sse4_1"}, False), (set(), False)],
)
def test_tensorflow_imported_too_early_is_told_where_it_is_slow(flags, slow, value, monkeypatch):
    """With a text that TensorFlow does not read, too: it then does as if there were none."""
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", value or "")
    if value is None:
        monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset(flags))
    told = hardware.slow_cpu()
    assert bool(told) is slow
    if slow:
        assert told.startswith("TensorFlow was imported before dreamer set TF_ENABLE_ONEDNN_OPTS to 1")


@pytest.mark.parametrize(
    ("machine", "imported", "before", "after"),
    [
        ("x86_64", False, None, "1"),
        ("AMD64", False, None, "1"),
        ("x86_64", False, "0", "0"),
        ("x86_64", False, "true", "true"),
        ("x86_64", False, "", "1"),
        ("x86_64", False, "yes", "1"),
        ("x86_64", True, None, None),
        ("aarch64", False, None, None),
    ],
)
def test_onednn_is_asked_for_before_tensorflow_is_imported(machine, imported, before, after, monkeypatch):
    monkeypatch.setattr(hardware.platform, "machine", lambda: machine)
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    if imported:
        monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "what is set here is taken back after the test")
    if before is None:
        monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    else:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", before)
    hardware.use_onednn()
    assert os.environ.get("TF_ENABLE_ONEDNN_OPTS") == after
