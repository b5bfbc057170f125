import pytest
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from dreamer.training.profiler import Profiler


@tf.function
def work(x):
    return x @ x


def traces(logdir):
    """The decoded traces below a log directory."""
    return [xplane_pb2.XSpace.FromString(path.read_bytes()) for path in logdir.rglob("plugins/profile/*/*.xplane.pb")]


def event_names(trace):
    return [
        plane.event_metadata[event.metadata_id].name
        for plane in trace.planes
        for line in plane.lines
        for event in line.events
    ]


@pytest.mark.parametrize(("updates", "made", "recorded"), [(3, 6, 3), (3, 3, 2)])
def test_the_updates_after_the_first_are_recorded(tmp_path, updates, made, recorded):
    lines = []
    profiler = Profiler(tmp_path, updates, lines.append)
    for _ in range(made):
        with profiler.update():
            work(tf.ones([8, 8]))
    profiler.close()
    profiler.close()
    (trace,) = traces(tmp_path)
    names = event_names(trace)
    assert sum(name == "train" for name in names) == recorded
    assert sum("MatMul" in name for name in names) >= recorded
    assert lines == [f"Trace of {recorded} updates in {tmp_path}/plugins/profile"]


@pytest.mark.parametrize(("updates", "made"), [(0, 4), (3, 1), (3, 0)])
def test_nothing_is_written_where_there_is_nothing_to_record(tmp_path, updates, made):
    profiler = Profiler(tmp_path, updates, pytest.fail)
    for _ in range(made):
        with profiler.update():
            work(tf.ones([8, 8]))
    profiler.close()
    assert list(tmp_path.iterdir()) == []
