import io
import json

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG, parse_session_start_info_plugin_data
from tensorboard.plugins.image import metadata as image_metadata

from dreamer.training.logger import Logger


def lines(logdir, name="metrics.jsonl"):
    return [json.loads(line) for line in (logdir / name).read_text().splitlines()]


def points(logdir):
    """(tag, step, value) of everything that TensorBoard's own reader finds, oldest file first."""
    found = []
    for path in sorted(logdir.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            found += [(value.tag, event.step, value) for value in event.summary.value]
    return found


def test_scalars_reach_both_files_with_the_same_names_and_steps(tmp_path):
    logger = Logger(tmp_path)
    logger.scalars(1000, {"train/image_loss": np.float32(0.5), "train/updates": 100})
    logger.scalars(2000, {"train/image_loss": tf.constant([0.25]), "eval/return": ml_dtypes.bfloat16(3)})
    logger.close()
    assert lines(tmp_path) == [
        {"step": 1000, "train/image_loss": 0.5, "train/updates": 100},
        {"step": 2000, "train/image_loss": 0.25, "eval/return": 3.0},
    ]
    assert [(tag, step, tf.make_ndarray(value.tensor).item()) for tag, step, value in points(tmp_path)] == [
        ("train/image_loss", 1000, 0.5),
        ("train/updates", 1000, 100.0),
        ("train/image_loss", 2000, 0.25),
        ("eval/return", 2000, 3.0),
    ]


def test_lines_are_readable_before_the_logger_closes(tmp_path):
    logger = Logger(tmp_path)
    logger.scalars(1000, {"train/a": 1.0})
    assert lines(tmp_path) == [{"step": 1000, "train/a": 1.0}]
    logger.close()


def test_errors_against_the_horizon_are_lists_in_a_file_of_their_own_that_a_resume_cuts_too(tmp_path):
    logger = Logger(tmp_path)
    for step in (1000, 2000):
        logger.open_loop(step, context=5, image=np.array([0.5, np.nan]), reward=np.array([1, 2], np.float32))
    logger.close()
    expected = {"step": 1000, "context": 5, "image": [0.5, None], "reward": [1.0, 2.0]}
    assert lines(tmp_path, "open_loop.jsonl") == [expected, expected | {"step": 2000}]
    Logger(tmp_path, {"open_loop.jsonl": len((tmp_path / "open_loop.jsonl").read_text().splitlines(True)[0])}).close()
    assert lines(tmp_path, "open_loop.jsonl") == [expected]
    assert lines(tmp_path) == []


def test_values_that_json_lacks_become_null(tmp_path):
    logger = Logger(tmp_path)
    logger.scalars(1000, {"train/a": float("nan"), "train/b": np.float32("inf"), "train/c": tf.constant(-np.inf)})
    logger.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text == '{"step": 1000, "train/a": null, "train/b": null, "train/c": null}\n'
    a, b, c = (tf.make_ndarray(value.tensor).item() for _, _, value in points(tmp_path))
    assert np.isnan(a)
    assert (b, c) == (np.inf, -np.inf)


@pytest.mark.parametrize("value", [np.zeros(2), tf.zeros([2, 3]), "1.0", None, [], True])
def test_value_that_is_no_number_is_named_and_nothing_written(tmp_path, value):
    logger = Logger(tmp_path)
    with pytest.raises(ValueError, match=r"^metric train/b must be one number, got shape .*$"):
        logger.scalars(1000, {"train/a": 1.0, "train/b": value})
    with pytest.raises(ValueError, match="cannot be named"):
        logger.scalars(1000, {"step": 1.0})
    logger.close()
    assert lines(tmp_path) == []


def test_line_cut_anywhere_is_repaired(tmp_path):
    whole = b'{"step": 1000, "train/a": 1.0}\n{"step": 2000, "train/a": 2.0}\n'
    path = tmp_path / "metrics.jsonl"
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        logger = Logger(tmp_path)
        logger.scalars(3000, {"train/a": 3.0})
        logger.close()
        complete = whole[:length].count(b"\n")
        assert [line["step"] for line in lines(tmp_path)] == [1000, 2000][:complete] + [3000]


@pytest.mark.parametrize("kept", [None, 0, 2, 4])
def test_resume_drops_what_comes_after(tmp_path, kept):
    logger, sizes = Logger(tmp_path), [{"metrics.jsonl": 0, "open_loop.jsonl": 0}]
    for step in (1000, 2000, 2000, 3000):
        logger.scalars(step, {"train/a": step})
        sizes.append(logger.sizes())
    logger.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4000, "tra')
    logger = Logger(tmp_path, None if kept is None else sizes[kept])
    assert logger.lost() == {}
    logger.close()
    assert [line["step"] for line in lines(tmp_path)] == [1000, 2000, 2000, 3000][:kept]
    files = {path.name for path in tmp_path.iterdir() if "tfevents" not in path.name}
    assert files == {"metrics.jsonl", "open_loop.jsonl"}


def test_what_is_missing_of_a_log_is_known_and_its_whole_lines_stay(tmp_path):
    logger = Logger(tmp_path)
    for step in (1000, 2000):
        logger.scalars(step, {"train/a": step})
    sizes = logger.sizes()
    logger.close()
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    logger = Logger(tmp_path, sizes)
    assert logger.lost() == {"metrics.jsonl": sizes["metrics.jsonl"] - path.stat().st_size}
    logger.close()
    assert [line["step"] for line in lines(tmp_path)] == [1000]


def test_gif_is_an_image_to_tensorboard(tmp_path):
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    frames = np.broadcast_to(colors[:, None, None], (3, 20, 30, 3))
    logger = Logger(tmp_path)
    logger.gif("eval/open_loop", frames, 5000, fps=10)
    logger.close()
    ((tag, step, value),) = points(tmp_path)
    assert (tag, step) == ("eval/open_loop", 5000)
    assert value.metadata.plugin_data.plugin_name == image_metadata.PLUGIN_NAME
    assert image_metadata.parse_plugin_metadata(value.metadata.plugin_data.content).version == 0
    width, height, content = tf.make_ndarray(value.tensor)
    assert (width, height) == (b"30", b"20")
    image = Image.open(io.BytesIO(content))
    assert (image.format, image.size, image.n_frames) == ("GIF", (30, 20), 3)
    for index, color in enumerate(colors):
        image.seek(index)
        assert np.asarray(image.convert("RGB"))[10, 15] == pytest.approx(color, abs=3)
        assert image.info["duration"] == 100


def test_a_metric_is_described_once_to_tensorboard(tmp_path):
    logger = Logger(tmp_path)
    for step in (1, 2):
        logger.scalars(step, {"train/kl": 3.0, "eval/info.won_max": 1.0, "mine": 2.0})
    logger.close()
    found = [(tag, step, value.metadata.summary_description) for tag, step, value in points(tmp_path)]
    won = "Largest won that the environment told in an episode, mean over the episodes"
    assert found == [
        ("train/kl", 1, "KL divergence from prior to posterior, nats a step"),
        ("eval/info.won_max", 1, won),
        ("mine", 1, ""),
        *[(name, 2, "") for name in ("train/kl", "eval/info.won_max", "mine")],
    ]


def test_settings_are_hyper_parameters_to_tensorboard(tmp_path):
    logger = Logger(tmp_path)
    logger.settings({"task": "dot", "seed": 3, "actor.lr": 8e-5, "model.discount_head": False})
    logger.close()
    summaries = [
        value
        for path in tmp_path.glob("events.*")
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]
    (content,) = [value.metadata.plugin_data.content for value in summaries if value.tag == SESSION_START_INFO_TAG]
    start = parse_session_start_info_plugin_data(content)
    assert {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()} == {
        "task": "dot",
        "seed": 3,
        "actor.lr": 8e-5,
        "model.discount_head": False,
    }
    assert start.group_name == str(tmp_path)
