import os
import signal
import subprocess
import sys

import pytest

from dreamer.training.interrupt import Interrupt, exclusive


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_handlers_come_back(number):
    before = signal.getsignal(number)
    with Interrupt() as interrupt:
        assert interrupt.signal is None
        os.kill(os.getpid(), number)
        assert interrupt.signal == number
        assert signal.getsignal(number) == before
    assert signal.getsignal(number) == before


@pytest.mark.usefixtures("interruptible")
def test_a_second_interrupt_is_an_ordinary_one():
    with Interrupt():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_directory_belongs_to_one_process_at_a_time(tmp_path):
    claim = (
        "from pathlib import Path; from dreamer.training.interrupt import exclusive\n"
        f"with exclusive(Path({str(tmp_path)!r})): pass"
    )
    with exclusive(tmp_path):
        result = subprocess.run([sys.executable, "-c", claim], capture_output=True, text=True)
        assert result.returncode != 0
        assert "in use by another process" in result.stderr
    assert subprocess.run([sys.executable, "-c", claim]).returncode == 0
