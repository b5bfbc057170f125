import errno
import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest

from dreamer import __version__, config, envs, hardware, training
from dreamer.cli import arguments, output, tensorflow, train
from dreamer.cli import main as cli
from dreamer.run import lock, settings
from dreamer.stops import Stopped


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Replace TensorFlow's set-up and the loop; collects (config, logdir, profile) of each start; in tmp_path."""
    starts = []

    def train(agreed, logdir, stops, profile, kind):
        settings.settle(agreed, logdir, frames=len(starts))
        starts.append((agreed.config, logdir, profile))
        return 0

    loop = types.SimpleNamespace(train=train)
    monkeypatch.setitem(sys.modules, "dreamer.training.loop", loop)
    monkeypatch.setattr(training, "loop", loop, raising=False)
    monkeypatch.setattr(tensorflow, "set_up", lambda precision, **options: "float32")
    monkeypatch.chdir(tmp_path)
    return starts


def complaint(capsys, words, code=2) -> str:
    """Run a command that must fail with one line, and return the line."""
    assert cli.main(words) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("dreamer: ")
    assert err.count("\n") == 1
    return err.removeprefix("dreamer: ").rstrip()


def test_words_become_overlays_values_and_logdir():
    words = ["--configs", "dmc", "small", "--env.camera", "-1", "--task=walker_run", "--logdir", "/x"]
    words += ["--configs=debug", "--seed", "2", "--seed", "3"]
    given = train.parse_train(words)
    assert given.overlays == ["dmc", "small", "debug"]
    assert given.overrides == {"env.camera": "-1", "task": "walker_run", "seed": "3"}
    assert given.logdir == Path("/x")
    assert not given.profile
    assert train.parse_train([]) == ([], {}, None, [], False, [])
    words = ["--profile", "--resume.allow", "actor.lr", "model.lr", "--seed", "1"]
    assert train.parse_train(words) == ([], {"seed": "1"}, None, ["actor.lr", "model.lr"], True, [("--seed", "1")])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--seed", "2", "--steps=10", "--seed=3", "--steps", "10"], ["--seed is given more than once: 3 counts"]),
        (["--logdir", "a", "--logdir", "b"], ["--logdir is given more than once: b counts"]),
        (["--configs", "toy", "--configs", "debug", "--resume.allow", "actor.lr", "--resume.allow", "model.lr"], []),
    ],
)
def test_a_key_that_is_given_again_is_told(words, told, capsys, started):
    assert cli.main(["train", *words]) == 0
    assert capsys.readouterr().err.splitlines() == [f"dreamer: {line}" for line in told]


def test_an_option_that_is_given_again_is_told_and_several_values_add_up(capsys):
    parser = arguments.make_parser("plot", "")
    parser.add_argument("--x")
    parser.add_argument("--bin", type=int)
    parser.add_argument("--seen", action="store_true")
    parser.add_argument("--tasks", **arguments.SEVERAL, default=["a"])
    words = [
        "--bin",
        "3",
        "--tasks",
        "b",
        "c",
        "--x=1",
        "--seen",
        "--bin=4",
        "--tasks",
        "d",
        "--seen",
        "--x",
        "1",
        "--",
        "--x",
    ]
    args, rest = arguments.parse_known(parser, words)
    assert (args.x, args.bin, args.tasks, rest) == ("1", 4, ["a", "b", "c", "d"], ["--", "--x"])
    assert capsys.readouterr().err == "dreamer: --bin is given more than once: 4 counts\n"


@pytest.mark.parametrize("words", [["--seed"], ["--seed", "--task", "x"], ["--configs"], ["--logdir="], ["--seed", ""]])
def test_a_value_that_is_missing(words, capsys, started):
    assert complaint(capsys, words) == f"{words[0].rstrip('=')} needs a value"
    assert started == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--task", "walker_walk", "extra"], "unexpected argument 'extra'"),
        (["-seed", "1"], "unexpected argument '-seed'"),
        (["--capacity", "5"], "unknown key --capacity (command line): did you mean --replay.capacity?"),
        (["--steps", "many"], "--steps: expected a whole number (>= 1), got many (command line)"),
        (["--config", "dmc"], "unknown option --config: did you mean --configs?"),
        (["--log_dir", "a"], "unknown option --log_dir: did you mean --logdir?"),
        (["--env.grayscale", "true"], "`dreamer configs` lists all keys"),
        (
            ["--configs", "gym", "--task", "ALE/Pong-v5"],
            "games of Atari are the suite atari: --configs atari --task pong",
        ),
        (["--configs", "dcm"], "unknown overlay 'dcm': did you mean dmc?"),
        (["--task", "walker_wlk"], "walker_walk"),
        (["trian", "--seed", "1"], "unknown command 'trian': did you mean 'train'?"),
        (["walker_walk"], "unknown command 'walker_walk': did you mean --task walker_walk?"),
        (["--actor.l", "1e-3"], "unknown key --actor.l (command line): did you mean --actor.layers or --actor.lr?"),
        (["learn", "--from", __file__, "--logdir", "x"], f"--from: {__file__} is a file: expected a run, or a folder"),
        (["--profile", "true"], "unexpected argument 'true'"),
        (
            ["x"],
            "There are train, learn, import, sweep, status, eval, imagine, export, configs, tasks, doctor",
        ),
        (["configs", "dcm"], "unknown overlay 'dcm'"),
        (["configs", "--jso"], "unrecognized arguments: --jso: did you mean --json?"),
        (["eval", "--logdir", "x", "--episode=3"], "unrecognized arguments: --episode=3: did you mean --episodes?"),
        (["eval", "--logdir", "x", "--foobar", "3"], "unrecognized arguments: --foobar 3 (see `dreamer eval --help`)"),
        (["tasks", "--suite", "dcm"], "unknown suite 'dcm': there are dmc"),
        (["plot", "--out", "x.png"], "the following arguments are required: RUN"),
    ],
)
def test_bad_input_gives_one_line(words, expected, capsys, started):
    assert expected in complaint(capsys, words)
    assert started == []


def test_train_is_the_default_command_and_logdirs_follow_the_config(started):
    assert cli.main(["--task", "cheetah_run", "--seed", "3", "--method", "random"]) == 0
    assert cli.main(["train", "--logdir", "here", "--steps", "1e6"]) == 0
    assert cli.main(["train"]) == 0
    (first, first_dir, _), (second, second_dir, _), (third, third_dir, _) = started
    assert first_dir == Path("runs/dmc_cheetah_run/random/3")
    assert (first.task, first.seed, first.method) == ("cheetah_run", 3, "random")
    assert config.load_file(first_dir / "config.yaml") == first
    assert (second_dir, second.steps) == (Path("here"), 1_000_000)
    assert third == config.load([], {"precision": "float32"})
    assert third_dir == Path("runs/dmc_walker_walk/dreamer/0")


def test_profile_reaches_the_loop(started):
    assert cli.main(["--profile", "--logdir", "here"]) == cli.main(["--logdir", "here"]) == 0
    assert [profile for _, _, profile in started] == [True, False]


def test_the_exit_code_is_that_of_the_loop(started, monkeypatch):
    monkeypatch.setattr(training.loop, "train", lambda agreed, logdir, stops, **options: 143)
    assert cli.main(["train"]) == 143


# A value of every key that differs from its default.
FREE = {
    "steps": "7000",
    "xla": "true",
    "gpus": "2",
    "env.renderer": "osmesa",
    "env.worker": "false",
    "env.timeout": "9",
    "env.start_timeout": "8",
    "env.retries": "2",
    "env.info": "won",
    "env.level_cache": "maps",
    "replay.prefetch": "2",
    "replay.compress": "true",
    "loop.max_skipped": "7",
    "loop.save_every": "9",
    "logger.also": "wandb",
    "logger.project": "walkers",
}


def other_value(key):
    if isinstance(key.allowed, config.Choices):
        return next(name for name in key.allowed.names if name != key.value)
    if key.type is int:
        return key.value + 1
    if key.unit == "arguments":
        return '{"other": 1}'
    return {bool: not key.value, str: "other", float: 0.5}[key.type]


def test_a_resume_takes_the_keys_over_that_may_change(started, monkeypatch):
    monkeypatch.setattr(envs, "choose", lambda renderer: types.SimpleNamespace(variables={}))
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *of: found("json" if name == "wandb" else name, *of))
    monkeypatch.setattr(train, "check_task", lambda run: None)  # no suite takes all of them
    words = ["--logdir", "run", "--replay.batch", "16"]
    assert set(FREE) == {key.name for key in config.describe() if key.resume == config.FREE}
    assert cli.main(words) == 0
    assert cli.main([*words, *(f"--{key}={value}" for key, value in FREE.items())]) == 0
    saved = config.load_file("run/config.yaml")
    assert saved == started[1][0] == config.load([], {**FREE, "replay.batch": "16", "precision": "float32"})
    assert json.loads(Path("run/run.json").read_text())["changes"] == []


# The suite is left out because a task is one of its suite.
NOT_FREE = [key for key in config.describe() if key.resume != config.FREE and key.name != "suite"]


@pytest.mark.parametrize("key", NOT_FREE, ids=lambda key: key.name)
def test_every_other_key_needs_the_users_word_or_cannot_change(started, capsys, key, monkeypatch):
    monkeypatch.setattr(train, "check_task", lambda run: None)
    assert cli.main(["--logdir", "run"]) == 0
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    value = "bfloat16" if key.name == "precision" else settings.yaml(other_value(key))
    words = ["--logdir", "run", f"--{key.name}={value}"]
    capsys.readouterr()
    assert cli.main(words) == 2
    message = capsys.readouterr().err
    assert f"({key.name}: saved " in message
    assert {path.name: path.read_bytes() for path in Path("run").iterdir()} == before
    told = key.resume == config.TOLD
    assert (f"--resume.allow {key.name}" in message) == told
    assert cli.main([*words, "--resume.allow", key.name]) == (0 if told else 2)
    assert (f"{key.name} is {value} from here on, it was " in capsys.readouterr().out) == told
    record = json.loads(Path("run/run.json").read_text())
    assert [(change["key"], change["frames"]) for change in record["changes"]] == ([(key.name, 1)] if told else [])


def test_a_resume_with_other_settings_stops_and_leaves_the_run_alone(started, capsys):
    assert cli.main(["--logdir", "run", "--steps", "5000"]) == 0
    before = Path("run/config.yaml").read_bytes()
    capsys.readouterr()
    words = ["--logdir", "run", "--replay.batch", "16", "--model.discount_head", "true", "--steps", "9000"]
    assert cli.main(words) == 2
    assert capsys.readouterr().err.splitlines() == [
        "dreamer: run holds a run with other settings, which cannot change on a resume (model.discount_head: saved "
        "false, given true), others only with --resume.allow replay.batch (replay.batch: saved 50, given 16): give the "
        "saved values to resume that run, or another --logdir to start a new one"
    ]
    assert cli.main(words[:4]) == 2  # what can change is not said to be unable to
    assert capsys.readouterr().err.splitlines() == [
        "dreamer: run holds a run with other settings (replay.batch: saved 50, given 16): --resume.allow replay.batch "
        "to change what it learns from here on, the saved values to go on as before, or another --logdir to start a "
        "new one"
    ]
    assert len(started) == 1
    assert Path("run/config.yaml").read_bytes() == before
    # A run that came from another machine: nothing is added to it, not even the file of the lock.
    Path("run/.lock").unlink()
    assert cli.main(words) == 2
    assert sorted(path.name for path in Path("run").iterdir()) == ["config.yaml", "run.json"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--resume.allow", "actor.rate"], "unknown key --actor.rate"),
        (["--resume.allow", "model.deter"], "--resume.allow model.deter: this key cannot change on a resume"),
        (["--resume.allow"], "--resume.allow needs a value"),
    ],
)
def test_what_cannot_be_allowed(words, expected, started, capsys):
    assert expected in complaint(capsys, ["--logdir", "run", *words])
    assert not Path("run").exists()


def test_a_start_that_fails_leaves_nothing(started, monkeypatch, capsys):
    """No config, no lock, no folder: the corrected command is a first start."""
    from dreamer.training import loop

    def fail(agreed, logdir, stops, profile, kind):
        raise UsageError("no camera 99")

    UsageError = arguments.UsageError
    monkeypatch.setattr(loop, "train", fail)
    assert complaint(capsys, ["--logdir", "a/b", "--env.camera", "99"]) == "no camera 99"
    assert not Path("a").exists()


def test_an_older_run_goes_on_with_what_its_missing_keys_stand_for(started, capsys):
    config.load([], {"steps": "5000"}).save("config.yaml")
    text = Path("config.yaml").read_text().replace("xla: auto\n", "").replace("  max_skipped: 100\n", "")
    Path("run").mkdir()
    Path("run/config.yaml").write_text(text)
    assert cli.main(["--logdir", "run"]) == 0
    assert started[0][0].loop.max_skipped == 100
    capsys.readouterr()
    Path("run/config.yaml").write_text(text.replace("  retries: 0\n", ""))
    assert cli.main(["--logdir", "run", "--env.retries", "3"]) == 0
    assert started[1][0].env.retries == 3
    assert "older than the key env.retries" not in capsys.readouterr().out  # it does not go on as it did
    for path in Path("run").iterdir():
        path.unlink()
    Path("run/config.yaml").write_text(text.replace("model:\n", "model:\n  size: 3\n"))
    assert "unknown key model.size" in complaint(capsys, ["--logdir", "run"])


def test_a_run_of_a_newer_format_is_left_alone(started, capsys):
    assert cli.main(["--logdir", "run"]) == 0
    Path("run/run.json").write_text('{"format": 2, "dreamer": "9", "changes": []}')
    capsys.readouterr()
    assert complaint(capsys, ["--logdir", "run"]).startswith("run has format 2, and this release of dreamer (")
    Path("run/run.json").write_text('{"format": 1')
    assert complaint(capsys, ["--logdir", "run"]).startswith("run/run.json is damaged: expected ")


def test_the_precision_is_that_of_the_run(started, monkeypatch, capsys):
    asked = []

    def set_up(precision, of_run, emulate):
        assert emulate == (not of_run)
        asked.append((precision, of_run))
        return "bfloat16" if precision == "auto" else precision

    monkeypatch.setattr(tensorflow, "set_up", set_up)
    for words in ([], [], ["--precision", "bfloat16"]):
        assert cli.main(["--logdir", "run", *words]) == 0
    assert asked == [("auto", False), ("bfloat16", True), ("bfloat16", False)]
    assert config.load_file("run/config.yaml").precision == "bfloat16"
    capsys.readouterr()
    assert cli.main(["--logdir", "run", "--precision", "float32"]) == 2
    assert "precision: saved bfloat16, given float32" in capsys.readouterr().err
    assert cli.main(["--logdir", "run", "--precision", "float32", "--resume.allow", "precision"]) == 0


def test_a_logdir_that_cannot_be_used(started, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert complaint(capsys, ["--logdir", "file"]).startswith("cannot write to the log directory file: ")
    assert complaint(capsys, ["--logdir", "file/run"]) == "cannot write to the log directory file/run: Not a directory"
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / ".lock")
    line = complaint(capsys, ["--logdir", "pipe"])
    assert line.startswith("cannot write to the log directory pipe: ")
    assert "None" not in line
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/config.yaml").write_text("a: [1\n")
    assert "broken/config.yaml:2: " in complaint(capsys, ["--logdir", "broken"])
    assert started == []


def test_a_logdir_in_use_is_left_alone(started, capsys, tmp_path):
    """Two first starts in the same second: the one without the lock must not write the config of the other's run."""
    (tmp_path / "run").mkdir()
    with lock.exclusive(Path("run")):
        expected = "run is in use by another process: wait for it or use another --logdir"
        assert complaint(capsys, ["--logdir", "run"], code=75) == expected
    assert cli.main(["--logdir", "run", "--steps", "5000"]) == 0
    before = Path("run/config.yaml").read_bytes()
    with lock.exclusive(Path("run")):
        complaint(capsys, ["--logdir", "run", "--steps", "9000"], code=75)
    assert Path("run/config.yaml").read_bytes() == before
    assert len(started) == 1


def test_every_name_of_a_task_makes_the_same_run(started):
    for task in ("ms_pacman", "mspacman", "MsPacman"):
        assert cli.main(["--configs", "atari", "--task", task]) == 0
    assert [(run.task, logdir) for run, logdir, _ in started] == [
        ("ms_pacman", Path("runs/atari_ms_pacman/dreamer/0"))
    ] * 3


def test_the_lock_is_held_until_the_loop_ends(started, monkeypatch):
    def train(agreed, logdir, stops, profile, kind):
        with pytest.raises(BlockingIOError), lock.exclusive(logdir):
            pass
        return 0

    monkeypatch.setattr(training.loop, "train", train)
    assert cli.main(["--logdir", "run"]) == cli.main(["--logdir", "run"]) == 0


def test_a_run_that_began_and_ended_while_another_waited_to_lock_keeps_its_settings(started, capsys, monkeypatch):
    exclusive = lock.exclusive

    def late(logdir, report):
        logdir.mkdir()
        config.load().save(logdir / "config.yaml")
        return exclusive(logdir, report)

    monkeypatch.setattr(lock, "exclusive", late)
    assert cli.main(["--logdir", "run", "--replay.batch", "16"]) == 2
    assert "(replay.batch: saved 50, given 16)" in capsys.readouterr().err
    assert config.load_file("run/config.yaml") == config.load()
    assert started == []


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), 1, "no space left on the disk: runs/x"),
        (Stopped(signal.SIGTERM), 143, "stopped by SIGTERM"),
        (ModuleNotFoundError("No module named 'mujoco'", name="mujoco"), 1, "the package mujoco is not installed"),
    ],
)
def test_what_can_happen_outside_of_the_loop(error, code, text, started, monkeypatch, capsys):
    def fail(agreed, logdir, stops, profile, kind):
        raise error

    monkeypatch.setattr(training.loop, "train", fail)
    assert text in complaint(capsys, ["train"], code=code)


@pytest.mark.parametrize(
    ("words", "filename", "told"),
    [
        (["--logdir", "here"], "here/config.yaml", True),
        (["--logdir=~/here/"], os.path.expanduser("~/here"), True),
        (["--logdir", "here"], os.path.abspath(os.sep), False),
        (["--logdir", "here"], "hereafter", False),
        (["--logdir", "here"], None, False),
        (["train"], "runs/x", False),
    ],
)
def test_a_path_that_was_given_and_cannot_be_used(words, filename, told, started, monkeypatch, capsys):
    error = PermissionError(errno.EACCES, "Permission denied", filename)
    monkeypatch.setattr(train, "claim_logdir", lambda *arguments: (_ for _ in ()).throw(error))
    if told:
        assert complaint(capsys, words) == f"{filename}: Permission denied"
    else:
        with pytest.raises(PermissionError):
            cli.main(words)


def test_a_path_that_standard_output_cannot_say(monkeypatch, tmp_path):
    def say(words):
        print("\u00e4\udcff")
        return output.say("\u00e4\udcff")

    monkeypatch.setitem(cli.COMMANDS, "tasks", (say, ""))
    with (tmp_path / "out").open("w", encoding="ascii") as file:
        monkeypatch.setattr(sys, "stdout", file)
        assert cli.main(["tasks"]) == 0
    assert (tmp_path / "out").read_text() == 2 * "\\xe4\\udcff\n"


def test_streams_that_a_daemon_has_closed(tmp_path):
    """Their numbers must not be those of files that are opened later, into which others would print."""
    program = (
        "import os, sys\nimport dreamer.cli.main as cli\nassert cli.main(['--version']) == 0\n"
        f"assert os.open({str(tmp_path / 'file')!r}, os.O_CREAT | os.O_WRONLY) > 2\n"
        "print('to nobody', file=sys.stderr)\nos.write(2, b'nor this')\n"
    )
    line = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(program)} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", line]).returncode == 0
    assert (tmp_path / "file").read_bytes() == b""


def test_errors_of_the_program_keep_their_traceback(started, monkeypatch):
    for error in (PermissionError(errno.EACCES, "x"), ValueError("x"), ModuleNotFoundError("x", name="dreamer.typo")):
        monkeypatch.setattr(train, "claim_logdir", lambda *arguments, error=error: (_ for _ in ()).throw(error))
        with pytest.raises(type(error)):
            cli.main(["train"])


@pytest.mark.parametrize(
    "command",
    ["train", "sweep", "status", "eval", "imagine", "export", "configs", "tasks", "doctor", "scores", "plot", "report"],
)
def test_help_of_every_command(command, capsys, started):
    assert cli.main([command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: dreamer {command}" if command != "train" else "usage: dreamer [train]")
    assert max(map(len, out.splitlines())) < 90
    assert err == ""


@pytest.fixture
def inspected(monkeypatch, started):
    """Replace what evaluates and imagines: collects (config, logdir, options); a list of errors is raised first."""
    calls, errors = [], []

    def inspect(run, logdir, **options):
        if errors:
            raise errors.pop()
        calls.append((run, logdir, options))

    class RunError(ValueError):
        pass

    inspection = types.SimpleNamespace(evaluate=inspect, imagine=inspect, RunError=RunError, FAULTS=(OSError, EOFError))
    monkeypatch.setitem(sys.modules, "dreamer.training.inspection", inspection)
    monkeypatch.setattr(training, "inspection", inspection, raising=False)
    Path("run").mkdir()
    config.load(["toy"], {"seed": "3"}).save("run/config.yaml")
    return calls, errors, RunError


def test_eval_and_imagine_hand_the_run_and_their_options_on(inspected):
    calls, _, _ = inspected
    saved = config.load_file("run/config.yaml")
    assert cli.main(["eval", "--logdir", "run"]) == 0
    assert (
        cli.main(["eval", "--logdir", "run", "--episodes", "4", "--seed", "9", "--video", "x/y.mp4", "--envs.count=3"])
        == 0
    )
    assert cli.main(["imagine", "--logdir", "run", "--out", "a.gif"]) == 0
    words = ["--episodes", "2", "--horizon", "99", "--seed", "9", "--precision", "float32", "--env.worker", "false"]
    assert cli.main(["imagine", "--logdir", "run", "--out", "a.mp4", *words, "--best"]) == 0
    played = {"agent": None, "at_once": None}
    assert calls == [
        (saved, Path("run"), {"episodes": 10, "seed": 0, "best": False, "video_path": None, **played}),
        (
            saved,
            Path("run"),
            {"episodes": 4, "seed": 9, "best": False, "video_path": Path("x/y.mp4"), **played, "at_once": 3},
        ),
        (saved, Path("run"), {"episodes": 5, "horizon": 45, "seed": 0, "best": False, "out": Path("a.gif")}),
        (
            saved.replace(**{"precision": "float32", "env.worker": False}),
            Path("run"),
            {"episodes": 2, "horizon": 99, "seed": 9, "best": True, "out": Path("a.mp4")},
        ),
    ]
    assert sorted(os.listdir()) == ["run"]
    assert os.listdir("run") == ["config.yaml"]


def test_eval_hands_the_keys_of_plans_on(inspected):
    calls, _, _ = inspected
    keys = {"planner.horizon": 7, "planner.candidates": 50, "planner.best": 5, "planner.iterations": 2}
    words = [word for key, value in keys.items() for word in (f"--{key}", str(value))]
    assert cli.main(["eval", "--logdir", "run", "--agent", "planet", *words, "--planner.value", "true"]) == 0
    ((run, _, options),) = calls
    assert options["agent"] == "planet"
    assert run == config.load_file("run/config.yaml").replace(**keys, **{"planner.value": True})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["eval"], "the following arguments are required: --logdir"),
        (["eval", "--logdir", "run", "--agent", "d4pg"], "argument --agent: invalid choice: 'd4pg'"),
        (["eval", "--logdir", "run", "--planner.best", "3"], "--planner.best is about plans: it goes with --agent pl"),
        (["eval", "--logdir", "run", "--agent", "planet", "--planner.best", "0"], "--planner.best: expected a whole"),
        (["train", "--configs", "toy", "--planner.value", "true"], "planner.value needs a trained value network: it"),
        (["imagine", "--logdir", "run"], "the following arguments are required: --out"),
        (["eval", "--logdir", "nowhere"], "nowhere does not exist: expected the log directory of a run"),
        (["eval", "--logdir", "."], ". holds no config.yaml, so it is no run: below it there are half, other, run"),
        (["eval", "--logdir", "empty"], "empty holds no config.yaml, so it is no run"),
        (["eval", "--logdir", "other"], "other cannot be opened by this version of dreamer: unknown key model.size "),
        (["eval", "--logdir", "half"], "half cannot be opened by this version of dreamer: half/config.yaml: task"),
        (
            ["eval", "--logdir", "run", "--episodes", "0"],
            "argument --episodes: expected a whole number above 0, got '0'",
        ),
        (["eval", "--logdir", "run", "--seed", "-1"], "argument --seed: expected a whole number, 0 or above, got '-1'"),
        (["eval", "--logdir", "run", "--precision", "half"], "--precision: expected one of auto | float32 | bfloat16"),
        (["eval", "--logdir", "run", "--video", "a.gif"], "a.gif: expected a file that ends with .mp4"),
        (["imagine", "--logdir", "run", "--out", "a.avi"], "a.avi: expected a file that ends with .gif or .mp4"),
        (["imagine", "--logdir", "run", "--out", "run"], "run: expected a file that ends with .gif or .mp4"),
        (["imagine", "--logdir", "run", "--out", "run/config.yaml/a.gif"], "config.yaml is no directory that takes"),
        (["imagine", "--logdir", "run", "--out", "a.gif", "--horizon", "x"], "argument --horizon: expected a whole"),
    ],
)
def test_what_cannot_be_inspected(words, expected, inspected, capsys):
    calls, _, _ = inspected
    for folder in ("empty", "other", "half"):
        Path(folder).mkdir()
    text = Path("run/config.yaml").read_text()
    Path("other/config.yaml").write_text(text.replace("model:\n", "model:\n  size: 3\n"))
    Path("half/config.yaml").write_text(re.sub("task: dot.*\n", "", text))
    assert expected in complaint(capsys, words)
    assert calls == []


def test_a_run_that_learned_from_episodes_of_another_machine(inspected, capsys):
    text = Path("run/config.yaml").read_text()
    text = re.sub("task: dot", "task: robot", re.sub("source: none", "source: episodes", text))
    Path("run/config.yaml").write_text(text)
    line = complaint(capsys, ["eval", "--logdir", "run"])
    assert line.startswith("run learned from stored episodes, and there is no environment of its task to play: ")
    assert line.endswith("; run/videos has what its model imagines of episodes held out")


def test_episodes_of_a_run_need_no_import(inspected, capsys):
    Path("run/episodes").mkdir()
    line = complaint(capsys, ["import", "run", "--out", "x"])
    assert line == "run is a run, whose episodes need no other layout: `dreamer learn --from` trains from them"


def test_a_folder_of_runs_in_the_place_of_one_names_those_below_it(inspected, capsys):
    for depth in ("dreamer/0", "dreamer/1", "planet/0"):
        Path("runs/toy_dot", depth).mkdir(parents=True)
        Path("runs/toy_dot", depth, "config.yaml").write_text("")
    names = "runs/toy_dot/dreamer/0, runs/toy_dot/dreamer/1, runs/toy_dot/planet/0"
    for folder in ("runs/toy_dot", "runs"):
        expected = f"{folder} holds no config.yaml, so it is no run: below it there are {names}"
        assert complaint(capsys, ["eval", "--logdir", folder]) == expected
    for seed in range(2, 6):
        Path("runs/toy_dot/dreamer", str(seed)).mkdir()
        Path("runs/toy_dot/dreamer", str(seed), "config.yaml").write_text("")
    line = complaint(capsys, ["eval", "--logdir", "runs/toy_dot"])
    assert line.endswith("runs/toy_dot/dreamer/4, runs/toy_dot/dreamer/5 and 1 more")


def test_what_goes_wrong_while_a_run_is_inspected(inspected, capsys):
    _, errors, run_error = inspected
    for error, code, expected in (
        (run_error("run has no checkpoint yet"), 2, "run has no checkpoint yet"),
        (EOFError("the environment is gone"), 1, "the environment is gone"),
        (PermissionError(errno.EACCES, "Permission denied", "run/x"), 1, "run/x: Permission denied"),
    ):
        errors.append(error)
        assert complaint(capsys, ["eval", "--logdir", "run"], code=code) == expected


def test_general_help_and_version(capsys, started):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert cli.main([]) == 0
    assert capsys.readouterr().out == out
    assert all(f"  {command} " in out for command in cli.COMMANDS)
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"dreamer {__version__}\n"
    assert started == []


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_of_keys_fits_and_is_aligned(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    assert cli.main(["configs", "dmc"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert len({line.index("[") for line in lines if line.startswith(("  replay.", "  model.", "  task "))}) == 1


def test_the_table_of_keys_has_one_line_a_key_in_a_pipe(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("COLUMNS", raising=False)
    text = (config.CONFIGS / "defaults.yaml").read_text()
    (tmp_path / "defaults.yaml").write_text(text)
    (tmp_path / "tiny.yaml").write_text("# For tests.\nreplay:\n  batch: 3\n")
    monkeypatch.setattr(config, "CONFIGS", tmp_path)
    assert cli.main(["configs", "tiny"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for key in config.describe():
        (line,) = [line for line in lines if line[2:].split(" ")[0] == key.name]
        assert key.meaning in line
        assert line.startswith("*") == (key.name == "replay.batch")
    assert "  tiny  For tests." in lines
    assert max(map(len, lines[: lines.index("general")])) <= 120
    assert cli.main(["configs", "tiny", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    batch = next(key for key in listed["keys"] if key["key"] == "replay.batch")
    assert (batch["value"], batch["default"], batch["type"], batch["allowed"]) == (3, 50, "int", ">= 1")
    assert batch["source"] == "paper, Appendix A"
    assert listed["overlays"] == {"tiny": "For tests."}


def test_tasks_beyond_the_lists_are_told(capsys):
    assert cli.main(["tasks", "--suite", "dmlab"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "dmlab"
    assert lines[14].startswith("  any other level by its full name")
    assert lines[16] == "dmlab, not in the paper"
    assert cli.main(["tasks", "--suite", "gym"]) == 0
    assert "MODULE:ID" in capsys.readouterr().out
    assert cli.main(["tasks", "--suite", "toy"]) == 0
    assert capsys.readouterr().out == "toy\n  dot\n  dot_discrete\n"


def test_a_suite_that_is_not_installed_starts_nothing(started, capsys, monkeypatch):
    monkeypatch.setattr(envs, "missing", lambda suite: f"the suite {suite} needs a module")
    assert complaint(capsys, ["--configs", "dmlab"]) == "the suite dmlab needs a module"
    assert started == []
    assert not Path("runs").exists()


def test_names_of_levels_make_one_folder(started, monkeypatch):
    monkeypatch.setattr(envs, "missing", lambda suite: None)
    assert cli.main(["--configs", "dmlab", "--task", "contributed/dmlab30/language_execute_random_task"]) == 0
    assert started[0][1] == Path("runs/dmlab_contributed_dmlab30_language_execute_random_task/dreamer/0")


def test_tasks_by_suite(capsys):
    assert cli.main(["tasks", "--suite", "dmc"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "dmc"
    assert lines[lines.index("") - 1] == "  walker_walk"
    assert lines.index("") == 21


def test_plot_passes_everything_on_and_tells_bad_input(capsys, monkeypatch):
    calls = []

    def main_figure(runs, out, **options):
        if not runs[0].name.startswith("a"):
            raise ValueError(f"{runs[0]} holds no run")
        calls.append((runs, out, options))
        return [out / "dmc.png", out / "dmc.pdf"]

    from dreamer import results

    plot = types.SimpleNamespace(main_figure=main_figure)
    monkeypatch.setitem(sys.modules, "dreamer.results.plot", plot)
    monkeypatch.setattr(results, "plot", plot, raising=False)
    assert cli.main(["plot", "a", "b", "--out", "figures"]) == 0
    assert capsys.readouterr().out == "figures/dmc.png\nfigures/dmc.pdf\n"
    assert complaint(capsys, ["plot", "c", "--out", "figures"]) == "c holds no run"
    words = ["plot", "a", "--tasks", "x_*", "y", "--methods", "m", "--bin", "3e4", "--published", "--out", "f"]
    assert cli.main([*words, "--group-by", "actor.lr", "folder"]) == 0
    nothing = {"tasks": None, "methods": None, "window": None, "published": None, "group_by": [], "metric": None}
    assert calls[0] == ([Path("a"), Path("b")], Path("figures"), nothing)
    published = calls[1][2].pop("published")
    assert published.methods["planet"].name == "PlaNet"
    chosen = {"tasks": ["x_*", "y"], "methods": ["m"], "window": 30_000.0, "group_by": ["actor.lr", "folder"]}
    assert calls[1] == ([Path("a")], Path("f"), {**chosen, "metric": None})
    assert cli.main(["plot", "a", "--y", "train/kl", "--out", "f"]) == 0
    assert calls[2] == ([Path("a")], Path("f"), {**nothing, "metric": "train/kl"})
    capsys.readouterr()
    line = complaint(capsys, ["plot", "a", "--y", "train/kl", "--published", "--out", "f"])
    assert line.startswith("--published goes with curves of returns: no published figure is known of metrics")
    capsys.readouterr()
    line = complaint(capsys, ["plot", "a", "--group-by", "lr", "--out", "f"])
    assert line.startswith("--group-by: unknown key --lr (command line): did you mean --model.lr or --actor.lr")


def test_plot_against_a_key(capsys, monkeypatch):
    calls = []
    from dreamer.results import against

    monkeypatch.setattr(
        against, "main_figure", lambda runs, key, out, **options: calls.append((runs, key, out, options)) or [out]
    )
    words = ["plot", "a", "--x", "behavior.horizon", "--y", "train/kl", "--tasks", "x_*", "--out", "f.png"]
    assert cli.main(words) == 0
    assert capsys.readouterr().out == "f.png\n"
    chosen = {"tasks": ["x_*"], "methods": None, "window": None, "group_by": [], "metric": "train/kl"}
    assert calls == [([Path("a")], "behavior.horizon", Path("f.png"), chosen)]
    line = complaint(capsys, ["plot", "a", "--x", "horizon", "--out", "f.png"])
    assert line == "--x: unknown key --horizon (command line): did you mean --behavior.horizon or --planner.horizon?"
    line = complaint(capsys, ["plot", "a", "--x", "actor.lr", "--published", "--out", "f.png"])
    assert line.startswith("--published goes with curves of returns: no published figure is known for values of a key")


@pytest.mark.parametrize("value", ["0", "-1", "1e-9", "1e16", "nan", "inf", "3x"])
def test_a_window_that_is_no_number_of_frames(value, capsys):
    expected = f"argument --bin: expected a number of frames from 1 to 1e15, got {value!r} (see `dreamer plot --help`)"
    assert complaint(capsys, ["plot", "a", "--out", "f", f"--bin={value}"]) == expected


def test_scores_of_a_run(capsys, tmp_path):
    run = {"task": "dmc_cheetah_run", "method": "dreamer", "seed": 0, "xs": [1000, 105_000], "ys": [1.0, 50.0]}
    (tmp_path / "scores.json").write_text(json.dumps(run))
    assert cli.main(["scores", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["task", "method", "runs", "frames", "ours", "std", "published", "ratio"]
    assert lines[1].split()[:6] == ["dmc_cheetah_run", "dreamer", "1", "105,000", "50.0", "-"]
    assert cli.main(["scores", str(tmp_path), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["task"], row["frames"], row["returns"], row["std"]) == ("dmc_cheetah_run", 105_000, [50.0], None)
    assert complaint(capsys, ["scores", str(tmp_path), "--tasks", "walker_walk"]) == (
        "no run of the task 'walker_walk': there are dmc_cheetah_run"
    )


def test_scores_of_runs_with_different_settings(capsys, tmp_path):
    for seed, overlays in enumerate(([], ["small"])):
        config.load(["dmc", *overlays], {"seed": str(seed)}).save(tmp_path / "config.yaml")
        run = {"task": "dmc_cheetah_run", "method": "dreamer", "seed": seed, "xs": [1000], "ys": [1.0]}
        (tmp_path / "scores.json").write_text(json.dumps(run))
        (tmp_path / str(seed)).mkdir()
        for name in ("config.yaml", "scores.json"):
            (tmp_path / name).rename(tmp_path / str(seed) / name)
    assert cli.main(["scores", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "* a mean over runs with different settings" in out.splitlines()
    assert err.startswith("warning: dmc_cheetah_run, dreamer: runs with different settings are averaged: ")
    assert err.count("\n") == 1
    assert "model.deter 200 or 128" in err
    assert "seed" not in err
    assert cli.main(["scores", str(tmp_path), "--json"]) == 0
    out, err_again = capsys.readouterr()
    assert json.loads(out)[0]["mixed_settings"]["model.deter"] == [200, 128]
    assert err_again == err
    assert cli.main(["scores", str(tmp_path / "0")]) == 0
    assert capsys.readouterr().err == ""
    assert cli.main(["scores", str(tmp_path), "--json", "--group-by", "model.deter"]) == 0
    out, err = capsys.readouterr()
    assert [row["method"] for row in json.loads(out)] == ["dreamer, model.deter 128", "dreamer, model.deter 200"]
    assert err == ""


def run(*words, **variables) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    return subprocess.run([sys.executable, *words], env={**environment, **variables}, capture_output=True, text=True)


def test_the_module_is_the_command(tmp_path):
    good = run("-m", "dreamer", "configs")
    assert (good.returncode, good.stderr) == (0, "")
    assert "\x1b" not in good.stdout
    bad = run("-m", "dreamer", "--sede", "1", "--logdir", str(tmp_path))
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr == "dreamer: unknown key --sede (command line): did you mean --seed?\n"
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_leaves_early_is_no_error():
    command = f"set -o pipefail; {sys.executable} -m dreamer configs | head -1 >/dev/null"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_leaves_in_the_midst_of_the_work_is_told():
    """Of a command that prints while it works, in the place of one that only shows something."""
    program = "import sys; from dreamer.cli import main\n"
    program += "main.COMMANDS['tasks'] = (lambda words: print('a line', flush=True), '')\n"
    program += "sys.exit(main.main(['tasks']))"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", program], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "dreamer: whoever read what this prints has left\n")


def test_the_precision_of_an_inspection_is_the_runs_unless_another_is_asked_for(inspected, monkeypatch):
    """One that this machine only emulates will do: some episodes are not a training."""
    asked = []
    monkeypatch.setattr(tensorflow, "set_up", lambda precision, **options: asked.append((precision, options)))
    for command in (["eval"], ["imagine", "--out", "a.gif"]):
        assert cli.main([*command, "--logdir", "run"]) == 0
        assert cli.main([*command, "--logdir", "run", "--precision", "float32"]) == 0
    of_run, as_asked = ({"of_run": of_run, "emulate": True} for of_run in (True, False))
    assert asked == [("auto", of_run), ("float32", as_asked)] * 2


def test_precision_and_environment_before_the_loop():
    code = """
import os
del os.environ["TF_ENABLE_ONEDNN_OPTS"]
from dreamer.cli import tensorflow
tensorflow.set_up("bfloat16")
tensorflow.set_up("float16", of_run=True)
tensorflow.set_up("bfloat16", of_run=True)
import keras
layer = keras.layers.Dense(2)
layer.build((3, 2))
names = ("KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL", "TF_FORCE_GPU_ALLOW_GROWTH", "TF_ENABLE_ONEDNN_OPTS")
print(layer.compute_dtype, layer.variable_dtype, *(os.environ[name] for name in names))
import gc
print(gc.isenabled(), gc.get_freeze_count() > 100_000)
"""
    done = run("-c", code, KERAS_BACKEND="torch", TF_CPP_MIN_LOG_LEVEL="2", TF_ENABLE_ONEDNN_OPTS="0")
    assert done.returncode == 0, done.stderr
    asked, emulated, of_run, last, collector = done.stdout.splitlines()
    assert asked.startswith("precision bfloat16: as asked for")
    assert emulated.startswith("precision float16: that of the run, but ")
    assert of_run.startswith("precision bfloat16: that of the run")
    assert last == "bfloat16 float32 tensorflow 2 true 1"
    assert collector == "True True"


def test_learn_imports_tensorflow_as_train_does():
    code = """
import os
from dreamer import config, stops
from dreamer.cli import learn
learn._settings = lambda given, logdir: config.load(["toy", "debug"])
learn.go_on = lambda *arguments, kind: print(kind.__name__, os.environ["TF_FORCE_GPU_ALLOW_GROWTH"])
learn.learn(["--logdir", "anywhere"], None)
import keras
print(keras.backend.backend())
"""
    done = run("-c", code, KERAS_BACKEND="torch")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["Offline", "true", "tensorflow"]
    assert not done.stderr


def test_a_gpu_that_tensorflow_does_not_see_is_told_first(monkeypatch, capsys, precision):
    precision("float32")  # and back to what it was, after the test
    monkeypatch.setattr(hardware, "unseen_gpu", lambda tensorflow: f"unseen by {tensorflow}")
    monkeypatch.setattr(hardware, "gpu_capabilities", lambda: [])
    tensorflow.set_up("float32")
    line = "precision float32: as asked for"
    assert capsys.readouterr().out.splitlines() == [f"unseen by {importlib.metadata.version('tensorflow')}", line]
    monkeypatch.setattr(hardware, "gpu_capabilities", lambda: [(9, 0)])
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    tensorflow.set_up("float32")
    assert capsys.readouterr().out.splitlines() == [line]
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "false")
    tensorflow.set_up("float32")
    told, last = capsys.readouterr().out.splitlines()
    assert told.startswith('TF_FORCE_GPU_ALLOW_GROWTH is "false" instead of "true": TensorFlow takes all memory')
    assert last == line


@pytest.mark.parametrize(("precision", "flags"), [("bfloat16", ()), ("float16", ("avx512_bf16",))])
def test_a_resume_does_not_emulate_a_precision_unasked(precision, flags, monkeypatch):
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset(flags))
    monkeypatch.setattr(hardware, "gpu_capabilities", lambda: [])
    with pytest.raises(arguments.UsageError) as error:
        tensorflow.set_up(precision, emulate=False)
    assert str(error.value) == (
        f"this run computes in {precision}, which this machine only emulates: --precision {precision} goes on so, "
        "slowly; --precision float32 --resume.allow precision changes its arithmetic from here on"
    )
