import os

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


def test_label_rows_writes_beside_each_row_and_leaves_the_frames():
    frames = make_frames(2, 300, 100)
    labelled = video.label_rows(frames, ["truth", "model", "error"])
    margin = labelled.shape[2] - 100
    assert 20 < margin < 80
    np.testing.assert_array_equal(labelled[:, :, margin:], frames)
    dark = (labelled[0, :, :margin] < 128).all(-1).any(1)
    assert all(dark[100 * row + 35 : 100 * row + 65].any() for row in range(3))
    assert not any(dark[100 * row : 100 * row + 30].any() for row in range(3))
