"""Counting kernels, in graphs whose operations can be counted by hand."""

import re

import tensorflow as tf

from benchmarks import kernels


def test_operations_of_a_loop_count_as_often_as_it_turns():
    counted = {}
    for turns in (3, 6):
        function = tf.function(lambda x, turns=turns: tf.foldl(lambda a, _: tf.tanh(a @ x), tf.zeros([turns]), x @ x))
        counted[turns], loops = kernels.in_graph(function.get_concrete_function(tf.ones([2, 2])))
        assert list(loops.values()) == [turns]
    assert counted[6] - counted[3] == 3 * 2  # a product and a tanh


def test_what_xla_makes_of_it():
    text = """
%body.1 (arg: f32[2]) -> f32[2] {
  %arg = f32[2]{0} parameter(0)
  %fusion.1 = f32[2]{0} fusion(%arg), kind=kLoop
  ROOT %dot.1 = f32[2,2]{1,0} dot(%fusion.1, %fusion.1)
}

ENTRY %main (x: f32[2]) -> f32[2] {
  %x = f32[2]{0} parameter(0)
  %copy.1 = f32[2]{0} copy(%x)
  %tuple.1 = (f32[2]{0}) tuple(%copy.1)
  %while.1 = (f32[2]{0}) while(%tuple.1), condition=%c, body=%body.1, metadata={op_name="a/scan_1/while"}
  %while.2 = (f32[2]{0}) while(%while.1), condition=%c, body=%body.1, backend_config={"known_trip_count":{"n":"5"}}
  ROOT %out = f32[2]{0} get-tuple-element(%while.2), index=0
}
"""
    assert kernels.in_hlo(text, {"scan/while": 100, "scan_1/while": 7}) == 1 + 2 * 7 + 2 * 5


def test_in_words():
    words = kernels.in_words({"plain": 3000, "xla": 1500})
    assert re.fullmatch("kernels an update: 3,000 plain, 1,500 with XLA; plain / XLA: 2.0x", words)
