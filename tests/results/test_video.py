import os
import resource
import signal

import imageio.v2 as imageio
import numpy as np
import pytest
from PIL import Image

from dreamer.results import video


def make_frames(steps=6, height=64, width=64):
    """Smooth frames, each of its own: a blue gradient with a red square that moves down."""
    frames = np.zeros((steps, height, width, 3), np.uint8)
    frames[..., 2] = np.linspace(50, 200, width)
    for step in range(steps):
        frames[step, step * height // steps :][: height // 4, : width // 2] = (220, 40, 40)
    return frames


def read_mp4(path):
    with imageio.get_reader(path, format="FFMPEG") as reader:
        return np.stack(list(reader.iter_data())), reader.get_meta_data()


def read_gif(path):
    with Image.open(path) as image:
        frames = []
        for index in range(image.n_frames):
            image.seek(index)
            frames.append((np.asarray(image.convert("RGB")), image.info["duration"]))
    return np.stack([frame for frame, _ in frames]), [duration for _, duration in frames]


@pytest.mark.parametrize("size", [(64, 64), (31, 45)])
def test_gif_keeps_count_size_time_and_colour(tmp_path, size):
    frames = make_frames(6, *size)
    video.save_gif(tmp_path / "new" / "a.gif", frames, fps=20, scale=2)
    read, durations = read_gif(tmp_path / "new" / "a.gif")
    expected = frames.repeat(2, 1).repeat(2, 2)
    assert read.shape == expected.shape
    assert durations == [50] * 6
    assert np.abs(read.astype(int) - expected).mean() < 3
    assert np.abs(read.astype(int) - expected).max() < 30
    assert os.listdir(tmp_path / "new") == ["a.gif"]


@pytest.mark.parametrize("size", [(64, 64), (31, 45), (2, 200)])
def test_mp4_keeps_count_size_time_and_colour(tmp_path, size):
    frames = make_frames(7, *size)
    video.save_mp4(tmp_path / "a.mp4", frames, fps=15, scale=2)
    read, meta = read_mp4(tmp_path / "a.mp4")
    expected = frames.repeat(2, 1).repeat(2, 2)
    assert read.shape == expected.shape
    assert np.abs(read.astype(int) - expected).mean() < 6
    assert (meta["fps"], meta["codec"], meta["pix_fmt"].split("(")[0]) == (15, "h264", "yuv420p")
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_mp4_of_odd_size_repeats_the_last_row_and_column(tmp_path):
    frames = np.full((3, 63, 65, 3), (40, 90, 160), np.uint8)
    video.save_mp4(tmp_path / "a.mp4", frames, fps=15)
    read, _ = read_mp4(tmp_path / "a.mp4")
    assert read.shape == (3, 64, 66, 3)
    assert np.abs(read.astype(int) - (40, 90, 160)).max() < 8


@pytest.mark.parametrize("name", ["a.gif", "a.mp4"])
@pytest.mark.parametrize(
    "frames",
    [np.zeros((4, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8), np.zeros((0, 8, 8, 3), np.uint8)],
    ids=["float", "image", "empty"],
)
def test_bad_frames_leave_the_old_file(tmp_path, name, frames):
    (tmp_path / name).write_bytes(b"old")
    with pytest.raises(ValueError, match=r"frames must be \[T, H, W, 3\] uint8"):
        (video.save_gif if name == "a.gif" else video.save_mp4)(tmp_path / name, frames, 10)
    assert (tmp_path / name).read_bytes() == b"old"
    assert os.listdir(tmp_path) == [name]


def test_open_loop_grid_pixels():
    truth = np.zeros((2, 3, 64, 64, 3), np.float32)
    model = np.zeros((2, 3, 64, 64, 3), np.float32)
    truth[0], model[0] = 0.2, 0.6
    truth[1, 2, 63, 63], model[1, 2, 63, 63] = (1.0, 0.0, 0.5), (0.0, 1.0, 1.5)
    grid = video.open_loop_grid(truth, model, context=1)
    assert grid.shape == (3, 3 * 64 + 8, 2 * 64 + 6, 3)
    assert grid.dtype == np.uint8
    # Sequence 0, first and last pixel of each tile: 51 = 0.2 * 255, 153 = 0.6 * 255, 179 = 0.7 * 255 rounded.
    for row, value in ((0, 51), (1, 153), (2, 179)):
        top = 2 + 66 * row
        for y, x in ((top, 2), (top + 63, 65)):
            assert (grid[:, y, x] == value).all()
    # The last pixel of sequence 1 at the last step; 1.5 is clipped as a colour, not before the difference.
    assert grid[2, 2 + 63, 68 + 63].tolist() == [255, 0, 128]
    assert grid[2, 68 + 63, 68 + 63].tolist() == [0, 255, 255]
    assert grid[2, 134 + 63, 68 + 63].tolist() == [0, 255, 255]
    assert grid[1, 134 + 63, 68 + 63].tolist() == [128, 128, 128]
    # A frame two pixels wide around each tile of the model: green while it sees images, then vermilion.
    for y, x in ((66, 0), (67, 133), (100, 1), (100, 66), (100, 67), (132, 5), (133, 132)):
        assert grid[:, y, x].tolist() == [[0, 158, 115], [213, 94, 0], [213, 94, 0]]
    for y, x in ((0, 0), (65, 0), (30, 66), (134, 0), (199, 133)):
        assert (grid[:, y, x] == 255).all()


@pytest.mark.parametrize(
    ("truth", "model", "complaint"),
    [
        (np.zeros((2, 3, 64, 64, 3)), np.zeros((2, 4, 64, 64, 3)), "must both be"),
        (np.zeros((3, 64, 64, 3)), np.zeros((3, 64, 64, 3)), "must both be"),
        (np.zeros((2, 3, 8, 8, 3)), np.full((2, 3, 8, 8, 3), np.nan), "model holds values that are not finite"),
    ],
)
def test_open_loop_grid_refuses(truth, model, complaint):
    with pytest.raises(ValueError, match=complaint):
        video.open_loop_grid(truth, model)


def test_frames_may_come_one_by_one_and_the_suffix_decides(tmp_path):
    frames = make_frames(6)
    video.save(tmp_path / "a.gif", iter(frames), 10)
    video.save(tmp_path / "a.mp4", iter(frames), 10)
    assert np.abs(read_gif(tmp_path / "a.gif")[0].astype(int) - frames).mean() < 3
    assert np.abs(read_mp4(tmp_path / "a.mp4")[0].astype(int) - frames).mean() < 6
    with pytest.raises(ValueError, match=r"a\.avi: a video can be \.gif or \.mp4"):
        video.save(tmp_path / "a.avi", iter(frames), 10)
    assert sorted(os.listdir(tmp_path)) == ["a.gif", "a.mp4"]


def test_a_gif_shows_what_turns_black_and_is_smaller_for_what_stays(tmp_path):
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (1, 60, 60, 3)).astype(np.uint8).repeat(8, 0)
    frames[::2, 25:30, 25:30] = frames[::2, 0, 0] = frames[::2, 59, 59] = 255
    frames[1::2, 25:30, 25:30] = 0
    video.save_gif(tmp_path / "a.gif", frames, 10)
    read, durations = read_gif(tmp_path / "a.gif")
    assert durations == [100] * 8
    assert (read[::2, 25:30, 25:30] > 215).all()
    assert (read[1::2, 25:30, 25:30] < 80).all()
    assert np.abs(read.astype(int) - frames).mean() < 16  # as good as 256 colours are for noise
    video.save_gif(tmp_path / "one.gif", frames[:1], 10)
    assert (tmp_path / "a.gif").stat().st_size < 3 * (tmp_path / "one.gif").stat().st_size


@pytest.mark.parametrize("name", ["a.gif", "a.mp4"])
def test_frames_that_fail_half_way_leave_the_old_file(tmp_path, name):
    def fail():
        yield from make_frames(3)
        raise RuntimeError("no more")

    (tmp_path / name).write_bytes(b"old")
    with pytest.raises(RuntimeError, match="no more"):
        video.save(tmp_path / name, fail(), 10)
    assert (tmp_path / name).read_bytes() == b"old"
    assert os.listdir(tmp_path) == [name]


def test_our_colours_survive_in_a_gif_of_many_others(tmp_path):
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (4, 40, 40, 3)).astype(np.uint8)
    frames[:, 3, 3], frames[:, 3, 4], frames[:, 4, 4] = video.CONTEXT_COLOR, video.IMAGINED_COLOR, video.BACKGROUND
    video.save_gif(tmp_path / "a.gif", frames, 10)
    read, _ = read_gif(tmp_path / "a.gif")
    for y, x in ((3, 3), (3, 4), (4, 4)):
        np.testing.assert_array_equal(read[:, y, x], frames[:, y, x])


# One sequence whose rewards are told apart: the true one is 0, the predicted one 1.
def make_dream(sequences=1, steps=9, context=3, **changes):
    truth = np.full((sequences, steps, 64, 64, 3), 0.2, np.float32)
    model = np.linspace(0, 1, steps, dtype=np.float32)[None, :, None, None, None] * np.ones_like(truth)
    arguments = {
        "truth": truth,
        "model": model,
        "reward": np.zeros((sequences, steps), np.float32),
        "predicted": np.ones((sequences, steps), np.float32),
        "starts": range(sequences),
        "title": "a title",
        "context": context,
    }
    arguments.update(changes)
    return arguments, list(video.dream(**arguments))


def near(image, color):
    return (np.abs(image.astype(int) - color) < 30).all(-1)


def test_a_dream_holds_the_grid_in_every_frame_and_pauses_at_its_end():
    arguments, frames = make_dream(sequences=2)
    assert len(frames) == 9 + video.PAUSE
    assert {frame.shape for frame in frames} == {frames[0].shape}
    assert all(np.array_equal(frame, frames[8]) for frame in frames[9:])
    grid = video.upscale(video.open_loop_grid(arguments["truth"], arguments["model"], 3), 3)
    height, width = grid.shape[1:3]
    # Where the white gaps and frames lie is found, not known: the grid must be in there exactly once, at one place.
    places = [
        (y, x)
        for y in range(frames[0].shape[0] - height + 1)
        for x in range(frames[0].shape[1] - width + 1)
        if np.array_equal(frames[5][y : y + height : 7, x : x + width : 7], grid[5, ::7, ::7])
        and np.array_equal(frames[5][y : y + height, x : x + width], grid[5])
    ]
    ((y, x),) = places
    for step in range(9):
        np.testing.assert_array_equal(frames[step][y : y + height, x : x + width], grid[step])


def test_the_rewards_of_a_dream_appear_step_by_step_in_their_colours():
    _, frames = make_dream()
    panel = [frame[-140:-50] for frame in frames[:9]]  # the axes, without their labels below

    def columns(step, color):
        return np.flatnonzero(near(panel[step], color).any(0))

    axis = np.flatnonzero(near(panel[0], (153, 153, 153)).sum(0) > 70).min()  # the only upright line of this height
    for color, first, last in ((video.INK, 0, 8), (video.CONTEXT_COLOR, 0, 2), (video.IMAGINED_COLOR, 2, 8)):
        # Nothing of a line at its first step, then one that grows to the step shown, to the right, and no further.
        ends = [columns(step, color)[columns(step, color) > axis].max(initial=axis) for step in range(9)]
        step_width = (ends[last] - axis) / last
        for step in range(9):
            expected = 0 if step <= first else min(step, last) * step_width
            assert ends[step] - axis == pytest.approx(expected, abs=4), (color, step)
    # The predicted 1 lies above the true 0, both level.
    rows = {
        color: np.flatnonzero(near(panel[8][:, axis + 60 :], color).any(1))
        for color in (video.INK, video.IMAGINED_COLOR)
    }
    assert rows[video.IMAGINED_COLOR].max() < rows[video.INK].min()
    assert max(np.ptp(lines) for lines in rows.values()) <= 3


@pytest.mark.parametrize("sequences", [1, 3, 12])
def test_a_dream_of_any_width_has_room_for_its_legend(sequences):
    _, (frame, *_) = make_dream(sequences=sequences)
    assert 480 < frame.shape[1] < 1000
    header = frame[:45]
    assert near(header, video.CONTEXT_COLOR).any()
    assert (header[:, -5:] == 255).all()
    assert (header[:, :60] == 255).all()


def test_what_stands_above_the_sequences_of_a_dream_can_be_chosen():
    _, (episodes, *_) = make_dream(sequences=2)
    arguments, (named, *_) = make_dream(sequences=2, names=["from step 0", "from step 7"])
    differ = np.flatnonzero((episodes != named).any((1, 2)))
    assert 80 < differ.min() <= differ.max() < 104  # the line between the legend and the pictures, nothing else
    with pytest.raises(ValueError, match="shorter"):
        video.dream(**arguments | {"names": ["one name for two"]})


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"reward": np.zeros((1, 8))}, r"rewards must be \(1, 9\), got \(1, 8\) and \(1, 9\)"),
        ({"predicted": np.full((1, 9), np.nan)}, "rewards hold values that are not finite"),
        ({"truth": np.zeros((1, 8, 64, 64, 3))}, "must both be"),
    ],
)
def test_a_dream_refuses(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        make_dream(**changes)


def test_an_episode_is_large_and_counts_its_return():
    images = np.zeros((4, 64, 64, 3), np.uint8)
    images[:, :, 32:] = 200
    frames = list(video.episode(images, np.array([0, 1, 1, 0], np.float32)))
    assert len(frames) == 4
    for frame in frames:
        assert frame.shape == (544, 512, 3)
        assert (frame[:512, :240] == 0).all()
        assert (frame[:512, 272:] == 200).all()
    left, right = [frame[512:, :256] for frame in frames], [frame[512:, 256:] for frame in frames]
    assert len({caption.tobytes() for caption in left}) == 4
    # Returns 0, 1, 2, 2.
    assert len({caption.tobytes() for caption in right[:3]}) == 3
    np.testing.assert_array_equal(right[2], right[3])


def test_an_episode_of_1000_frames_takes_10_to_20_seconds_whatever_the_action_repeat():
    for repeat in (2, 4, 8):
        steps = 1000 // repeat + 1
        assert 10 <= steps / video.episode_fps(steps) <= 20
    assert video.episode_fps(26) == 5
    assert video.episode_fps(20_000) == 30


def test_episodes_side_by_side_play_to_the_end_of_the_longest():
    lengths = (5, 3)
    episodes = [np.full((length, 64, 64, 3), 100 + index, np.uint8) for index, length in enumerate(lengths)]
    episodes[0][:, 10, 20] = np.arange(5)[:, None]
    frames = list(video.side_by_side(episodes, [np.ones(5, np.float32), np.zeros(3, np.float32)]))
    assert len(frames) == 5
    assert len({frame.shape for frame in frames}) == 1
    for step, frame in enumerate(frames):
        # The first pixel of each episode, three times as large, below and right of a margin of 8.
        assert (frame[8:11, 8:11] == 100).all()
        assert (frame[38:41, 68:71] == step).all()
        assert (frame[8:11, 208:211] == (101 if step < 3 else 177)).all()
    captions = [frame[8 + 192 : 8 + 192 + 22] for frame in frames]
    assert all((caption < 128).any() for caption in captions)
    # The return of the first one grows with every step, that of the second stays at 0.
    halves = [(caption[:, :204], caption[:, 204:]) for caption in captions]
    assert len({first.tobytes() for first, _ in halves}) == 5
    assert len({second.tobytes() for _, second in halves}) == 1


@pytest.mark.parametrize(("count", "shape"), [(1, (294, 272)), (2, (230, 408)), (10, (452, 1008)), (12, (674, 1008))])
def test_episodes_side_by_side_fill_a_wide_screen(count, shape):
    frame = next(video.side_by_side([np.zeros((2, 64, 64, 3), np.uint8)] * count, [np.zeros(2)] * count))
    assert frame.shape[:2] == shape


@pytest.mark.parametrize("limit", [0, 3_000, 20_000])
def test_half_a_video_takes_no_other_ones_place(limit, tmp_path, capfd):
    """ffmpeg says nothing about a full disk; a limit on the size of files stands for one."""
    frames = np.random.default_rng(0).integers(256, size=(20, 64, 64, 3), dtype=np.uint8)
    video.save_mp4(tmp_path / "a.mp4", frames, fps=15)
    before = (tmp_path / "a.mp4").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OSError, match="a.mp4: the video could not be written: is the disk full"):
            video.save_mp4(tmp_path / "a.mp4", frames, fps=15)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == before
    assert capfd.readouterr().err == ""
