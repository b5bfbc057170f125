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
