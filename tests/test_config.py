import importlib.util
import pickle
import re
from pathlib import Path

import pytest

from dreamer import config, keys
from dreamer.config import Choices, ConfigError, Range
from dreamer.run import files

ROOT = Path(__file__).resolve().parent.parent

DEFAULTS = """\
name: a            # [name; a | b] One of two (paper, Section 1).
text: x            # [name] Anything.

part:
  count: 5         # [steps; 1..] A count.
  rate: 0.5        # [factor; (0..1] A rate.
  share: 0.5       # [factor; (0..1]] A rate, with the range closed by hand.
  flag: false      # [flag] A flag.
  shift: -1        # [index; -1..] An index.
other:
  count: 7         # [steps; 1..9] Another count.
"""


@pytest.fixture
def configs(tmp_path, monkeypatch):
    """A configs folder of our own, with overlays written by the test."""
    (tmp_path / "defaults.yaml").write_text(DEFAULTS)
    monkeypatch.setattr(config, "CONFIGS", tmp_path)
    config._schema.cache_clear()
    yield tmp_path
    config._schema.cache_clear()


def message(function, *args, **kwargs) -> str:
    with pytest.raises(ConfigError) as info:
        function(*args, **kwargs)
    text = str(info.value)
    assert "\n" not in text
    return text


def test_a_key_in_two_spellings_is_given_twice(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("actor:\n  lr: 1e-4\nmodel.lr: 1e-4\nactor.lr: 1e-4\n")
    assert message(config.load, [str(path)]) == f"actor.lr is given twice: {path}:2 and {path}:4"
    path.write_text("{actor.lr: 1e-3, actor: {lr: 2e-3}}\n")
    assert message(config.load, [str(path)]) == f"actor.lr is given twice: {path}:1 and {path}:1"


def test_every_key_of_the_real_defaults_is_documented():
    keys = {key.name: key for key in config.describe()}
    assert len(keys) > 40
    assert keys["replay.batch"].unit == "sequences"
    assert keys["replay.batch"].value == 50
    assert keys["model.lr"].type is float
    assert keys["env.camera"].type is int
    for key in keys.values():
        assert key.meaning.endswith(".")
        assert all(part.isidentifier() for part in key.name.split("."))
        # A key with the name of a method could not be read as an attribute.
        assert not hasattr(config.Config, key.name.split(".")[0])


def test_every_key_of_the_real_defaults_names_its_source():
    """In a form that a program can read, the parenthesis that ends its meaning."""
    assert [key.name for key in config.describe() if key.source is None] == []
    sources = {key.name: key.source for key in config.describe()}
    assert {source.split(",")[0] for source in sources.values()} == {"paper", "TF1", "TF2", "PlaNet", "ours"}
    # The paper's paragraphs on hyper-parameters are in its Appendix A; what an actor begins with stands in no text.
    assert sources["model.free_nats"] == "paper, Appendix A"
    assert sources["actor.init_std"] == "TF2"
    assert sources["replay.cross_ends"] == "TF1"
    assert sources["planner.candidates"] == "PlaNet"
    assert sources["env.hold_out"] == sources["env.life_loss"] == "ours"


@pytest.mark.parametrize(
    ("meaning", "source"),
    [
        ("A key (TF1).", "TF1"),
        ("A key (TF2; paper: 300).", "TF2"),
        ("A key (TF2: the Keras default; TF1: 1e-4).", "TF2"),
        ("A key, C in (0..1] (ours).", "ours"),
        ("A key (PlaNet: H).", "PlaNet"),
        ("A key (paper, Appendix A).", "paper, Appendix A"),
        ("A key (paper, Section 4.1; TF1: 2).", "paper, Section 4.1"),
        ("A key (paper, Algorithm 1: C).", "paper, Algorithm 1"),
        ("A key (paper, eqs. 11-12).", "paper, eqs. 11-12"),
        ("A key.", None),
        ("A key (TF1) that goes on.", None),
        ("A key (paper).", None),
        ("A key (paper, somewhere).", None),
        ("A key (TF3).", None),
        ("A key (TF2 release).", None),
        ("A key (theirs; TF2: 3).", None),
        ("A key (TF2", None),
    ],
)
def test_the_source_of_a_key_begins_the_parenthesis_at_its_end(configs, meaning, source):
    (configs / "defaults.yaml").write_text(f"key: 1  # [unit; 0..; free; before 0] {meaning}\n")
    config._schema.cache_clear()
    (key,) = config.describe()
    assert (key.source, key.meaning, key.resume, key.before) == (source, meaning, "free", 0)


def test_all_real_overlays_load_alone():
    assert "dmc" in config.overlays()
    for name in config.overlays():
        config.load([name])
        assert config.overlay_comment(name).endswith(".")


def test_values_come_in_the_order_defaults_overlays_command_line(configs):
    (configs / "one.yaml").write_text("part:\n  count: 10\n  rate: 0.1\n")
    (configs / "two.yaml").write_text("part:\n  count: 20\n")
    loaded = config.load(["one", "two"], {"other.count": "3"})
    assert (loaded.part.count, loaded.part.rate, loaded.other.count, loaded.name) == (20, 0.1, 3, "a")
    assert config.load(["two", "one"]).part.count == 10
    assert config.load(["one"], {"part.count": 30}).part.count == 30


def test_an_empty_overlay_changes_nothing(configs):
    (configs / "empty.yaml").write_text("# Nothing\n# at all.\n")
    assert config.load(["empty"]) == config.load()
    assert config.overlay_comment("empty") == "Nothing at all."


@pytest.mark.parametrize("text", ["1e6", "1_000_000", "1000000", "1000000.0", 1000000, 1e6])
def test_int_notations(configs, text):
    value = config.load([], {"part.count": text}).part.count
    assert value == 1000000
    assert type(value) is int


@pytest.mark.parametrize("text", ["1.5", "1e99999999", "9223372036854775808", "", "one", "nan", "inf", 1.5, True, None])
def test_int_refuses(configs, text):
    assert "--part.count: expected a whole number (>= 1), got" in message(config.load, [], {"part.count": text})


def test_the_largest_64_bit_integer_is_an_int(configs):
    assert config.load([], {"part.count": str(2**63 - 1)}).part.count == 2**63 - 1


@pytest.mark.parametrize(("text", "value"), [("1", 1.0), (1, 1.0), ("6e-4", 6e-4), ("0.3", 0.3), (".5", 0.5)])
def test_float_notations(configs, text, value):
    loaded = config.load([], {"part.rate": text}).part.rate
    assert loaded == value
    assert type(loaded) is float


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e400", "0", "1.01", "x", float("nan"), True])
def test_float_refuses(configs, text):
    assert "--part.rate: expected a number (> 0, <= 1), got" in message(config.load, [], {"part.rate": text})


def test_bool_takes_true_and_false_only(configs):
    assert config.load([], {"part.flag": "true"}).part.flag is True
    assert config.load([], {"part.flag": "false"}).part.flag is False
    for text in ("True", "1", "yes", "", 1):
        assert "expected true or false" in message(config.load, [], {"part.flag": text})


def test_ends_of_ranges(configs):
    assert config.load([], {"part.rate": 1}).part.rate == 1.0
    assert config.load([], {"part.share": 1}).part.share == 1.0
    assert config.load([], {"other.count": 9}).other.count == 9
    assert message(config.load, [], {"other.count": 10}) == (
        "--other.count: expected a whole number (1..9), got 10 (command line)"
    )
    assert "got -2" in message(config.load, [], {"part.shift": "-2"})


def test_range_with_open_ends():
    inner = Range(0.0, 1.0, open_low=True, open_high=True)
    assert [value in inner for value in (0, 0.5, 1)] == [False, True, False]
    assert str(inner) == "> 0, < 1"
    assert str(Choices(("a", "b"))) == "a | b"


def test_choices_name_the_alternatives(configs):
    assert message(config.load, [], {"name": "c"}) == "--name: expected one of a | b, got 'c' (command line)"


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("rate", "did you mean --part.rate?"),
        ("count", "did you mean --part.count or --other.count?"),
        ("part.cuont", "did you mean --part.count?"),
        ("cuont", "did you mean --part.count or --other.count?"),
        ("wrong.rate", "did you mean --part.rate?"),
        ("zzzzz", "`dreamer configs` lists all keys"),
    ],
)
def test_unknown_key_names_the_nearest(configs, given, hint):
    assert message(config.load, [], {given: "1"}) == f"unknown key --{given} (command line): {hint}"


def test_a_section_is_no_key(configs):
    assert "--part is a section" in message(config.load, [], {"part": "1"})
    (configs / "bad.yaml").write_text("part: 3\n")
    assert "part is a section: give one of its keys, such as part.count (configs/bad.yaml:1)" in message(
        config.load, ["bad"]
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("part:\n  count: 1\n  cuont: 2\n", "unknown key part.cuont (configs/bad.yaml:3): did you mean part.count?"),
        ("part:\n  count: 0\n", "part.count: expected a whole number (>= 1), got 0 (configs/bad.yaml:2)"),
        ("part:\n  count:\n", "part.count: expected a whole number (>= 1), got nothing (configs/bad.yaml:2)"),
        ("part:\n  rate: .nan\n", "part.rate: expected a number (> 0, <= 1), got nan (configs/bad.yaml:2)"),
        ("\ntext: 3\n", "text: expected a text, got 3 (configs/bad.yaml:2)"),
        ("name: {a: 1}\n", "unknown key name.a (configs/bad.yaml:1): did you mean name?"),
        ("part:\n  count: [1]\n", "part.count: expected a whole number (>= 1), got [1] (configs/bad.yaml:2)"),
    ],
)
def test_mistakes_in_an_overlay_tell_file_and_line(configs, text, expected):
    (configs / "bad.yaml").write_text(text)
    assert message(config.load, ["bad"]) == expected


@pytest.mark.parametrize(
    ("text", "line"),
    [("name: a\npart: [1\n", 3), ("name: a\nname: b\n", 2), ("part:\n\tcount: 1\n", 2), ("a: b: c\n", 1)],
)
def test_yaml_mistakes_tell_file_and_line(configs, text, line):
    (configs / "bad.yaml").write_text(text)
    assert message(config.load, ["bad"]).startswith(f"{configs / 'bad.yaml'}:{line}: ")


def test_files_that_hold_no_mapping(configs):
    (configs / "bad.yaml").write_text("- a\n- b\n")
    assert "expected lines of `key: value`" in message(config.load, ["bad"])
    (configs / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8 text (line 1, byte 0xff)" in message(config.load, ["bad"])


def test_a_key_that_is_merged_in_has_the_line_of_its_section(configs):
    (configs / "merged.yaml").write_text("name: b\npart:\n  <<: {count: 6, rate: 0.25}\n")
    assert config.load(["merged"]).part.count == 6
    (configs / "bad.yaml").write_text("name: b\npart:\n  <<: {count: 0}\n")
    assert message(config.load, ["bad"]) == "part.count: expected a whole number (>= 1), got 0 (configs/bad.yaml:3)"


@pytest.mark.parametrize("text", ["a\nb", "\t", "\0", "\x1b[0m", "\ud800", "\u2028"])
def test_text_is_what_can_be_printed(configs, text):
    assert "--text: expected a text, got '" in message(config.load, [], {"text": text})


def test_what_is_told_of_a_value_is_short(configs):
    for key, value in (("text", ["x" * 9999]), ("part.count", 10**5000), ("part.count", "9" * 9999), ("x" * 9999, 1)):
        assert len(message(config.load, [], {key: value})) < 200


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("env.grayscale", "`dreamer configs` lists all keys"),  # and not the nearest of eighty by letters
        ("actor.x", "`dreamer configs` lists all keys"),
        ("env.count", "did you mean --envs.count?"),
        ("modl.lr", "did you mean --model.lr?"),
        ("lr", "did you mean --model.lr or --actor.lr or --value.lr?"),
        ("batch_size", "did you mean --replay.batch?"),
        ("replay_batch", "did you mean --replay.batch?"),
        ("task.name", "did you mean --task?"),
    ],
)
def test_hints_among_the_real_keys_are_plausible(given, hint):
    with pytest.raises(config.ConfigError) as error:
        config.load([], {given: "1"})
    assert str(error.value) == f"unknown key --{given} (command line): {hint}"


def test_unknown_overlay_names_the_nearest_and_lists_all(configs):
    (configs / "small.yaml").write_text("")
    (configs / "large.yaml").write_text("")
    text = message(config.load, ["smal"])
    assert "unknown overlay 'smal': did you mean small?" in text
    assert "large, small" in text
    assert "unknown overlay" in message(config.load, ["../small"])
    assert "always loaded first" in message(config.load, ["defaults"])


@pytest.mark.parametrize(
    "line",
    ["key: 1", "key: 1  # no brackets", "key: 1  # [unit; 1..]", "key: 1  # [; 1..] No unit.", "key: [1]  # [u] List."],
)
def test_a_default_without_its_documentation_is_refused(configs, line):
    (configs / "defaults.yaml").write_text(f"{line}\n# [unit; 1..] A comment on a line of its own does not count.\n")
    config._schema.cache_clear()
    assert "defaults.yaml:1)" in message(config.describe)


def test_a_default_outside_of_its_range_is_refused(configs):
    (configs / "defaults.yaml").write_text("key: 0  # [unit; 1..] A key.\n")
    config._schema.cache_clear()
    assert "expected a whole number (>= 1), got 0" in message(config.describe)


def test_a_config_is_frozen_and_compares_by_value(configs):
    loaded = config.load()
    with pytest.raises(AttributeError, match="frozen"):
        loaded.name = "b"
    with pytest.raises(AttributeError, match="frozen"):
        loaded.part.count = 3
    with pytest.raises(AttributeError, match="frozen"):
        del loaded.part
    with pytest.raises(AttributeError, match="no key 'cuont'"):
        _ = loaded.part.cuont
    assert loaded == config.load()
    assert loaded != config.load([], {"part.count": 6})
    assert pickle.loads(pickle.dumps(loaded)) == loaded


def test_replace_and_diff(configs):
    loaded = config.load()
    changed = loaded.replace(**{"part.count": 6, "name": "b"})
    assert loaded.part.count == 5
    assert loaded.diff(changed) == [("name", "a", "b"), ("part.count", 5, 6)]
    assert changed.diff(changed) == []
    assert "expected a whole number" in message(loaded.replace, **{"part.count": 0})
    assert "unknown key cuont" in message(loaded.replace, cuont=0)


def test_flat_is_in_the_order_of_the_defaults(configs):
    assert list(config.load([], {"name": "b"}).flat()) == [
        *("name", "text", "part.count", "part.rate", "part.share", "part.flag", "part.shift", "other.count")
    ]


def test_saved_configs_load_back_with_values_and_types(configs, tmp_path):
    path = tmp_path / "run.yaml"
    loaded = config.load([], {"part.rate": "1e-7", "text": "1e6", "part.flag": "true", "part.shift": "-1"})
    loaded.save(path)
    again = config.load_file(path)
    assert again == loaded
    assert again.text == "1e6"
    assert [type(value) for value in again.flat().values()] == [type(value) for value in loaded.flat().values()]
    loaded.replace(text="on").save(path)
    assert config.load_file(path).text == "on"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["defaults.yaml", "run.yaml"]


def test_the_real_config_survives_saving(tmp_path):
    loaded = config.load(["dmc"])
    loaded.save(tmp_path / "config.yaml")
    assert config.load_file(tmp_path / "config.yaml").flat() == loaded.flat()


def test_a_failed_save_keeps_the_old_file(configs, tmp_path, monkeypatch):
    path = tmp_path / "run.yaml"
    config.load().save(path)

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        config.load([], {"name": "b"}).save(path)
    assert config.load_file(path).name == "a"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["defaults.yaml", "run.yaml"]


def test_an_incomplete_or_foreign_file_is_refused(configs, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("name: a\n")
    assert "text, part.count" in message(config.load_file, path)
    path.write_text("")
    assert "missing" in message(config.load_file, path)
    path.write_text(DEFAULTS + "foreign: 1\n")
    assert f"unknown key foreign ({path}:12)" in message(config.load_file, path).replace("configs/run.yaml", str(path))
    assert "No such file" in message(config.load_file, tmp_path / "absent.yaml")


def test_an_overlay_of_ones_own_is_a_path(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("actor:\n  lr: 3e-4\nenv:\n  action_repeat: 4\n")
    run = config.load(["dmc", str(mine)], {"seed": "7"})
    assert (run.actor.lr, run.env.action_repeat, run.seed, run.suite) == (3e-4, 4, 7, "dmc")
    (tmp_path / "wrong.yaml").write_text("actor:\n  rate: 3e-4\n")
    with pytest.raises(config.ConfigError, match=rf"unknown key actor.rate \({tmp_path}/wrong.yaml:2\)"):
        config.load([str(tmp_path / "wrong.yaml")])
    with pytest.raises(config.ConfigError, match=r"gone.yaml: no such overlay file; of configs/ there are atari, "):
        config.load([str(tmp_path / "gone.yaml")])


def test_a_saved_config_says_where_each_value_is_from(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("actor: {lr: 3e-4}\n")
    run = config.load(["dmc", str(mine)], {"seed": "7", "task": "a" * 300 + " b"}).replace(precision="float32")
    run.save(tmp_path / "config.yaml")
    lines = {line.partition(":")[0].strip(): line for line in (tmp_path / "config.yaml").read_text().splitlines()}
    assert lines["suite"].endswith("# configs/dmc.yaml")
    assert lines["seed"].endswith("# command line")
    assert lines["precision"].endswith("# settled when the run began")
    assert "#" not in lines["steps"]
    assert f"lr: 0.0003 # {mine}" in re.sub(" +", " ", (tmp_path / "config.yaml").read_text())
    assert config.load_file(tmp_path / "config.yaml") == run


def test_the_types_of_the_keys_are_those_of_the_defaults():
    """What an editor and a type checker know of the keys is written by a command, and not forgotten."""
    spec = importlib.util.spec_from_file_location("write_keys", ROOT / "scripts" / "write_keys.py")
    write_keys = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(write_keys)
    assert (ROOT / "dreamer" / "keys.py").read_text() == write_keys.source()
    assert keys.Replay.__annotations__["batch"] is int
    assert keys.Keys.__annotations__["replay"] is keys.Replay


def test_no_name_of_an_overlay_spoils_the_saved_config(tmp_path):
    for name in ("a\nb: 3", "\x1b[31m", "\udcff"):
        mine = tmp_path / f"{name}.yaml"
        mine.write_text("actor: {lr: 3e-4}\n")
        config.load([str(mine)]).save(tmp_path / "saved.yaml")
        assert config.load_file(tmp_path / "saved.yaml").actor.lr == 3e-4
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(config.ConfigError, match=r"folder.yaml: is no file; of configs/ there are"):
        config.load([str(tmp_path / "folder.yaml")])


def test_arguments_of_an_environment_are_one_json_object(tmp_path):
    """However it is written; a file may have it as a section of YAML."""
    given = ['{"frame_skip":2,"a":[1]}', '{"a": [1], "frame_skip": 2}', {"frame_skip": 2, "a": [1]}]
    runs = [config.load([], {"env.kwargs": value}) for value in given]
    assert {run.env.kwargs for run in runs} == {'{"a": [1], "frame_skip": 2}'}
    (tmp_path / "mine.yaml").write_text("env:\n  kwargs: {frame_skip: 2, a: [1]}\n  image: render\n")
    runs[0].save(tmp_path / "saved.yaml")
    assert config.load_file(tmp_path / "saved.yaml") == runs[0]
    mine = config.load([str(tmp_path / "mine.yaml")])
    assert (mine.env.kwargs, mine.env.image) == (runs[0].env.kwargs, "render")
    assert config.load().env.kwargs == "{}"


@pytest.mark.parametrize("value", ["frame_skip=2", "[1]", "{'a': 1}", '{"a": NaN}', '{"a": 1', "", 3, True, None])
def test_arguments_that_are_no_json_object_are_refused(value):
    line = message(config.load, [], {"env.kwargs": value})
    assert line.startswith("""--env.kwargs: expected a JSON object such as '{"name": 2}', got """)
