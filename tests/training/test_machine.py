import json

from dreamer.training import machine


def test_every_start_is_a_line(tmp_path):
    machine.record(tmp_path / "run", 0)
    machine.record(tmp_path / "run", 5000)
    first, second = map(json.loads, (tmp_path / "run" / "machines.jsonl").read_text().splitlines())
    assert (first.pop("step"), second.pop("step")) == (0, 5000)
    assert first == second
    assert first["precision"] == "float32"
    assert first["cores"] >= 1
    assert isinstance(first["gpus"], list)
    assert all(isinstance(first[key], str) and first[key] for key in ("cpu", "dreamer", "python", "tensorflow"))


def test_the_processors_name(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nmodel name\t: A processor @ 2.0GHz \nmodel name\t: another\n")
    assert machine.processor(path) == "A processor @ 2.0GHz"
    path.write_text("processor\t: 0\n")
    assert machine.processor(path) == machine.processor(tmp_path / "absent") != ""
