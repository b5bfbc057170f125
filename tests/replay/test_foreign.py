"""Episodes of other layouts: what becomes of every row, and what is refused."""

import io
import json

import h5py
import numpy as np
import pytest
from PIL import Image

from dreamer.cli.main import main
from dreamer.replay import foreign
from dreamer.replay.convert import Refused
from dreamer.replay.episodes import load, stored_paths

T = 6


def images(count=T, size=64, channels=3, first=0):
    """Images that tell their row, by their level."""
    rows = np.arange(first, first + count, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(rows, (count, size, size, channels)).copy()


def published(terminal=False, gamma=1.0, **changes):
    """An episode as the agents' TF2 release stores it in half precision; row t has t as its image and reward."""
    step = np.arange(T)
    discount = np.full(T, gamma, np.float16)
    discount[-1] = 0 if terminal else gamma
    action = np.stack([step / 16, -step / 16], 1).astype(np.float16)
    episode = {"image": images(), "action": action, "reward": step.astype(np.float16), "discount": discount}
    return {key: value for key, value in (episode | changes).items() if value is not None}


def transitions(count=T, **changes):
    """Transitions of a user's: row t has the image t, and the action and the reward that follow from it, t + 1."""
    step = np.arange(count)
    arrays = {
        "observations": images(count),
        "actions": np.stack([(step + 1) / 16, -(step + 1) / 16], 1).astype(np.float32),
        "rewards": (step + 1).astype(np.float64),
        "terminals": np.zeros(count, bool),
        "timeouts": step == count - 1,
    }
    return {key: value for key, value in (arrays | changes).items() if value is not None}


@pytest.fixture
def take(tmp_path, capsys):
    """take(source, *words): (exit code, what `dreamer import` printed, error, the episodes)."""

    def run(source, *words):
        code = main(["import", str(source), "--out", str(tmp_path / "out"), *words])
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err, [load(path) for path in stored_paths(tmp_path / "out")]

    return run


def check_rows(episode, length=T, terminal=False):
    """Row t of ours: the image t, and the action and reward t that led there."""
    step = np.arange(length)
    np.testing.assert_array_equal(episode["image"], images(length))
    np.testing.assert_array_equal(episode["action"], np.stack([step / 16, -step / 16], 1))
    np.testing.assert_array_equal(episode["reward"], step)
    np.testing.assert_array_equal(episode["is_first"], step == 0)
    np.testing.assert_array_equal(episode["is_last"], step == length - 1)
    np.testing.assert_array_equal(episode["is_terminal"], (step == length - 1) & terminal)
    np.testing.assert_array_equal(episode["discount"], 1.0 - episode["is_terminal"])
    assert episode["reward"].dtype == episode["action"].dtype == np.float32


# Dreamer's and PlaNet's files.


@pytest.mark.parametrize(
    ("changes", "terminal"),
    [
        ({}, False),
        ({"terminal": True}, True),
        ({"gamma": 0.99}, False),
        ({"gamma": 0.99, "terminal": True}, True),
        ({"discount": None}, False),  # PlaNet
        ({"discount": None, "is_terminal": np.arange(T) == T - 1}, True),
    ],
)
def test_rows_of_the_published_agents_stay_rows(take, tmp_path, changes, terminal):
    np.savez_compressed(tmp_path / "20191111T103216-ab12-6.npz", **published(**changes))
    code, said, _, episodes = take(tmp_path)
    assert code == 0
    assert said[0].startswith("took 20191111T103216-ab12-6.npz: 5 steps, ")
    assert ("no terminal" in said[0]) is not terminal
    assert said[-1].endswith("1 episodes, 5 steps taken as dreamer; 0 refused")
    check_rows(episodes[0], terminal=terminal)


def test_files_keep_their_order_their_other_observations_and_their_frames(take, tmp_path):
    for number in (2, 1):
        reward = np.r_[0, np.full(T - 1, number)].astype(np.float16)
        velocity = np.full((T, 3), number, np.float16)
        height = np.full(T, number, np.float32)
        word = np.array(["x"] * T)
        told = {"info.x": np.r_[np.nan, np.arange(1, T)].astype(np.float32)}  # of an episode of ours
        arrays = published(reward=reward, velocity=velocity, height=height, word=word, **told)
        np.savez(tmp_path / f"2020010{number}T000000-x-6.npz", **arrays)
    code, said, _, episodes = take(tmp_path, "--action_repeat", "2")
    assert [path.name for path in stored_paths(tmp_path / "out")] == ["0000000000-6.npz", "0000000010-6.npz"]
    assert [episode["reward"][1] for episode in episodes] == [1, 2]
    np.testing.assert_array_equal(episodes[1]["velocity"], np.full((T, 3), 2, np.float32))
    assert episodes[1]["height"].shape == (T, 1)
    np.testing.assert_array_equal(episodes[1]["info.x"], [np.nan, *range(1, T)])
    assert "word" not in episodes[0]
    assert "(word left out)" in said[0]
    assert code == 0


def test_indices_become_one_hot_vectors_and_grey_images_of_84_pixels_images_of_ours(take, tmp_path):
    action = np.array([0, 3, 0, 1, 2, 3])
    np.savez(tmp_path / "game.npz", **published(action=action, image=images(size=84, channels=1)))
    _, said, _, (episode,) = take(tmp_path / "game.npz", "--choices", "4")
    np.testing.assert_array_equal(episode["action"][1:], np.eye(4)[action[1:]])
    assert not episode["action"][0].any()
    np.testing.assert_array_equal(episode["image"], images())
    assert "images of 84x84 resized to 64x64; one channel repeated as three" in said[0]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"action": np.full((T, 2), 0.5)}, "first row has an action or a reward"),
        ({"reward": np.ones(T)}, "first row has an action or a reward"),
        ({"discount": np.array([1, 1, 0, 1, 1, 1.0])}, "discount says that row 2 of 6 is terminal, before the last"),
        ({"terminal": True, "is_terminal": np.zeros(T, bool)}, "discount and is_terminal differ"),
        ({"is_first": np.arange(T) % 3 == 0}, "holds several episodes"),
        ({"reward": np.r_[0, np.nan, np.ones(T - 2)]}, "reward has values that are not finite"),
        ({"action": np.arange(2 * T).reshape(T, 2) * 1.0}, "action reaches 11"),
        ({"action": np.arange(T)}, "actions are indices: --choices N"),
        ({"image": images() / 2}, "floating-point numbers beyond 0..1"),
        ({"image": images(channels=4)}, "expected 1 or 3 channels"),
        ({"image": images()[:-1]}, "image has 5 rows, reward has 6"),
        ({"image": np.zeros((T, 3, 64, 3), np.uint8)}, "which axis has the channels cannot be told"),
        ({"image": np.zeros((T, 7))}, "expected images [L, H, W, 3]"),
        ({"image": np.array([{}] * T)}, "cannot be read: Object arrays"),
        ({key: values[:0] for key, values in published().items()}, "expected at least 2 rows"),
        ({"reward": np.float32(1)}, "reward has shape ()"),
        ({"reward": np.array(["a"] * T)}, "reward is <U1, expected numbers"),
        ({"is_terminal": np.array(["a"] * T)}, "is_terminal is <U1, expected numbers"),
        ({"is_first": np.float32(1)}, "cannot be understood"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_the_other_files_are_taken(take, tmp_path, changes, why):
    np.savez(tmp_path / "1.npz", **published())
    np.savez(tmp_path / "2.npz", **published(**changes))
    (tmp_path / "3.npz").write_bytes((tmp_path / "1.npz").read_bytes()[:-300])
    code, said, _, episodes = take(tmp_path)
    assert code == 0
    assert said[0].startswith("took 1.npz")
    assert said[1].startswith("refused 2.npz: ")
    assert why in said[1]
    assert said[2].startswith("refused 3.npz: cannot be read: ")
    assert said[3].endswith("1 episodes, 5 steps taken as dreamer; 2 refused")
    check_rows(episodes[0])
    assert len(said) == 4


def test_an_action_of_another_width_is_refused(take, tmp_path):
    np.savez(tmp_path / "1.npz", **published())
    np.savez(tmp_path / "2.npz", **published(action=np.zeros((T, 3))))
    _, said, _, episodes = take(tmp_path)
    assert said[1] == "refused 2.npz: action is 3 wide, those stored are 2"
    assert len(episodes) == 1


def test_images_may_have_another_side(take, tmp_path):
    np.savez(tmp_path / "1.npz", **published(image=images(size=64)))
    code, said, _, (episode,) = take(tmp_path, "--size", "96")
    assert code == 0
    assert "images of 64x64 resized to 96x96" in said[0]
    np.testing.assert_array_equal(episode["image"], images(size=96))


# Arrays of transitions.


def test_actions_that_follow_from_an_image_move_to_the_one_they_led_to(take, tmp_path):
    arrays = transitions(next_observations=images(first=1), terminals=np.arange(T) == T - 1, timeouts=None)
    np.savez(tmp_path / "d4rl.npz", **arrays)
    code, said, _, (episode,) = take(tmp_path / "d4rl.npz")
    assert (code, said[0]) == (0, f"took d4rl.npz: {T} steps, a terminal at the end")
    check_rows(episode, T + 1, terminal=True)


def test_without_the_image_after_it_the_last_action_is_left_out_and_that_is_said(take, tmp_path):
    np.savez(tmp_path / "d4rl.npz", **transitions(terminals=np.arange(T) == T - 1))
    _, said, _, (episode,) = take(tmp_path)
    assert "the image after its last action is missing" in said[0]
    check_rows(episode, T)


def test_episodes_of_one_file_are_told_apart_by_terminals_and_time_limits(take, tmp_path):
    step = np.arange(12)
    arrays = transitions(12, terminals=step == 3, timeouts=step == 7, next_observations=images(12, first=1))
    np.savez(tmp_path / "all.npz", **arrays)
    _, said, _, episodes = take(tmp_path)
    assert [line.split(":")[0] for line in said[:3]] == [
        f"took all.npz rows {rows}" for rows in ("0..3", "4..7", "8..11")
    ]
    assert [list(episode["reward"]) for episode in episodes] == [
        [0, 1, 2, 3, 4],
        [0, 5, 6, 7, 8],
        [0, 9, 10, 11, 12],
    ]
    assert [list(episode["image"][:, 0, 0, 0]) for episode in episodes] == [
        [0, 1, 2, 3, 4],
        [4, 5, 6, 7, 8],
        [8, 9, 10, 11, 12],
    ]
    assert [bool(episode["is_terminal"][-1]) for episode in episodes] == [True, False, False]


def test_a_file_with_one_image_more_is_one_episode_and_keys_may_have_any_name(take, tmp_path):
    arrays = transitions(terminals=None, timeouts=None, observations=None) | {"camera": images(T + 1) / np.float32(255)}
    arrays["camera"] = np.moveaxis(arrays["camera"], 3, 1)
    arrays["motor"], arrays["gain"] = arrays.pop("actions"), arrays.pop("rewards")
    np.savez(tmp_path / "robot.npz", **arrays)
    _, said, _, (episode,) = take(tmp_path, "--image", "camera", "--action", "motor", "--reward", "gain")
    check_rows(episode, T + 1)
    assert "channels moved to the end; images scaled from 0..1 to bytes" in said[0]


@pytest.mark.parametrize(
    ("changes", "words", "why"),
    [
        ({"terminals": None, "timeouts": None}, [], "nothing tells where its episodes end"),
        ({"terminals": None, "timeouts": None, "dones": np.arange(T) == 5}, [], "nothing tells where its episodes end"),
        ({"actions": None}, [], "has no actions among"),
        ({"image": images()}, [], "has image, observations: --image KEY says which one it is"),
        ({}, ["--image", "camera"], "has no camera among"),
        ({key: values[:0] for key, values in transitions().items()}, [], "holds no transitions"),
        ({"terminals": np.float32(0)}, [], "holds no transitions"),
        ({"timeouts": np.array(["a"] * T)}, [], "timeouts is <U1, expected numbers"),
        ({"rewards": np.zeros(3)}, [], "rewards has 3 rows, actions has 6"),
        ({"observations": images(T + 1), "timeouts": np.arange(T) == 2}, [], "one image more than actions"),
    ],
)
def test_arrays_that_may_mean_several_things_are_refused_and_nothing_is_left(take, tmp_path, changes, words, why):
    np.savez(tmp_path / "a.npz", **transitions(**changes))
    code, said, error, _ = take(tmp_path, *words)
    assert code == 2
    assert said[0].startswith("refused a.npz: ")
    assert why in said[0]
    assert error == f"dreamer: nothing of {tmp_path} could be taken\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz"]


# Minari.


def minari(folder, spaces=None, observations=None, **changes):
    """A data set of two episodes as the package writes it, checked against the package once."""
    (folder / "data").mkdir()
    (folder / "data" / "metadata.json").write_text(json.dumps({"data_format": "hdf5"} | (spaces or {})))
    with h5py.File(folder / "data" / "main_data.hdf5", "w") as file:
        for number in range(2):
            group = file.create_group(f"episode_{number}")
            arrays = transitions(timeouts=None, terminals=None, observations=None)
            arrays |= {"terminations": np.arange(T) == (T - 1 if number else -1), "truncations": np.arange(T) == T - 1}
            for key, values in (arrays | changes).items():
                group.create_dataset(key, data=values)
            for key, values in (observations or {"observations": images(T + 1)}).items():
                group.create_dataset(key, data=values)
    return folder


def test_a_minari_data_set(take, tmp_path):
    _, said, _, episodes = take(minari(tmp_path))
    assert said[:2] == [
        f"took main_data.hdf5 episode_0: {T} steps, no terminal at the end",
        f"took main_data.hdf5 episode_1: {T} steps, a terminal at the end",
    ]
    check_rows(episodes[0], T + 1)
    check_rows(episodes[1], T + 1, terminal=True)


def test_what_a_minari_data_set_says_of_its_actions_counts(take, tmp_path):
    spaces = {"action_space": json.dumps({"type": "Discrete", "dtype": "int64", "start": 0, "n": 3})}
    observations = {"observations/pixels": images(T + 1), "observations/state": np.zeros((T + 1, 4))}
    minari(tmp_path, spaces, observations, actions=np.arange(T) % 3)
    _, _, _, episodes = take(tmp_path)
    np.testing.assert_array_equal(episodes[0]["action"][1:], np.eye(3)[np.arange(T) % 3])
    np.testing.assert_array_equal(episodes[0]["image"], images(T + 1))


def test_bounds_of_actions_are_scaled_to_ours(take, tmp_path):
    box = {"type": "Box", "dtype": "float32", "shape": [2], "low": [0.0, -2.0], "high": [4.0, 2.0]}
    minari(tmp_path, {"action_space": json.dumps(box)}, actions=np.tile([[4.0, -1.0]], (T, 1)))
    _, said, _, episodes = take(tmp_path)
    np.testing.assert_array_equal(episodes[0]["action"][1:], np.tile([[1.0, -0.5]], (T, 1)))
    assert "actions scaled to -1..1" in said[0]


@pytest.mark.parametrize("padded", [True, False])
def test_images_that_minari_has_encoded(take, tmp_path, padded):
    files = []
    for image in images(T + 1):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=100)
        files.append(np.frombuffer(file.getvalue(), np.uint8))
    if padded:
        longest = max(map(len, files))
        rows = np.stack([np.pad(row, (0, longest - len(row))) for row in files])
        minari(tmp_path, observations={"observations/pixels": rows, "observations/state": np.zeros((T + 1, 3))})
    else:
        minari(tmp_path)
        with h5py.File(tmp_path / "data" / "main_data.hdf5", "a") as file:
            for number in range(2):
                del file[f"episode_{number}/observations"]
                kind = h5py.vlen_dtype(np.uint8)
                file.create_dataset(f"episode_{number}/observations", (T + 1,), kind)[...] = files
    _, said, _, episodes = take(tmp_path)
    assert "images decoded from JPEG" in said[0]
    np.testing.assert_allclose(episodes[1]["image"].astype(int), images(T + 1), atol=1)


def test_a_minari_data_set_of_another_form_is_named(take, tmp_path):
    (minari(tmp_path) / "data" / "main_data.hdf5").unlink()
    code, _, error, _ = take(tmp_path)
    assert code == 2
    assert "a Minari data set that is not kept as HDF5" in error


@pytest.mark.parametrize(
    ("observations", "why"),
    [
        ({"observations/a": images(T + 1), "observations/b": images(T + 1)}, "2 of its observations a, b are images"),
        ({"observations/state": np.zeros((T + 1, 4))}, "0 of its observations state are images"),
        ({"observations": images(T)}, "has 6 observations and 6 rewards"),
    ],
)
def test_a_minari_data_set_without_the_images_is_refused(take, tmp_path, observations, why):
    code, said, _, _ = take(minari(tmp_path, observations=observations))
    assert code == 2
    assert why in said[0]


# The command.


def test_a_folder_that_holds_something_is_not_written_to(take, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "note").touch()
    np.savez(tmp_path / "1.npz", **published())
    code, _, error, _ = take(tmp_path / "1.npz")
    assert code == 2
    assert "exists already: expected a new folder" in error
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["note"]


def test_a_source_of_no_layout_and_one_that_is_not_there(take, tmp_path):
    assert take(tmp_path / "gone")[0] == 2
    (tmp_path / "empty").mkdir()
    code, _, error, _ = take(tmp_path / "empty")
    assert code == 2
    assert "neither .npz files nor a Minari data set" in error
    np.savez(tmp_path / "both.npz", **published(), **transitions())
    code, _, error, _ = take(tmp_path / "both.npz")
    assert code == 2
    assert "keys of several layouts" in error


def test_an_import_that_is_interrupted_leaves_no_folder(tmp_path, monkeypatch):
    from dreamer.replay import episodes

    for number in range(3):
        np.savez(tmp_path / f"{number}.npz", **published())
    add, count = episodes.EpisodeStore.add, []

    def stop(store, episode):
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return add(store, episode)

    monkeypatch.setattr(episodes.EpisodeStore, "add", stop)
    with pytest.raises(KeyboardInterrupt):
        main(["import", str(tmp_path), "--out", str(tmp_path / "out")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.npz", "1.npz", "2.npz"]


def test_names_of_ones_own_leave_no_guess_about_which_image_an_action_belongs_to(tmp_path):
    rows = np.zeros((4, 64, 64, 3), np.uint8)
    np.savez(tmp_path / "one.npz", rgb=rows, action=rows[:, 0, 0], reward=np.zeros(4), is_first=np.arange(4) == 0)
    with pytest.raises(Refused, match="one.npz has is_first, .*--format dreamer or --format arrays says which it is"):
        foreign.format_of(tmp_path, {"image": "rgb"})
    assert foreign.format_of(tmp_path, {}) == "arrays"
