"""What the commands share: sizes from the command line, timing, processes of their own, tables."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from importlib import metadata

from dreamer import config, envs, hardware

ROOT = pathlib.Path(__file__).resolve().parents[1]


class BenchmarkError(RuntimeError):
    """A measurement failed; the message says which and why."""


def make_parser(description):
    """Return a parser that knows --configs and --set, the sizes of what is measured."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--configs", nargs="*", default=["dmc"], metavar="NAME", help="overlays of configs/, such as debug (dmc)"
    )
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="keys of configs/defaults.yaml: replay.batch=10 ..."
    )
    return parser


def load_config(parser, arguments):
    """The config that --configs and --set describe; ends the program with one line where they are wrong."""
    malformed = [word for word in arguments.set if "=" not in word]
    if malformed:
        parser.error(f"--set {malformed[0]}: expected KEY=VALUE")
    try:
        loaded = config.load(arguments.configs, dict(word.split("=", 1) for word in arguments.set))
        envs.validate(loaded.suite, loaded.task)
    except ValueError as error:  # a ConfigError, or a task that does not exist
        parser.error(str(error))
    return loaded


def size_words(arguments):
    """The words that give a child process the same config."""
    return ["--configs", *arguments.configs, "--set", *arguments.set]


def positive(text):
    """A whole number of at least 1, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1")
    return number


def machine():
    """Processor, cores, memory and versions in one line."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    native = [flag for flag in hardware.NATIVE_BFLOAT16 if flag in hardware.cpu_flags()]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    versions = [f"{name} {metadata.version(name)}" for name in ("tensorflow", "keras", "mujoco")]
    return (
        f"{names[0] if names else 'unknown processor'} ({', '.join(native) or 'no bfloat16'}), "
        f"{len(os.sched_getaffinity(0))} cores, {memory / 1e9:.0f} GB; "
        f"Python {sys.version.split()[0]}, {', '.join(versions)}"
    )


def median_seconds(function, *, repeats, block=1):
    """Median over `repeats` of the seconds per call, `block` calls at a time, after one call as a warm-up.

    function returns tensors; the clock stops when the last call's are there, which a GPU does not wait for by itself.
    """
    finish(function())
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        for _ in range(block):
            result = function()
        finish(result)
        seconds.append((time.perf_counter() - started) / block)
    return statistics.median(seconds)


def finish(result):
    """Wait until tensors, nested or not, have been computed."""
    import tensorflow as tf

    for tensor in tf.nest.flatten(result):
        if tf.is_tensor(tensor):
            tensor.numpy()
            return


def child(script, words, *, timeout=None):
    """Run a command of this folder in a process of its own; returns the JSON object on its last line.

    It gets --started, the time of its start. Raises BenchmarkError with the end of what it said where it fails.
    """
    command = [sys.executable, str(ROOT / "benchmarks" / script), *words, "--started", repr(time.time())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{script} {' '.join(words)}: no result within {timeout:.0f} s") from None
    if done.returncode:
        raise BenchmarkError(f"{script} {' '.join(words)}: exit code {done.returncode}\n{done.stderr[-2000:].strip()}")
    return json.loads(done.stdout.splitlines()[-1])


def medians(results):
    """{key: median} of dicts of numbers with equal keys; what is no number is taken from the first."""
    return {
        key: statistics.median(result[key] for result in results) if isinstance(value, int | float) else value
        for key, value in results[0].items()
    }


def table(rows):
    """Lines of a table: the first column to the left, the others to the right."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{widths[0]}}" if i == 0 else f"{cell:>{widths[i]}}" for i, cell in enumerate(row)).rstrip()
        for row in rows
    )


def set_up_tensorflow(precision):
    """TensorFlow as `dreamer train` sets it up."""
    from dreamer.cli import tensorflow

    tensorflow.set_up(precision)


def run(main):
    """Run a command; a measurement that fails ends it with the reason and exit code 1."""
    try:
        main()
    except BenchmarkError as error:
        sys.exit(str(error))
