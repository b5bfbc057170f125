"""Training from stored episodes alone: what is learned from, what comes out, and that it resumes exactly."""

import contextlib
import hashlib
import os
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf

import dreamer
from dreamer import config
from dreamer.agents import RunError
from dreamer.cli.main import main
from dreamer.replay.episodes import EpisodeStore
from dreamer.run import commits, lock, settings
from dreamer.stops import Stopped, Stops
from dreamer.training import inspection, loop, offline
from dreamer.types import ActionSpace, Space
from tests.training.test_resume import lines

KEYS = {
    "precision": "float32",
    "seed": "5",
    "steps": "10",
    "env.action_repeat": "2",
    "replay.batch": "2",
    "replay.length": "5",
    "replay.tanh_rewards": "true",
    "loop.train_every": "24",
    "loop.train_updates": "3",
    "loop.eval_every": "50",
    "loop.save_every": "24",
    "learn.hold_out": "4",
}


def fill(folder, count=9, length=13, discrete=False, size=64, terminal=None):
    """Episodes, of which number `terminal` ends in one, whose images tell which one it is, in their first channel."""
    rng = np.random.default_rng(0)
    store = EpisodeStore(folder, action_repeat=2, inputs={"image": Space((size, size, 3), "uint8")})
    for number in range(count):
        step = np.arange(length)
        image = rng.integers(0, 256, (length, size, size, 3)).astype(np.uint8)
        image[..., 0] = number
        action = rng.uniform(-1, 1, (length, 2)).astype(np.float32)
        if discrete:
            action = np.eye(2, dtype=np.float32)[rng.integers(2, size=length)]
        action[0] = 0
        store.add(
            {
                "image": image,
                "action": action,
                "reward": np.where(step > 0, rng.normal(size=length), 0).astype(np.float32),
                "discount": 1 - ((step == length - 1) & (number == terminal)).astype(np.float32),
                "is_first": step == 0,
                "is_last": step == length - 1,
                "is_terminal": (step == length - 1) & (number == terminal),
                "position": rng.normal(size=(length, 3)).astype(np.float32),
            }
        )
    return folder


class Killed(BaseException):
    """As kill -9: nothing of ours runs after it."""


class Countdown(Stops):
    """A stop that arrives when the loop looks for one for the n-th time: politely, or as kill -9."""

    def __init__(self, looks=10**9, kill=False):
        self.left, self.kill, self.came = looks, kill, False

    @property
    def signal(self):
        self.left -= 1
        if self.left >= 0:
            return None
        if self.kill and not self.came:
            self.came = True
            raise Killed
        return signal.SIGTERM


def learn(source, logdir, stops=None, **keys):
    run = config.load(["toy", "debug"], KEYS | {"learn.source": str(source)} | keys)
    with lock.exclusive(logdir):
        return loop.train(settings.agree(run, logdir), logdir, stops or Countdown(), kind=offline.Offline)


def left_behind(logdir):
    newest = commits.Commits(logdir / "checkpoints").newest(print)
    reader = tf.train.load_checkpoint(str(newest.folder / commits.WEIGHTS))
    names = [name for name in reader.get_variable_to_shape_map() if not name.startswith("_")]
    return {
        "metrics": lines(logdir / "metrics.jsonl"),
        "open loop": lines(logdir / "open_loop.jsonl"),
        "weights": {name: reader.get_tensor(name).tobytes() for name in names},
        "state": {key: value for key, value in newest.state.items() if key not in ("checksums", "sizes")},
        "videos": sorted(path.name for path in (logdir / "videos").iterdir()),
    }


def hashes(folder):
    return {
        str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        for path in [folder, *sorted(folder.rglob("*"))]
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = fill(tmp_path_factory.mktemp("source") / "episodes")
    (folder / "0000000216-13.npz.tmp").write_bytes(b"being written by the run that these are of")
    (folder / "other.npz").write_bytes(b"of the user's")
    return folder


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """A run of 10 updates, the episodes that its batches were of, and the source before and after."""
    logdir, seen, before = tmp_path_factory.mktemp("runs") / "whole", set(), hashes(source)
    with pytest.MonkeyPatch.context() as patch:
        read_rows = EpisodeStore.read_rows

        def note(store, stored, start, out, **options):
            if "image" in out:
                seen.add(stored.first_frame // 24)
            return read_rows(store, stored, start, out, **options)

        patch.setattr(EpisodeStore, "read_rows", note)
        assert learn(source, logdir) == 0
    return logdir, seen, before, hashes(source)


def test_rounds_metrics_errors_and_states_come_as_in_any_run(whole):
    logdir, _, _, _ = whole
    metrics = lines(logdir / "metrics.jsonl")
    assert [(line["step"], line["train/updates"]) for line in metrics if "train/updates" in line] == [
        (3, 3),
        (6, 6),
        (9, 9),
        (10, 10),
    ]
    errors = [line for line in metrics if "eval/open_loop_image_error" in line]
    assert [line["step"] for line in errors] == [6, 10]  # every 50 frames at 24 a round: every 2 rounds, and at the end
    assert errors[0]["eval/open_loop_image_error"] != errors[1]["eval/open_loop_image_error"] > 0
    assert errors[0]["eval/repeat_frame_image_error"] == errors[1]["eval/repeat_frame_image_error"] > 0
    assert [len(line["image"]) for line in lines(logdir / "open_loop.jsonl")] == [13 - 5] * 2
    state = commits.Commits(logdir / "checkpoints").newest(print).state
    assert (state["stage"], state["frames"], state["updates"]) == ("finished", 10, 10)
    assert not (logdir / "episodes").exists()


def test_held_out_episodes_are_not_learned_from(whole):
    _, seen, _, _ = whole
    assert seen <= {0, 1, 2, 4, 5, 6, 8}
    assert len(seen) > 4


def test_nothing_is_written_where_the_episodes_are(whole):
    _, _, before, after = whole
    assert before == after


def test_in_pieces_it_ends_as_the_whole_one_whatever_the_source_collects_meanwhile(source, whole, tmp_path):
    growing = tmp_path / "episodes"
    shutil.copytree(source, growing)
    generator = np.random.default_rng(1)
    for piece in range(4):
        stops = Countdown(int(generator.integers(1, 9)), kill=piece % 2)
        # Stopped: in the first update of the process, before which all is committed
        with contextlib.suppress(Killed, Stopped):
            assert learn(growing, tmp_path / "run", stops) == 143
        fill(growing, count=1)
    assert len(list(growing.glob("*-13.npz"))) == 13
    assert learn(growing, tmp_path / "run") == 0
    first, second = left_behind(tmp_path / "run"), left_behind(whole[0])
    for name in first:
        assert first[name] == second[name], name


def test_a_source_that_lost_an_episode_is_refused_and_the_run_left_as_it_is(source, whole, tmp_path, capsys):
    lacking, logdir = tmp_path / "episodes", tmp_path / "run"
    shutil.copytree(source, lacking)
    assert learn(lacking, logdir, steps="3") == 0
    (lacking / "0000000024-13.npz").unlink()
    before = hashes(logdir)
    assert learn(lacking, logdir) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "has 8 episodes with 96 steps of those that" in said
    assert "learns from, 9 with 108: put its files back" in said
    after = hashes(logdir)
    assert {name: after[name] for name in before if not name.endswith(".lock") and name != str(logdir)} == {
        name: value for name, value in before.items() if not name.endswith(".lock") and name != str(logdir)
    }


def test_a_larger_number_of_updates_goes_on_and_a_smaller_one_says_that_there_are_enough(
    whole, tmp_path, source, capsys
):
    logdir = tmp_path / "run"
    shutil.copytree(whole[0], logdir)
    assert learn(source, logdir) == 0
    assert "is finished at 10 updates. A larger --updates goes on from there." in capsys.readouterr().out
    assert learn(source, logdir, steps="13") == 0
    steps = [line["step"] for line in lines(logdir / "metrics.jsonl") if "train/updates" in line]
    assert steps == [3, 6, 9, 10, 12, 13]


def test_what_comes_out_opens_as_any_run(whole, capsys, tmp_path):
    logdir = whole[0]
    run = config.load_file(logdir / "config.yaml")
    inspection.evaluate(run, logdir, episodes=1, seed=0)
    said = capsys.readouterr().out
    assert "after 10 updates; episodes of evaluation seed 0" in said
    agent = dreamer.load(logdir)
    action, _ = agent.act(np.zeros((64, 64, 3), np.uint8), None)
    assert action.shape == (2,)
    again = tmp_path / "again"
    assert learn(run.learn.source, again, steps="1", init_from=str(logdir)) == 0


def test_a_damaged_episode_is_left_out_and_stays_where_it_is(tmp_path, capsys):
    folder = fill(tmp_path / "episodes", count=4)
    path = folder / "0000000024-13.npz"
    path.write_bytes(path.read_bytes()[:-1000])
    before = hashes(folder)
    assert learn(folder, tmp_path / "run", steps="3") == 0
    assert hashes(folder) == before
    said = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert len(said) == 1
    assert said[0].startswith(f"replay: {path} cannot be read as an episode: ")


def test_a_start_that_fails_by_its_episodes_has_told_what_is_wrong_with_each(tmp_path, capsys):
    folder = fill(tmp_path / "episodes", count=3)
    for path in folder.glob("*.npz"):
        with np.load(path) as arrays:
            np.savez(path, **{key: arrays[key] for key in arrays.files if key != "discount"})
    with pytest.raises(RunError, match="^every episode is damaged$"):
        learn(folder, tmp_path / "run", steps="3")
    assert capsys.readouterr().err.count("discount") == 3
    assert not (tmp_path / "run").exists()


def test_what_actions_are_comes_from_the_data(tmp_path):
    space = offline.action_space(EpisodeStore(fill(tmp_path / "numbers"), action_repeat=2, read_only=True))
    assert space == ActionSpace(2, discrete=False)
    store = EpisodeStore(fill(tmp_path / "choices", discrete=True), action_repeat=2, read_only=True)
    assert offline.action_space(store) == ActionSpace(2, discrete=True)


def test_terminals_are_noticed_in_the_data(tmp_path):
    for name, terminal in (("none", None), ("one", 7)):
        store = EpisodeStore(fill(tmp_path / name, terminal=terminal), action_repeat=2)
        assert offline.end_in_terminals(store) == (terminal is not None)


def test_actions_out_of_range_are_refused_before_anything_is_written(tmp_path):
    folder = fill(tmp_path / "episodes", count=2)
    with np.load(folder / "0000000000-13.npz") as arrays:
        episode = {key: arrays[key] for key in arrays.files}
    episode["action"][3, 1] = -1.5
    np.savez(folder / "0000000000-13.npz", **episode)
    with pytest.raises(RunError, match=r"actions reach 1\.5: expected numbers in -1\.\.1"):
        learn(folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_several_choices_at_once_are_refused(tmp_path):
    folder = fill(tmp_path / "episodes", count=2, discrete=True)
    for path in folder.glob("*.npz"):
        with np.load(path) as arrays:
            episode = {key: arrays[key] for key in arrays.files}
        episode["action"] = np.concatenate([episode["action"]] * 2, 1)
        np.savez(path, **episode)
    with pytest.raises(RunError, match="several choices at once"):
        offline.action_space(EpisodeStore(folder, action_repeat=2, read_only=True))


def test_images_of_another_size_need_the_key_that_says_so(tmp_path):
    folder = fill(tmp_path / "episodes", count=2, size=32)
    with pytest.raises(RunError, match="has images of 32 pixels: --env.size says so"):
        learn(folder, tmp_path / "run")


def test_an_agent_may_learn_from_the_numbers_in_the_episodes_alone(source, tmp_path):
    """What is there beside the image comes from the episodes, as the actions do."""
    assert learn(source, tmp_path / "run", steps="3", **{"model.inputs": "position"}) == 0
    state = commits.Commits(tmp_path / "run" / "checkpoints").newest(print).state
    assert state["inputs"] == {"position": [[3], "float32"]}
    assert any("eval/open_loop_position_error" in line for line in lines(tmp_path / "run" / "metrics.jsonl"))


@pytest.mark.parametrize(("count", "every", "held_out"), [(9, 4, [3, 7]), (3, 10, [2]), (20, 10, [9, 19])])
def test_every_so_many_th_episode_is_held_out_and_at_least_one(count, every, held_out):
    episodes = tuple(range(count))
    assert offline.held_out_of(episodes, every) == held_out


def test_one_episode_is_not_enough():
    with pytest.raises(RunError, match="at least 2 are needed"):
        offline.held_out_of((0,), 10)


# What the command makes of its words, before TensorFlow is loaded.


@pytest.fixture
def asked(monkeypatch):
    """The settings with which `dreamer learn` would begin."""
    from dreamer.cli import learn as command

    runs = []
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)

    def begin(run, logdir, given, active, kind):
        assert "TF_CPP_MIN_LOG_LEVEL" in os.environ  # set before anything imported TensorFlow
        runs.append(run)
        return 0

    monkeypatch.setattr(command, "go_on", begin)
    return runs


def test_settings_are_those_of_the_run_that_the_episodes_are_of(tmp_path, asked):
    run = config.load(["toy", "debug"], {"method": "random", "seed": "3", "steps": "700", "loop.overlap": "true"})
    fill(tmp_path / "run" / "episodes")
    (tmp_path / "wide.yaml").write_text("model:\n  units: 30\n")
    run.save(tmp_path / "run" / "config.yaml")
    for words in (["--from", str(tmp_path / "run")], [f"--from={tmp_path}/run/episodes"]):
        options = ["--model.deter", "9", "--configs", str(tmp_path / "wide.yaml")]
        assert main(["learn", *words, "--logdir", str(tmp_path / "new"), *options]) == 0
    first, second = asked
    assert first == second
    assert first.learn.source == str(tmp_path / "run" / "episodes")
    assert (first.method, first.seed, first.task, first.loop.overlap) == ("dreamer", 0, "dot", False)
    assert first.model.deter == 9
    assert (first.replay.batch, first.model.units) == (run.replay.batch, 30)  # of the run, of the overlay
    # 9 episodes of 12 steps: 2 updates belong to 100 frames, and 2 more to every 50 after them.
    assert first.steps == 2 + (108 - 100) // 50 * 2


def test_the_same_command_and_a_shorter_one_go_on_with_a_run(tmp_path, asked):
    fill(tmp_path / "mine")
    words = ["learn", "--logdir", str(tmp_path / "new")]
    first = [*words, "--from", str(tmp_path / "mine"), "--task", "robot", "--configs", "debug", "--updates", "1e2"]
    assert main(first) == 0
    asked[0].replace(precision="bfloat16").save(tmp_path / "new" / "config.yaml")
    assert main(first) == 0
    assert main(words) == 0
    assert asked[0] == asked[1] == asked[2]  # the precision too: what the run has come to is not asked for
    assert (asked[0].task, asked[0].steps) == ("robot", 100)
    assert main([*words, "--updates", "200"]) == 0
    assert asked[3].steps == 200


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--logdir new", "learn needs --from FOLDER"),
        ("--from mine", "learn needs --logdir DIR"),
        ("--from gone --logdir new", "gone does not exist"),
        ("--from . --logdir ../new", "has no episodes of ours: `dreamer import`"),
        ("--from mine --logdir mine/new", "which is not written to"),
        ("--from mine --logdir mine", "which is not written to"),
        ("--from mine --logdir new", "is no run's: --task NAME"),
        ("--from mine --task robot --logdir new --steps 4", "--steps: for learn, that is --updates"),
        ("--from mine --task robot --logdir new --updates x", "--updates: expected"),
        ("--from mine --task robot --logdir new --method random", "learns nothing"),
        ("--logdir collecting --from mine", "collects its own episodes"),
    ],
)
def test_bad_words_are_one_line_and_nothing_is_made(words, said, tmp_path, monkeypatch, capsys):
    fill(tmp_path / "mine", count=2)
    (tmp_path / "collecting").mkdir()
    config.load(["toy", "debug"]).save(tmp_path / "collecting" / "config.yaml")
    monkeypatch.chdir(tmp_path)
    before = hashes(tmp_path)
    assert main(["learn", *words.split()]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert hashes(tmp_path) == before


def test_train_does_not_take_such_a_run_for_one_of_its_own(tmp_path):
    run = config.load(["toy", "debug"], {"learn.source": str(tmp_path)})
    with pytest.raises(RunError, match="dreamer learn --from FOLDER"):
        loop.work(settings.agree(run, tmp_path / "run"), tmp_path / "run", Countdown())
